//! A whole connection: what clients send through the edge, and what a VMS answers, over real sockets.
//!
//! Input: a script of requests and answers (see [`script`]). The edge is the whole one, in this process, with one thread; the
//! VMS and the client are plain sockets, with a strict reader of HTTP/1.1 of their own ([`reading`]).
//!
//! What is held against each other: as many answers as requests, each of which one can be told from the next; nothing reaches
//! the VMS that was not a request of the client, least of all what stood in a body; and no answer speaks of anybody but the
//! one who asked. Each play has tokens of its own, so that it begins with nothing stored.

mod reading;
mod script;
mod vms;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use vms_edge::app::{Edge, Given, Running};
use vms_edge::cache::clock::Clock;
use vms_edge::config::Config;

use self::reading::{Answer, Asked, End, Sent, requests};
use self::script::{SHOWS, Script};
use self::vms::Vms;

/// How long a client waits for something to happen. It only ends what has gone wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest of all that a client sends, so that it need not read while it writes.
const MAX_SENT_BYTES: usize = 32 << 10;

/// Runs one input.
///
/// # Panics
///
/// If any of the above does not hold, or the edge panics.
pub fn connection(data: &[u8]) {
    static PLAYS: AtomicU64 = AtomicU64::new(1);
    // The replay may have others at the same time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());

    let stage = &*STAGE;
    let play = PLAYS.fetch_add(1, Ordering::Relaxed);
    let script = Script::read(data, play);
    stage.vms.begin(play, script.answers);
    let mut client = Client::connect(stage.address);
    for piece in script.pieces {
        if client.sent.len() + piece.bytes.len() > MAX_SENT_BYTES || client.is_closed {
            break;
        }
        client.send(&piece.bytes, piece.in_two);
        if !piece.is_ahead {
            client.receive();
        }
    }
    client.receive();
    client.leave();

    let sent = requests(&client.sent);
    let played = stage.vms.end();
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "the edge panicked");
    assert!(played.faults.is_empty(), "{:#?}", played.faults);
    are_as_many_as_asked(&client, &sent, played.was_odd);
    for (number, answer) in client.answers.iter().enumerate() {
        let asked = sent.whole.get(number).or(sent.partial.as_ref());
        is_for_whoever_asked(answer, asked);
        if let Some(asked) = asked.filter(|_| !played.was_odd) {
            is_the_truth(answer, asked);
        }
    }
    for asked in &played.asked {
        was_asked(asked, &sent, play);
    }
}

/// What stays from one play to the next.
struct Stage {
    vms: Vms,
    address: SocketAddr,
    _edge: Running,
}

/// Panics of the edge's own threads. Tasks that panic are no end of a process by themselves.
static PANICS: AtomicUsize = AtomicUsize::new(0);

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        if name.starts_with("vms-edge") {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(panic);
    }));
    let vms = Vms::start();
    // The order is known from the beginning, and a VMS that fails is asked again, so that no play depends on another.
    let text = format!(
        "server.listen = [\"127.0.0.1:0\"]\nserver.threads = 1\nadmin.listen = \"127.0.0.1:0\"\n\
         upstream.servers = [\"{}\"]\nupstream.breaker.failures = 0\n[[batch]]\npath = \"{SHOWS}\"\norder = \"id\"\n",
        vms.address
    );
    let config = Config::parse(&text, "fuzz").expect("it is a good configuration");
    let given = Given {
        clock: Clock::manual().0,
        ..Given::default()
    };
    let edge = Edge::bind(config, given).and_then(Edge::start);
    let edge = edge.unwrap_or_else(|error| panic!("{error}"));
    Stage {
        vms,
        address: edge.addresses()[0],
        _edge: edge,
    }
});

/// Whoever is at the other end of the edge.
struct Client {
    stream: TcpStream,
    sent: Vec<u8>,
    received: Vec<u8>,
    answers: Vec<Answer>,
    is_closed: bool,
    /// Why, if it was not the edge's wish.
    fault: Option<io::Error>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket has options");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket has options");
        Self {
            stream,
            sent: Vec::new(),
            received: Vec::new(),
            answers: Vec::new(),
            is_closed: false,
            fault: None,
        }
    }

    fn send(&mut self, bytes: &[u8], in_two: bool) {
        let (first, second) = bytes.split_at(if in_two { bytes.len() / 2 } else { 0 });
        for part in [first, second] {
            // An edge that has closed the connection says why in its answers.
            if !part.is_empty() && self.stream.write_all(part).is_err() {
                break;
            }
        }
        self.sent.extend_from_slice(bytes);
    }

    /// Receives an answer to each request that was sent as a whole.
    fn receive(&mut self) {
        let wanted = requests(&self.sent).whole.len();
        while self.answers.len() < wanted && !self.is_closed {
            self.receive_more();
        }
    }

    /// Has nothing more to say, and receives what comes still.
    fn leave(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while !self.is_closed {
            self.receive_more();
        }
    }

    fn receive_more(&mut self) {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            // The fuzzer's own timer.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_patience_over(&error) => panic!("nothing comes: {self:?}"),
            Err(error) => {
                self.is_closed = true;
                self.fault = Some(error);
            }
        }
        while !self.received.is_empty() {
            let asked = requests(&self.sent).whole;
            let method = asked
                .get(self.answers.len())
                .map_or("GET", |asked| &asked.method);
            match reading::answer(&self.received, method, self.is_closed) {
                Ok(Some((answer, length))) => {
                    self.received.drain(..length);
                    self.answers.push(answer);
                }
                Ok(None) => return,
                Err(fault) => panic!("{fault}: {self:?}"),
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            sent,
            received,
            answers,
            fault,
            ..
        } = self;
        let (sent, received) = (sent.escape_ascii(), received.escape_ascii());
        write!(
            f,
            "sent {sent}\nanswered {answers:#?}\nthen {received}\n{fault:?}"
        )
    }
}

fn is_patience_over(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// One answer to each request, until the connection is closed for a reason that was said, or that the VMS gave.
fn are_as_many_as_asked(client: &Client, sent: &Sent, was_odd: bool) {
    let (answers, asked) = (client.answers.len(), sent.whole.len());
    if let Some(further) = client.answers.get(asked) {
        assert_ne!(
            sent.end,
            End::Clean,
            "more answers than requests: {client:?}"
        );
        assert!(
            further.status >= 400,
            "what is unclear was answered: {client:?}"
        );
    }
    assert!(
        answers <= asked + 1,
        "more answers than requests: {client:?}"
    );
    let Some(last) = client.answers.last() else {
        let is_hopeless = asked == 0 || was_odd;
        assert!(is_hopeless, "nothing was answered: {client:?}");
        return;
    };
    for answer in &client.answers[..answers - 1] {
        assert!(
            answer.is_whole && !answer.closes,
            "more after the end: {client:?}"
        );
    }
    assert!(
        last.is_whole || was_odd || sent.end != End::Clean,
        "cut: {client:?}"
    );
    if answers < asked {
        let may_close = sent.whole[answers - 1].may_close || was_odd;
        assert!(
            last.closes || may_close,
            "closed without a word: {client:?}"
        );
    }
}

/// All tokens in an answer are in the request that it answers.
fn is_for_whoever_asked(answer: &Answer, asked: Option<&Asked>) {
    let head = asked.map_or(String::new(), |asked| {
        String::from_utf8_lossy(&asked.head).to_ascii_lowercase()
    });
    for (at, _) in answer.text.match_indices("tok") {
        let (token, _) = answer.text[at..].split_once('.').unwrap_or_default();
        let is_token = token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_his = head.contains(&format!("{token}."));
        assert!(
            !is_token || is_his,
            "{token} in the answer to {head}: {answer:?}"
        );
    }
}

/// A batch is answered with all that was asked for and is somebody's.
fn is_the_truth(answer: &Answer, asked: &Asked) {
    let Some((_, query)) = asked.target.split_once('?') else {
        return;
    };
    if answer.status != 200
        || asked.path() != SHOWS
        || asked.method != "GET"
        || !asked.body.is_empty()
    {
        return;
    }
    let ids = query
        .split('&')
        .map(|parameter| parameter.strip_prefix("ids%5B%5D="));
    let ids: Option<Vec<u64>> = ids.map(|id| id?.parse().ok()).collect();
    let (Some(mut ids), Some((_, body))) = (ids, answer.text.split_once("\r\n\r\n")) else {
        return;
    };
    ids.sort_unstable();
    ids.dedup();
    let token = asked.values("authorization").concat();
    let token = token.strip_prefix("bearer ").unwrap_or_default();
    let device = asked.values("x-uuid").concat();
    let items = ids.iter().filter(|id| !id.is_multiple_of(7));
    let item = |id: &u64| format!("{{\"id\":{id},\"for\":\"{token} {device}\"}}");
    let expected = format!("[{}]", items.map(item).collect::<Vec<_>>().join(","));
    if answer.text.to_ascii_lowercase().contains("content-length") {
        assert_eq!(body, expected, "{}", asked.head.escape_ascii());
    }
}

/// What reached the VMS is what a client asked for: as it came, or as a fetch of the edge's own for it.
fn was_asked(reached: &Asked, sent: &Sent, play: u64) {
    let tokens = reached.values("authorization");
    let mut asked = sent.whole.iter().chain(&sent.partial);
    // A fetch may outlive the play that it was for.
    if !tokens
        .iter()
        .any(|token| token.contains(&format!("tok{play}x")))
    {
        let is_hidden = |asked: &Asked| asked.path() == "/hidden";
        assert!(
            !is_hidden(reached) || asked.any(is_hidden),
            "a body became a request"
        );
        return;
    }
    let is_it = |asked: &Asked| {
        let is_same = asked.target == reached.target && asked.method == reached.method;
        let is_fetch = asked.path() == SHOWS && reached.path() == SHOWS && reached.method == "GET";
        (is_same || is_fetch) && asked.values("authorization") == tokens
    };
    assert!(
        asked.any(is_it),
        "nobody asked for {}",
        reached.head.escape_ascii()
    );
}
