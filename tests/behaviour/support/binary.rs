//! The program itself, as operators run it: its configuration in a file, its log on stderr, its end by a signal.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// A running `vms-edge run`; it is killed if the test drops it.
pub(crate) struct Binary {
    child: Child,
    stderr: Option<JoinHandle<String>>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    config: tempfile::NamedTempFile,
}

impl Binary {
    /// Runs it before `upstream`, with `settings` added to the configuration.
    pub(crate) fn before(upstream: SocketAddr, settings: &str) -> Self {
        // Between the choice of a port and its use, another process may take it.
        let tries = std::iter::repeat_with(|| Self::try_before(upstream, settings));
        tries.take(10).flatten().next().expect("ports can be had")
    }

    fn try_before(upstream: SocketAddr, settings: &str) -> Option<Self> {
        let [address, admin] = free_ports();
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "server.listen = [\"{address}\"]\nserver.threads = 1\nserver.grace = \"5s\"\n\
             admin.listen = \"{admin}\"\nupstream.servers = [\"{upstream}\"]\n{settings}"
        );
        std::fs::write(config.path(), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vms-edge"))
            .args(["run", "--config"])
            .arg(config.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is there");
        let mut pipe = child.stderr.take().expect("it is piped");
        // Read all the while, since a full pipe would hold up the log.
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).expect("a pipe can be read");
            String::from_utf8(text).expect("a log is UTF-8")
        });
        let mut binary = Self {
            child,
            stderr: Some(stderr),
            address,
            admin,
            config,
        };
        binary.listens(admin).then_some(binary)
    }

    /// Waits until the last of its ports is open; false if it ended instead.
    fn listens(&mut self, last: SocketAddr) -> bool {
        while TcpStream::connect(last).is_err() {
            let ended = self.child.try_wait().expect("it is our child");
            if ended.is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Puts something else in the place of a part of its configuration, which takes effect when it is reloaded.
    pub(crate) fn reconfigure(&self, part: &str, by: &str) {
        let text = std::fs::read_to_string(self.config.path()).unwrap();
        assert!(text.contains(part), "{text}");
        std::fs::write(self.config.path(), text.replace(part, by)).unwrap();
    }

    /// Ends it as a service manager would, and returns all that it wrote to stderr.
    pub(crate) fn ends(mut self) -> String {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &id]).status();
        assert!(kill.expect("there is a kill").success());
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
        let stderr = self.stderr.take().expect("it ends once");
        stderr.join().expect("stderr was read")
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> [SocketAddr; 2] {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
    // Both are held at once, so that they differ.
    [listen(), listen()].map(|listener| listener.local_addr().unwrap())
}
