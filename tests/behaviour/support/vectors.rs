//! Scripts of varnishtest, and the vectors in them.
//!
//! A vector is what stands in a script below a line `# vector: NAME, N at the VMS`: bytes, and what the client must be told.
//! It names itself in each of its requests, so that those that reach the VMS can be counted: N of them, and none that
//! nobody named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::soon;
use super::tools::tool;

/// A test for each script of a folder, by its name, which plays it with the module's `play`; and one that these are all
/// scripts there are, and have so many vectors at the least.
macro_rules! scripts {
    ($folder:literal, at least $vectors:literal: $($name:ident),+ $(,)?) => {
        const SCRIPTS: crate::support::vectors::Scripts = crate::support::vectors::Scripts($folder);

        $(
            #[tokio::test]
            async fn $name() {
                play(stringify!($name)).await;
            }
        )+

        #[test]
        fn every_script_is_played_and_has_vectors() {
            SCRIPTS.assert_are(&[$(stringify!($name)),+], $vectors);
        }
    };
}
pub(crate) use scripts;

/// The scripts of a folder of `tests/wire`.
pub(crate) struct Scripts(pub(crate) &'static str);

impl Scripts {
    fn folder(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("tests/wire").join(self.0)
    }

    /// How many requests of each vector the VMS is to see.
    pub(crate) fn vectors(&self, script: &str) -> BTreeMap<String, usize> {
        let file = self.folder().join(format!("{script}.vtc"));
        let text = fs::read_to_string(file).expect("a script");
        let marked = text.lines();
        let marked = marked.filter_map(|line| line.strip_prefix("# vector: "));
        let vector = |line: &str| {
            let (name, count) = line.strip_suffix(" at the VMS")?.split_once(", ")?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let read = marked.map(|line| vector(line).unwrap_or_else(|| panic!("{line}")));
        let read: Vec<_> = read.collect();
        let count = read.len();
        let vectors = BTreeMap::from_iter(read);
        assert_eq!(vectors.len(), count, "each has a name of its own");
        vectors
    }

    /// Plays a script in which these macros are defined; false if there is nothing to play it with.
    pub(crate) async fn play(&self, script: &str, macros: &[(&str, &str)]) -> bool {
        let Some(varnishtest) = tool("varnishtest") else {
            return false;
        };
        let mut player = Command::new(varnishtest);
        // Whoever hangs says where.
        player.args(["-t", "15"]);
        for (name, value) in macros {
            player.arg("-D").arg(format!("{name}={value}"));
        }
        player.arg(self.folder().join(format!("{script}.vtc")));
        player.kill_on_drop(true);
        let played = soon("the end of the script", player.output()).await;
        let played = played.expect("it can be run");
        let said = String::from_utf8_lossy(&played.stdout);
        assert!(played.status.success(), "{said}");
        true
    }

    /// Fails unless these are all scripts, and have so many vectors together.
    #[track_caller]
    pub(crate) fn assert_are(&self, played: &[&str], vectors: usize) {
        let files = fs::read_dir(self.folder()).expect("the scripts are there");
        let mut files: Vec<_> = files
            .map(|file| {
                file.expect("a file")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        files.sort();
        let played_files: Vec<_> = played
            .iter()
            .map(|script| format!("{script}.vtc"))
            .collect();
        assert_eq!(files, played_files);
        let all: usize = played.iter().map(|script| self.vectors(script).len()).sum();
        assert!(all >= vectors, "only {all} vectors");
    }
}
