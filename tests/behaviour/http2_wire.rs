//! HTTP/2 as no decent client speaks it: vectors of bytes in `tests/wire/http2`, sent with the h2 package of Python with its
//! validation off, against an edge whose VMS is counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::authority::Authority;
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Request, Scripted};
use crate::support::soon;
use crate::support::tools::{present, tool};

/// There are no fewer vectors than these.
const VECTORS: usize = 150;

/// Clients who stall are given up soon.
const SETTINGS: &str =
    "upstream.idle_timeout = \"1s\"\nlimits.body_timeout = \"2s\"\nlog.access = false\n";

/// More than all buffers on the way hold.
const LARGE_BYTES: usize = 32 << 20;

/// What the player tells of a vector.
#[derive(Deserialize)]
struct Played {
    name: String,
    came: String,
    expected: Vec<String>,
    least: usize,
    most: usize,
    /// How somebody else was answered afterwards.
    beside: String,
}

#[tokio::test]
async fn vectors_of_http_2_do_no_harm_and_the_vms_sees_no_more_than_it_should() {
    let Some((python, packages)) = python() else {
        return;
    };
    let authority = Authority::new();
    let vms = Scripted::start(answer_all).await;
    let settings = format!("{SETTINGS}{}", authority.table("vms.local"));
    let edge = TestEdge::with(&[vms.address.to_string()], &settings);
    let mut player = Command::new(python);
    player
        .arg(project().join("tests/wire/http2/run.py"))
        .arg(edge.tls[0].port().to_string())
        .arg(authority.ca())
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    player.stdout(Stdio::piped()).kill_on_drop(true);
    let mut player = player.spawn().expect("python can be run");
    let told = player.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(told).lines();
    let mut played: Vec<Played> = Vec::new();
    while let Some(line) = soon("the next vector", lines.next_line()).await.unwrap() {
        played.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
    }
    let ended = soon("the end of the player", player.wait()).await.unwrap();
    assert!(ended.success(), "the player fails, see above");
    assert!(played.len() >= VECTORS, "only {} vectors", played.len());
    let mut reached = Reached::of(&vms.requests());
    let mut wrong = Vec::new();
    for Played {
        name,
        came,
        expected,
        least,
        most,
        beside,
    } in &played
    {
        if !expected.contains(came) {
            wrong.push(format!("{name}: {came}, not {}", expected.join(" or ")));
        }
        let requests = reached.by_name.remove(name.as_str()).unwrap_or_default();
        if !(*least..=*most).contains(&requests) {
            wrong.push(format!(
                "{name}: {requests} requests reached the VMS, not {least} to {most}"
            ));
        }
        if beside != "200" {
            wrong.push(format!("{name}: somebody else was told {beside}"));
        }
    }
    let beside = reached.by_name.remove("beside");
    assert_eq!(
        beside,
        Some(played.len()),
        "each request of somebody else's"
    );
    wrong.extend(reached.others());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Requests that the VMS saw.
struct Reached {
    /// How many there were of each vector.
    by_name: BTreeMap<String, usize>,
    /// What no vector should have caused.
    smuggled: Vec<String>,
}

impl Reached {
    fn of(requests: &[Request]) -> Self {
        let mut reached = Self {
            by_name: BTreeMap::new(),
            smuggled: Vec::new(),
        };
        for request in requests {
            let line = request.line();
            let named = named(&line).filter(|_| !is_smuggled(request));
            match named {
                Some(name) => *reached.by_name.entry(name.to_owned()).or_default() += 1,
                None => reached.smuggled.push(line),
            }
        }
        reached
    }

    /// Those that nobody should have sent.
    fn others(self) -> impl Iterator<Item = String> {
        let unknown = self.by_name.into_keys();
        unknown
            .chain(self.smuggled)
            .map(|line| format!("the VMS was asked by nobody: {line}"))
    }
}

/// The vector of a request: the last part of its path, or a parameter of a batch.
fn named(line: &str) -> Option<&str> {
    let target = line.split(' ').nth(1)?;
    target.rsplit(['/', '=']).next()
}

/// Whether a request, or a field of it, is what a vector hid in something else.
fn is_smuggled(request: &Request) -> bool {
    let mut names = request.head.fields.iter().map(|(name, _)| name);
    request.line().contains("smuggled") || names.any(|name| name.contains("smuggled"))
}

/// Batches have one item; all else is short, or very long.
async fn answer_all(mut connection: Connection) {
    while let Some(request) = connection.request().await {
        let line = request.line();
        let (kind, body) = match &line {
            line if line.contains("/shows?") => ("application/json", "[{\"id\":1}]".to_owned()),
            line if line.contains("/large/") => ("text/plain", "x".repeat(LARGE_BYTES)),
            _ => ("text/plain", "ok".to_owned()),
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        // An answer that is not taken to its end is cut off.
        if connection.wire.try_send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Python, and where its packages are that `.ci/tools` installs.
fn python() -> Option<(PathBuf, PathBuf)> {
    let packages = project().join("target/tools/wire");
    let is_there = packages.join("h2").is_dir();
    let packages = present("the h2 package of Python", is_there.then_some(packages))?;
    Some((tool("python3")?, packages))
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
