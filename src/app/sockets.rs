//! Listening sockets: bound by this process, or by another before it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::StartError;

/// Connections that the kernel holds until they are accepted (bounded by `net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// A listening socket, and the address that the configuration gives it: its port may be 0 there.
#[derive(Debug)]
pub struct Bound {
    /// As configured.
    pub configured: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// Listening sockets that are there already, from a predecessor or from whoever started the process. What the
/// configuration does not ask for is closed.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Bound>,
    /// How long an address may yet be in use that is to be bound.
    patience: Duration,
}

/// Longest wait for whoever passed a socket to let go of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often an address is tried that is still in use.
const RETRY: Duration = Duration::from_millis(20);

impl Inherited {
    /// These.
    pub fn new(sockets: Vec<Bound>) -> Self {
        Self {
            sockets,
            patience: Duration::ZERO,
        }
    }

    /// These; whoever passed them is about to let go of others, whose addresses may cover some that are to be bound.
    pub fn soon_alone(sockets: Vec<Bound>) -> Self {
        Self {
            sockets,
            patience: PATIENCE,
        }
    }

    /// The socket for a configured address: inherited, or else bound.
    ///
    /// To be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`] with the configuration key that names the address.
    pub(super) fn listen(
        &mut self,
        key: &'static str,
        configured: SocketAddr,
    ) -> Result<Bound, StartError> {
        let mut sockets = self.sockets.iter();
        let found = sockets.position(|it| it.configured == configured);
        let socket = match found {
            Some(place) => {
                // In their order: several may be for port 0 of the same address.
                let socket = self.sockets.remove(place).socket;
                // Whoever bound it may have meant to wait for each connection.
                socket.set_nonblocking(true).map(|()| socket)
            }
            None => self.bind(configured),
        };
        let socket = socket.map_err(|source| StartError::Listen {
            key,
            address: configured,
            source,
        })?;
        Ok(Bound { configured, socket })
    }
}

impl Inherited {
    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let deadline = Instant::now() + self.patience;
        loop {
            match bind(address) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    std::thread::sleep(RETRY);
                }
                bound => return bound,
            }
        }
    }
}

impl Bound {
    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.socket
            .local_addr()
            .expect("a bound socket has an address")
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    ///
    /// When there is no descriptor to be had.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            configured: self.configured,
            socket: self.socket.try_clone()?,
        })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restarted edge may listen although connections of its predecessor are still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
