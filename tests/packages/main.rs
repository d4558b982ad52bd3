//! What operators install: the Debian package under systemd, the image, the manifests, and the guide beside them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

mod debian;
mod guide;
mod image;
mod machine;
mod manifests;
mod service;
#[path = "../behaviour/support/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the project is.
fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project.
#[track_caller]
fn read(path: &str) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A tool that `.ci/tools` installs, by its path in `target/tools`.
fn own_tool(path: &str) -> Option<PathBuf> {
    let path = project().join("target/tools").join(path);
    tools::tool(path.to_str().expect("a path of text"))
}

/// What a command says on both of its outputs, and whether it succeeded.
#[track_caller]
fn run(command: &mut Command) -> (String, bool) {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [stdout, stderr].concat();
    (
        String::from_utf8(said).expect("commands write text"),
        status.success(),
    )
}

/// What a command says, which must succeed.
#[track_caller]
fn must(command: &mut Command) -> String {
    let (said, succeeded) = run(command);
    assert!(succeeded, "{command:?} says:\n{said}");
    said
}
