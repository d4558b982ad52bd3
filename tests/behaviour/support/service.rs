//! The program as a service: one process after the other, each the successor of the one before, and their common log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::{PATIENCE, soon};

/// A service; whichever processes it has are killed when the test drops it.
pub(crate) struct Service {
    _first: Child,
    /// All processes that there were, the present one last.
    processes: Vec<u32>,
    log: Lines<BufReader<ChildStderr>>,
    /// Lines that were read while another was sought.
    unsought: Vec<String>,
    /// Where clients connect.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where clients connect with TLS.
    pub(crate) tls_addresses: Vec<SocketAddr>,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    directory: tempfile::TempDir,
}

impl Service {
    /// Starts it with `settings`.
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_with(settings, |_| {}).await
    }

    /// Starts it with `settings`, after `prepare` has seen its command and may have changed it.
    pub(crate) async fn start_with(settings: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("edge.toml");
        std::fs::write(&config, settings).expect("a file");
        // A name of its own, which a test may give to something else.
        let program = program_in(directory.path());
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vms-edge"), &program).expect("a link");
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        prepare(&mut command);
        let mut first = command.spawn().expect("the program can be run");
        // It holds what it was given to pass on.
        drop(command);
        let log = BufReader::new(first.stderr.take().expect("it is piped")).lines();
        let mut service = Self {
            processes: vec![first.id().expect("it lives")],
            _first: first,
            log,
            unsought: Vec::new(),
            addresses: Vec::new(),
            tls_addresses: Vec::new(),
            admin: SocketAddr::from(([0; 4], 0)),
            directory,
        };
        let serving = service.says("serving").await;
        service.addresses = listed(&serving, "addresses=[");
        service.tls_addresses = listed(&serving, "tls=[");
        let (_, admin) = serving.split_once("admin=").expect("its admin listener");
        service.admin = admin.trim().parse().expect("an address");
        service
    }

    /// Waits for a line of the log that holds these words; each line is found once, in whatever order they are sought:
    /// two processes write it.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        let mut unsought = self.unsought.iter();
        if let Some(place) = unsought.position(|line| line.contains(words)) {
            return self.unsought.remove(place);
        }
        loop {
            let line = tokio::time::timeout(PATIENCE, self.log.next_line()).await;
            let line = line.ok().and_then(|line| line.expect("a log is text"));
            let Some(line) = line else {
                panic!("{words:?} is not said, but: {:#?}", self.unsought);
            };
            if line.contains(words) {
                return line;
            }
            self.unsought.push(line);
        }
    }

    /// Waits for the end of the log, which all processes have to leave for that.
    pub(crate) async fn ends(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = soon("the end", self.log.next_line()).await.expect("text") {
            lines.push(line);
        }
        lines
    }

    /// Sends a signal to the present process.
    pub(crate) fn signal(&self, name: &str) {
        assert!(kill(name, self.process()));
    }

    /// Lets the present process have so many descriptors.
    pub(crate) fn limit_descriptors(&self, most: usize) {
        let limited = std::process::Command::new("prlimit")
            .args(["--pid", &self.process().to_string()])
            .arg(format!("--nofile={most}:{most}"))
            .status();
        assert!(limited.expect("util-linux is there").success());
    }

    /// The present process.
    pub(crate) fn process(&self) -> u32 {
        *self.processes.last().expect("there is one")
    }

    /// Lets another process take over, and waits until it has.
    pub(crate) async fn upgrade(&mut self) {
        self.signal("QUIT");
        let line = self.says("handed over").await;
        let (_, process) = line.split_once("process=").expect("its process id");
        let process = process.split_whitespace().next().expect("a number");
        self.processes.push(process.parse().expect("a number"));
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, settings: &str) {
        std::fs::write(self.directory.path().join("edge.toml"), settings).expect("a file");
    }

    /// Replaces the program, as a package does: another file under the same name.
    pub(crate) fn install(&self, script: &str) {
        // Not written by this process: whatever it starts meanwhile would hold the file open, and what is open for
        // writing cannot be run.
        let commands = r#"printf '%s' "$1" > "$2.new" && chmod 755 "$2.new" && mv "$2.new" "$2""#;
        let installed = std::process::Command::new("sh")
            .args(["-c", commands, "sh", script])
            .arg(program_in(self.directory.path()))
            .status();
        assert!(installed.expect("a shell").success());
    }

    /// Takes the program away.
    pub(crate) fn uninstall(&self) {
        std::fs::remove_file(program_in(self.directory.path())).expect("it was there");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for process in &self.processes {
            // Most have ended.
            kill("KILL", *process);
        }
    }
}

/// The addresses of a list in a line of the log.
fn listed(line: &str, name: &str) -> Vec<SocketAddr> {
    let (_, rest) = line.split_once(name).expect("there is such a list");
    let (list, _) = rest.split_once(']').expect("it ends");
    let addresses = list.split(", ").filter(|address| !address.is_empty());
    addresses
        .map(|address| address.parse().expect("an address"))
        .collect()
}

fn program_in(directory: &Path) -> PathBuf {
    directory.join("vms-edge")
}

fn kill(signal: &str, process: u32) -> bool {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &process.to_string()])
        .stderr(Stdio::null())
        .status();
    sent.expect("kill is there").success()
}
