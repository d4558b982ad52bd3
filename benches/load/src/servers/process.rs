//! What Linux tells of processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::priority::Times;

/// CPU time of all threads that a process has.
pub(super) fn cpu(pid: u32) -> Duration {
    threads(pid).iter().map(|thread| thread.cpu).sum()
}

/// How long the busiest thread of a process had something to do and no core to do it on. Others may leave it to that one,
/// as those that write logs do.
pub(super) fn kept_waiting(pid: u32) -> Duration {
    let busiest = threads(pid).into_iter().max_by_key(|thread| thread.cpu);
    busiest.map_or(Duration::ZERO, |thread| thread.waited)
}

pub(super) fn threads(pid: u32) -> Vec<Times> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let times = threads
        .flatten()
        .filter_map(|thread| Times::of(&thread.path()));
    times.collect()
}

/// Memory of a process, in bytes.
pub(super) fn resident(pid: u32) -> u64 {
    let kib = status(pid, "VmRSS:").and_then(|value| value.trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0_u64) << 10
}

/// The children of a process that have `word` in their command line.
pub(super) fn children(parent: u32, word: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let is_child = |&pid: &u32| status(pid, "PPid:").is_some_and(|is| is == parent.to_string());
    let is_meant = |&pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    pids.filter(is_child).filter(is_meant).collect()
}

/// The bytes of all files in a folder and in those below.
pub(super) fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn status(pid: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_has_memory_and_threads_that_use_time() {
        let own = std::process::id();
        assert!(resident(own) > 1 << 20);
        let mut sum = 0_u64;
        while cpu(own) < Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(!threads(own).is_empty());
    }

    #[test]
    fn children_are_found_by_their_command_line() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It has one once it does what it was started for.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"x").unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        let own = std::process::id();
        assert_eq!(children(own, "cat"), [child.id()]);
        assert!(children(own, "dog").is_empty());
        drop(stdin);
        child.wait().unwrap();
    }

    #[test]
    fn the_size_of_a_folder_is_that_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [0; 10]).unwrap();
        fs::write(folder.path().join("c"), [0; 5]).unwrap();
        assert_eq!(size_of(folder.path()), 15);
        assert_eq!(size_of(&folder.path().join("none")), 0);
    }
}
