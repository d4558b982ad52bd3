//! What goes wrong when it is told to, and what waits until it is let go.

use std::io::Read as _;
use std::time::Duration;

use vms_edge::demo::vms::{Fault, Pace, StandIn, Times, UNASKED_ID};

use crate::client::Client;
use crate::patience::soon;
use crate::{SHOWS, TOKEN, shows, started};

/// With this fault, once, an answer is whole, with this status and this field, and has this in its body.
async fn answers(
    (vms, client): (&StandIn, &mut Client),
    fault: Fault,
    status: u16,
    field: Option<(&str, &str)>,
    text: &str,
) {
    vms.fault(fault.clone(), Times::Once);
    let reply = shows(client).await;
    assert_eq!(reply.status, status, "{fault:?}");
    if let Some((name, value)) = field {
        assert_eq!(reply.head.one(name), Some(value), "{fault:?}");
    }
    assert!(reply.text().contains(text), "{fault:?}: {}", reply.text());
    assert!(reply.complete, "{fault:?}");
}

#[tokio::test]
async fn faults_of_the_status_do_what_they_say() {
    let (vms, _running, mut client) = started().await;
    let later = |seconds| Some(("Retry-After", seconds));
    let unknown = r#"{"message":"Unauthenticated."}"#;
    for (fault, status, field, text) in [
        (Fault::Status(429), 429, later("7"), "Too Many Attempts."),
        (Fault::Status(500), 500, None, "Server Error"),
        (Fault::Status(503), 503, later("60"), "Service Unavailable"),
        (Fault::Status(401), 401, None, unknown),
        (Fault::Redirect, 302, Some(("Location", "/login")), ""),
        (Fault::NoContent, 204, None, ""),
        (Fault::NotModified, 304, None, ""),
    ] {
        answers((&vms, &mut client), fault, status, field, text).await;
    }
    vms.assert_healthy();
}

#[tokio::test]
async fn faults_of_the_header_and_the_body_do_what_they_say() {
    let (vms, _running, mut client) = started().await;
    let plain = shows(&mut client).await;
    let body = plain.text();
    let first = &body[1..body.find(",{\"id\":2").unwrap()];
    let doubled = format!("{},{first}]", &body[..body.len() - 1]);
    let object = format!("{{\"data\":{body}}}");
    let html = ("Content-Type", "text/html; charset=UTF-8");
    let private = ("Cache-Control", "no-store, private");
    let mood = Fault::VaryOn("X-Mood".into());
    for (fault, field, text) in [
        (Fault::Html, Some(html), "<html>"),
        (Fault::NoStore, Some(private), body),
        (mood, Some(("Vary", "X-Mood")), body),
        (Fault::CutJson, None, &body[..body.len() / 2]),
        (Fault::NotAnArray, None, &object),
        (Fault::Twice, None, &doubled),
    ] {
        answers((&vms, &mut client), fault, 200, field, text).await;
    }
    vms.assert_healthy();
}

#[tokio::test]
async fn faults_that_rewrite_the_answer_do_what_they_say() {
    let (vms, _running, mut client) = started().await;
    let body = shows(&mut client).await.body;
    vms.fault(Fault::Unasked, Times::Once);
    assert_eq!(
        shows(&mut client).await.ids(),
        ["1", "2", &UNASKED_ID.to_string()]
    );
    vms.fault(Fault::IdsAsStrings, Times::Once);
    assert_eq!(shows(&mut client).await.ids(), ["\"1\"", "\"2\""]);
    vms.fault(Fault::Gzipped, Times::Once);
    let reply = shows(&mut client).await;
    assert_eq!(reply.head.one("content-encoding"), Some("gzip"));
    let mut unzipped = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&reply.body[..]);
    decoder.read_to_string(&mut unzipped).unwrap();
    assert_eq!(unzipped.as_bytes(), body);
    assert_eq!(shows(&mut client).await.body, body);
    vms.assert_healthy();
}

#[tokio::test]
async fn faults_of_the_connection_do_what_they_say() {
    let (vms, running, mut client) = started().await;
    let body = shows(&mut client).await.body;
    vms.fault(Fault::CloseBeforeAnswer, Times::Once);
    client.sends("GET", SHOWS, &[TOKEN], b"").await;
    assert!(client.head().await.is_none());

    let mut client = Client::connect(running.address()).await;
    vms.fault(Fault::CutBody, Times::Once);
    let reply = client.request("GET", SHOWS, &[TOKEN], b"").await;
    assert!(!reply.complete);
    assert_eq!(reply.body, body[..body.len() / 2]);

    let mut client = Client::connect(running.address()).await;
    vms.fault(
        Fault::Drip(Pace::Every(Duration::from_micros(10))),
        Times::Once,
    );
    assert_eq!(shows(&mut client).await.body, body);

    vms.fault(Fault::Endless, Times::Once);
    client.sends("GET", SHOWS, &[TOKEN], b"").await;
    let mut endless = client.begin("GET").await;
    assert_eq!(endless.status, 200);
    let mut length = 0;
    while length < 1 << 20 {
        length += client.chunk(&mut endless).await.len();
    }
    vms.assert_healthy();
}

#[tokio::test]
async fn a_fault_stays_until_it_is_cleared_and_hangs_no_one_else() {
    let (vms, running, mut client) = started().await;
    vms.fault(Fault::Hang, Times::Once);
    vms.fault(Fault::Status(500), Times::Always);
    let hold = vms.hold();
    let mut hanging = Client::connect(running.address()).await;
    hanging.sends("GET", SHOWS, &[TOKEN], b"").await;
    hold.arrived(1).await;
    hold.release();
    for _ in 0..3 {
        assert_eq!(shows(&mut client).await.status, 500);
    }
    vms.clear_faults();
    assert_eq!(shows(&mut client).await.status, 200);
    tokio::select! {
        biased;
        head = hanging.head() => panic!("it answered: {head:?}"),
        () = std::future::ready(()) => {}
    }
    vms.assert_healthy();
}

#[tokio::test]
async fn a_held_batch_is_answered_from_the_world_as_it_was() {
    let (vms, running, mut client) = started().await;
    let hold = vms.hold();
    client.sends("GET", SHOWS, &[TOKEN], b"").await;
    hold.arrived(1).await;
    vms.rename(1, "gate");
    let mut second = Client::connect(running.address()).await;
    second.sends("GET", SHOWS, &[TOKEN], b"").await;
    hold.arrived(2).await;
    let mut gone = Client::connect(running.address()).await;
    gone.sends("GET", SHOWS, &[TOKEN], b"").await;
    hold.arrived(3).await;
    assert_eq!(hold.waiting(), 3);
    drop(gone);
    hold.release();
    assert!(!client.response().await.text().contains("gate"));
    assert!(second.response().await.text().contains("gate"));
    assert!(shows(&mut client).await.text().contains("gate"));
    vms.assert_healthy();
}

#[tokio::test]
async fn whoever_finds_all_workers_busy_waits_for_one_to_be_free() {
    let (vms, running, mut client) = started().await;
    vms.set_workers(1);
    let hold = vms.hold();
    let mut first = Client::connect(running.address()).await;
    first.sends("GET", SHOWS, &[TOKEN], b"").await;
    hold.arrived(1).await;
    client.sends("GET", SHOWS, &[TOKEN], b"").await;
    let came = async {
        while vms.requests_total() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("the second request", came).await;
    assert_eq!((hold.waiting(), vms.batches_total()), (1, 1));
    drop(first);
    let attended = async {
        while vms.batches_total() < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("a worker for the second", attended).await;
    hold.release();
    assert_eq!(client.response().await.status, 200);
    vms.assert_healthy();
}

#[tokio::test]
async fn a_stream_gives_one_chunk_at_each_step() {
    let (vms, _running, mut client) = started().await;
    client.sends("GET", "/api/v1/stream/2", &[TOKEN], b"").await;
    let mut stream = client.begin("GET").await;
    assert_eq!(stream.status, 200);
    for expected in ["chunk 1\n", "chunk 2\n"] {
        vms.step();
        assert_eq!(client.chunk(&mut stream).await, expected.as_bytes());
    }
    assert_eq!(client.more(&mut stream).await, None);
    assert!(stream.complete);
    vms.fault(Fault::Drip(Pace::Step), Times::Once);
    client
        .sends("GET", "/api/v1/intercom/shows?ids[]=4", &[TOKEN], b"")
        .await;
    let mut dripping = client.begin("GET").await;
    assert_eq!(dripping.status, 200);
    vms.step();
    assert_eq!(client.chunk(&mut dripping).await, b"[");
    vms.step();
    assert_eq!(client.chunk(&mut dripping).await, b"]");
    vms.assert_healthy();
}
