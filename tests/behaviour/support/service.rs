//! The program as a service: one process after the other, each the successor of the one before, and their common log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::soon;

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
        // A copy of its own, which a test may replace.
        let program = program_in(directory.path());
        std::fs::copy(env!("CARGO_BIN_EXE_vms-edge"), &program).expect("a copy");
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
        let log = BufReader::new(first.stderr.take().expect("it is piped")).lines();
        let mut service = Self {
            processes: vec![first.id().expect("it lives")],
            _first: first,
            log,
            unsought: Vec::new(),
            addresses: Vec::new(),
            admin: SocketAddr::from(([0; 4], 0)),
            directory,
        };
        let serving = service.says("serving").await;
        let (_, rest) = serving.split_once("addresses=[").expect("its addresses");
        let (addresses, rest) = rest.split_once(']').expect("a list");
        let addresses = addresses.split(", ");
        service.addresses = addresses.map(|a| a.parse().expect("an address")).collect();
        let admin = rest
            .trim()
            .strip_prefix("admin=")
            .expect("its admin listener");
        service.admin = admin.parse().expect("an address");
        service
    }

    /// Waits for a line of the log that holds these words; each line is found once, in whatever order they are sought:
    /// two processes write it.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        let line = async {
            let mut unsought = self.unsought.iter();
            if let Some(place) = unsought.position(|line| line.contains(words)) {
                return self.unsought.remove(place);
            }
            loop {
                let line = self.log.next_line().await.expect("a log is text");
                let line = line.unwrap_or_else(|| panic!("the log ended before {words:?}"));
                if line.contains(words) {
                    return line;
                }
                self.unsought.push(line);
            }
        };
        soon(words, line).await
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
        use std::os::unix::fs::PermissionsExt;
        let new = self.directory.path().join("new");
        std::fs::write(&new, script).expect("a file");
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).expect("a mode");
        std::fs::rename(new, program_in(self.directory.path())).expect("a name");
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
