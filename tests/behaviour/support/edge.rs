//! An edge of its own for each test, on ports that the system chooses, under a clock that the test moves.

use std::net::SocketAddr;
use std::time::Duration;

use vms_edge::app::{Edge, Running};
use vms_edge::cache::clock::{Clock, Hand};
use vms_edge::config::Config;

/// A running edge; it is stopped when the test drops it.
pub(crate) struct TestEdge {
    running: Option<Running>,
    hand: Hand,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
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
        let grace = match settings.contains("server.grace") {
            true => "",
            false => "server.grace = \"5s\"\n",
        };
        let threads = match settings.contains("server.threads") {
            true => "",
            false => "server.threads = 1\n",
        };
        let text = format!(
            "server.listen = [\"127.0.0.1:0\"]\n{threads}{grace}\
             admin.listen = \"127.0.0.1:0\"\nupstream.servers = {servers:?}\n{settings}"
        );
        let config = Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"));
        let (clock, hand) = Clock::manual();
        // The edge starts runtimes of its own, which must not happen on a thread of the test's.
        let start = move || Edge::bind(config, clock).and_then(|edge| edge.start(None));
        let running = std::thread::spawn(start)
            .join()
            .expect("starting an edge does not panic")
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            address: running.addresses()[0],
            admin: running.admin_address(),
            running: Some(running),
            hand,
        }
    }

    /// Lets time pass for the edge.
    pub(crate) fn advance(&self, by: Duration) {
        self.hand.advance(by);
    }

    /// Begins a shutdown; the thread ends with it.
    pub(crate) fn stop(mut self) -> std::thread::JoinHandle<()> {
        let running = self.running.take().expect("it is stopped once");
        std::thread::spawn(move || running.stop())
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
