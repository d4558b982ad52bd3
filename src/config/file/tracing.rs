//! `[tracing]`: where spans are sent, and of how many requests.

use std::time::Duration;

use super::super::Tracing;
use super::super::address::COLLECTOR;
use super::super::section::{Kind, Section};
use super::visible;

const SERVICE_NAME: Kind<String> = Kind {
    allowed: "1 to 128 visible ASCII characters, such as vms-edge",
    parse: visible,
};

pub(super) fn tracing(mut section: Section<'_>) -> Option<Tracing> {
    let endpoint = section.optional_text("endpoint", &COLLECTOR);
    let sample = section.fraction("sample", 0.01, 0.0..=1.0);
    let service_name = section.text("service_name", "vms-edge".to_owned(), &SERVICE_NAME);
    let timeout = section.duration(
        "timeout",
        Duration::from_secs(5),
        Duration::from_millis(10)..=Duration::from_secs(60),
    );
    section.finish();
    Some(Tracing {
        endpoint: endpoint?,
        sample: sample?,
        service_name: service_name?,
        timeout: timeout?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};

    #[test]
    fn a_collector_is_a_url_without_a_query() {
        let allowed = "allowed: the URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318, or \
                        \"\" for none";
        for (url, problem) in [
            ("127.0.0.1:4318", "does not begin with http://"),
            ("https://a:4318", "does not begin with http://"),
            ("http://", "has no valid host name"),
            ("http://a b:1", "has no valid host name"),
            ("http://a:0", "has a port out of the range 1 to 65535"),
            ("http://user:secret@a:1", "holds a user or a password"),
            ("http://a/b?c", "holds a query or a fragment"),
            (
                "http://a/b c",
                "has a path with other characters than visible ASCII",
            ),
        ] {
            assert_eq!(
                refused(&format!("[tracing]\nendpoint = \"{url}\"")),
                format!("edge.toml:2: tracing.endpoint: \"{url}\" {problem}; {allowed}")
            );
        }
    }

    #[test]
    fn a_collector_is_asked_at_its_own_path_and_port() {
        for (url, shown) in [
            ("http://OTEL.local", "http://otel.local:4318"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://otel.local/a/b/", "http://otel.local:4318/a/b"),
        ] {
            let tracing = accepted(&format!("[tracing]\nendpoint = \"{url}\"")).tracing;
            let endpoint = tracing.endpoint.expect("an endpoint");
            assert_eq!(endpoint.to_string(), shown);
        }
        assert_eq!(
            accepted("[tracing]\nendpoint = \"\"").tracing.endpoint,
            None
        );
    }

    #[test]
    fn a_share_a_name_and_a_timeout_have_limits() {
        assert_eq!(
            refused("[tracing]\nsample = 1.5\nservice_name = \"\"\ntimeout = \"2m\""),
            "edge.toml:2: tracing.sample: 1.5 is out of range; allowed: a number, 0.0 to 1.0\n\
             edge.toml:3: tracing.service_name: \"\" is empty; \
             allowed: 1 to 128 visible ASCII characters, such as vms-edge\n\
             edge.toml:4: tracing.timeout: 2m is out of range; allowed: 10ms to 1m"
        );
    }
}
