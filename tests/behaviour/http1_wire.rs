//! HTTP/1.1 as clients and networks may garble it, by intent or not: vectors of bytes in `tests/wire/http1`, sent by
//! varnishtest to an edge whose VMS is counted.
//!
//! A vector is what stands in a script below a line `# vector: NAME, N at the VMS`: bytes, and what the client must be told.
//! It names itself in each of its requests, so that they can be counted; a request that nobody named was smuggled in. What
//! a vector calls forged must not arrive.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::process::Command;
use vms_edge::cache::clock::Hand;

use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Request, Scripted};
use crate::support::soon;
use crate::support::tools::tool;

/// There are no fewer vectors than these.
const VECTORS: usize = 700;

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
const WIDGET: &str =
    r"widget=Host: a\r\nX-Client: ios\r\nX-UUID: d\r\nAccept: application/json\r\n";

/// What no header that reaches the VMS may have in it.
const FORGED: &[u8] = b"forged";

/// A test for each script, by its name.
macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),+];

        $(
            #[tokio::test]
            async fn $name() {
                play(stringify!($name)).await;
            }
        )+
    };
}

scripts!(
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

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/http1")
}

/// How many whole requests of each vector the VMS sees.
fn vectors(script: &str) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(folder().join(format!("{script}.vtc"))).expect("a script");
    let marked = text
        .lines()
        .filter_map(|line| line.strip_prefix("# vector: "));
    let vector = |line: &str| {
        let (name, count) = line.strip_suffix(" at the VMS")?.split_once(", ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    let read: Vec<_> = marked
        .map(|line| vector(line).unwrap_or_else(|| panic!("{line}")))
        .collect();
    let count = read.len();
    let vectors = BTreeMap::from_iter(read);
    assert_eq!(vectors.len(), count, "each has a name of its own");
    vectors
}

/// Plays a script, and holds what the VMS saw against what it says.
async fn play(script: &str) {
    let Some(varnishtest) = tool("varnishtest") else {
        return;
    };
    let whole: Arc<Mutex<Vec<Request>>> = Arc::default();
    let came = Arc::clone(&whole);
    let clock: Arc<OnceLock<Hand>> = Arc::default();
    let hand = Arc::clone(&clock);
    let answer = move |connection| answer_all(connection, Arc::clone(&came), Arc::clone(&hand));
    let vms = Scripted::start(answer).await;
    let edge = TestEdge::with(&[vms.address.to_string()], SETTINGS);
    clock.get_or_init(|| edge.hand());
    let mut player = Command::new(varnishtest);
    player.arg("-D").arg(format!("edge={}", edge.address));
    player.args(["-D", WIDGET]);
    player.arg("-D").arg(format!("hundred={}", "x".repeat(100)));
    player
        .arg(folder().join(format!("{script}.vtc")))
        .kill_on_drop(true);
    let played = soon("the end of the script", player.output())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for request in whole.lock().unwrap().iter() {
        let name = named(request);
        if has_forged(request) {
            wrong.push(format!("{name}: the VMS was told what was forged"));
        }
        *seen.entry(name).or_default() += 1;
    }
    for (name, expected) in vectors(script) {
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

#[test]
fn every_script_is_played_and_has_vectors() {
    let files = fs::read_dir(folder()).expect("the scripts are there");
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let played: Vec<_> = SCRIPTS
        .iter()
        .map(|script| format!("{script}.vtc"))
        .collect();
    assert_eq!(files, played);
    let all = SCRIPTS
        .iter()
        .flat_map(|script| vectors(script).into_keys());
    let all: Vec<_> = all.collect();
    assert!(all.len() >= VECTORS, "only {} vectors", all.len());
}
