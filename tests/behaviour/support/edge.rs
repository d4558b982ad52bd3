//! An edge of its own for each test, on ports that the system chooses, under a clock that the test moves.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use vms_edge::app::{Edge, Given, Running};
use vms_edge::cache::clock::{Clock, Hand};
use vms_edge::config;
use vms_edge::ops::reload::{Asker, Outcome};

/// A running edge; it is stopped when the test drops it.
pub(crate) struct TestEdge {
    running: Option<Running>,
    hand: Hand,
    /// Where its configuration stands.
    directory: TempDir,
    servers: Vec<String>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where they connect with TLS.
    pub(crate) tls: Vec<SocketAddr>,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
}

impl TestEdge {
    /// An edge before `upstream`, otherwise with the defaults.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        Self::with(&[upstream.to_string()], "")
    }

    /// An edge before `servers` (`host:port`), with `settings` added to the configuration: dotted keys such as
    /// `upstream.connect_timeout = "100ms"`, then tables.
    pub(crate) fn with(servers: &[String], settings: &str) -> Self {
        let mut edge = Self::with_text(&configuration(servers, settings));
        edge.servers = servers.to_vec();
        edge
    }

    /// An edge whose file this is.
    pub(crate) fn with_text(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("edge.toml");
        std::fs::write(&file, text).expect("a file");
        let config = config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let (clock, hand) = Clock::manual();
        // The edge starts runtimes of its own, which must not happen on a thread of the test's.
        let given = Given {
            file: Some(file),
            clock,
            ..Given::default()
        };
        let start = move || Edge::bind(config, given).and_then(Edge::start);
        let running = std::thread::spawn(start)
            .join()
            .expect("starting an edge does not panic")
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            address: [running.addresses(), running.tls_addresses()].concat()[0],
            tls: running.tls_addresses(),
            admin: running.admin_address(),
            running: Some(running),
            hand,
            directory,
            servers: Vec::new(),
        }
    }

    /// Reloads with other `settings`, before the same servers.
    pub(crate) fn reload(&self, settings: &str) -> Outcome {
        self.reload_text(&configuration(&self.servers, settings))
    }

    /// Reloads with other `settings`, before other servers.
    pub(crate) fn reload_before(&self, servers: &[String], settings: &str) -> Outcome {
        self.reload_text(&configuration(servers, settings))
    }

    /// Reloads with `text` as the file.
    pub(crate) fn reload_text(&self, text: &str) -> Outcome {
        std::fs::write(self.directory.path().join("edge.toml"), text).expect("a file");
        let running = self.running.as_ref().expect("it was not stopped");
        // A reload waits for a runtime of the edge's, which a thread of the test's must not.
        let reload = || running.reload(Asker::Signal).outcome;
        std::thread::scope(|scope| scope.spawn(reload).join()).expect("a reload does not panic")
    }

    /// Lets the edge look at its certificates' files, as it does every minute.
    pub(crate) fn look_at_certificates(&self) {
        let running = self.running.as_ref().expect("it was not stopped");
        running.certificates().look();
    }

    /// Lets time pass for the edge.
    pub(crate) fn advance(&self, by: Duration) {
        self.hand.advance(by);
    }

    /// What moves its clock.
    pub(crate) fn hand(&self) -> Hand {
        self.hand.clone()
    }

    /// Begins a shutdown; the thread ends with it.
    pub(crate) fn stop(mut self) -> std::thread::JoinHandle<()> {
        let running = self.running.take().expect("it is stopped once");
        std::thread::spawn(move || running.stop())
    }
}

impl TestEdge {
    /// Begins to leave all to a successor; the thread ends with it.
    pub(crate) fn leave(mut self) -> std::thread::JoinHandle<()> {
        let running = self.running.take().expect("it is stopped once");
        std::thread::spawn(move || running.leave(|| false))
    }
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Stopping waits for requests and threads, which a thread of the test's runtime must not.
            std::thread::spawn(move || running.stop());
        }
    }
}

/// The file of an edge before `servers`, with `settings` added.
pub(crate) fn configuration(servers: &[String], settings: &str) -> String {
    let grace = match settings.contains("server.grace") {
        true => "",
        false => "server.grace = \"5s\"\n",
    };
    let threads = match settings.contains("server.threads") {
        true => "",
        false => "server.threads = 1\n",
    };
    format!(
        "server.listen = [\"127.0.0.1:0\"]\n{threads}{grace}\
         admin.listen = \"127.0.0.1:0\"\nupstream.servers = {servers:?}\n{settings}"
    )
}
