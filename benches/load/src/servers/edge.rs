//! vms-edge, as it is released.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{
    Door, NotStarted, Server, Start, filled, folder, free_address, write, write_authority,
};
use crate::bench::{Bench, Vms};

const NAME: &str = "vms-edge";

/// A file in its folder, and the token for its operators in it.
const TOKEN_FILE: &str = "operators.token";
pub(crate) const TOKEN: &str = "the-operators-of-a-load-test";

/// Files in its folder with the tokens of two users of the stand-in, whom it may ask for by itself.
const USERS: [(&str, &str); 2] = [
    ("canary-1.token", "tok-1-canary"),
    ("canary-2.token", "tok-2-canary"),
];

/// Its configuration, in its folder.
const FILE: &str = "edge.toml";
const CONFIGURATION: &str = include_str!("../../../peers/edge.toml");

/// How an edge differs from the configuration in benches/peers.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Each has a core of its own; the second one is the generator's, too.
    pub(crate) threads: usize,
    pub(crate) fresh: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: 1,
            fresh: super::HIT_LIFETIME,
        }
    }
}

pub(crate) fn start(bench: &Bench, vms: &Vms, settings: &Settings) -> Result<Server, NotStarted> {
    start_as(
        bench,
        vms.address(),
        &configuration(settings),
        settings.threads,
    )
}

/// Starts it before `vms` with another configuration, which has the addresses of the one in benches/peers, and may name
/// [`TOKEN_FILE`] and the files of [`USERS`].
pub(crate) fn start_as(
    bench: &Bench,
    vms: SocketAddr,
    configuration: &str,
    threads: usize,
) -> Result<Server, NotStarted> {
    let folder = folder(NAME)?;
    let (plain, tls, admin) = (free_address(), free_address(), free_address());
    let addresses = [plain, tls, admin, vms].map(|address| address.to_string());
    let file = folder.path().join(FILE);
    write(NAME, &file, at(configuration, &addresses))?;
    for (name, token) in [&[(TOKEN_FILE, TOKEN)][..], &USERS].concat() {
        write(NAME, &folder.path().join(name), token)?;
    }
    write_authority(NAME, bench, folder.path())?;
    let mut command = Command::new(bench.edge_program());
    command.arg("run").arg("--config").arg(&file);
    let own = [bench.cores().server];
    let mut cores = own.to_vec();
    if threads > 1 {
        cores.extend(&bench.cores().generator);
        cores.truncate(threads);
    }
    let doors = [Door::Cache, Door::Gzip, Door::Proxy].map(|door| (door, plain));
    let start = Start {
        name: NAME,
        command,
        cores: &cores,
        doors: [&doors[..], &[(Door::Tls, tls), (Door::Admin, admin)]].concat(),
        folder,
        worker: None,
    };
    start.start(bench.cores())
}

/// Changes the configuration of one that runs; it has not read it yet.
pub(crate) fn reconfigure(edge: &Server, from: &str, to: &str) -> std::io::Result<()> {
    let file = edge.folder.path().join(FILE);
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, filled(&text, &[(from, to.to_owned())]))
}

fn at(configuration: &str, [plain, tls, admin, vms]: &[String; 4]) -> String {
    let changes = [
        ("127.0.0.1:18080", plain.clone()),
        ("127.0.0.1:18443", tls.clone()),
        ("127.0.0.1:18090", admin.clone()),
        ("127.0.0.1:19000", vms.clone()),
    ];
    filled(configuration, &changes)
}

fn configuration(settings: &Settings) -> String {
    let changes = [
        ("threads = 1", format!("threads = {}", settings.threads)),
        ("\"1h\"", format!("\"{}ms\"", settings.fresh.as_millis())),
    ];
    filled(CONFIGURATION, &changes)
}

/// Where the edge is that was built together with this program.
pub(crate) fn beside_this_program() -> std::io::Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join(NAME))
}

#[cfg(test)]
mod tests {
    use vms_edge::config::Config;

    use super::*;

    #[test]
    fn the_edge_understands_what_it_is_given_for_the_siege_and_for_the_soak() {
        let folder = folder(NAME).unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let authority = crate::authority::Authority::new();
        authority.write_to(folder.path()).unwrap();
        let tokens = [&[(TOKEN_FILE, TOKEN)][..], &USERS].concat();
        for (name, token) in &tokens {
            std::fs::write(path(name), token).unwrap();
        }
        let addresses = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"];
        for text in [
            include_str!("../siege/edge.toml"),
            include_str!("../soak/edge.toml"),
        ] {
            let text = at(text, &addresses.map(str::to_owned));
            let files = tokens.iter().map(|(name, _)| *name);
            let text = files
                .chain(["certificate.pem", "key.pem"])
                .fold(text, |text, file| text.replace(file, &path(file)));
            Config::parse(&text, "edge.toml").unwrap();
        }
    }

    #[test]
    fn the_edge_understands_what_it_is_given() {
        let folder = folder(NAME).unwrap();
        let authority = crate::authority::Authority::new();
        authority.write_to(folder.path()).unwrap();
        let addresses = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"];
        let settings = Settings {
            threads: 2,
            fresh: Duration::from_millis(1500),
        };
        let text = at(&configuration(&settings), &addresses.map(str::to_owned));
        let here = folder.path().join("certificate.pem");
        let text = text.replace("certificate.pem", here.to_str().unwrap());
        let here = folder.path().join("key.pem");
        let text = text.replace("key.pem", here.to_str().unwrap());
        let config = Config::parse(&text, "edge.toml").unwrap();
        let effective = config.effective().to_string();
        for line in ["threads = 2", "fresh = \"1500ms\"", "jitter = 0.0"] {
            assert!(effective.contains(line), "{line} is not in:\n{effective}");
        }
    }
}
