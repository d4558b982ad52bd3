//! A VMS, or whatever answers in its place, as it may garble HTTP/1.1: vectors of bytes in `tests/wire/vms`, played by
//! varnishtest on both sides of an edge.
//!
//! A vector is what stands in a script below a line `# vector: NAME, N at the VMS`: what the VMS answers, and what the
//! client must be told. It names itself in each of its requests, and the VMS is given exactly N of them: a second one for
//! what was asked twice shows that nothing was stored, and one that nobody named was made of an answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::edge::TestEdge;
use crate::support::relay::Relay;
use crate::support::soon;
use crate::support::tools::tool;

/// There are no fewer vectors than these.
const VECTORS: usize = 200;

/// No vector's failures are held against the next, and whoever stalls is given up soon.
const SETTINGS: &str = "upstream.breaker.failures = 0\nupstream.health.check = \"never\"\n\
                        upstream.fetch_timeout = \"2s\"\nupstream.idle_timeout = \"2s\"\nlog.access = false\n";

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
    bodies, codings, fields, framing, heads, ids, passing, statuses
);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/vms")
}

/// How many requests of each vector reach the VMS.
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

/// Plays a script, and holds what the VMS was asked against what it says.
async fn play(script: &str) {
    let Some(varnishtest) = tool("varnishtest") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("vms");
    let relay = Relay::to(socket.clone(), "v=reset-").await;
    let edge = TestEdge::with(&[relay.address.to_string()], SETTINGS);
    let mut player = Command::new(varnishtest);
    // Whoever hangs says where.
    player.args(["-t", "15"]);
    player.arg("-D").arg(format!("edge={}", edge.address));
    player.arg("-D").arg(format!("vms={}", socket.display()));
    player
        .arg(folder().join(format!("{script}.vtc")))
        .kill_on_drop(true);
    let played = soon("the end of the script", player.output())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(played.status.success(), "{said}");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for head in relay.heads() {
        *seen.entry(named(&head)).or_default() += 1;
    }
    assert_eq!(seen, vectors(script), "requests that reached the VMS");
}

/// The vector of a request: its last parameter. Whatever has none is shown whole.
fn named(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let name = target.rsplit_once("v=").map(|(_, name)| name);
    name.unwrap_or(head).to_owned()
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
