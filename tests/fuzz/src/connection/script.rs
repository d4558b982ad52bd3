//! What an input says, in words that a person can read and a fuzzer can mix.
//!
//! ```text
//! ann asks 1 2 3                 a batch in the query
//! bob asks-in-body 2 3 +ahead    one in a JSON body; what follows is sent before its answer has come
//! ann gets /path +close          any other read
//! ann posts 300 +chunked         a write, whose body holds a request of somebody else
//! raw GET / HTTP/1.1\r\n\r\n     bytes; {ann} is ann's token
//! vms HTTP/1.1 200 OK\r\n…       what the VMS answers next, in place of the truth; {who} is the token it was asked with
//! vms-closes HTTP/1.1 200 OK…    the same, and it closes the connection
//! ```
//!
//! Further words: `+old` (HTTP/1.0), `+expect`, `+body` (a body that holds a request, with a read), `+no-cache`, `+pieces` (in two
//! writes), `+device:x`, `+cut:20` (no more than so many bytes), `+field:Name=value`. Lines that say nothing are left out.

use std::fmt::Write;

/// The path of batches.
pub(super) const SHOWS: &str = "/api/v1/intercom/shows";

/// The most of an input that is played.
const MAX_LINES: usize = 16;

/// Most bytes of one body.
const MAX_BODY: usize = 4096;

/// What is played.
#[derive(Default)]
pub(super) struct Script {
    pub(super) pieces: Vec<Piece>,
    pub(super) answers: Vec<Told>,
}

/// What a client sends at once.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// Whether the next piece is sent before this one is answered.
    pub(super) is_ahead: bool,
    /// Whether it is sent in two writes.
    pub(super) in_two: bool,
}

/// What the VMS answers.
pub(super) struct Told {
    pub(super) bytes: Vec<u8>,
    pub(super) closes: bool,
}

impl Script {
    /// Reads an input; tokens are those of the play with this number, so that nothing of another is known of them.
    pub(super) fn read(data: &[u8], play: u64) -> Self {
        let mut script = Self::default();
        // A fuzzer tries what it has seen compared: a token in an input is one that nobody was given.
        let text = String::from_utf8_lossy(data).replace("tok", "t-k");
        for line in text.lines().take(MAX_LINES) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match first {
                "raw" => script.pieces.push(Piece {
                    bytes: with_tokens(&unescaped(rest), play),
                    is_ahead: true,
                    in_two: false,
                }),
                "vms" | "vms-closes" => script.answers.push(Told {
                    bytes: unescaped(rest),
                    closes: first == "vms-closes",
                }),
                who => script.pieces.extend(request(who, rest, play)),
            }
        }
        script
    }
}

/// The token of somebody. It has an end, so that it can be told from another that begins alike.
pub(super) fn token(who: &str, play: u64) -> String {
    format!("tok{play}x{who}.")
}

fn request(who: &str, words: &str, play: u64) -> Option<Piece> {
    let is_name = (1..=8).contains(&who.len()) && who.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut words = words.split(' ').filter(|word| !word.is_empty());
    let verb = words.next().filter(|_| is_name)?;
    let (extras, arguments): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('+'));
    let has = |extra: &str| extras.contains(&extra);
    let value = |name: &str| extras.iter().find_map(|extra| extra.strip_prefix(name));
    let ids: Vec<u64> = arguments
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect();
    let (method, target, mut body) = match verb {
        "asks" => {
            let ids: Vec<String> = ids.iter().map(|id| format!("ids%5B%5D={id}")).collect();
            ("GET", format!("{SHOWS}?{}", ids.join("&")), Vec::new())
        }
        "asks-in-body" => (
            "GET",
            SHOWS.to_owned(),
            format!("{{\"ids\":{ids:?}}}").into_bytes(),
        ),
        "gets" => {
            let path = arguments.first().filter(|path| path.starts_with('/'))?;
            ("GET", (*path).to_owned(), Vec::new())
        }
        "heads" => ("HEAD", "/page".to_owned(), Vec::new()),
        "posts" => {
            let length = ids.first().copied().unwrap_or(100);
            let length = usize::try_from(length).ok()?.min(MAX_BODY);
            let body = hidden(play).into_bytes();
            (
                "POST",
                "/write".to_owned(),
                body.into_iter().cycle().take(length).collect(),
            )
        }
        _ => return None,
    };
    if has("+body") && body.is_empty() {
        body = hidden(play).into_bytes();
    }
    let version = if has("+old") { "1.0" } else { "1.1" };
    let mut head = format!("{method} {target} HTTP/{version}\r\nHost: vms.local\r\n");
    let device = value("+device:").unwrap_or("phone");
    let mut add = |name: &str, value: &str| {
        write!(head, "{name}: {value}\r\n").expect("writing to a String cannot fail");
    };
    add("Authorization", &format!("Bearer {}", token(who, play)));
    add("X-Client", "ios");
    add("X-UUID", device);
    let optional = [
        ("+close", "Connection", "close"),
        ("+expect", "Expect", "100-continue"),
        ("+no-cache", "Cache-Control", "no-cache"),
        ("+old", "Connection", "keep-alive"),
    ];
    for (_, name, value) in optional.into_iter().filter(|(extra, ..)| has(extra)) {
        add(name, value);
    }
    if let Some((name, value)) = value("+field:").and_then(|field| field.split_once('=')) {
        add(name, value);
    }
    if !body.is_empty() {
        add("Content-Type", "application/json");
        if has("+chunked") {
            add("Transfer-Encoding", "chunked");
        } else {
            add("Content-Length", &body.len().to_string());
        }
    }
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(b"\r\n");
    match has("+chunked") && !body.is_empty() {
        true => {
            for chunk in body.chunks(97) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        false => bytes.extend_from_slice(&body),
    }
    if let Some(length) = value("+cut:").and_then(|length| length.parse().ok()) {
        bytes.truncate(length);
    }
    Some(Piece {
        bytes,
        is_ahead: has("+ahead"),
        in_two: has("+pieces"),
    })
}

/// A request that stands in a body, and must never be one.
fn hidden(play: u64) -> String {
    let token = token("mallory", play);
    format!(
        "GET /hidden HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer {token}\r\nX-Client: ios\r\nX-UUID: phone\r\n\r\n"
    )
}

/// With `{name}` replaced by that user's token.
fn with_tokens(bytes: &[u8], play: u64) -> Vec<u8> {
    let mut written = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        let end = tail.iter().position(|byte| !byte.is_ascii_lowercase());
        match end.filter(|end| byte == b'{' && (1..=8).contains(end) && tail[*end] == b'}') {
            Some(end) => {
                let who = String::from_utf8_lossy(&tail[..end]);
                written.extend_from_slice(token(&who, play).as_bytes());
                rest = &tail[end + 1..];
            }
            None => {
                written.push(byte);
                rest = tail;
            }
        }
    }
    written
}

/// With `\r`, `\n`, `\t`, `\\` and `\x00` as the bytes that they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, taken) = match (byte, tail.first()) {
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'x')) => {
                let digits = tail
                    .get(1..3)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => (byte, 4),
                    None => (byte, 1),
                }
            }
            _ => (byte, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}
