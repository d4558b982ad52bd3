//! The VMS behind the edge: it answers everybody with what is theirs, unless it is told otherwise, and notes what it was asked.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use super::reading::{self, Asked, Step};
use super::script::{SHOWS, Told};

/// Ids that nobody has are divisible by this.
const NOBODYS: u64 = 7;

/// A VMS, for as long as the process lives.
pub(super) struct Vms {
    pub(super) address: SocketAddr,
    play: Arc<Mutex<Play>>,
}

/// What there is of one play.
#[derive(Default)]
pub(super) struct Play {
    number: u64,
    answers: VecDeque<Told>,
    /// What came, whole or in part.
    pub(super) asked: Vec<Asked>,
    /// Whether any answer was not the truth.
    pub(super) was_odd: bool,
    /// What the edge did wrong.
    pub(super) faults: Vec<String>,
}

impl Vms {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let play = Arc::new(Mutex::new(Play::default()));
        let shared = Arc::clone(&play);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let play = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &play));
            }
        });
        Self { address, play }
    }

    /// Begins a play, with these answers.
    pub(super) fn begin(&self, number: u64, answers: Vec<Told>) {
        *locked(&self.play) = Play {
            number,
            answers: answers.into(),
            ..Play::default()
        };
    }

    /// Ends it.
    pub(super) fn end(&self) -> Play {
        std::mem::take(&mut locked(&self.play))
    }
}

fn locked(play: &Mutex<Play>) -> MutexGuard<'_, Play> {
    play.lock().expect("nobody panics while holding it")
}

fn serve(mut stream: TcpStream, play: &Mutex<Play>) {
    let _ = stream.set_nodelay(true);
    let mut received = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let partial = match reading::request(&received) {
            Step::Whole(asked, length) => {
                received.drain(..length);
                if !answer(&mut stream, asked, play) {
                    return;
                }
                continue;
            }
            Step::Unclear(_) => {
                let fault = format!(
                    "the VMS got what is no request: {}",
                    received.escape_ascii()
                );
                locked(play).faults.push(fault);
                return;
            }
            Step::Cut(partial) => partial,
            Step::Nothing => None,
        };
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => {
                let mut play = locked(play);
                play.asked.extend(partial);
                return;
            }
        }
    }
}

/// Answers a request; false if the connection is not to be used any more.
fn answer(stream: &mut TcpStream, asked: Asked, play: &Mutex<Play>) -> bool {
    let token = asked.values("authorization").pop().unwrap_or_default();
    let token = token.strip_prefix("bearer ").unwrap_or("nobody").to_owned();
    let told = {
        let mut play = locked(play);
        // A fetch may outlive its play.
        let is_of_this_play = token.starts_with(&format!("tok{}x", play.number));
        let told = match is_of_this_play {
            true => play.answers.pop_front(),
            false => None,
        };
        play.was_odd |= told.is_some();
        play.asked.push(asked.clone());
        told
    };
    let Some(Told { bytes, closes }) = told else {
        return stream.write_all(truth(&asked, &token).as_bytes()).is_ok();
    };
    let bytes = String::from_utf8_lossy(&bytes).replace("{who}", &token);
    // It is told to hang, or to change the protocol: it does neither.
    let is_whole = reading::answer(bytes.as_bytes(), &asked.method, false);
    let is_whole = matches!(is_whole, Ok(Some((answer, _))) if answer.status != 101);
    stream.write_all(bytes.as_bytes()).is_ok() && is_whole && !closes
}

/// What is true for whoever has this token.
fn truth(asked: &Asked, token: &str) -> String {
    let device = asked.values("x-uuid").concat();
    let body = match asked.path() == SHOWS && asked.method == "GET" {
        true => {
            let mut ids = ids(asked);
            ids.sort_unstable();
            ids.dedup();
            let items = ids.iter().filter(|id| !id.is_multiple_of(NOBODYS));
            let item = |id: &u64| format!("{{\"id\":{id},\"for\":\"{token} {device}\"}}");
            format!("[{}]", items.map(item).collect::<Vec<_>>().join(","))
        }
        false => format!("\"for {token} {device}\""),
    };
    let length = body.len();
    let body = if asked.method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The ids that a batch asks for: every number that stands alone.
fn ids(asked: &Asked) -> Vec<u64> {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let query = asked.target.split_once('?').map_or("", |(_, query)| query);
    let (text, separators): (&str, &[char]) = match body.is_empty() {
        true => (query, &['=', '&']),
        false => (&body, &['[', ']', ',', ' ', '"']),
    };
    text.split(separators)
        .filter_map(|word| word.parse().ok())
        .collect()
}
