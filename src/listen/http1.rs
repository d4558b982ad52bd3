//! HTTP/1.1 with clients: one request after the other, each looked at before it is given to Pingora.
//!
//! A request whose answer is at hand, which is what nearly all are, is answered here and now: its header is received into
//! a buffer that all connections of a thread share, and the answer leaves in one write. Whatever is not like that is given
//! to Pingora as it came, one request at a time ([`ClientStream`] keeps what is sent ahead), and the connection comes back
//! for the next. So a connection that waits costs neither a buffer nor a session.
//!
//! Which requests those are, and what their answers are, this room does not know: see [`Application`].

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::io::ReadBuf;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, timeout};

use super::IDLE_TIMEOUT;
use super::farewell;
use super::shared::Phase;
use super::stream::{ClientStream, MAX_HEADER_BYTES, RECEIVED_BYTES, without_empty_lines};
use crate::reply::error::EdgeError;
use crate::request::{Scheme, framing};

/// Whom requests are for.
pub trait Application: Send + Sync + 'static {
    /// What Pingora hands HTTP sessions to.
    type Proxy: HttpServerApp + Send + Sync + 'static;

    /// An answer that needs no waiting.
    type Answer: Answer;

    /// Answers any request.
    fn proxy(&self) -> &Arc<Self::Proxy>;

    /// The answer to the request whose whole header is `head`, if it is at hand.
    ///
    /// The request may have a body, which follows; then this is not the place to answer it.
    fn at_hand(&self, head: &[u8], client: &Client) -> Option<Self::Answer>;
}

/// An answer that is at hand, and leaves the connection open for the next request.
pub trait Answer: Send + Sync {
    /// Its header as it is sent.
    fn head(&self) -> &[u8];

    /// Its body.
    fn body(&self) -> &[u8];

    /// How long the client may take to receive it.
    fn patience(&self) -> Duration;

    /// It was sent, or else why not all of it.
    fn sent(self, sent: io::Result<()>);
}

/// Who is at the other end.
pub struct Client {
    /// The client's address.
    pub address: SocketAddr,
    /// How its connection is protected.
    pub scheme: Scheme,
}

thread_local! {
    /// Where what comes is looked at first. Nobody waits while holding it.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVED_BYTES].into());
}

/// What came.
enum Came<A> {
    /// A request whose answer is at hand.
    AtHand(A),
    /// The whole header of another one.
    Request(BytesMut),
    /// No further request.
    Nothing,
}

/// Serves requests for as long as the client asks.
pub(super) async fn serve<A: Application>(
    app: &A,
    mut client: Box<ClientStream>,
    phase: watch::Receiver<Phase>,
    shutdown: &ShutdownWatch,
) {
    let Some(address) = client.client_address() else {
        return;
    };
    let scheme = match client.is_protected() {
        true => Scheme::Https,
        false => Scheme::Http,
    };
    let who = Client { address, scheme };
    let mut waiting = Waiting::new(phase);
    loop {
        client.begin();
        // One that leaves says so with its last answer, which Pingora does. It may have begun to while it waited.
        let at_hand = |head: &[u8]| match *shutdown.borrow() {
            true => None,
            false => app.at_hand(head, &who),
        };
        match waiting.next(&mut client, at_hand).await {
            Came::AtHand(answer) => {
                client.end();
                let sent = send(&mut client, &answer).await;
                let is_sent = sent.is_ok();
                answer.sent(sent);
                if !is_sent {
                    return;
                }
            }
            Came::Request(head) => {
                if let Some(error) = refused(&head, client.ahead()) {
                    return farewell::tell(client.into_transport(), &error).await;
                }
                match through_pingora(app.proxy(), client, head, shutdown).await {
                    Some(returned) => client = returned,
                    None => return,
                }
            }
            Came::Nothing if client.is_over() => {
                return farewell::linger(client.into_transport()).await;
            }
            Came::Nothing => return,
        }
    }
}

/// Why nobody is asked to answer the request whose header is `head`, if that is so; `ahead` came behind it.
fn refused(head: &[u8], ahead: &[u8]) -> Option<EdgeError> {
    if head.len() > MAX_HEADER_BYTES {
        return Some(EdgeError::HeaderTooLarge);
    }
    // What comes before a tunnel is open is neither its nor a request.
    let is_early = !ahead.is_empty() && asks_for_tunnel(head);
    (is_early || !framing::is_plain_line(head)).then_some(EdgeError::BadRequest)
}

/// Gives Pingora a request, and gets the connection back if it is to be used further.
async fn through_pingora<P>(
    proxy: &Arc<P>,
    client: Box<ClientStream>,
    head: BytesMut,
    shutdown: &ShutdownWatch,
) -> Option<Box<ClientStream>>
where
    P: HttpServerApp + Send + Sync + 'static,
{
    let mut session = ServerSession::new_http1(client);
    session.set_keepalive((!*shutdown.borrow()).then_some(IDLE_TIMEOUT.as_secs()));
    session.set_pipelined_prefix(head);
    let reused = proxy.process_new_http(session, shutdown).await?;
    let (stream, _) = reused.consume();
    let client = stream.into_any().downcast::<ClientStream>();
    let client = client.expect("Pingora gives back what it was given");
    // Otherwise only Pingora knows where the request ended, and looks at the next less closely than is done here.
    client.is_between_requests().then_some(client)
}

/// Whether a header asks for a WebSocket, as [`framing::is_websocket`] tells it of what was read.
fn asks_for_tunnel(head: &[u8]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let is_modern = lines.next().is_some_and(|line| line.ends_with(b"HTTP/1.1"));
    let field = |name: &[u8]| {
        lines.clone().find_map(|line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
        })
    };
    is_modern
        && field(b"upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        && field(b"transfer-encoding").is_none()
        && field(b"content-length").is_none_or(|length| length == b"0")
}

/// Sends an answer to a client that takes it.
async fn send(client: &mut ClientStream, answer: &impl Answer) -> io::Result<()> {
    let mut sent = pin!(client.send(answer.head(), answer.body()));
    // Nearly always there is room for it, and no need of a timer.
    if let Poll::Ready(sent) = poll_fn(|cx| Poll::Ready(sent.as_mut().poll(cx))).await {
        return sent;
    }
    timeout(answer.patience(), sent).await?
}

/// The wait for the next request, which ends when the client is silent for too long, or the edge is leaving.
struct Waiting {
    idle: Idle,
    is_leaving: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Waiting {
    fn new(mut phase: watch::Receiver<Phase>) -> Self {
        Self {
            idle: Idle {
                since: Instant::now(),
                timer: None,
            },
            is_leaving: Box::pin(async move {
                let _ = phase.wait_for(|phase| *phase >= Phase::Quick).await;
            }),
        }
    }

    async fn next<A>(
        &mut self,
        client: &mut ClientStream,
        at_hand: impl Fn(&[u8]) -> Option<A>,
    ) -> Came<A> {
        self.idle.begin();
        client.skip_empty_lines();
        if !client.ahead().is_empty() {
            // What was sent ahead is no reason to keep others waiting.
            tokio::task::consume_budget().await;
            if let Some(came) = look_ahead(client, 0, &at_hand) {
                return came;
            }
        }
        poll_fn(|cx| {
            if let Poll::Ready(came) = poll_came(cx, client, &at_hand) {
                // Whoever is gone has nothing more to ask.
                return Poll::Ready(came.unwrap_or(Came::Nothing));
            }
            // A request that has begun is waited for, and has a deadline of its own.
            let may_end = client.ahead().is_empty();
            let is_over = may_end
                && (self.idle.poll(cx).is_ready() || self.is_leaving.as_mut().poll(cx).is_ready());
            match is_over {
                true => Poll::Ready(Came::Nothing),
                false => Poll::Pending,
            }
        })
        .await
    }
}

/// How long nothing has come. The timer runs on from one request to the next, and only when it ends is it looked whether
/// there was one meanwhile: so most requests touch no timer.
struct Idle {
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.since + IDLE_TIMEOUT;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() >= until {
            return Poll::Ready(());
        }
        timer.as_mut().reset(until);
        timer.as_mut().poll(cx)
    }
}

/// Receives until the header of a request is whole.
fn poll_came<A>(
    cx: &mut Context<'_>,
    client: &mut ClientStream,
    at_hand: &impl Fn(&[u8]) -> Option<A>,
) -> Poll<io::Result<Came<A>>> {
    RECEIVED.with_borrow_mut(|received| {
        loop {
            let mut buffer = ReadBuf::new(received);
            ready!(client.poll_receive(cx, &mut buffer))?;
            let length = buffer.filled().len();
            let came = look(client, buffer.filled(), at_hand);
            // No token is left where the next request may not reach.
            received[..length].fill(0);
            if let Some(came) = came {
                return Poll::Ready(Ok(came));
            }
            // Those were empty lines, of which somebody may send as many as are read: others have their turn.
            if client.ahead().is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    })
}

/// Looks at what was received; `None` if more is needed.
fn look<A>(
    client: &mut ClientStream,
    received: &[u8],
    at_hand: &impl Fn(&[u8]) -> Option<A>,
) -> Option<Came<A>> {
    if received.is_empty() {
        return Some(Came::Nothing);
    }
    let known = client.ahead().len();
    if known > 0 {
        client.ahead().extend_from_slice(received);
        return look_ahead(client, known, at_hand);
    }
    let came = without_empty_lines(received);
    if came.is_empty() {
        client.nothing_came();
        return None;
    }
    let Some(end) = end_of_header(came, 0) else {
        client.ahead().extend_from_slice(came);
        client.some_came();
        return None;
    };
    let (head, further) = came.split_at(end);
    client.ahead().extend_from_slice(further);
    Some(match at_hand(head) {
        Some(answer) => Came::AtHand(answer),
        None => Came::Request(head.into()),
    })
}

/// Looks at what is ahead, of which so many bytes were looked at before.
fn look_ahead<A>(
    client: &mut ClientStream,
    known: usize,
    at_hand: &impl Fn(&[u8]) -> Option<A>,
) -> Option<Came<A>> {
    let Some(end) = end_of_header(client.ahead(), known) else {
        client.some_came();
        return None;
    };
    let head = client.ahead().split_to(end);
    Some(match at_hand(&head) {
        Some(answer) => Came::AtHand(answer),
        None => Came::Request(head),
    })
}

/// Where the header at the beginning of `bytes` ends, if it does; it does not within the first `known` bytes.
///
/// Lines end with or without a carriage return, and empty ones before the first are not counted (RFC 9112, 2.2).
fn end_of_header(bytes: &[u8], known: usize) -> Option<usize> {
    let first = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let from = first.max(known.saturating_sub(2));
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|at| {
        let at = from + at;
        match bytes[at + 1..] {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::exchange::Exchange;
    use super::super::socket::Socket;
    use super::super::transport::Transport;
    use super::super::turns::Turns;
    use super::super::wakings::Wakings;
    use super::*;

    #[test]
    fn a_header_ends_with_the_first_empty_line() {
        for (bytes, end) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some(27)),
            (b"GET / HTTP/1.1\r\n\r\nbody\r\n\r\n", Some(18)),
            (b"GET / HTTP/1.1\nHost: a\n\nGET", Some(24)),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Some(26)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(22)),
            (b"\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", None),
            (b"", None),
        ] {
            assert_eq!(end_of_header(bytes, 0), end, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_request_is_refused_that_is_too_large_or_not_plain_or_says_more_than_it_may() {
        const WEBSOCKET: &str = "GET / HTTP/1.1\r\nUpgrade:  WebSocket \r\n\r\n";
        for (head, ahead, error) in [
            ("GET / HTTP/1.1\r\n\r\n", "GET", None),
            ("GET /a b HTTP/1.1\r\n\r\n", "", Some(400)),
            (WEBSOCKET, "", None),
            (WEBSOCKET, "GET", Some(400)),
            (&WEBSOCKET.replace("1.1", "1.0"), "GET", None),
            ("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", "GET", None),
            (
                "GET / HTTP/1.1\r\nX: Upgrade: websocket\r\n\r\n",
                "GET",
                None,
            ),
            (
                "GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
                "GET",
                None,
            ),
        ] {
            let refused = refused(head.as_bytes(), ahead.as_bytes());
            assert_eq!(refused.map(|error| error.status()), error, "{head}");
        }
        let of = |bytes: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(bytes - 23));
        assert!(refused(of(MAX_HEADER_BYTES).as_bytes(), b"").is_none());
        let error = refused(of(MAX_HEADER_BYTES + 1).as_bytes(), b"");
        assert_eq!(error.map(|error| error.status()), Some(431));
    }

    #[tokio::test]
    async fn whoever_sends_empty_lines_without_end_lets_others_have_their_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sender = TcpStream::connect(address).await.unwrap();
        sender.write_all(&b"\r\n".repeat(100)).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let exchange = Arc::new(Exchange::default());
        let socket = Socket::new(stream, peer, Arc::clone(&exchange), Turns::default()).unwrap();
        let minute = Duration::from_secs(60);
        let mut client = ClientStream::new(
            Transport::Plain(socket),
            exchange,
            Instant::now() + minute,
            minute,
        );
        let (wakings, waker) = Wakings::new();

        let came = poll_came(
            &mut Context::from_waker(&waker),
            &mut client,
            &|_| None::<()>,
        );
        assert!(came.is_pending());
        assert_eq!(wakings.count(), 1);
    }

    proptest! {
        #[test]
        fn a_header_ends_where_a_parser_says_in_whatever_pieces_it_comes(
            lines in proptest::collection::vec("[a-z]{1,8}: [a-z]{0,8}", 0..6),
            ends in proptest::collection::vec(any::<bool>(), 8),
            further in "[a-z\r\n]{0,12}",
            known in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            let lines = std::iter::once("GET / HTTP/1.1").chain(lines.iter().map(String::as_str)).chain([""]);
            for (line, is_long) in lines.zip(ends) {
                bytes.extend_from_slice(line.as_bytes());
                bytes.extend_from_slice(if is_long { b"\r\n" } else { b"\n" });
            }
            let length = bytes.len();
            bytes.extend_from_slice(further.as_bytes());
            let mut fields = [httparse::EMPTY_HEADER; 8];
            let parsed = httparse::Request::new(&mut fields).parse(&bytes).unwrap();
            prop_assert_eq!(parsed, httparse::Status::Complete(length));
            prop_assert_eq!(end_of_header(&bytes, known.index(length)), Some(length));
            for part in 0..length {
                prop_assert_eq!(end_of_header(&bytes[..part], 0), None);
            }
        }
    }
}
