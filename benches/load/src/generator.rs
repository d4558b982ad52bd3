//! The load generator: requests in closed or open loop, over connections of its own.
//!
//! It is lean, so that one core of it keeps one core of a server busy: requests are bytes that are made in a buffer, answers
//! are read where they lie, and nothing is allocated for either. Every answer is looked at, and in a share of them
//! everything.
//!
//! In an open loop requests are due at times that do not depend on answers, and latency counts from when a request was
//! due: if the server is slow, or all connections are busy, those who wait for it are counted as having waited. Whoever
//! comes after a stall waits too, and leaving him out is known as coordinated omission.

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod expected;
pub(crate) mod http2;
pub(crate) mod tally;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use self::connection::{Connection, Destination};
use self::expected::Expected;
use self::tally::Tally;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the timer of the runtime cannot be trusted with: it counts in milliseconds.
const TIMER: Duration = Duration::from_millis(3);

/// What is asked, one request after the other.
pub(crate) trait Script: Send + 'static {
    /// Writes the next request to an empty buffer; `None`: there are no more.
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked>;
}

/// A request of a script.
pub(crate) struct Asked {
    /// When it is due, from the beginning of the run; in a closed loop it does not matter.
    pub(crate) due: Duration,
    pub(crate) expected: Expected,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each connection asks as soon as it was answered.
    Closed,
    /// When they are due, to a millisecond.
    Open,
    /// When they are due, to a few microseconds; this keeps the generator's core busy.
    OpenExact,
}

/// A run of the generator.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) to: Destination,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    /// After which nothing more is asked; `None`: until the script ends.
    pub(crate) lasting: Option<Duration>,
}

/// What the connections of a run share.
struct Run<S> {
    load: Load,
    began: Instant,
    script: Mutex<S>,
    /// Whoever has it waits until the next request is due, and the others wait for it.
    turn: tokio::sync::Mutex<()>,
    tally: Mutex<Tally>,
}

impl Load {
    /// Requests in a closed loop, for so long.
    pub(crate) fn closed(to: &Destination, connections: usize, lasting: Duration) -> Self {
        Self {
            to: to.clone(),
            connections,
            pace: Pace::Closed,
            lasting: Some(lasting),
        }
    }

    /// All of a script, as fast as so many connections can.
    pub(crate) fn whole(to: &Destination, connections: usize) -> Self {
        Self {
            to: to.clone(),
            connections,
            pace: Pace::Closed,
            lasting: None,
        }
    }

    /// Asks what `script` says, and tells what became of it.
    pub(crate) async fn run(self, script: impl Script) -> Tally {
        self.run_watched(script, |_| ()).await
    }

    /// The same, and `watch` is called with what was counted so far a few times a second.
    pub(crate) async fn run_watched(self, script: impl Script, watch: impl Fn(&Tally)) -> Tally {
        let run = Arc::new(Run {
            began: Instant::now(),
            script: Mutex::new(script),
            turn: tokio::sync::Mutex::new(()),
            tally: Mutex::default(),
            load: self,
        });
        let mut connections = JoinSet::new();
        for _ in 0..run.load.connections {
            connections.spawn(Arc::clone(&run).connection());
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                joined = connections.join_next() => match joined {
                    None => break,
                    Some(joined) => joined.expect("a connection does not panic"),
                },
                _ = ticks.tick() => watch(&lock(&run.tally)),
            }
        }
        std::mem::take(&mut *lock(&run.tally))
    }
}

impl<S: Script> Run<S> {
    /// Asks and asks, until there is nothing more to ask.
    async fn connection(self: Arc<Self>) {
        let mut connection = Connection::new(self.load.to.clone());
        let mut request = Vec::with_capacity(2048);
        while let Some(asked) = self.next(&mut request).await {
            let sent = Instant::now();
            let due = match self.load.pace {
                Pace::Closed => sent,
                Pace::Open | Pace::OpenExact => self.began + asked.due,
            };
            let answer = timeout(PATIENCE, connection.ask(&request)).await;
            let answered = Instant::now();
            let tally = &mut *lock(&self.tally);
            match answer {
                Err(_) => tally.fails("timeout", || "no answer in 30 seconds".to_owned()),
                Ok(Err(broken)) => tally.fails("connection", || broken.to_string()),
                Ok(Ok(answer)) => {
                    tally.hears(answer.head.status, answer.head.said, answer.body.len());
                    match asked.expected.judge(&answer) {
                        Ok(()) => tally.answers(answered - due, sent - due),
                        Err(wrong) => tally.fails(wrong.kind(), || wrong.to_string()),
                    }
                }
            }
        }
    }

    /// The next request, when it is due.
    async fn next(&self, request: &mut Vec<u8>) -> Option<Asked> {
        let turn = match self.load.pace {
            Pace::Closed => None,
            Pace::Open | Pace::OpenExact => Some(self.turn.lock().await),
        };
        request.clear();
        let is_over = |lasting| self.began.elapsed() >= lasting;
        if self.load.lasting.is_some_and(is_over) {
            return None;
        }
        let asked = lock(&self.script).next(request)?;
        if turn.is_some() {
            if self
                .load
                .lasting
                .is_some_and(|lasting| asked.due >= lasting)
            {
                return None;
            }
            self.load.pace.wait_until(self.began + asked.due).await;
        }
        Some(asked)
    }
}

impl Pace {
    async fn wait_until(self, due: Instant) {
        if self != Self::OpenExact {
            return sleep_until(due).await;
        }
        if let Some(early) = due.checked_sub(TIMER)
            && early > Instant::now()
        {
            sleep_until(early).await;
        }
        while Instant::now() < due {
            // Answers that come meanwhile are received.
            tokio::task::yield_now().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";

    /// Requests of one byte, due at these milliseconds.
    struct Bytes(std::vec::IntoIter<u64>);

    impl Script for Bytes {
        fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
            request.push(b'x');
            Some(Asked {
                due: Duration::from_millis(self.0.next()?),
                expected: Expected::Ids(Arc::new([])),
            })
        }
    }

    /// Answers requests of one byte, the first one of each connection only after `stall`.
    async fn server(stall: Duration) -> Destination {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut stall = Some(stall);
                while stream.read_u8().await.is_ok() {
                    tokio::time::sleep(stall.take().unwrap_or_default()).await;
                    stream.write_all(ANSWER).await.unwrap();
                }
            }
        });
        Destination::plain(address)
    }

    fn load(to: Destination, pace: Pace) -> Load {
        Load {
            to,
            connections: 1,
            pace,
            lasting: None,
        }
    }

    #[tokio::test]
    async fn in_an_open_loop_those_who_come_during_a_stall_have_waited_for_its_end() {
        let stall = Duration::from_millis(80);
        for pace in [Pace::Open, Pace::OpenExact] {
            let script = Bytes(vec![0, 20, 40].into_iter());
            let tally = load(server(stall).await, pace).run(script).await;
            assert_eq!((tally.answered, tally.failed()), (3, 0));
            // Sent one after the other once the stall was over, they were late by what was left of it.
            for (quantile, waited_ms) in [(0.01, 40.0), (0.5, 60.0), (1.0, 80.0)] {
                let latency_ms = tally.percentile_us(quantile) / 1e3;
                assert!(
                    latency_ms >= waited_ms * 0.999,
                    "{quantile}: {latency_ms} ms"
                );
            }
            let late_ms = tally::microseconds(tally.lateness.max()) / 1e3;
            assert!(late_ms >= 59.9, "the second was sent {late_ms} ms late");
        }
    }

    #[tokio::test]
    async fn in_a_closed_loop_latency_counts_from_when_a_request_was_sent() {
        let stall = Duration::from_millis(50);
        let script = Bytes(vec![0; 3].into_iter());
        let tally = load(server(stall).await, Pace::Closed).run(script).await;
        assert_eq!(tally.answered, 3);
        assert_eq!(tally.lateness.max(), 0);
        assert!(tally.percentile_us(1.0) >= 49_900.0);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_a_failure_of_each_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = Destination::plain(listener.local_addr().unwrap());
        drop(listener);
        let script = Bytes(vec![0; 3].into_iter());
        let tally = load(nobody, Pace::Closed).run(script).await;
        assert_eq!((tally.answered, tally.failures["connection"]), (0, 3));
        assert!(tally.first_failure.unwrap().starts_with("cannot connect"));
    }
}
