//! The licence texts of the libraries that are linked into the program, which most of these licences ask for.
//!
//! They are read from the libraries' own sources, as cargo has them; a text that several have is given once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// How the names of files begin that hold such texts.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// The texts of the `libraries`, of which each line begins with a name and a version (`http v1.3.1`), found where the
/// `metadata` of cargo says that they are.
pub(crate) fn texts(libraries: &str, metadata: &Value) -> io::Result<String> {
    let linked: BTreeSet<(&str, &str)> = libraries.lines().filter_map(named).collect();
    let mut texts: BTreeMap<Vec<String>, (String, Vec<String>)> = BTreeMap::new();
    let mut without = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (name, version) = (text(package, "name"), text(package, "version"));
        if !linked.contains(&(name, version)) {
            continue;
        }
        let mut files = Vec::new();
        if let Some(sources) = Path::new(text(package, "manifest_path")).parent() {
            collect(sources, &mut files)?;
        }
        for file in &files {
            let words = String::from_utf8_lossy(&fs::read(file)?).into_owned();
            // Texts that are broken into lines differently are the same.
            let same = words.split_whitespace().map(str::to_owned).collect();
            let (_, owners) = texts.entry(same).or_insert((words, Vec::new()));
            owners.push(format!("{name} {version}"));
        }
        if files.is_empty() {
            let (licence, origin) = (text(package, "license"), text(package, "repository"));
            without.push(format!("{name} {version}: {licence}, {origin}\n"));
        }
    }

    let mut page = String::new();
    for (words, mut owners) in texts.into_values() {
        owners.sort();
        owners.dedup();
        page += &format!("{}\n\n{}\n\n", owners.join(", "), words.trim());
        page += &format!("{}\n\n", "-".repeat(80));
    }
    page += "These libraries come without a text; their licence is the one that they name:\n\n";
    page.extend(without);
    Ok(page)
}

/// The name and the version that a line begins with.
fn named(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

fn text<'a>(package: &'a Value, member: &str) -> &'a str {
    package[member].as_str().unwrap_or_default()
}

/// The files with texts below a directory, since what a library bundles has its own beside it.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().to_uppercase();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file()
            && NAMES.iter().any(|begin| name.starts_with(begin))
            && !name.ends_with(".RS")
        {
            files.push(entry.path());
        }
    }
    Ok(())
}
