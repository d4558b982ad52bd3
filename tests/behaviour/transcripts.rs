//! The recorded truth: every request of Laravel's transcripts, straight to the VMS and three times through the edge.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, Request};
use http_body_util::Full;
use serde::Deserialize;

use crate::support::world::{Answer, World, send};

#[derive(Deserialize)]
struct Transcript {
    name: String,
    request: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Recorded {
    fn request(&self) -> Request<Full<bytes::Bytes>> {
        let mut request = Request::builder()
            .method(self.method.as_str())
            .uri(self.target.as_str())
            .header("Host", "vms.local");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(Full::from(self.body.clone()))
            .expect("it was sent once before")
    }

    /// What the header checks refuse, by DESIGN's words rather than the edge's code.
    fn is_refused(&self) -> bool {
        let value = |name: &str| {
            let mut fields = self.headers.iter();
            fields
                .find(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        let batch =
            self.method == "GET" && self.target.split('?').next() == Some("/api/v1/intercom/shows");
        let known = [
            "ios-cctv",
            "android-cctv",
            "thick-legal",
            "web",
            "ios",
            "android",
        ];
        batch
            && (value("authorization").is_none_or(str::is_empty)
                || !value("x-client").is_some_and(|client| known.contains(&client))
                || value("x-uuid").is_none_or(str::is_empty)
                || !value("accept").is_none_or(|accept| {
                    accept.contains("application/json") || accept.contains("*/*")
                }))
    }
}

/// End-to-end fields, but for those that tell of the edge, of one moment, or of one connection.
fn end_to_end(headers: &HeaderMap) -> BTreeMap<&str, Vec<&[u8]>> {
    let told = [
        "cache-status",
        "etag",
        "age",
        "date",
        "connection",
        "transfer-encoding",
        "content-length",
    ];
    let names = headers
        .keys()
        .map(HeaderName::as_str)
        .filter(|name| !told.contains(name));
    let lines = |name| {
        let lines = headers.get_all(name).iter().map(|value| value.as_bytes());
        // That an answer from memory may come in a coding is told by the edge.
        lines.filter(move |line| name != "vary" || *line != b"Accept-Encoding")
    };
    names
        .map(|name| (name, lines(name).collect::<Vec<_>>()))
        .filter(|(_, lines)| !lines.is_empty())
        .collect()
}

#[track_caller]
fn assert_alike(through: &Answer, straight: &Answer, what: &str) {
    assert_eq!(through.status, straight.status, "{what}");
    assert_eq!(through.body, straight.body, "{what}");
    assert_eq!(
        end_to_end(&through.headers),
        end_to_end(&straight.headers),
        "{what}"
    );
}

#[tokio::test]
async fn every_recorded_request_is_answered_through_the_edge_as_by_the_vms_cold_and_warm() {
    let transcripts: Vec<Transcript> =
        serde_json::from_str(include_str!("../data/transcripts.json"))
            .expect("the transcripts are JSON");
    assert!(transcripts.len() >= 49);
    let mut refused = 0;
    for Transcript { name, request } in &transcripts {
        // An edge that has seen nothing, so that the first time is cold.
        let world = World::new().await;
        let straight = send(world.vms_address, request.request()).await;
        for temperature in ["cold", "warm", "warm again"] {
            let through = send(world.edge.address, request.request()).await;
            if request.is_refused() {
                refused += 1;
                assert!(
                    [401, 422].contains(&through.status.as_u16()),
                    "{name}, {temperature}"
                );
            } else {
                assert_alike(&through, &straight, &format!("{name}, {temperature}"));
            }
        }
    }
    assert_eq!(refused, 5 * 3, "requests that the header checks refuse");
}

#[tokio::test]
async fn all_recorded_requests_share_one_edge_without_disturbing_each_other() {
    let transcripts: Vec<Transcript> =
        serde_json::from_str(include_str!("../data/transcripts.json"))
            .expect("the transcripts are JSON");
    let world = World::new().await;
    for round in 0..3 {
        for Transcript { name, request } in transcripts.iter().filter(|t| !t.request.is_refused()) {
            let straight = send(world.vms_address, request.request()).await;
            let through = send(world.edge.address, request.request()).await;
            assert_alike(&through, &straight, &format!("{name}, round {round}"));
        }
    }
}
