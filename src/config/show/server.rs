//! `[server]` and `[limits]`, as the file spells them.

use super::super::names::{CLIENT_CERTIFICATES, name_of};
use super::super::units::duration_text;
use super::super::{Limits, Server};
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
    page.key("address_connection_rate", limits.connecting.rate);
    page.key("address_connection_burst", limits.connecting.burst);
    page.key(
        "header_timeout",
        quote(duration_text(limits.header_timeout)),
    );
    page.key(
        "body_timeout",
        quote(duration_text(limits.body_timeout.unwrap_or_default())),
    );
    let rates = &limits.rates;
    page.key("user_rate", rates.user_rate);
    page.key("user_burst", rates.user_burst);
    page.key("address_rate", rates.address_rate);
    page.key("address_burst", rates.address_burst);
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::super::{Connecting, Rates};
    use super::super::tests::duration;
    use super::*;

    /// A rate and a burst, which there is none of without a rate.
    fn any_rate() -> impl Strategy<Value = (usize, usize)> {
        let rate = proptest::option::of((1..=1_000_000_usize, 0..=1_000_000_usize));
        rate.prop_map(Option::unwrap_or_default)
    }

    fn any_rates() -> impl Strategy<Value = Rates> {
        let rates = (any_rate(), any_rate());
        rates.prop_map(
            |((user_rate, user_burst), (address_rate, address_burst))| Rates {
                user_rate,
                user_burst,
                address_rate,
                address_burst,
            },
        )
    }

    pub(in crate::config::show) fn any_limits() -> impl Strategy<Value = Limits> {
        let counts = (0..=1_000_000_usize, 0..=1_000_000_usize, any_rate());
        let times = (duration(100, 3_600_000), duration(0, 86_400_000));
        (counts, times, any_rates()).prop_map(
            |((connections, address_connections, (rate, burst)), (header, body), rates)| Limits {
                connections,
                address_connections,
                connecting: Connecting { rate, burst },
                header_timeout: header,
                body_timeout: (!body.is_zero()).then_some(body),
                rates,
            },
        )
    }
}
