//! HTTP/1.1 as clients and networks may garble it, by intent or not: vectors of bytes in `tests/wire/http1`, sent by
//! varnishtest to an edge whose VMS is counted.
//!
//! What a vector is, `support/vectors.rs` says. A request that nobody named was smuggled in, and what a vector calls forged
//! must not arrive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use vms_edge::cache::clock::Hand;

use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Request, Scripted};
use crate::support::vectors::scripts;

/// Whoever stalls is given up soon. Writes end what was read.
const SETTINGS: &str = r#"
upstream.idle_timeout = "4s"
limits.body_timeout = "2s"
limits.header_timeout = "2s"
log.access = false

[[invalidate]]
methods = ["POST", "PUT", "PATCH", "DELETE"]
path = "/api/v1/intercom/{id}"
scope = ["user", "item"]
"#;

/// What a widget sends beside its token, as scripts write it.
const WIDGET: &str = r"Host: a\r\nX-Client: ios\r\nX-UUID: d\r\nAccept: application/json\r\n";

/// What no header that reaches the VMS may have in it.
const FORGED: &[u8] = b"forged";

scripts!(
    "http1", at least 700:
    chunks,
    connection_fields,
    credentials,
    fields,
    forwarding,
    hosts,
    ids,
    lengths,
    lines,
    methods,
    pipelines,
    targets,
    transfer_codings,
    upgrades,
);

/// Plays a script, and holds what the VMS saw against what it says.
async fn play(script: &str) {
    let whole: Arc<Mutex<Vec<Request>>> = Arc::default();
    let came = Arc::clone(&whole);
    let clock: Arc<OnceLock<Hand>> = Arc::default();
    let hand = Arc::clone(&clock);
    let answer = move |connection| answer_all(connection, Arc::clone(&came), Arc::clone(&hand));
    let vms = Scripted::start(answer).await;
    let edge = TestEdge::with(&[vms.address.to_string()], SETTINGS);
    clock.get_or_init(|| edge.hand());
    let address = edge.address.to_string();
    let hundred = "x".repeat(100);
    let macros = [
        ("edge", &*address),
        ("widget", WIDGET),
        ("hundred", &*hundred),
    ];
    if !SCRIPTS.play(script, &macros).await {
        return;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for request in whole.lock().unwrap().iter() {
        let name = named(request);
        if has_forged(request) {
            wrong.push(format!("{name}: the VMS was told what was forged"));
        }
        *seen.entry(name).or_default() += 1;
    }
    for (name, expected) in SCRIPTS.vectors(script) {
        let count = seen.remove(&name).unwrap_or_default();
        if count != expected {
            wrong.push(format!(
                "{name}: {count} requests reached the VMS, not {expected}"
            ));
        }
    }
    wrong.extend(
        seen.into_keys()
            .map(|name| format!("nobody asked the VMS for {name}")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a field or a trailer says what none may.
fn has_forged(request: &Request) -> bool {
    let fields = request.head.fields.iter().map(|(_, value)| &**value);
    let trailers = request.trailers.iter().map(String::as_bytes);
    let mut said = fields.chain(trailers);
    said.any(|said| memchr::memmem::find(said, FORGED).is_some())
}

/// The vector of a request: a parameter, a field, or the last part of its path.
fn named(request: &Request) -> String {
    let line = request.line();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let parameter = target.split_once("v=").map(|(_, name)| name);
    let name = parameter.or_else(|| request.head.one("x-v"));
    let name = name.unwrap_or_else(|| target.rsplit('/').next().unwrap_or_default());
    name.to_owned()
}

/// Batches have one item, and all else is short. Only what comes to its end is a request, and no two come at one time.
async fn answer_all(
    mut connection: Connection,
    whole: Arc<Mutex<Vec<Request>>>,
    clock: Arc<OnceLock<Hand>>,
) {
    while let Some(request) = connection.request().await {
        let hand = clock.get().expect("the edge is there before a request is");
        hand.advance(Duration::from_millis(1));
        let line = request.line();
        whole.lock().unwrap().push(request);
        let (kind, body) = match line.contains("/shows") {
            true => ("application/json", "[{\"id\":1}]"),
            false => ("text/plain", "ok"),
        };
        let length = body.len();
        let body = if line.starts_with("HEAD ") { "" } else { body };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        if connection.wire.try_send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
