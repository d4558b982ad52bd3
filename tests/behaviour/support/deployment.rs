//! A stand-in VMS that goes down and comes back at one address, as it does when it is redeployed.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use vms_edge::demo::vms::StandIn;

/// A VMS and the port that is its own, whether or not anybody listens there.
pub(crate) struct Deployment {
    pub(crate) vms: StandIn,
    pub(crate) address: SocketAddr,
    /// Keeps the port while nobody listens, and listens next.
    spare: TcpSocket,
    serving: Option<JoinHandle<io::Result<()>>>,
}

impl Deployment {
    /// One that is up.
    pub(crate) fn new() -> Self {
        let spare = bound("127.0.0.1:0".parse().expect("an address"));
        let address = spare.local_addr().expect("a bound socket");
        let mut deployment = Self {
            vms: StandIn::new(),
            address,
            spare,
            serving: None,
        };
        deployment.comes_up();
        deployment
    }

    /// From now on its port refuses connections; those that were open are cut.
    pub(crate) async fn goes_down(&mut self) {
        let serving = self.serving.take().expect("it is up");
        serving.abort();
        let ended = serving.await.expect_err("it serves until it is aborted");
        assert!(ended.is_cancelled(), "{ended}");
    }

    /// From now on its port accepts connections.
    pub(crate) fn comes_up(&mut self) {
        let next = bound(self.address);
        let socket = std::mem::replace(&mut self.spare, next);
        let listener = socket.listen(128).expect("nobody else listens");
        self.serving = Some(tokio::spawn(self.vms.clone().serve(listener)));
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A socket that shares its port with others, of which one may listen.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("the system has sockets");
    socket.set_reuseaddr(true).expect("a socket has options");
    socket.bind(address).expect("the port is free, or shared");
    socket
}
