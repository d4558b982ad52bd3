//! HTTP/1.1 as clients and networks may garble it, by intent or not: vectors of bytes in `tests/wire/http1`, sent by
//! varnishtest to an edge whose VMS is counted.
//!
//! A vector is what stands in a script below a line `# vector: NAME, N at the VMS`: bytes, and what the client must be told.
//! It names itself in each of its requests, so that they can be counted; a request that nobody named was smuggled in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::process::Command;

use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Request, Scripted};
use crate::support::soon;
use crate::support::tools::tool;

/// There are no fewer vectors than these.
const VECTORS: usize = 250;

/// Whoever stalls is given up soon.
const SETTINGS: &str = "upstream.idle_timeout = \"2s\"\nlimits.body_timeout = \"2s\"\nlimits.header_timeout = \"2s\"\nlog.access = false\n";

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

/// How many whole requests of each vector the VMS may see at least and at most.
fn vectors(script: &str) -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(folder().join(format!("{script}.vtc"))).expect("a script");
    let marked = text
        .lines()
        .filter_map(|line| line.strip_prefix("# vector: "));
    let vector = |line: &str| {
        let (name, count) = line.strip_suffix(" at the VMS")?.split_once(", ")?;
        let (least, most) = match count.strip_prefix("at most ") {
            Some(most) => (0, most),
            None => (count.parse().ok()?, count),
        };
        Some((name.to_owned(), (least, most.parse().ok()?)))
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
    let vms = Scripted::start(move |connection| answer_all(connection, Arc::clone(&came))).await;
    let edge = TestEdge::with(&[vms.address.to_string()], SETTINGS);
    let mut player = Command::new(varnishtest);
    player.arg("-D").arg(format!("edge={}", edge.address));
    player
        .arg(folder().join(format!("{script}.vtc")))
        .kill_on_drop(true);
    let played = soon("the end of the script", player.output())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for request in whole.lock().unwrap().iter() {
        *seen.entry(named(request)).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for (name, (least, most)) in vectors(script) {
        let count = seen.remove(&name).unwrap_or_default();
        if !(least..=most).contains(&count) {
            wrong.push(format!(
                "{name}: {count} requests reached the VMS, not {least} to {most}"
            ));
        }
    }
    wrong.extend(
        seen.into_keys()
            .map(|name| format!("nobody asked the VMS for {name}")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
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

/// Batches have one item, and all else is short. Only what comes to its end is a request.
async fn answer_all(mut connection: Connection, whole: Arc<Mutex<Vec<Request>>>) {
    while let Some(request) = connection.request().await {
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
