//! Varnish, as Debian has it.

use std::process::Command;
use std::time::Duration;

use super::{Door, NotStarted, Server, Start, filled, folder, free_address, write};
use crate::bench::{Bench, Vms};

const NAME: &str = "varnish";
const CONFIGURATION: &str = include_str!("../../../peers/varnish.vcl");

/// Starts it with answers that are fresh for so long.
pub(crate) fn start(bench: &Bench, vms: &Vms, fresh: Duration) -> Result<Server, NotStarted> {
    let folder = folder(NAME)?;
    let address = free_address();
    let changes = [
        ("\"19000\"", format!("\"{}\"", vms.address().port())),
        ("ttl = 1h", format!("ttl = {}s", fresh.as_secs_f64())),
    ];
    let file = folder.path().join("varnish.vcl");
    write(NAME, &file, filled(CONFIGURATION, &changes))?;
    let mut command = Command::new("varnishd");
    command
        .arg("-F")
        .arg("-n")
        .arg(folder.path().join("varnish"));
    command
        .arg("-f")
        .arg(&file)
        .arg("-a")
        .arg(address.to_string());
    // As much memory as the others have, and one pool for its one core. Its log in shared memory is as it is shipped.
    command.args([
        "-j",
        "none",
        "-s",
        "malloc,8g",
        "-p",
        "thread_pools=1",
        "-p",
        "http_req_size=64k",
    ]);
    let start = Start {
        name: NAME,
        command,
        cores: &[bench.cores().server],
        doors: vec![(Door::Cache, address)],
        folder,
        worker: Some("varnishd"),
    };
    start.start(bench.cores())
}
