//! The program itself, as operators run it: its configuration in a file, its log on stderr, its end by a signal. As a
//! service it is one process after the other, each the successor of the one before, and their common log.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::edge::configuration;
use super::{PATIENCE, soon};

/// A running `vms-edge run`; whichever processes it has are killed when the test drops it.
pub(crate) struct Service {
    first: Child,
    /// All processes that there were, the present one last.
    processes: Vec<u32>,
    log: UnboundedReceiver<String>,
    said: Vec<Said>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where clients connect with TLS.
    pub(crate) tls_addresses: Vec<SocketAddr>,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    directory: tempfile::TempDir,
}

/// A line of the log.
struct Said {
    line: String,
    is_found: bool,
}

impl Service {
    /// Starts it before `upstream`, with `settings` added to the configuration.
    pub(crate) async fn before(upstream: SocketAddr, settings: &str) -> Self {
        Self::start(&configuration(&[upstream.to_string()], settings)).await
    }

    /// The same with a log that does not tell where it listens: it is passed its sockets.
    pub(crate) fn silent_before(upstream: SocketAddr, settings: &str) -> Self {
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let text = configuration(&[upstream.to_string()], settings);
        Self::given(sockets, &text)
    }

    /// The same with a log for which there is no place left.
    pub(crate) fn on_a_full_disk_before(upstream: SocketAddr, settings: &str) -> Self {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("the system has one");
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let text = configuration(&[upstream.to_string()], settings);
        Self::given_with(sockets, &text, full.into())
    }

    /// Starts it with this configuration.
    pub(crate) async fn start(text: &str) -> Self {
        Self::start_with(text, |_| {}).await
    }

    /// Starts it with this configuration, after `prepare` has seen its command and may have changed it.
    pub(crate) async fn start_with(text: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut service = Self::spawn(text, Stdio::piped(), prepare);
        let serving = service.says("serving").await;
        service.address = listed(&serving, "addresses")[0];
        service.tls_addresses = listed(&serving, "tls");
        service.admin = told(&serving, "admin");
        service
    }

    /// Passes it sockets for clients and for operators, as a service manager does, in place of those that the
    /// configuration has the system choose. Whoever connects waits until it serves.
    pub(crate) fn given(sockets: [TcpListener; 2], text: &str) -> Self {
        Self::given_with(sockets, text, Stdio::piped())
    }

    fn given_with(sockets: [TcpListener; 2], text: &str, log: Stdio) -> Self {
        let [address, admin] =
            [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().expect("a bound socket"));
        let text = text
            .replacen("127.0.0.1:0", &address.to_string(), 1)
            .replacen("127.0.0.1:0", &admin.to_string(), 1);
        let mut service = Self::spawn(&text, log, |command| pass(command, sockets));
        (service.address, service.admin) = (address, admin);
        service
    }

    fn spawn(text: &str, log: Stdio, prepare: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("edge.toml");
        std::fs::write(&config, text).expect("a file");
        // A name of its own, which a test may give to something else.
        let program = program_in(directory.path());
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vms-edge"), &program).expect("a link");
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        prepare(&mut command);
        command.stderr(log).kill_on_drop(true);
        // A group of its own, to which all that succeed it belong.
        command.process_group(0);
        let mut first = command.spawn().expect("the program can be run");
        // It holds what it was given to pass on.
        drop(command);
        let (sender, lines) = unbounded_channel();
        if let Some(piped) = first.stderr.take() {
            tokio::spawn(read(piped, sender));
        }
        let nowhere = SocketAddr::from(([0; 4], 0));
        Self {
            processes: vec![first.id().expect("it lives")],
            first,
            log: lines,
            said: Vec::new(),
            address: nowhere,
            tls_addresses: Vec::new(),
            admin: nowhere,
            directory,
        }
    }

    /// Waits for a line of the log that holds these words; each line is found once, in whatever order they are sought:
    /// two processes write it.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        let wanted = |said: &&mut Said| !said.is_found && said.line.contains(words);
        if let Some(said) = self.said.iter_mut().find(wanted) {
            said.is_found = true;
            return said.line.clone();
        }
        loop {
            let line = tokio::time::timeout(PATIENCE, self.log.recv()).await;
            let Ok(Some(line)) = line else {
                let log: Vec<_> = self.said.iter().map(|said| &said.line).collect();
                panic!("{words:?} is not said, but: {log:#?}");
            };
            let is_found = line.contains(words);
            self.said.push(Said { line, is_found });
            if is_found {
                return self.said.last().expect("it was added").line.clone();
            }
        }
    }

    /// Ends it as a service manager would, and returns all that it said.
    pub(crate) async fn stops(self) -> String {
        self.signal("TERM");
        self.ends().await
    }

    /// Waits for the end of all processes, of which the first succeeds, and returns all that they said.
    pub(crate) async fn ends(mut self) -> String {
        let mut log = String::new();
        for said in &self.said {
            log += &format!("{}\n", said.line);
        }
        while let Some(line) = soon("the end of the log", self.log.recv()).await {
            log += &format!("{line}\n");
        }
        let status = soon("the exit status", self.first.wait()).await;
        assert!(status.expect("it is our child").success(), "{log}");
        log
    }

    /// Sends a signal to the present process.
    pub(crate) fn signal(&self, name: &str) {
        self.signal_to(self.process(), name);
    }

    /// Sends a signal to one of the processes.
    pub(crate) fn signal_to(&self, process: u32, name: &str) {
        assert!(kill(name, &process.to_string()));
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

    /// Puts something else in the place of a part of its configuration, which takes effect when it is reloaded.
    pub(crate) fn reconfigure(&self, part: &str, by: &str) {
        let text = std::fs::read_to_string(self.directory.path().join("edge.toml")).expect("text");
        assert!(text.contains(part), "{text}");
        self.configure(&text.replace(part, by));
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
        // All of a group: one that a test did not get to know of may have been started.
        kill("KILL", &format!("-{}", self.processes[0]));
    }
}

/// Reads the log all the while, since a full pipe would hold it up.
async fn read(log: ChildStderr, lines: UnboundedSender<String>) {
    let mut log = BufReader::new(log).lines();
    while let Some(line) = log.next_line().await.expect("a log is text") {
        if lines.send(line).is_err() {
            // The test is done.
            break;
        }
    }
}

/// Has a program find these sockets, of which there are two at most, where a service manager puts them: from descriptor 3
/// on.
pub(crate) fn pass<const N: usize>(command: &mut Command, sockets: [TcpListener; N]) {
    let program = command.as_std().get_program().to_owned();
    let arguments: Vec<_> = command.as_std().get_args().map(ToOwned::to_owned).collect();
    let script =
        format!("exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS={N} exec \"$@\"");
    let mut sockets = sockets
        .map(|socket| Stdio::from(OwnedFd::from(socket)))
        .into_iter();
    *command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .arg(program)
        .args(arguments)
        .stdin(sockets.next().unwrap_or_else(Stdio::null))
        .stdout(sockets.next().unwrap_or_else(Stdio::null));
}

/// An address in a line of the log, in either format.
fn told(line: &str, name: &str) -> SocketAddr {
    let (_, rest) = line.split_once(name).expect("it is told");
    let address = rest.trim_start_matches(['"', ':', '=']);
    let end = address.find(['"', ' ']).unwrap_or(address.len());
    address[..end].parse().expect("an address")
}

/// The addresses of a list in such a line.
fn listed(line: &str, name: &str) -> Vec<SocketAddr> {
    let (_, rest) = line.split_once(name).expect("there is such a list");
    let (_, rest) = rest.split_once('[').expect("it begins");
    let (list, _) = rest.split_once(']').expect("it ends");
    let addresses = list.split(", ").filter(|address| !address.is_empty());
    addresses
        .map(|address| address.parse().expect("an address"))
        .collect()
}

fn program_in(directory: &Path) -> PathBuf {
    directory.join("vms-edge")
}

/// Sends a signal to a process, or to a group of them.
fn kill(signal: &str, whom: &str) -> bool {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, "--", whom])
        .stderr(Stdio::null())
        .status();
    sent.expect("kill is there").success()
}
