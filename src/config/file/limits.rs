//! `[limits]`: what clients may take up.

use std::time::Duration;

use super::super::section::Section;
use super::super::{Limits, Rate, Rates};

const MAX_CONNECTIONS: usize = 1_000_000;
/// Most requests or connections per second that a limit can allow, and most at once.
const MAX_RATE: usize = 1_000_000;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn limits(mut section: Section<'_>) -> Option<Limits> {
    let connections = section.whole("connections", 0, 0..=MAX_CONNECTIONS);
    let address_connections = section.whole("address_connections", 0, 0..=MAX_CONNECTIONS);
    let connecting = rate(
        &mut section,
        "address_connection_rate",
        "address_connection_burst",
    );
    let header_timeout = section.duration(
        "header_timeout",
        Duration::from_secs(10),
        Duration::from_millis(100)..=HOUR,
    );
    let five_minutes = Duration::from_secs(300);
    let body_timeout = section.duration("body_timeout", five_minutes, Duration::ZERO..=DAY);
    let user = rate(&mut section, "user_rate", "user_burst");
    let address = rate(&mut section, "address_rate", "address_burst");
    section.finish();
    Some(Limits {
        connections: connections?,
        address_connections: address_connections?,
        connecting: connecting?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout.map(|limit| (!limit.is_zero()).then_some(limit))?,
        rates: Rates {
            user: user?,
            address: address?,
        },
    })
}

fn rate(section: &mut Section<'_>, rate: &'static str, burst: &'static str) -> Option<Rate> {
    let per_second = section.whole(rate, 0, 0..=MAX_RATE);
    let at_once = section.whole(burst, 0, 0..=MAX_RATE);
    let read = Rate {
        per_second: per_second?,
        burst: at_once?,
    };
    if read.per_second == 0 && read.burst > 0 {
        let problem = format!("has no effect without limits.{rate}");
        return section.refuse(burst, problem, format!("0, or a limits.{rate} above 0"));
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};
    use super::*;

    #[test]
    fn limits_have_limits() {
        let text = "[limits]\nconnections = 1000001\naddress_connections = -1\nheader_timeout = \"99ms\"\n\
                    body_timeout = \"2d\"\n";
        assert_eq!(
            refused(text),
            "edge.toml:2: limits.connections: 1000001 is out of range; allowed: a whole number, 0 to 1000000\n\
             edge.toml:3: limits.address_connections: -1 is out of range; allowed: a whole number, 0 to 1000000\n\
             edge.toml:4: limits.header_timeout: 99ms is out of range; allowed: 100ms to 1h\n\
             edge.toml:5: limits.body_timeout: 2d is out of range; allowed: 0s to 1d"
        );
    }

    #[test]
    fn a_body_without_a_limit_is_0s() {
        let limits = accepted("limits.body_timeout = \"0s\"").limits;
        assert_eq!(limits.body_timeout, None);
    }

    #[test]
    fn rates_have_limits() {
        assert_eq!(
            refused("[limits]\nuser_rate = 1000001\naddress_rate = 0.5"),
            "edge.toml:2: limits.user_rate: 1000001 is out of range; allowed: a whole number, 0 to 1000000\n\
             edge.toml:3: limits.address_rate: 0.5 is a float, not an integer; allowed: a whole number, 0 to 1000000"
        );
    }

    #[test]
    fn a_burst_belongs_to_a_rate() {
        assert_eq!(
            refused("[limits]\naddress_rate = 5\nuser_burst = 10"),
            "edge.toml:3: limits.user_burst: has no effect without limits.user_rate; \
             allowed: 0, or a limits.user_rate above 0"
        );
        let rates = accepted("[limits]\naddress_rate = 5\naddress_burst = 10")
            .limits
            .rates;
        assert_eq!((rates.address.per_second, rates.address.burst), (5, 10));
        assert_eq!(rates.user, Rate::default());
    }

    #[test]
    fn an_address_may_connect_so_often() {
        let text = "[limits]\naddress_connection_rate = 20\naddress_connection_burst = 100";
        let connecting = accepted(text).limits.connecting;
        assert_eq!((connecting.per_second, connecting.burst), (20, 100));
        assert_eq!(
            refused("limits.address_connection_burst = 5"),
            "edge.toml:1: limits.address_connection_burst: has no effect without limits.address_connection_rate; \
             allowed: 0, or a limits.address_connection_rate above 0"
        );
    }
}
