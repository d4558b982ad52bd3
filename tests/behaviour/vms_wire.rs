//! A VMS, or whatever answers in its place, as it may garble HTTP/1.1: vectors of bytes in `tests/wire/vms`, played by
//! varnishtest on both sides of an edge.
//!
//! What a vector is, `support/vectors.rs` says; here it also has what the VMS answers. A second request for what was asked
//! twice shows that nothing was stored, and one that nobody named was made of an answer.

use std::collections::BTreeMap;

use crate::support::edge::TestEdge;
use crate::support::relay::Relay;
use crate::support::vectors::scripts;

/// No vector's failures are held against the next, and whoever stalls is given up soon.
const SETTINGS: &str = "upstream.breaker.failures = 0\nupstream.health.check = \"never\"\n\
                        upstream.fetch_timeout = \"2s\"\nupstream.idle_timeout = \"2s\"\nlog.access = false\n";

scripts!(
    "vms", at least 200:
    bodies, codings, fields, framing, heads, ids, passing, statuses
);

/// Plays a script, and holds what the VMS was asked against what it says.
async fn play(script: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("vms");
    let relay = Relay::to(socket.clone(), "v=reset-").await;
    let edge = TestEdge::with(&[relay.address.to_string()], SETTINGS);
    let (edge, vms) = (edge.address.to_string(), socket.display().to_string());
    if !SCRIPTS
        .play(script, &[("edge", &*edge), ("vms", &*vms)])
        .await
    {
        return;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for head in relay.heads() {
        *seen.entry(named(&head)).or_default() += 1;
    }
    assert_eq!(
        seen,
        SCRIPTS.vectors(script),
        "requests that reached the VMS"
    );
}

/// The vector of a request: its last parameter. Whatever has none is shown whole.
fn named(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let name = target.rsplit_once("v=").map(|(_, name)| name);
    name.unwrap_or(head).to_owned()
}
