//! `[server]` and `[limits]`, as the file spells them.

use super::super::names::{CLIENT_CERTIFICATES, name_of};
use super::super::units::duration_text;
use super::super::{Limits, Rates, Server};
use super::{Page, list, path_or_empty, quote};

pub(super) fn server(page: &mut Page, server: &Server) {
    page.table("[server]");
    page.key("listen", list(&server.listen));
    page.key("proxy_protocol", server.proxy_protocol);
    page.key("threads", server.threads);
    page.key("grace", quote(duration_text(server.grace)));
    page.key("trusted_proxies", list(&server.trusted_proxies));
    for tls in &server.tls {
        page.table("[[server.tls]]");
        page.key("listen", quote(tls.listen));
        page.key("certificate", quote(tls.certificate.display()));
        page.line(format_args!("# for {}", tls.identity));
        page.key("key", quote(tls.key.display()));
        page.key(
            "client_ca",
            path_or_empty(tls.clients.as_ref().map(|clients| clients.path.as_path())),
        );
        if let Some(clients) = &tls.clients {
            let demand = name_of(CLIENT_CERTIFICATES, &clients.demand);
            page.key("client_certificate", quote(demand));
        }
        page.key("http2", tls.http2);
    }
}

pub(super) fn limits(page: &mut Page, limits: &Limits) {
    page.table("[limits]");
    page.key("connections", limits.connections);
    page.key("address_connections", limits.address_connections);
    page.key("address_connection_rate", limits.connecting.per_second);
    page.key("address_connection_burst", limits.connecting.burst);
    page.key(
        "header_timeout",
        quote(duration_text(limits.header_timeout)),
    );
    page.key(
        "body_timeout",
        quote(duration_text(limits.body_timeout.unwrap_or_default())),
    );
    let Rates { user, address } = limits.rates;
    page.key("user_rate", user.per_second);
    page.key("user_burst", user.burst);
    page.key("address_rate", address.per_second);
    page.key("address_burst", address.burst);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::super::Rate;
    use super::super::tests::duration;
    use super::*;

    fn any_rate() -> impl Strategy<Value = Rate> {
        let rate = (1..=1_000_000_usize, 0..=1_000_000_usize);
        let rate = rate.prop_map(|(per_second, burst)| Rate { per_second, burst });
        proptest::option::of(rate).prop_map(Option::unwrap_or_default)
    }

    pub(in crate::config::show) fn any_limits() -> impl Strategy<Value = Limits> {
        let counts = (0..=1_000_000_usize, 0..=1_000_000_usize);
        let times = (duration(100, 3_600_000), duration(0, 86_400_000));
        (counts, times, [(); 3].map(|()| any_rate())).prop_map(
            |((connections, address_connections), (header, body), rates)| Limits {
                connections,
                address_connections,
                connecting: rates[0],
                header_timeout: header,
                body_timeout: (!body.is_zero()).then_some(body),
                rates: Rates {
                    user: rates[1],
                    address: rates[2],
                },
            },
        )
    }
}
