//! Servers of the VMS that are down, each in its own way.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A port that refuses every connection, and is given to nobody else.
pub(crate) struct Refusing {
    /// The port's address.
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
}

/// A port where connections are neither accepted nor refused.
pub(crate) struct Silent {
    /// The port's address.
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

fn bound() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("the system has sockets");
    let any = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any).expect("the system has a free port");
    let address = socket.local_addr().expect("a bound socket");
    (socket, address)
}

impl Refusing {
    /// A port that nobody listens on.
    pub(crate) fn new() -> Self {
        let (socket, address) = bound();
        Self { address, socket }
    }

    /// Begins to listen.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(16).expect("a bound socket can listen")
    }
}

impl Silent {
    /// A port whose queue is full.
    pub(crate) async fn new() -> Self {
        let (socket, address) = bound();
        let listener = socket.listen(1).expect("a bound socket can listen");
        let mut waiting = Vec::new();
        // The kernel drops what does not fit the queue, so the first connection that is not there at once never comes.
        let connect =
            || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        while let Ok(connected) = connect().await {
            waiting.push(connected.expect("the kernel accepts"));
        }
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}
