//! `[upstream]`: how the VMS is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::address::{CERTIFICATE_NAME, HOST, SERVER, reaches};
use super::super::material::read_authorities;
use super::super::names::{FETCH_CODINGS, HEALTH_CHECKS};
use super::super::route::CHECK_PATH;
use super::super::section::{Kind, Section};
use super::super::units::duration_text;
use super::super::{Breaker, FetchCoding, Health, HealthCheck, Upstream, UpstreamTls};
use super::taken::Taken;

const SHORTEST: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const CA: Kind<PathBuf> = Kind {
    allowed: "a readable PEM file with at least one certificate, or \"\" for the system's authorities",
    parse: |text| match read_authorities(Path::new(text)) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(error.to_string()),
    },
};

/// `own` is what `[server]` listens on.
pub(super) fn upstream(mut section: Section<'_>, own: &[Taken]) -> Option<Upstream> {
    let servers = section.required_list("servers", &SERVER);
    let tls = tls(&mut section);
    let host = section.optional_text("host", &HOST);
    let connect_timeout =
        section.duration("connect_timeout", Duration::from_secs(1), SHORTEST..=MINUTE);
    let fetch_timeout = section.duration(
        "fetch_timeout",
        Duration::from_secs(5),
        SHORTEST..=5 * MINUTE,
    );
    let idle_timeout = section.duration("idle_timeout", MINUTE, SHORTEST..=DAY);
    let max_fetches = section.whole("max_fetches", 256, 1..=65_536);
    let fetch_coding = section.choice("fetch_coding", FetchCoding::Identity, FETCH_CODINGS);
    let breaker = section.section("breaker").and_then(breaker);
    let health = section.section("health").and_then(health);

    for (index, server) in servers.iter().flatten().enumerate() {
        if own.iter().any(|listener| reaches(server, listener.address)) {
            section.fault_item(
                "servers",
                index,
                format!("{server} is the edge itself, which would ask itself without end"),
                "an address of the VMS",
            );
        }
    }
    if let (Some(connect), Some(fetch)) = (connect_timeout, fetch_timeout)
        && fetch < connect
    {
        let default = if section.given("fetch_timeout") {
            ""
        } else {
            ", the default,"
        };
        let (connect, fetch) = (duration_text(connect), duration_text(fetch));
        section.fault(
            "fetch_timeout",
            format!("{fetch}{default} is shorter than connect_timeout, so that one would never be reached"),
            format!("{connect} or longer"),
        );
    }
    section.finish();
    Some(Upstream {
        servers: servers?,
        tls: tls?,
        host: host?,
        connect_timeout: connect_timeout?,
        fetch_timeout: fetch_timeout?,
        idle_timeout: idle_timeout?,
        max_fetches: max_fetches?,
        fetch_coding: fetch_coding?,
        breaker: breaker?,
        health: health?,
    })
}

fn breaker(mut section: Section<'_>) -> Option<Breaker> {
    let failures = section.whole("failures", 5, 0..=1_000);
    let shortest = Duration::from_millis(10);
    let pause = section.duration("pause", Duration::from_secs(1), shortest..=MINUTE);
    let probes = section.whole("probes", 3, 1..=100);
    section.finish();
    Some(Breaker {
        failures: failures?,
        pause: pause?,
        probes: probes?,
    })
}

fn health(mut section: Section<'_>) -> Option<Health> {
    let check = section.choice("check", HealthCheck::Auto, HEALTH_CHECKS);
    let path = section.text("path", "/api/v1/static/basic".to_owned(), &CHECK_PATH);
    let interval = section.duration(
        "interval",
        Duration::from_secs(5),
        Duration::from_millis(100)..=HOUR,
    );
    let timeout = section.duration(
        "timeout",
        Duration::from_secs(2),
        Duration::from_millis(10)..=MINUTE,
    );
    let unhealthy = section.whole("unhealthy", 3, 1..=100);
    let healthy = section.whole("healthy", 2, 1..=100);
    section.finish();
    Some(Health {
        check: check?,
        path: path?,
        interval: interval?,
        timeout: timeout?,
        unhealthy: unhealthy?,
        healthy: healthy?,
    })
}

fn tls(section: &mut Section<'_>) -> Option<Option<UpstreamTls>> {
    let tls = section.flag("tls", false);
    if tls == Some(false) {
        // Whoever sets one of these believes that the connection is protected.
        for key in ["verify", "ca", "server_name"] {
            section.idle(key, "tls = true");
        }
        return Some(None);
    }
    let verify = section.flag("verify", true);
    let ca = section.optional_text("ca", &CA);
    let server_name = section.optional_text("server_name", &CERTIFICATE_NAME);
    if let (Some(false), Some(Some(_))) = (verify, &ca) {
        section.fault(
            "ca",
            "has no effect with verify = false",
            "only together with verify = true",
        );
    }
    tls?;
    Some(Some(UpstreamTls {
        verify: verify?,
        ca: ca?,
        server_name: server_name?,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};

    const SERVERS: &str = "[upstream]\nservers = [\"vms.local:9000\"]\n";

    #[test]
    fn servers_are_required() {
        let allowed = "allowed: a list of: HOST:PORT, such as 10.0.0.5:9000, [fd00::5]:9000 or vms.local:9000";
        assert_eq!(
            refused("\n[upstream]\nhost = \"vms.local\""),
            format!("edge.toml:2: upstream.servers: is required; {allowed}")
        );
        assert_eq!(
            refused("upstream = {}"),
            format!("edge.toml:1: upstream.servers: is required; {allowed}")
        );
    }

    #[test]
    fn servers_are_hosts_with_ports_and_distinct() {
        let allowed = "allowed: HOST:PORT, such as 10.0.0.5:9000, [fd00::5]:9000 or vms.local:9000";
        assert_eq!(
            refused(
                "[upstream]\nservers = [\n\"vms.local\",\n\"vms.local:0\",\n\"http://vms.local:80\",\n\
                 \"a:1\",\n\"A:1\"\n]"
            ),
            format!(
                "edge.toml:3: upstream.servers[0]: \"vms.local\" has no port; {allowed}\n\
                 edge.toml:4: upstream.servers[1]: \"vms.local:0\" has a port out of the range 1 to 65535; {allowed}\n\
                 edge.toml:5: upstream.servers[2]: \"http://vms.local:80\" has no port; {allowed}\n\
                 edge.toml:7: upstream.servers[4]: \"A:1\" repeats upstream.servers[3]; allowed: each only once"
            )
        );
        assert_eq!(
            refused("[upstream]\nservers = []"),
            "edge.toml:2: upstream.servers: the list is empty; \
             allowed: at least one of: HOST:PORT, such as 10.0.0.5:9000, [fd00::5]:9000 or vms.local:9000"
        );
    }

    #[test]
    fn the_edge_does_not_ask_itself() {
        assert_eq!(
            refused("[upstream]\nservers = [\"127.0.0.1:8080\"]"),
            "edge.toml:2: upstream.servers[0]: 127.0.0.1:8080 is the edge itself, which would ask itself without end; \
             allowed: an address of the VMS"
        );
    }

    #[test]
    fn timeouts_and_fetches_have_limits() {
        let text = "connect_timeout = \"61s\"\nfetch_timeout = \"0s\"\nidle_timeout = \"2d\"\nmax_fetches = 0\n";
        assert_eq!(
            refused(&format!("{SERVERS}{text}")),
            "edge.toml:3: upstream.connect_timeout: 61s is out of range; allowed: 1ms to 1m\n\
             edge.toml:4: upstream.fetch_timeout: 0s is out of range; allowed: 1ms to 5m\n\
             edge.toml:5: upstream.idle_timeout: 2d is out of range; allowed: 1ms to 1d\n\
             edge.toml:6: upstream.max_fetches: 0 is out of range; allowed: a whole number, 1 to 65536"
        );
    }

    #[test]
    fn a_breaker_has_limits() {
        let text = "[upstream.breaker]\nfailures = 1001\npause = \"9ms\"\nprobes = 0\n";
        assert_eq!(
            refused(&format!("{SERVERS}{text}")),
            "edge.toml:4: upstream.breaker.failures: 1001 is out of range; allowed: a whole number, 0 to 1000\n\
             edge.toml:5: upstream.breaker.pause: 9ms is out of range; allowed: 10ms to 1m\n\
             edge.toml:6: upstream.breaker.probes: 0 is out of range; allowed: a whole number, 1 to 100"
        );
        let breaker = accepted(&format!("{SERVERS}breaker.failures = 0"))
            .upstream
            .breaker;
        assert_eq!((breaker.failures, breaker.probes), (0, 3));
    }

    #[test]
    fn a_health_check_has_limits() {
        let text = "[upstream.health]\ncheck = true\npath = \"api\"\ninterval = \"99ms\"\ntimeout = \"2m\"\n\
                    unhealthy = 0\nhealthy = 101\n";
        assert_eq!(
            refused(&format!("{SERVERS}{text}")),
            "edge.toml:4: upstream.health.check: true is a boolean, not a string; allowed: auto, always, never\n\
             edge.toml:5: upstream.health.path: \"api\" does not begin with /; \
             allowed: an absolute path without ? and #, such as /api/v1/static/basic\n\
             edge.toml:6: upstream.health.interval: 99ms is out of range; allowed: 100ms to 1h\n\
             edge.toml:7: upstream.health.timeout: 2m is out of range; allowed: 10ms to 1m\n\
             edge.toml:8: upstream.health.unhealthy: 0 is out of range; allowed: a whole number, 1 to 100\n\
             edge.toml:9: upstream.health.healthy: 101 is out of range; allowed: a whole number, 1 to 100"
        );
    }

    #[test]
    fn tables_below_upstream_know_their_keys_and_what_they_are() {
        assert_eq!(
            refused(&format!(
                "{SERVERS}health = true\n[upstream.breaker]\nfailure = 3"
            )),
            "edge.toml:3: upstream.health: true is a boolean, not a table; allowed: one [upstream.health] table\n\
             edge.toml:5: upstream.breaker.failure: unknown key, did you mean failures?; \
             allowed: failures, pause, probes"
        );
        assert_eq!(
            refused(&format!("{SERVERS}[upstream.health]\ntime_out = \"1s\"")),
            "edge.toml:4: upstream.health.time_out: unknown key, did you mean timeout?; \
             allowed: check, path, interval, timeout, unhealthy, healthy"
        );
    }

    #[test]
    fn a_fetch_has_at_least_the_time_to_connect() {
        assert_eq!(
            refused(&format!(
                "{SERVERS}connect_timeout = \"3s\"\nfetch_timeout = \"2s\""
            )),
            "edge.toml:4: upstream.fetch_timeout: 2s is shorter than connect_timeout, so that one would never be \
             reached; allowed: 3s or longer"
        );
        assert_eq!(
            refused(&format!("{SERVERS}connect_timeout = \"10s\"")),
            "edge.toml:1: upstream.fetch_timeout: 5s, the default, is shorter than connect_timeout, so that one would \
             never be reached; allowed: 10s or longer"
        );
    }

    #[test]
    fn options_of_tls_need_tls() {
        assert_eq!(
            refused(&format!(
                "{SERVERS}verify = true\nca = \"ca.pem\"\nserver_name = \"vms.local\""
            )),
            "edge.toml:3: upstream.verify: has no effect without tls = true; allowed: only together with tls = true\n\
             edge.toml:4: upstream.ca: has no effect without tls = true; allowed: only together with tls = true\n\
             edge.toml:5: upstream.server_name: has no effect without tls = true; \
             allowed: only together with tls = true"
        );
    }

    #[test]
    fn an_authority_must_be_readable_and_a_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let text = format!("{SERVERS}tls = true\nca = '{}'", path.display());
        let allowed = "allowed: a readable PEM file with at least one certificate, \
                       or \"\" for the system's authorities";
        assert_eq!(
            refused(&text),
            format!(
                "edge.toml:4: upstream.ca: {path:?} cannot be read: No such file or directory (os error 2); {allowed}"
            )
        );
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(
            refused(&text),
            format!("edge.toml:4: upstream.ca: {path:?} holds no PEM certificate; {allowed}")
        );

        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["vms.local".to_owned()]).unwrap();
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let tls = accepted(&text).upstream.tls.expect("TLS");
        assert_eq!(tls.ca.as_deref(), Some(path.as_path()));
        assert!(tls.verify);

        assert_eq!(
            refused(&format!("{text}\nverify = false")),
            "edge.toml:4: upstream.ca: has no effect with verify = false; allowed: only together with verify = true"
        );
    }

    #[test]
    fn names_are_checked_where_they_are_given() {
        assert_eq!(
            refused(&format!(
                "{SERVERS}tls = true\nserver_name = \"https://vms\"\nhost = \"vms local\""
            )),
            "edge.toml:4: upstream.server_name: \"https://vms\" has no valid host name; \
             allowed: a DNS name or an IP address, such as vms.local, or \"\" for the server's own host\n\
             edge.toml:5: upstream.host: \"vms local\" has no valid host name; \
             allowed: HOST or HOST:PORT, such as vms.local, or \"\" for the client's own"
        );
    }
}
