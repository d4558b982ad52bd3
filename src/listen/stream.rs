//! A client's connection, as Pingora sees it: a socket or TLS on it, and a deadline for the header of each request.
//!
//! The deadline is one for the whole header. It runs from the first byte of a request, or from the connection itself for
//! its first one, and a client that sends a byte now and then does not move it. While a connection waits for its next
//! request it has no timer of ours: Pingora closes those that are silent for too long. A request whose header is all
//! there when it is first looked at, as nearly all are, has none either; it costs a look at a flag.
//!
//! [`HeaderWait`] says what is waited for. It is shared with whoever knows when that changes: see [`HeaderWait::begin`]
//! and [`header_came`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef, TlsStream};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::socket::{READ_BUFFER_BYTES, Socket};
use crate::reply::error::EdgeError;

/// Largest header of a request: as large as one of HTTP/2. Tokens of 8 KiB fit, and cookies beside them.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What a connection waits for.
#[derive(Debug, Default)]
pub(super) struct HeaderWait(AtomicU8);

impl HeaderWait {
    /// A request is waited for.
    pub(super) fn begin(&self) {
        // The first one is waited for from the beginning.
        if self.state() == Awaited::Nothing {
            self.set(Awaited::Next);
        }
    }

    /// The whole header of a request is there.
    pub(super) fn end(&self) {
        self.set(Awaited::Nothing);
    }

    fn some_came(&self) {
        match self.state() {
            Awaited::First => self.set(Awaited::FirstBegun),
            Awaited::Next => self.set(Awaited::NextBegun),
            Awaited::FirstBegun | Awaited::NextBegun | Awaited::Nothing => {}
        }
    }

    fn state(&self) -> Awaited {
        Awaited::ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }

    // A connection is of one thread, so nobody else sets it between a look and this.
    fn set(&self, state: Awaited) {
        self.0.store(state as u8, Ordering::Relaxed);
    }
}

/// The states of a [`HeaderWait`], which holds them by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Awaited {
    /// The first request, before the deadline of the connection. Nothing of it has come.
    First,
    /// The same, and a part of its header has come.
    FirstBegun,
    /// A further request, of which nothing has come.
    Next,
    /// A part of its header has come.
    NextBegun,
    /// Nothing: a request is being answered.
    Nothing,
}

impl Awaited {
    /// All, in the order of their numbers.
    const ALL: [Self; 5] = [
        Self::First,
        Self::FirstBegun,
        Self::Next,
        Self::NextBegun,
        Self::Nothing,
    ];
}

/// Says that the header of the request in `session` is all there.
pub fn header_came(session: &ServerSession) {
    // With HTTP/2, whoever gave the session to the application has said so.
    let stream = session.stream().map(|stream| stream.as_any());
    if let Some(client) = stream.and_then(|stream| stream.downcast_ref::<ClientStream>()) {
        client.wait.end();
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    io: Transport,
    wait: Arc<HeaderWait>,
    deadline: Deadline,
}

#[derive(Debug)]
pub(super) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// Does the same with either.
macro_rules! either {
    ($transport:expr, $io:ident => $action:expr) => {
        match $transport {
            Transport::Plain($io) => $action,
            Transport::Tls($io) => $action,
        }
    };
}

#[derive(Debug)]
struct Deadline {
    /// Of the first header.
    first: Instant,
    /// From the first byte of each further one.
    further: Duration,
    /// Runs only while a header is there in part.
    timer: Option<Pin<Box<Sleep>>>,
    /// What has come of it.
    bytes: usize,
    /// Whether nothing more is read: it came too late, or is too large.
    is_over: bool,
}

impl ClientStream {
    /// A connection whose first header must be there at `first`, and each further one within `further`.
    pub(super) fn new(
        io: Transport,
        wait: Arc<HeaderWait>,
        first: Instant,
        further: Duration,
    ) -> Self {
        Self {
            io,
            wait,
            deadline: Deadline {
                first,
                further,
                timer: None,
                bytes: 0,
                is_over: false,
            },
        }
    }

    /// The end of the stream, once the deadline for what is waited for has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.wait.state();
        if matches!(state, Awaited::Next | Awaited::Nothing) {
            return Poll::Pending;
        }
        let deadline = &mut self.deadline;
        let timer = deadline.timer.get_or_insert_with(|| {
            let at = match state {
                Awaited::NextBegun => Instant::now() + deadline.further,
                _ => deadline.first,
            };
            Box::pin(tokio::time::sleep_until(at))
        });
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        deadline.is_over = true;
        // Whoever has sent nothing has nothing to be answered. HTTP/2 ends with its connection.
        if matches!(state, Awaited::FirstBegun | Awaited::NextBegun) && self.speaks_http1() {
            self.answer(cx, &EdgeError::RequestTimeout);
        }
        Poll::Ready(Ok(()))
    }

    fn speaks_http1(&self) -> bool {
        self.selected_alpn_proto() != Some(ALPN::H2)
    }

    /// Says why no more is read. Nothing else is being written, so there is room for it; a client that does not take it
    /// loses it.
    fn answer(&mut self, cx: &mut Context<'_>, error: &EdgeError) {
        let answer = error.last_answer();
        let io = &mut self.io;
        let _ = either!(&mut *io, io => Pin::new(io).poll_write(cx, &answer));
        let _ = either!(io, io => Pin::new(io).poll_flush(cx));
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wait.state() == Awaited::Nothing {
            return either!(&mut this.io, io => Pin::new(io).poll_read(cx, buffer));
        }
        if this.deadline.is_over {
            return Poll::Ready(Ok(()));
        }
        if this.wait.state() == Awaited::Next {
            // They may be of an earlier request.
            this.deadline.timer = None;
            this.deadline.bytes = 0;
        }
        let before = buffer.filled().len();
        let read = either!(&mut this.io, io => Pin::new(io).poll_read(cx, buffer));
        if read.is_pending() {
            return this.poll_deadline(cx);
        }
        let came = buffer.filled().len() - before;
        if came > 0 {
            this.wait.some_came();
            this.deadline.bytes += came;
        }
        // The last bytes that come with it may be of a body. HTTP/2 has limits of its own.
        if this.deadline.bytes > MAX_HEADER_BYTES + READ_BUFFER_BYTES && this.speaks_http1() {
            buffer.set_filled(before);
            this.deadline.is_over = true;
            this.answer(cx, &EdgeError::HeaderTooLarge);
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.io, io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.io, io => Pin::new(io).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut self.io, io => Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.io, io => io.is_write_vectored())
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        let _ = either!(&mut self.io, io => AsyncWriteExt::shutdown(io).await);
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        either!(&self.io, io => io.id())
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        either!(&self.io, io => io.get_ssl())
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        either!(&self.io, io => io.get_ssl_digest())
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        either!(&self.io, io => io.selected_alpn_proto())
    }
}

impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        either!(&self.io, io => io.get_timing_digest())
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        either!(&self.io, io => io.get_socket_digest())
    }
}
