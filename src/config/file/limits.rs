//! `[limits]`: what clients may take up.

use std::time::Duration;

use super::super::Limits;
use super::super::section::Section;

const MOST_CONNECTIONS: usize = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn limits(mut section: Section<'_>) -> Option<Limits> {
    let connections = section.whole("connections", 0, 0..=MOST_CONNECTIONS);
    let address_connections = section.whole("address_connections", 0, 0..=MOST_CONNECTIONS);
    let header_timeout = section.duration(
        "header_timeout",
        Duration::from_secs(10),
        Duration::from_millis(100)..=HOUR,
    );
    let five_minutes = Duration::from_secs(300);
    let body_timeout = section.duration("body_timeout", five_minutes, Duration::ZERO..=DAY);
    section.finish();
    Some(Limits {
        connections: connections?,
        address_connections: address_connections?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout.map(|limit| (!limit.is_zero()).then_some(limit))?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};

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
}
