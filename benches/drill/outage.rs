//! A VMS that can die: its connections are cut, and new ones refused, until it comes back to the same port.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use vms_edge::demo::vms::StandIn;

/// Connections that wait to be accepted, at the most.
const BACKLOG: u32 = 1024;

pub(crate) struct Vms {
    stand_in: StandIn,
    address: SocketAddr,
    serving: Option<JoinHandle<io::Result<()>>>,
    /// Kept while nobody listens on it, so that nobody else is given it.
    port: Option<TcpSocket>,
}

impl Vms {
    pub(crate) async fn start() -> Self {
        let socket = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = socket.local_addr().expect("a bound socket has an address");
        let mut vms = Self {
            stand_in: StandIn::without_record(),
            address,
            serving: None,
            port: Some(socket),
        };
        vms.come_back();
        vms
    }

    pub(crate) fn stand_in(&self) -> &StandIn {
        &self.stand_in
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn die(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Its listener and its connections are closed once the task is gone, which an abort does not wait for.
            let _ = serving.await;
            self.port = Some(bound(self.address));
        }
    }

    pub(crate) fn come_back(&mut self) {
        if let Some(socket) = self.port.take() {
            let listener = socket.listen(BACKLOG).expect("a bound socket can listen");
            self.serving = Some(tokio::spawn(self.stand_in.clone().serve(listener)));
        }
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("the system has sockets");
    // Connections of its former life are still closing.
    socket.set_reuseaddr(true).expect("a socket has options");
    socket.bind(address).expect("the port is ours");
    socket
}
