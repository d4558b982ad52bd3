//! nginx, as Debian has it.

use std::process::Command;
use std::time::Duration;

use super::{
    Door, NotStarted, Server, Start, filled, folder, free_address, write, write_authority,
};
use crate::bench::{Bench, Vms};

const NAME: &str = "nginx";
const CONFIGURATION: &str = include_str!("../../../peers/nginx.conf");
const TLS: &str = include_str!("../../../peers/nginx-tls.conf");

/// Starts it with answers that are fresh for so long.
pub(crate) fn start(bench: &Bench, vms: &Vms, fresh: Duration) -> Result<Server, NotStarted> {
    let folder = folder(NAME)?;
    let [cache, open_files, gzip, proxy, tls] = [(); 5].map(|()| free_address());
    let changes = [
        ("127.0.0.1:18081", cache.to_string()),
        ("127.0.0.1:18084", open_files.to_string()),
        ("127.0.0.1:18082", gzip.to_string()),
        ("127.0.0.1:18083", proxy.to_string()),
        ("127.0.0.1:19000", vms.address().to_string()),
        ("200 1h", format!("200 {}s", fresh.as_secs())),
    ];
    let file = folder.path().join("nginx.conf");
    write(NAME, &file, filled(CONFIGURATION, &changes))?;
    let with = folder.path().join("with");
    std::fs::create_dir(&with).map_err(|source| NotStarted::Folder { name: NAME, source })?;
    let text = filled(TLS, &[("127.0.0.1:18443", tls.to_string())]);
    write(NAME, &with.join("tls.conf"), text)?;
    write_authority(NAME, bench, folder.path())?;
    let mut command = Command::new(NAME);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    let doors = vec![
        (Door::Cache, cache),
        (Door::OpenFiles, open_files),
        (Door::Gzip, gzip),
        (Door::Proxy, proxy),
        (Door::Tls, tls),
    ];
    let start = Start {
        name: NAME,
        command,
        cores: &[bench.cores().server],
        doors,
        folder,
        worker: Some("worker process"),
    };
    start.start(bench.cores())
}
