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
