//! Programs that tests call, and what happens where one is not installed.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Where a program is. Where there is none the test is to end at once: it is skipped, and says so.
///
/// `make test` installs what tests need (`.ci/need`). In CI, where a skipped test would go unseen, a missing program
/// fails the test instead.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    present(name, find(name))
}

/// The same of anything else that is installed.
pub(crate) fn present(name: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        assert!(!in_ci(), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Whether nobody would see that a test was skipped.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| {
            let metadata = file.metadata();
            metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
        })
}
