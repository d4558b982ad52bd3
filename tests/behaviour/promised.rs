//! What SECURITY.md says is shown by tests, which there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const POLICY: &str = include_str!("../../SECURITY.md");

/// What stands between backquotes in the last cells of tables.
fn named() -> impl Iterator<Item = &'static str> {
    let rows = POLICY.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | "));
    cells.flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file in which a test of this name is, or would be.
fn file(path: &str) -> PathBuf {
    let root = root();
    let name = format!("{}.rs", path.replace("::", "/"));
    match path.strip_prefix("src::") {
        Some(_) => root.join(name),
        None if path == "memory" => root.join("tests/memory.rs"),
        None => root.join("tests/behaviour").join(name),
    }
}

#[test]
fn every_test_that_the_security_policy_names_is_there() {
    let mut missing = BTreeSet::new();
    let mut found = 0;
    for name in named() {
        if name.ends_with(".vtc") && !root().join(name).is_file() {
            missing.insert(name);
        }
        let Some((path, test)) = name.rsplit_once("::") else {
            continue;
        };
        let text = fs::read_to_string(file(path)).unwrap_or_default();
        match text.contains(&format!("fn {test}(")) {
            true => found += 1,
            false => drop(missing.insert(name)),
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 60, "{found}");
}

/// Files of Rust below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, found),
            Some(extension) if extension == "rs" => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn nothing_that_is_stored_or_answered_is_dated_by_a_clock_that_can_be_set() {
    let mut files = Vec::new();
    for part in ["request", "cache", "origin", "reply", "batch"] {
        sources(&root().join("src").join(part), &mut files);
        files.push(root().join("src").join(part).with_extension("rs"));
    }
    assert!(files.len() > 50, "{}", files.len());
    let mut read = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a source");
        let lines = text.lines().map(str::trim).filter(|line| {
            let clocks = [
                "SystemTime",
                "UNIX_EPOCH",
                "chrono",
                "jiff",
                "time::OffsetDateTime",
            ];
            clocks.iter().any(|clock| line.contains(clock)) && !line.starts_with("use ")
        });
        read.extend(lines.map(str::to_owned));
    }
    // When a span ended is for a collector of traces to know, and for nobody here.
    assert_eq!(read, ["ended: SystemTime::now(),"]);
    let clock = fs::read_to_string(root().join("src/cache/clock.rs")).expect("a source");
    assert!(clock.contains("LazyLock<Instant>"));
}
