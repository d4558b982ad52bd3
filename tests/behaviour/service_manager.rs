//! What a service manager is told, and what it passes on: systemd's own protocols, spoken by hand.

use std::net::{SocketAddr, TcpListener};

use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::support::client::Client;
use crate::support::scripted::Scripted;
use crate::support::service::{Service, pass};
use crate::support::soon;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The end of `NOTIFY_SOCKET` that the manager reads.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Self { socket, directory }
    }

    async fn start(&self, settings: &str) -> Service {
        let path = self.directory.path().join("notify");
        Service::start_with(settings, |command| {
            command.env("NOTIFY_SOCKET", path);
        })
        .await
    }

    /// The next message, without what it says for people; one that says nothing else is none.
    async fn told(&self) -> Vec<String> {
        let mut message = [0; 4096];
        loop {
            let received = self.socket.recv(&mut message);
            let length = soon("a message", received).await.expect("a datagram");
            let text = std::str::from_utf8(&message[..length]).expect("text");
            let lines = text.lines().filter(|line| !line.starts_with("STATUS="));
            let lines: Vec<_> = lines.map(str::to_owned).collect();
            if !lines.is_empty() {
                return lines;
            }
        }
    }
}

fn settings(upstream: SocketAddr) -> String {
    format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nupstream.servers = [\"{upstream}\"]\n"
    )
}

#[tokio::test]
async fn it_is_told_of_the_start_of_reloads_and_of_the_end() {
    let vms = Scripted::answering(EMPTY).await;
    let manager = Manager::new();
    let service = manager.start(&settings(vms.address)).await;
    // The sockets for clients and for operators.
    for address in [service.address, service.admin] {
        let name = format!("FDNAME=listen-127.0.0.1-{}", address.port());
        assert_eq!(manager.told().await, ["FDSTORE=1", &name]);
    }
    assert_eq!(manager.told().await, ["READY=1"]);

    service.signal("HUP");
    let reloading = manager.told().await;
    assert_eq!(reloading[0], "RELOADING=1");
    let since = reloading[1]
        .strip_prefix("MONOTONIC_USEC=")
        .expect("a time");
    assert!(since.parse::<u64>().expect("a number") > 0);
    assert_eq!(manager.told().await, ["READY=1"]);

    service.signal("TERM");
    assert_eq!(manager.told().await, ["STOPPING=1"]);
}

#[tokio::test]
async fn it_is_told_who_succeeds_and_not_that_the_old_process_ends() {
    let vms = Scripted::answering(EMPTY).await;
    let manager = Manager::new();
    let mut service = manager.start(&settings(vms.address)).await;
    for _ in 0..3 {
        manager.told().await;
    }
    service.upgrade().await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(manager.told().await.join(" "));
    }
    let main = format!("MAINPID={}", service.process());
    assert!(
        told.contains(&main) && told.contains(&"READY=1".to_owned()),
        "{told:?}"
    );
    service.signal("TERM");
    assert_eq!(manager.told().await, ["STOPPING=1"]);
}

#[tokio::test]
async fn sockets_that_it_passes_are_listened_on() {
    let vms = Scripted::answering(EMPTY).await;
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().expect("bound"));
    // Clients that came before the service did.
    let mut early = Client::connect(addresses[0]).await;
    let mut operator = Client::connect(addresses[1]).await;
    let mut service = Service::given(sockets, &settings(vms.address));
    let serving = service.says("serving").await;
    for address in addresses {
        assert!(serving.contains(&address.to_string()), "{serving}");
    }
    assert_eq!(early.get("/").await.status, 200);
    assert_eq!(operator.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_socket_that_is_not_wanted_any_more_is_let_go_of_before_one_is_bound_that_it_covers() {
    let vms = Scripted::answering(EMPTY).await;
    let manager = Manager::new();
    let everywhere = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = everywhere.local_addr().expect("an address").port();
    // The manager has it too, until it is told otherwise.
    let stored = everywhere.try_clone().expect("a descriptor");
    let text = settings(vms.address).replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
    let let_go = async {
        let name = format!("FDNAME=listen-0.0.0.0-{port}");
        assert_eq!(manager.told().await, ["FDSTOREREMOVE=1", &name]);
        drop(stored);
    };
    let started = Service::start_with(&text, |command| {
        pass(command, [everywhere]);
        command.env("NOTIFY_SOCKET", manager.directory.path().join("notify"));
    });
    let (service, ()) = tokio::join!(started, let_go);
    assert_eq!(service.address, SocketAddr::from(([127, 0, 0, 1], port)));
    let mut client = Client::connect(service.address).await;
    assert_eq!(client.get("/").await.status, 200);
}
