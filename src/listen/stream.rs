//! A client's connection, as Pingora sees it, with a deadline for the header of each request.
//!
//! The deadline is one for the whole header. It runs from the first byte of a request, or from the connection itself for
//! its first one, and a client that sends a byte now and then does not move it. While a connection waits for its next
//! request it has no timer here: those that are silent for too long are closed by whoever waits. A request whose header is all
//! there when it is first looked at, as nearly all are, has none either; it costs a look at a flag.
//!
//! The [`Exchange`] says what is waited for, and whoever reads a header tells it ([`header_came`]).
//!
//! What comes is received here ([`ClientStream::poll_receive`]) until the header of a request is whole, and looked at before
//! Pingora sees it (`http1`). While Pingora answers a request, it is given the rest of that request and not a byte more: what
//! a client sends ahead stays here, and is looked at in its turn.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::chunks::Chunks;
use super::exchange::{Awaited, Exchange, Rest};
use super::http2;
use super::transport::Transport;
use crate::reply::error::EdgeError;
use crate::request::framing;

/// Largest header of a request: as large as one of HTTP/2. Tokens of 8 KiB fit, and cookies beside them.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;

/// Bytes that are received at once while a request is waited for.
pub(super) const RECEIVED_BYTES: usize = 16 << 10;

/// What is received at once of a further request while one is being answered.
const AHEAD_BYTES: usize = 4 << 10;

/// Reads of a connection one after the other, after which others have their turn: who sends as fast as it is read, in
/// however small pieces, would have the thread for as long as tokio lets him, which is 128 reads and what follows of them.
const READS_AT_ONCE: u8 = 8;

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    transport: Transport,
    exchange: Arc<Exchange>,
    deadline: Deadline,
    /// What came and was given to nobody yet.
    ahead: BytesMut,
    /// Whether Pingora may have been given more than one request's bytes, so that nobody else can go on.
    is_given: bool,
    /// Whether something of an answer was sent to the latest request.
    has_spoken: bool,
    /// Whether a request was refused here, so that nothing else is to be said.
    is_refused: bool,
    /// How far a chunked body was read.
    chunks: Chunks,
    /// Whether what was to be sent last is still to be sent, in part or as a whole.
    is_mid_write: bool,
    /// Reads of HTTP/2, or of a tunnel, since the connection had nothing to say or let others have their turn.
    reads: u8,
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
        transport: Transport,
        exchange: Arc<Exchange>,
        first: Instant,
        further: Duration,
    ) -> Self {
        Self {
            transport,
            exchange,
            ahead: BytesMut::new(),
            is_given: false,
            has_spoken: false,
            is_refused: false,
            chunks: Chunks::default(),
            is_mid_write: false,
            reads: 0,
            deadline: Deadline {
                first,
                further,
                timer: None,
                bytes: 0,
                is_over: false,
            },
        }
    }

    /// The next request is waited for.
    pub(super) fn begin(&mut self) {
        self.exchange.begin();
        self.has_spoken = false;
    }

    /// All of the request that was waited for is there.
    pub(super) fn end(&mut self) {
        self.exchange.end(Rest::Bytes(0));
    }

    /// What came of the next request and was not looked at yet, or was not whole.
    pub(super) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Empty lines are no beginning of a request. Where nothing else is ahead, nothing is kept of the memory in which
    /// something was.
    pub(super) fn skip_empty_lines(&mut self) {
        match without_empty_lines(&self.ahead).len() {
            0 => self.ahead = BytesMut::new(),
            left => self.ahead.advance(self.ahead.len() - left),
        }
    }

    /// What came was no part of a header.
    pub(super) fn nothing_came(&mut self) {
        self.exchange.nothing_came();
    }

    /// What is ahead is a part of the header that is waited for.
    pub(super) fn some_came(&mut self) {
        self.begin_header();
        self.deadline.bytes = self.ahead.len();
        self.exchange.some_came();
    }

    /// Before anything of a further header has come: whatever was measured was of an earlier one.
    fn begin_header(&mut self) {
        if self.exchange.awaited() == Awaited::Next {
            self.deadline.timer = None;
            self.deadline.bytes = 0;
        }
    }

    /// Whether what comes next is the beginning of a request: Pingora has been given all of one, and nothing of another.
    pub(super) fn is_between_requests(&self) -> bool {
        // A tunnel that was refused has had nothing.
        let is_whole = matches!(self.exchange.rest(), Rest::Bytes(0) | Rest::All);
        !self.is_given && self.exchange.awaited() == Awaited::Nothing && is_whole
    }

    /// Whether nothing more is read, and the client was told why if it had said anything.
    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_over
    }

    /// What carries it, for a last word.
    pub(super) fn into_transport(self: Box<Self>) -> Transport {
        self.transport
    }

    /// Whose connection it is.
    pub(super) fn client_address(&self) -> Option<SocketAddr> {
        let digest = self.get_socket_digest()?;
        digest.peer_addr()?.as_inet().copied()
    }

    /// Whether it is protected by TLS.
    pub(super) fn is_protected(&self) -> bool {
        self.transport.is_protected()
    }

    /// Whether the client speaks HTTP/1.
    pub(super) fn speaks_http1(&self) -> bool {
        self.selected_alpn_proto() != Some(ALPN::H2)
    }

    /// Receives what there is of the header that is waited for, before its deadline. Nothing at all is the end.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.deadline.is_over {
            return Poll::Ready(Ok(()));
        }
        self.begin_header();
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_deadline(cx);
        }
        let came = buffer.filled().len() - before;
        if came > 0 {
            // The first request of HTTP/2 is not begun by what comes before it, which its client says at once.
            if self.speaks_http1() {
                self.exchange.some_came();
            }
            self.deadline.bytes += came;
        }
        // The last bytes that come with it may be of a body. HTTP/2 has limits of its own.
        if self.deadline.bytes > MAX_HEADER_BYTES + RECEIVED_BYTES && self.speaks_http1() {
            buffer.set_filled(before);
            self.deadline.is_over = true;
            self.answer(cx, &EdgeError::HeaderTooLarge);
        }
        read
    }

    /// Sends an answer. Nothing else is unsent.
    ///
    /// # Errors
    ///
    /// When the client is gone.
    pub(super) async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.transport.send(head, body).await
    }

    /// The rest of the request that is being answered, or the end of the connection.
    fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        rest: u64,
    ) -> Poll<io::Result<()>> {
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        let most = buffer.remaining().min(rest);
        if self.ahead.is_empty() {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut part))?;
            let came = part.filled().len();
            buffer.advance(came);
            self.exchange.some_of_rest_came(came as u64);
        } else {
            let came = self.ahead.len().min(most);
            buffer.put_slice(&self.ahead[..came]);
            self.ahead.advance(came);
            self.exchange.some_of_rest_came(came as u64);
        }
        Poll::Ready(Ok(()))
    }

    /// The rest of a chunked body, and nothing of what comes after it.
    fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buffer))?;
        } else {
            let came = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..came]);
            self.ahead.advance(came);
        }
        let came = &buffer.filled()[before..];
        let read = match self.chunks.read(came) {
            Ok(read) => read,
            Err(ill_formed) => {
                self.refuse(cx, &EdgeError::BadRequest);
                let fault = io::Error::new(io::ErrorKind::InvalidData, ill_formed);
                return Poll::Ready(Err(fault));
            }
        };
        let came = &buffer.filled()[before..];
        if read < came.len() {
            // What was ahead is behind it.
            let behind = std::mem::take(&mut self.ahead);
            self.ahead.extend_from_slice(&came[read..]);
            self.ahead.unsplit(behind);
            buffer.set_filled(before + read);
        }
        if self.chunks.is_over() {
            self.chunks = Chunks::default();
            self.exchange.end(Rest::Bytes(0));
        }
        Poll::Ready(Ok(()))
    }

    /// Whatever comes, but only so much of it before others have their turn.
    fn poll_in_turn(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        is_answered: bool,
    ) -> Poll<io::Result<()>> {
        if self.exchange.is_forsaken() {
            // Within a frame, it would be taken for a part of it.
            if !self.is_mid_write {
                self.say(cx, &http2::GOAWAY);
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.reads == READS_AT_ONCE {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = self.poll_any(cx, buffer, is_answered);
        self.reads = match read {
            Poll::Ready(_) => self.reads + 1,
            Poll::Pending => 0,
        };
        read
    }

    /// Whatever comes.
    fn poll_any(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        is_answered: bool,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let came = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..came]);
            self.ahead.advance(came);
            return Poll::Ready(Ok(()));
        }
        match is_answered {
            true => Pin::new(&mut self.transport).poll_read(cx, buffer),
            false => self.poll_receive(cx, buffer),
        }
    }

    /// Nothing but the end of the connection: what comes else is of the next request.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.skip_empty_lines();
        while self.ahead.is_empty() {
            let mut bytes = [MaybeUninit::uninit(); AHEAD_BYTES];
            let mut came = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let came = without_empty_lines(came.filled());
            self.ahead.extend_from_slice(came);
        }
        // The client waits for an answer, and for more than one.
        Poll::Pending
    }

    /// The end of the stream, once the deadline for what is waited for has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let awaited = self.exchange.awaited();
        if matches!(awaited, Awaited::Next | Awaited::Nothing) {
            return Poll::Pending;
        }
        let deadline = &mut self.deadline;
        let timer = deadline.timer.get_or_insert_with(|| {
            let at = match awaited {
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
        if matches!(awaited, Awaited::FirstBegun | Awaited::NextBegun) && self.speaks_http1() {
            self.answer(cx, &EdgeError::RequestTimeout);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether these bytes are Pingora's own words, in place of which the client is told the same as JSON.
    ///
    /// What it cannot read, or takes from nobody, it refuses before the application hears of it, and with an empty body.
    fn refuses(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> bool {
        if !self.is_refused {
            if self.exchange.awaited() == Awaited::Nothing || !self.speaks_http1() {
                self.has_spoken = true;
                return false;
            }
            let is_of_method = bytes.starts_with(b"HTTP/1.1 405");
            let error = match is_of_method {
                true => EdgeError::MethodNotAllowed,
                false => EdgeError::BadRequest,
            };
            self.refuse(cx, &error);
        }
        true
    }

    /// Refuses the latest request, if there is no answer on its way already. There will be no other.
    fn refuse(&mut self, cx: &mut Context<'_>, error: &EdgeError) {
        self.is_refused = true;
        if !self.has_spoken {
            self.answer(cx, error);
        }
    }

    /// Says why no more is read.
    fn answer(&mut self, cx: &mut Context<'_>, error: &EdgeError) {
        self.say(cx, &error.last_answer());
    }

    /// Says a last word, while nothing else is being written. A client that does not take it loses it.
    fn say(&mut self, cx: &mut Context<'_>, word: &[u8]) {
        let mut transport = Pin::new(&mut self.transport);
        let _ = transport.as_mut().poll_write(cx, word);
        let _ = transport.poll_flush(cx);
    }
}

/// Says that the header of the request in `session` is all there.
pub fn header_came(session: &ServerSession) {
    // With HTTP/2, whoever gave the session to the application has said so.
    let stream = session.stream().map(|stream| stream.as_any());
    if let Some(client) = stream.and_then(|stream| stream.downcast_ref::<ClientStream>()) {
        let request = session.req_header();
        let rest = match framing::length(request) {
            // What comes is not the client's next request, but the tunnel's.
            _ if framing::is_websocket(request) => Rest::All,
            Some(bytes) => Rest::Bytes(bytes as u64),
            None => Rest::Chunks,
        };
        client.exchange.end(rest);
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let is_answered = this.exchange.awaited() == Awaited::Nothing;
        if is_answered && !this.is_given {
            match this.exchange.rest() {
                Rest::Bytes(0) => return this.poll_end(cx),
                Rest::Bytes(rest) => return this.poll_rest(cx, buffer, rest),
                Rest::Chunks => return this.poll_chunks(cx, buffer),
                Rest::All => {}
            }
        }
        let before = buffer.filled().len();
        let read = this.poll_in_turn(cx, buffer, is_answered);
        this.is_given |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refuses(cx, bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.is_mid_write = !is_whole(&written, bytes.len());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.first().map(|slice| &**slice);
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if self.refuses(cx, first.unwrap_or_default()) {
            return Poll::Ready(Ok(bytes));
        }
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, slices);
        self.is_mid_write = !is_whole(&written, bytes);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(&mut self.transport).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.transport.id()
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.transport.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.transport.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.transport.selected_alpn_proto()
    }
}

impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.transport.get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.transport.get_socket_digest()
    }
}

/// Whether all of so many bytes were written.
fn is_whole(written: &Poll<io::Result<usize>>, bytes: usize) -> bool {
    matches!(written, Poll::Ready(Ok(written)) if *written == bytes)
}

/// Without the empty lines before a request: old clients end a body with a line more than its length tells (RFC 9112, 2.2).
pub(super) fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let is_of_line = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    let first = bytes.iter().position(is_of_line);
    &bytes[first.unwrap_or(bytes.len())..]
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::socket::Socket;
    use super::super::turns::Turns;
    use super::super::wakings::Wakings;
    use super::*;

    /// A connection whose client has sent so many bytes, which are there.
    async fn with_much_to_read(bytes: usize) -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        client.write_all(&vec![b'x'; bytes]).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let exchange = Arc::new(Exchange::default());
        exchange.end(Rest::All);
        let turns = Turns::default();
        let socket = Socket::new(stream, peer, Arc::clone(&exchange), turns).unwrap();
        let transport = Transport::Plain(socket);
        let minute = Duration::from_secs(60);
        let stream = ClientStream::new(transport, exchange, Instant::now() + minute, minute);
        (stream, client)
    }

    fn reads_a_byte(stream: &mut ClientStream, waker: &Waker) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        Pin::new(stream).poll_read(&mut Context::from_waker(waker), &mut buffer)
    }

    #[tokio::test]
    async fn who_sends_without_end_lets_others_have_their_turn_and_then_goes_on() {
        let (mut stream, _client) = with_much_to_read(100).await;
        let (wakings, waker) = Wakings::new();
        for turn in 0..3 {
            for _ in 0..READS_AT_ONCE {
                assert!(reads_a_byte(&mut stream, &waker).is_ready());
            }
            assert_eq!(wakings.count(), turn);
            assert!(reads_a_byte(&mut stream, &waker).is_pending());
            assert_eq!(wakings.count(), turn + 1);
        }
    }

    #[tokio::test]
    async fn nothing_is_said_to_who_is_in_the_midst_of_a_frame() {
        let (mut stream, mut client) = with_much_to_read(100).await;
        let mut context = Context::from_waker(Waker::noop());
        let frame = [b'f'; 1 << 16];
        // As nobody reads, there is no more room after a while.
        let mut sent = 0;
        while let Poll::Ready(written) = Pin::new(&mut stream).poll_write(&mut context, &frame) {
            sent += written.unwrap();
        }
        // There is room again, and the runtime has seen it.
        client.read_exact(&mut vec![0; sent]).await.unwrap();
        tokio::task::yield_now().await;
        stream.exchange.forsake();
        assert!(matches!(
            reads_a_byte(&mut stream, Waker::noop()),
            Poll::Ready(Err(_))
        ));
        drop(stream);
        let mut told = Vec::new();
        // It may be reset, since it had more to say.
        let _ = client.read_to_end(&mut told).await;
        assert_eq!(told, b"");
    }

    #[tokio::test]
    async fn who_is_not_listened_to_any_longer_is_told_to_be_calm() {
        let (mut stream, mut client) = with_much_to_read(100).await;
        assert!(reads_a_byte(&mut stream, Waker::noop()).is_ready());
        stream.exchange.forsake();
        let Poll::Ready(Err(error)) = reads_a_byte(&mut stream, Waker::noop()) else {
            panic!("it is read");
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let mut told = [0; 17];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(told, http2::GOAWAY);
    }

    #[test]
    fn empty_lines_begin_no_request() {
        for (bytes, left) in [
            ("\r\n", ""),
            ("\n\r\nGET", "GET"),
            ("GET\r\n", "GET\r\n"),
            ("", ""),
        ] {
            assert_eq!(without_empty_lines(bytes.as_bytes()), left.as_bytes());
        }
    }
}
