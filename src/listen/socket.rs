//! A client's socket, whose small writes leave together, and what Pingora wants to know of one: whose it is, and since when.
//!
//! What may wait of what comes is taken in turns.
//!
//! What is written is kept until it is flushed or there is enough of it, so that a header and a body of usual size are one
//! packet. Nothing is kept where nothing was written: a connection that waits takes no buffer.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::ext::set_tcp_keepalive;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::exchange::Exchange;
use super::turns::{Turn, Turns};

/// Most bytes that wait to be flushed: header and body of a usual answer leave in one write.
const MAX_UNSENT_BYTES: usize = 32 << 10;

/// Pieces that leave together at the most.
const MAX_PIECES: usize = 16;

/// When it is found out that a client is gone: five minutes of silence, then a probe a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(300),
    interval: Duration::from_secs(60),
    count: 5,
    user_timeout: Duration::ZERO,
};

/// A client's socket.
#[derive(Debug)]
pub(super) struct Socket {
    io: TcpStream,
    exchange: Arc<Exchange>,
    turn: Turn,
    /// What was written and is not sent yet.
    unsent: BytesMut,
    digest: Arc<SocketDigest>,
    established: SystemTime,
    id: UniqueIDType,
}

impl Socket {
    /// Of the client at `peer`, with the turns of this thread.
    ///
    /// # Errors
    ///
    /// When the connection is gone already.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        exchange: Arc<Exchange>,
        turns: Turns,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // A phone that has left its network says no farewell, and a WebSocket may be silent for ever.
        if set_tcp_keepalive(&stream, &KEEPALIVE).is_err() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let id = stream.as_raw_fd();
        Ok(Self {
            io: stream,
            exchange,
            turn: Turn::of(turns),
            unsent: BytesMut::new(),
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
        let _ = self.poll_send(nobody);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.exchange.may_wait() {
            return self.poll_read_in_turn(cx, buffer);
        }
        self.turn.leave();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.turn.read_at_once();
        }
        read
    }
}

impl Socket {
    fn poll_read_in_turn(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Where nothing has come, no turn is waited for. Of a socket that is new, or whose last bytes filled a buffer, the
        // runtime knows only after a read.
        ready!(self.io.poll_read_ready(cx))?;
        ready!(self.turn.poll_read(cx));
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_pending() {
            self.turn.end();
        }
        read
    }

    /// Sends what is unsent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Sends what is unsent, and of `pieces` as much as goes with it; how much of them that was.
    pub(super) fn poll_send_with(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let unsent = self.unsent.len();
            let mut all = [IoSlice::new(&self.unsent); MAX_PIECES];
            let count = pieces.len().min(MAX_PIECES - 1);
            all[1..=count].copy_from_slice(&pieces[..count]);
            let sent = Pin::new(&mut self.io).poll_write_vectored(cx, &all[..=count]);
            let sent = ready!(sent)?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if sent > unsent {
                self.unsent = BytesMut::new();
                return Poll::Ready(Ok(sent - unsent));
            }
            self.unsent.advance(sent);
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket itself has nothing to flush.
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length > 0 && self.unsent.len() + length > MAX_UNSENT_BYTES {
            return self.poll_send_with(cx, pieces);
        }
        for piece in pieces {
            self.unsent.extend_from_slice(piece);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::super::exchange::Rest;
    use super::*;

    /// A socket whose client has sent this, which is there.
    async fn with_much_to_read(turns: &Turns, sent: &[u8]) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(sent).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let socket = Socket::new(stream, peer, Arc::default(), turns.clone());
        (socket.unwrap(), client)
    }

    fn reads_a_byte(socket: &mut Socket) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let nobody = &mut Context::from_waker(Waker::noop());
        Pin::new(socket).poll_read(nobody, &mut ReadBuf::new(&mut byte))
    }

    #[tokio::test]
    async fn what_was_written_and_not_sent_leaves_with_the_socket() {
        let (mut socket, mut client) = with_much_to_read(&Turns::default(), b"a request").await;
        socket
            .write_all(b"the beginning of an answer")
            .await
            .unwrap();
        socket.read_exact(&mut [0; 9]).await.unwrap();
        drop(socket);
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"the beginning of an answer");
    }

    #[tokio::test]
    async fn a_request_is_read_at_once_while_all_else_waits_for_its_turn() {
        let turns = Turns::default();
        let (mut request, _asks) = with_much_to_read(&turns, b"GET").await;
        let (mut body, _uploads) = with_much_to_read(&turns, b"xxx").await;
        body.exchange.end(Rest::Bytes(3));
        let (mut hello, _greets) = with_much_to_read(&turns, b"\x16\x03\x01").await;
        hello.exchange.begin_handshake();
        let (mut header, _drips) = with_much_to_read(&turns, b"X: ").await;
        header.exchange.some_came();
        let mut other = Turn::of(turns);
        poll_fn(|cx| other.poll_read(cx)).await;

        assert!(reads_a_byte(&mut request).is_ready());
        for waiting in [&mut body, &mut hello, &mut header] {
            assert!(reads_a_byte(waiting).is_pending());
        }
        for called in [&mut body, &mut hello, &mut header] {
            called.read_u8().await.unwrap();
        }
    }

    #[tokio::test]
    async fn whose_request_begins_waits_for_no_turn_any_longer() {
        let turns = Turns::default();
        let (mut socket, _client) = with_much_to_read(&turns, b"xG").await;
        let mut other = Turn::of(turns);
        poll_fn(|cx| other.poll_read(cx)).await;
        socket.exchange.begin_handshake();
        assert!(reads_a_byte(&mut socket).is_pending());
        socket.exchange.end_handshake();
        assert!(reads_a_byte(&mut socket).is_ready());
        // The next round begins in the course of the second. It is the last, as it has nobody to call.
        for _ in 0..2 {
            yield_now().await;
        }
        let nobody = &Context::from_waker(Waker::noop());
        assert!(other.poll_read(nobody).is_ready());
    }

    #[tokio::test]
    async fn where_nothing_has_come_no_turn_is_waited_for() {
        let turns = Turns::default();
        let (mut silent, _client) = with_much_to_read(&turns, b"x").await;
        silent.exchange.end(Rest::Bytes(3));
        assert_eq!(silent.read(&mut [0; 2]).await.unwrap(), 1);
        // That was a turn, after which there is a round, and another without anybody.
        for _ in 0..2 {
            yield_now().await;
        }
        assert!(reads_a_byte(&mut silent).is_pending());
        let mut other = Turn::of(turns);
        let nobody = &Context::from_waker(Waker::noop());
        assert!(other.poll_read(nobody).is_ready());
    }

    #[tokio::test]
    async fn a_turn_in_which_nothing_was_there_is_the_next_ones() {
        let turns = Turns::default();
        let (mut silent, _client) = with_much_to_read(&turns, b"x").await;
        assert!(reads_a_byte(&mut silent).is_ready());
        silent.exchange.end(Rest::Bytes(3));
        let (mut body, _uploads) = with_much_to_read(&turns, b"xxx").await;
        body.exchange.end(Rest::Bytes(3));
        let mut other = Turn::of(turns);
        poll_fn(|cx| other.poll_read(cx)).await;
        for waiting in [&mut silent, &mut body] {
            assert!(reads_a_byte(waiting).is_pending());
        }
        // The next round begins in the course of the second.
        for _ in 0..2 {
            yield_now().await;
        }
        assert!(reads_a_byte(&mut body).is_pending());
        assert!(reads_a_byte(&mut silent).is_pending());
        assert!(reads_a_byte(&mut body).is_ready());
    }
}
