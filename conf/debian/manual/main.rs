//! Writes what a package carries beside the program: man pages, shell completions, and the licences of libraries.
//!
//! They are made when a package is built and not by the program itself, so that the program that faces the network
//! carries no page generator, and its command line nothing that an operator never types.
//!
//! `cargo run --example manual -- DIR` writes `DIR/man` and `DIR/completions`, and `DIR/licences` from `DIR/libraries` and
//! `DIR/metadata.json`, which cargo tells.

mod licences;
mod roff;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use vms_edge::cli::Arguments;
use vms_edge::guide;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: manual DIR"));
    };
    pages(&directory.join("man"))?;
    completions(&directory.join("completions"))?;

    let libraries = fs::read_to_string(directory.join("libraries"))?;
    let metadata = fs::read(directory.join("metadata.json"))?;
    let texts = licences::texts(&libraries, &serde_json::from_slice(&metadata)?)?;
    fs::write(directory.join("licences"), texts)
}

/// One page for the program, one for each of its commands, and the operator's guide.
fn pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // `vms-edge help COMMAND` is no command of its own that a page would explain.
    let definitions = Arguments::definitions().disable_help_subcommand(true);
    clap_mangen::generate_to(definitions, directory)?;

    let page = roff::page(
        "vms-edge-guide",
        "how to size, tune, watch, reload and replace vms-edge",
        &guide::CHAPTERS.join("\n"),
    );
    fs::write(directory.join("vms-edge-guide.7"), page)
}

fn completions(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut definitions = Arguments::definitions();
        clap_complete::generate_to(shell, &mut definitions, "vms-edge", directory)?;
    }
    // clap_complete 4.6 takes the hyphen in the program's name for the border of a command in one place and not in the
    // other, so that bash would complete no option of any command.
    let bash = directory.join("vms-edge.bash");
    let script = fs::read_to_string(&bash)?.replace("vms__subcmd__edge", "vms__edge");
    fs::write(bash, script)
}
