//! How the edge's own fetches use their connections, and in which coding they ask.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::client::{Client, Response};
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::world::{SHOWS, World};

#[tokio::test]
async fn fetches_keep_their_connection_to_the_vms() {
    let world = World::new().await;
    for user in 1..=5 {
        world.user(user).asks([1]).await.gets([1]).is("fwd=miss");
    }
    assert_eq!(world.vms.connections(), 1);
}

#[tokio::test]
async fn a_vms_that_closes_after_each_answer_is_asked_on_new_connections() {
    let world = World::new().await;
    world.vms.add_response_header("Connection", "close");
    for user in 1..=3 {
        world.user(user).asks([1]).await.gets([1]).is("fwd=miss");
    }
    assert_eq!(world.vms.connections(), 3);
}

const GZIP: &str = "upstream.fetch_coding = \"gzip\"";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A VMS whose every answer has this status and body, said to be in gzip.
async fn coding(status: &str, body: &[u8]) -> Scripted {
    let header = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nETag: \"v1\"\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    Scripted::answering([header.as_bytes(), body].concat()).await
}

/// What an edge that fetches in gzip answers to a request for intercom 1.
async fn asked(edge: &TestEdge) -> Response {
    let mut client = Client::connect(edge.address).await;
    let request = format!(
        "GET {SHOWS}?ids[]=1 HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer t\r\nX-Client: ios\r\n\
         X-UUID: phone\r\n\r\n"
    );
    client.send(request).await;
    client.response().await
}

#[tokio::test]
async fn what_is_fetched_in_gzip_is_stored_and_relayed_without_it() {
    let body = r#"[{"id":1,"title":"\u041f"}]"#;
    let vms = coding("200 OK", &gzip(body.as_bytes())).await;
    let edge = TestEdge::with(&[vms.address.to_string()], GZIP);
    let miss = asked(&edge).await;
    assert_eq!(vms.only_request().head.one("accept-encoding"), Some("gzip"));
    assert_eq!((miss.status, miss.text()), (200, body));
    assert_eq!(miss.head.length(), Some(body.len()));
    assert_eq!(miss.head.one("content-encoding"), None);
    assert_eq!(miss.head.one("etag"), Some("W/\"v1\""));
    let hit = asked(&edge).await;
    assert!(hit.head.one("cache-status").unwrap().contains("; hit"));
    assert_eq!(hit.text(), body);
}

#[tokio::test]
async fn an_error_in_gzip_is_relayed_without_it_too() {
    let vms = coding("422 Unprocessable Content", &gzip(b"{\"message\":\"no\"}")).await;
    let edge = TestEdge::with(&[vms.address.to_string()], GZIP);
    let error = asked(&edge).await;
    assert_eq!((error.status, error.text()), (422, "{\"message\":\"no\"}"));
    assert_eq!(error.head.one("content-encoding"), None);
}

#[tokio::test]
async fn an_answer_without_a_body_is_relayed_and_no_fault_of_the_vms_whatever_coding_it_names() {
    for (status, told) in [
        ("200 OK", 200),
        ("204 No Content", 204),
        ("401 Unauthorized", 401),
        ("500 Internal Server Error", 500),
    ] {
        let vms = coding(status, b"").await;
        let edge = TestEdge::with(&[vms.address.to_string()], GZIP);
        let answer = asked(&edge).await;
        assert_eq!((answer.status, answer.text()), (told, ""));
        assert_eq!(answer.head.one("content-encoding"), None);
        // What has no body by its status has no length of one.
        assert_eq!(answer.head.length(), (told != 204).then_some(0));
        let counted = Scrape::settled(edge.admin).await;
        let broken = counted.value("vms_edge_fetches_total{outcome=\"broken\"}");
        assert_eq!(broken, 0.0, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_needs_no_decoding_is_as_good() {
    let world = World::with(GZIP).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]).is("stored");
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn a_body_that_is_no_whole_gzip_is_no_answer() {
    let whole = gzip(b"[{\"id\":1}]");
    let mut corrupt = whole.clone();
    let check = corrupt.len() - 5;
    corrupt[check] ^= 1;
    for body in [
        &whole[..whole.len() - 1],
        &whole[..12],
        &[&whole[..], b" "].concat(),
        &corrupt,
        b"[{\"id\":1}]",
    ] {
        let vms = coding("200 OK", body).await;
        let edge = TestEdge::with(&[vms.address.to_string()], GZIP);
        asked(&edge).await.assert_edge_error(502, "Bad Gateway");
        let counted = Scrape::settled(edge.admin).await;
        let broken = counted.value("vms_edge_fetches_total{outcome=\"broken\"}");
        assert_eq!(broken, 1.0);
    }
}

#[tokio::test]
async fn a_body_that_grows_without_end_passes_through_as_it_came() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let vms = coding("200 OK", &bomb).await;
    let edge = TestEdge::with(&[vms.address.to_string()], GZIP);
    let answer = asked(&edge).await;
    let told = answer.head.one("cache-status").unwrap();
    assert_eq!(told, "vms-edge; fwd=bypass; detail=too_large");
    assert_eq!(answer.head.one("content-encoding"), Some("gzip"));
    assert_eq!(answer.body, bomb);
}

#[tokio::test]
async fn a_coding_that_nobody_asked_for_is_not_stored() {
    let body = gzip(b"[{\"id\":1}]");
    let vms = coding("200 OK", &body).await;
    let edge = TestEdge::before(vms.address);
    for _ in 0..2 {
        let answer = asked(&edge).await;
        assert_eq!(answer.head.one("etag"), Some("\"v1\""));
        assert_eq!(answer.body, body);
    }
    edge.reload_before(&[vms.address.to_string()], GZIP);
    assert_eq!(asked(&edge).await.text(), "[{\"id\":1}]");
}
