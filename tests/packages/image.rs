//! The image. Nothing here builds it, since that takes what runs containers.

use std::fs;
use std::process::Command;

use crate::{own_tool, project, read, run};

const DOCKERFILE: &str = "conf/docker/Dockerfile";

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    let Some(hadolint) = own_tool("python/bin/hadolint") else {
        return;
    };
    let check = |file: &std::path::Path| {
        run(Command::new(&hadolint)
            .args(["--failure-threshold", "style"])
            .arg(file))
    };
    let (said, passed) = check(&project().join(DOCKERFILE));
    assert!(passed, "{said}");

    let directory = tempfile::tempdir().unwrap();
    let lax = directory.path().join("Dockerfile");
    let text = read(DOCKERFILE).replace("rust:1.88-bookworm", "rust");
    fs::write(&lax, text).unwrap();
    let (said, passed) = check(&lax);
    assert!(!passed && said.contains("DL3006"), "{said}");
}

#[test]
fn the_image_is_built_from_what_it_is_given_and_with_the_oldest_rust_that_will_do() {
    let dockerfile = read(DOCKERFILE);
    let ignored = read(&format!("{DOCKERFILE}.dockerignore"));
    for line in dockerfile.lines() {
        let Some(copied) = line.strip_prefix("COPY ") else {
            continue;
        };
        if copied.starts_with("--from") {
            continue;
        }
        let (sources, _) = copied.rsplit_once(' ').unwrap();
        for source in sources.split(' ') {
            assert!(project().join(source).exists(), "{source}");
            assert!(ignored.contains(&format!("!{source}\n")), "{source}");
        }
    }
    let manifest = read("Cargo.toml");
    let (_, rust) = manifest.split_once("rust-version = \"").unwrap();
    let (rust, _) = rust.split_once('"').unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "{rust}");
}
