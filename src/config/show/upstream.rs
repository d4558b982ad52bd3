//! `[upstream]` and the tables below it, as the file spells them.

use super::super::Upstream;
use super::super::names::{FETCH_CODINGS, HEALTH_CHECKS, name_of};
use super::super::units::duration_text;
use super::{Page, list, path_or_empty, quote};

pub(super) fn upstream(page: &mut Page, upstream: &Upstream) {
    page.table("[upstream]");
    page.key("servers", list(&upstream.servers));
    page.key("tls", upstream.tls.is_some());
    if let Some(tls) = &upstream.tls {
        page.key("verify", tls.verify);
        page.key("ca", path_or_empty(tls.ca.as_deref()));
        page.key(
            "server_name",
            quote(tls.server_name.as_deref().unwrap_or_default()),
        );
    }
    let host = upstream
        .host
        .as_ref()
        .map_or(&[][..], |host| host.as_bytes());
    page.key("host", quote(String::from_utf8_lossy(host)));
    page.key(
        "connect_timeout",
        quote(duration_text(upstream.connect_timeout)),
    );
    page.key(
        "fetch_timeout",
        quote(duration_text(upstream.fetch_timeout)),
    );
    page.key("idle_timeout", quote(duration_text(upstream.idle_timeout)));
    page.key("max_fetches", upstream.max_fetches);
    page.key(
        "fetch_coding",
        quote(name_of(FETCH_CODINGS, &upstream.fetch_coding)),
    );

    let breaker = &upstream.breaker;
    page.table("[upstream.breaker]");
    page.key("failures", breaker.failures);
    page.key("pause", quote(duration_text(breaker.pause)));
    page.key("probes", breaker.probes);

    let health = &upstream.health;
    page.table("[upstream.health]");
    page.key("check", quote(name_of(HEALTH_CHECKS, &health.check)));
    page.key("path", quote(&health.path));
    page.key("interval", quote(duration_text(health.interval)));
    page.key("timeout", quote(duration_text(health.timeout)));
    page.key("unhealthy", health.unhealthy);
    page.key("healthy", health.healthy);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::super::{Breaker, FetchCoding, Health, ServerName, UpstreamTls};
    use super::super::tests::duration;
    use super::*;

    fn any_breaker() -> impl Strategy<Value = Breaker> {
        (0..=1_000_usize, duration(10, 60_000), 1..=100_usize).prop_map(
            |(failures, pause, probes)| Breaker {
                failures,
                pause,
                probes,
            },
        )
    }

    fn any_health() -> impl Strategy<Value = Health> {
        let checks: Vec<_> = HEALTH_CHECKS.iter().map(|(_, check)| *check).collect();
        let times = (duration(100, 3_600_000), duration(10, 60_000));
        let thresholds = (1..=100_usize, 1..=100_usize);
        (
            select(checks),
            "(/[a-z0-9.%{}]{1,8}){1,3}",
            times,
            thresholds,
        )
            .prop_map(
                |(check, path, (interval, timeout), (unhealthy, healthy))| Health {
                    check,
                    path,
                    interval,
                    timeout,
                    unhealthy,
                    healthy,
                },
            )
    }

    pub(in crate::config::show) fn any_upstream() -> impl Strategy<Value = Upstream> {
        let tls = (any::<bool>(), proptest::option::of("[a-z]{1,8}\\.local")).prop_map(
            |(verify, server_name)| UpstreamTls {
                verify,
                ca: None,
                server_name,
            },
        );
        let servers = btree_set(
            (
                "[a-z]{1,8}\\.local|10\\.0\\.0\\.[1-9]|fd00::[1-9]",
                1..u16::MAX,
            ),
            1..4,
        );
        let times = (
            duration(1, 60_000),
            duration(0, 240_000),
            duration(1, 86_400_000),
        );
        let host = proptest::option::of("[a-z]{1,8}(:80)?");
        (
            servers,
            proptest::option::of(tls),
            host,
            times,
            (1..65_537_usize, any::<bool>()),
            any_breaker(),
            any_health(),
        )
            .prop_map(
                |(
                    servers,
                    tls,
                    host,
                    (connect, more, idle),
                    (max_fetches, gzip),
                    breaker,
                    health,
                )| {
                    Upstream {
                        servers: servers
                            .into_iter()
                            .map(|(host, port)| ServerName { host, port })
                            .collect(),
                        tls,
                        host: host.map(|host| host.parse().unwrap()),
                        connect_timeout: connect,
                        fetch_timeout: connect + more,
                        idle_timeout: idle,
                        max_fetches,
                        fetch_coding: match gzip {
                            true => FetchCoding::Gzip,
                            false => FetchCoding::Identity,
                        },
                        breaker,
                        health,
                    }
                },
            )
    }
}
