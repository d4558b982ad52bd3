//! A VMS that listens on a socket in the file system, since varnishtest's servers choose their ports late, made reachable
//! over TCP; and a list of the requests that came to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream, tcp};
use tokio::task::AbortHandle;

/// A listening relay; it is gone when the test drops it.
pub(crate) struct Relay {
    /// Where the edge connects.
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl Relay {
    /// Passes all that comes on to whoever listens at `path`. If the VMS ends a connection with a request in which
    /// `resets` stands, the edge sees it reset.
    pub(crate) async fn to(path: PathBuf, resets: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn({
            let heads = Arc::clone(&heads);
            async move {
                while let Ok((edge, _)) = listener.accept().await {
                    // A VMS that does not listen closes the connection.
                    if let Ok(vms) = UnixStream::connect(&path).await {
                        tokio::spawn(relay(edge, vms, Arc::clone(&heads), resets));
                    }
                }
            }
        });
        Self {
            address,
            heads,
            accepting: accepting.abort_handle(),
        }
    }

    /// The headers of all requests that the VMS was given. One whose connection it had closed is not among them.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(
    mut edge: TcpStream,
    vms: UnixStream,
    heads: Arc<Mutex<Vec<String>>>,
    resets: &'static str,
) {
    edge.set_nodelay(true).expect("a socket has options");
    let (asking, answering) = edge.split();
    let (answers, asked) = vms.into_split();
    // Whoever ends first ends both ways: neither side is known to end only one of them.
    let is_reset = tokio::select! {
        () = requests(asking, asked, &heads) => false,
        _ = answers_of(answers, answering) => {
            let heads = heads.lock().expect("nobody panics with it");
            heads.last().is_some_and(|head: &String| head.contains(resets))
        }
    };
    if is_reset {
        edge.set_zero_linger().expect("a socket has options");
    }
}

/// The edge's request, without a body: what stood in one would be taken for another request.
///
/// A connection carries one. A second could be sent just as the VMS ends the connection, and be counted though it was
/// lost: it is turned away, as by a VMS that has ended the connection, and comes again on another one.
async fn requests(
    mut edge: tcp::ReadHalf<'_>,
    mut vms: OwnedWriteHalf,
    heads: &Mutex<Vec<String>>,
) {
    let mut came = Vec::new();
    let mut is_asked = false;
    while let Ok(1..) = edge.read_buf(&mut came).await {
        while let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = came.drain(..end + 4).collect();
            if is_asked || vms.write_all(&head).await.is_err() {
                return;
            }
            is_asked = true;
            let head = String::from_utf8_lossy(&head).into_owned();
            heads.lock().expect("nobody panics with it").push(head);
        }
    }
}

async fn answers_of(mut vms: OwnedReadHalf, mut edge: tcp::WriteHalf<'_>) -> io::Result<u64> {
    io::copy(&mut vms, &mut edge).await
}
