//! A client's socket, buffered both ways, and what Pingora wants to know of one: whose it is, and since when.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::ext::set_tcp_keepalive;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, ReadBuf};
use tokio::net::TcpStream;

/// Bytes buffered towards a client: header and body of a usual hit leave in one write.
const WRITE_BUFFER_BYTES: usize = 32 << 10;

/// Bytes read from a client at once. Together with the write buffer this is what an idle connection costs.
pub(super) const READ_BUFFER_BYTES: usize = 16 << 10;

/// When it is found out that a client is gone: five minutes of silence, then a probe a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(300),
    interval: Duration::from_secs(60),
    count: 5,
    user_timeout: Duration::ZERO,
};

/// A client's socket, buffered both ways.
#[derive(Debug)]
pub(super) struct Socket {
    io: BufReader<BufWriter<TcpStream>>,
    digest: Arc<SocketDigest>,
    established: SystemTime,
    id: UniqueIDType,
}

impl Socket {
    /// Of the client at `peer`.
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // A phone that has left its network says no farewell, and a WebSocket may be silent for ever.
        if set_tcp_keepalive(&stream, &KEEPALIVE).is_err() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let id = stream.as_raw_fd();
        let writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream);
        Ok(Self {
            io: BufReader::with_capacity(READ_BUFFER_BYTES, writer),
            digest: digest(id, peer),
            established: SystemTime::now(),
            id,
        })
    }

    /// Says that the client is another than the peer.
    pub(super) fn speaks_for(&mut self, client: SocketAddr) {
        self.digest = digest(self.id, client);
    }
}

fn digest(id: UniqueIDType, client: SocketAddr) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(id);
    let set = digest.peer_addr.set(Some(client.into()));
    set.expect("a new digest has no address");
    Arc::new(digest)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What was written and not sent is sent if the system takes it at once: nobody waits here.
        let nobody = &mut Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.io).poll_flush(nobody);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // A client that is gone needs no farewell.
        let _ = self.io.shutdown().await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for Socket {}

impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let digest = TimingDigest {
            established_ts: self.established,
            ..TimingDigest::default()
        };
        vec![Some(digest)]
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}
