//! The Debian package, as a file and unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tools::tool;
use crate::{must, own_tool, project, read, run};

/// The package around the program under test, built once; `None` where the tools for it are missing.
pub(crate) fn package() -> Option<&'static Path> {
    static PACKAGE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = PACKAGE.get_or_init(|| {
        own_tool("bin/cargo-deb")?;
        tool("dpkg-deb")?;
        tool("xz")?;
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut build = Command::new("conf/debian/build");
        build
            .arg(env!("CARGO_BIN_EXE_vms-edge"))
            .arg(directory.path())
            .current_dir(project());
        // What cargo tells a test about its package makes build scripts think that something changed.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
            if !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name.as_str()) {
                build.env_remove(name);
            }
        }
        must(&mut build);
        let mut files = fs::read_dir(directory.path()).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "the package is all that is left");
        Some((directory, file))
    });
    built.as_ref().map(|(_, file)| file.as_path())
}

/// The files of the package, in a directory.
fn unpacked() -> Option<tempfile::TempDir> {
    let package = package()?;
    let root = tempfile::tempdir().unwrap();
    must(
        Command::new("dpkg-deb")
            .arg("-x")
            .args([package, root.path()]),
    );
    Some(root)
}

#[test]
fn lintian_finds_nothing_that_is_not_explained() {
    let (Some(lintian), Some(package)) = (tool("lintian"), package()) else {
        return;
    };
    let check = |package: &Path| {
        run(Command::new(&lintian)
            .args(["--allow-root", "--tag-display-limit=0", "--display-info"])
            .args(["--fail-on=error,warning,info"])
            .arg(package))
    };
    let (said, passed) = check(package);
    assert!(passed && said.is_empty(), "{said}");

    // It would say so if something were wrong.
    let directory = tempfile::tempdir().unwrap();
    let broken = repacked(package, directory.path(), |root| {
        fs::remove_file(root.join("usr/share/doc/vms-edge/copyright")).unwrap();
    });
    let (said, passed) = check(&broken);
    assert!(!passed && said.contains("no-copyright-file"), "{said}");
}

/// The package with something changed in it, in `directory`.
pub(crate) fn repacked(package: &Path, directory: &Path, change: impl FnOnce(&Path)) -> PathBuf {
    let root = directory.join("changed");
    let file = directory.join("changed.deb");
    must(Command::new("dpkg-deb").arg("-R").args([package, &root]));
    change(&root);
    must(
        Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "--root-owner-group", "-b"])
            .args([&root, &file]),
    );
    fs::remove_dir_all(root).unwrap();
    file
}

#[test]
fn the_installed_configuration_is_the_reference_with_the_token_that_the_package_makes() {
    let Some(root) = unpacked() else { return };
    let installed = fs::read_to_string(root.path().join("etc/vms-edge/edge.toml")).unwrap();
    let reference = read("conf/edge.toml");
    assert_eq!(installed.lines().count(), reference.lines().count());
    let changed: Vec<_> = installed
        .lines()
        .zip(reference.lines())
        .filter(|(installed, reference)| installed != reference)
        .collect();
    let token = (
        "token_file = \"/etc/vms-edge/admin.token\"",
        "token_file = \"\"",
    );
    assert_eq!(changed, [token]);
}

#[test]
fn systemd_rates_the_unit_as_well_confined() {
    let Some(analyze) = tool("systemd-analyze") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let rate = |unit: &str| {
        let file = directory.path().join("vms-edge.service");
        fs::write(&file, unit).unwrap();
        // From 0, confined from everything, to 10, as free as root.
        run(Command::new(&analyze)
            .args(["security", "--offline=yes", "--no-pager", "--threshold=19"])
            .arg(file))
    };
    let unit = read("conf/systemd/vms-edge.service");
    let (said, passed) = rate(&unit);
    assert!(passed, "{said}");

    let lax: Vec<_> = unit
        .lines()
        .filter(|line| !line.starts_with("SystemCallFilter="))
        .collect();
    let (said, passed) = rate(&lax.join("\n"));
    assert!(!passed, "without its filter of system calls: {said}");
}

#[test]
fn every_command_has_a_page_and_every_option_is_completed() {
    let Some(root) = unpacked() else { return };
    for command in ["", "-run", "-check", "-demo", "-demo-vms"] {
        let page = format!("usr/share/man/man1/vms-edge{command}.1.gz");
        assert!(root.path().join(&page).is_file(), "{page}");
    }
    let Some(bash) = tool("bash") else { return };
    let completions = root
        .path()
        .join("usr/share/bash-completion/completions/vms-edge");
    let complete = |words: &str, place: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={place}; \
             _vms__edge vms-edge \"${{COMP_WORDS[{place}]}}\" x; echo \"${{COMPREPLY[@]}}\"",
            completions.display()
        );
        must(Command::new(&bash).args(["--norc", "-c", &script]))
            .trim()
            .to_owned()
    };
    assert_eq!(complete("vms-edge ch", 1), "check");
    assert_eq!(complete("vms-edge check --q", 2), "--quiet");
    assert_eq!(complete("vms-edge demo-vms --l", 2), "--listen --latency");
}

#[test]
fn the_guide_is_a_page_that_man_shows_without_a_complaint() {
    let (Some(man), Some(root)) = (tool("man"), unpacked()) else {
        return;
    };
    let page = root.path().join("usr/share/man/man7/vms-edge-guide.7.gz");
    let output = Command::new(man)
        .args(["--warnings=all", "--encoding=UTF-8", "--local-file"])
        .arg(page)
        .envs([("MANWIDTH", "100"), ("LC_ALL", "C.UTF-8")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let shown = String::from_utf8(output.stdout).unwrap();
    let shown: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    // A line of code, two headings, and a key, which is not hyphenated.
    for part in [
        "&& systemctl reload vms-edge",
        "INCIDENTS",
        "VmsEdgeDown",
        "upstream.max_fetches",
    ] {
        assert!(shown.contains(part), "{part}");
    }
}

#[test]
fn the_version_of_the_package_is_the_programs() {
    let Some(package) = package() else { return };
    let version = must(
        Command::new("dpkg-deb")
            .arg("-f")
            .arg(package)
            .arg("Version"),
    );
    assert_eq!(version.trim(), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    let first = read("conf/debian/changelog");
    let first = first.lines().next().unwrap();
    assert!(
        first.starts_with(&format!("vms-edge ({})", version.trim())),
        "{first}"
    );
}

#[test]
fn the_texts_of_the_libraries_licences_are_installed_once_each_and_so_is_what_the_guide_points_at()
{
    let (Some(gzip), Some(root)) = (tool("gzip"), unpacked()) else {
        return;
    };
    let documents = root.path().join("usr/share/doc/vms-edge");
    let texts = must(
        Command::new(gzip)
            .arg("-dc")
            .arg(documents.join("licences.gz")),
    );
    let (texts, without) = texts.split_once("come without a text").unwrap();
    // Of a library, of the C code that another bundles, and of many libraries under the same words.
    for owner in ["tokio 1.", "libmimalloc-sys 0.", "ring 0."] {
        assert!(texts.contains(owner), "{owner}");
    }
    let sentence = "Permission is hereby granted, free of charge";
    let given = texts.matches(sentence).count();
    assert!(given > 10 && !without.contains(sentence), "{given}");
    let mut each: Vec<_> = texts
        .split(&"-".repeat(80))
        .filter_map(|part| part.trim().split_once("\n\n"))
        .map(|(_, text)| text.split_whitespace().collect::<Vec<_>>())
        .collect();
    let all = each.len();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), all, "a text is given twice");

    for file in [
        "README.md.gz",
        "prometheus/scrape.yml",
        "prometheus/recording.yml",
        "prometheus/alerts.yml",
        "grafana/dashboard.json",
    ] {
        assert!(documents.join(file).is_file(), "{file}");
    }
}
