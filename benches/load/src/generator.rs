//! The load generator: requests in closed or open loop, over connections of its own.
//!
//! It is lean, so that one core of it keeps one core of a server busy: requests are bytes that are made in a buffer, answers
//! are read where they lie, and nothing is allocated for either. Every answer is looked at, and in a share of them
//! everything.
//!
//! In an open loop requests are due at times that do not depend on answers, and latency counts from when a request was
//! due: if the server is slow, or all connections are busy, those who wait for it are counted as having waited. Whoever
//! comes after a stall waits too, and leaving him out is known as coordinated omission. When the time is up nothing more is
//! sent; who was due by then and still waited to be sent counts with the time that he had waited, which is less than he would
//! have in the end.

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

/// What the timer of the runtime cannot be trusted with: it counts in milliseconds. Who is as late as that is on time.
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
        self.run_until(std::future::pending(), script, watch).await
    }

    /// The same, and nothing is asked any more when `end` comes: what is under way then is given up, and not counted.
    pub(crate) async fn run_until(
        self,
        end: impl Future<Output = ()>,
        script: impl Script,
        watch: impl Fn(&Tally),
    ) -> Tally {
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
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
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

    /// The next request, when it is due; `None`: there are no more, or the time is up.
    async fn next(&self, request: &mut Vec<u8>) -> Option<Asked> {
        request.clear();
        if self.load.pace == Pace::Closed {
            return match self.is_over() {
                true => None,
                false => lock(&self.script).next(request),
            };
        }
        let _turn = self.turn.lock().await;
        loop {
            let asked = lock(&self.script).next(request)?;
            let is_after = |lasting| asked.due >= lasting;
            if self.load.lasting.is_some_and(is_after) {
                return None;
            }
            self.load.pace.wait_until(self.began + asked.due).await;
            let waited = self.began.elapsed().saturating_sub(asked.due);
            if !self.is_over() || waited <= TIMER {
                return Some(asked);
            }
            lock(&self.tally).leaves_unsent(waited);
            request.clear();
        }
    }

    /// Whether the time is up.
    fn is_over(&self) -> bool {
        let is_over = |lasting| self.began.elapsed() >= lasting;
        self.load.lasting.is_some_and(is_over)
    }
}

impl Pace {
    async fn wait_until(self, due: Instant) {
        // A timer would round what is due now up to the next millisecond.
        if due <= Instant::now() {
            return;
        }
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
    use tokio::sync::{mpsc, watch};

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

    /// A server of requests of one byte, which answers none of them until it is let.
    struct Stalled {
        to: Destination,
        heard: mpsc::UnboundedReceiver<()>,
        goes_on: watch::Sender<bool>,
    }

    impl Stalled {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = Destination::plain(listener.local_addr().unwrap());
            let (hears, heard) = mpsc::unbounded_channel();
            let (goes_on, mut may_go_on) = watch::channel(false);
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                while stream.read_u8().await.is_ok() {
                    hears.send(()).unwrap();
                    may_go_on.wait_for(|may| *may).await.unwrap();
                    stream.write_all(ANSWER).await.unwrap();
                }
            });
            Self { to, heard, goes_on }
        }

        /// What becomes of a load on it that stalls for so long from the first request on.
        async fn stalls_for(mut self, stall: Duration, load: Load, script: Bytes) -> Tally {
            let run = tokio::spawn(load.run(script));
            self.heard.recv().await.unwrap();
            tokio::time::advance(stall).await;
            self.goes_on.send(true).unwrap();
            run.await.unwrap()
        }
    }

    /// Stops the clock, which then moves only where a test has it move.
    ///
    /// A runtime that has nothing to do moves a stopped clock on to its next timer, although something may come over the
    /// network before; it does not while something runs on a thread that may block.
    async fn with_a_still_clock<T>(test: impl Future<Output = T>) -> T {
        tokio::time::pause();
        let (done, until_done) = std::sync::mpsc::channel::<()>();
        let blocking = tokio::task::spawn_blocking(move || until_done.recv());
        let tested = test.await;
        drop(done);
        let _it_ends_without_a_word = blocking.await.unwrap();
        tested
    }

    fn load(to: &Destination, pace: Pace) -> Load {
        Load {
            to: to.clone(),
            connections: 1,
            pace,
            lasting: None,
        }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Latencies of requests, the shortest first.
    #[track_caller]
    fn assert_latencies(tally: &Tally, expected_ms: &[f64]) {
        let mut latencies_ms = Vec::new();
        for value in tally.latency.iter_recorded() {
            for _ in 0..value.count_at_value() {
                latencies_ms.push(tally::microseconds(value.value_iterated_to()) / 1e3);
            }
        }
        let is_near = |(one, other): (&f64, &f64)| (one - other).abs() < 0.1;
        let are_near = latencies_ms.iter().zip(expected_ms).all(is_near);
        assert!(
            are_near && latencies_ms.len() == expected_ms.len(),
            "{latencies_ms:?}"
        );
    }

    #[tokio::test]
    async fn in_an_open_loop_those_who_come_during_a_stall_have_waited_for_its_end() {
        with_a_still_clock(async {
            for pace in [Pace::Open, Pace::OpenExact] {
                let server = Stalled::start().await;
                let load = load(&server.to, pace);
                let script = Bytes(vec![0, 20, 40].into_iter());
                let tally = server.stalls_for(ms(80), load, script).await;
                assert_eq!((tally.answered, tally.failed(), tally.unsent), (3, 0, 0));
                assert_latencies(&tally, &[40.0, 60.0, 80.0]);
                let late_ms = tally::microseconds(tally.lateness.max()) / 1e3;
                assert!((late_ms - 60.0).abs() < 0.1, "{late_ms} ms late");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn those_who_still_wait_when_the_time_is_up_have_waited_until_then() {
        with_a_still_clock(async {
            for pace in [Pace::Open, Pace::OpenExact] {
                let server = Stalled::start().await;
                let load = Load {
                    lasting: Some(ms(50)),
                    ..load(&server.to, pace)
                };
                // The last one is due when nothing is asked any more.
                let script = Bytes(vec![0, 20, 40, 50].into_iter());
                let tally = server.stalls_for(ms(80), load, script).await;
                assert_eq!((tally.answered, tally.failed(), tally.unsent), (1, 0, 2));
                assert_latencies(&tally, &[40.0, 60.0, 80.0]);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn who_is_due_just_before_the_time_is_up_is_sent_although_the_timer_is_late() {
        with_a_still_clock(async {
            let mut server = Stalled::start().await;
            let load = Load {
                lasting: Some(ms(50)),
                ..load(&server.to, Pace::Open)
            };
            let run = tokio::spawn(load.run(Bytes(vec![49].into_iter())));
            tokio::task::yield_now().await;
            tokio::time::advance(ms(51)).await;
            server.heard.recv().await.unwrap();
            server.goes_on.send(true).unwrap();
            let tally = run.await.unwrap();
            assert_eq!((tally.answered, tally.unsent), (1, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn in_a_closed_loop_latency_counts_from_when_a_request_was_sent() {
        with_a_still_clock(async {
            let server = Stalled::start().await;
            let load = load(&server.to, Pace::Closed);
            let script = Bytes(vec![0; 3].into_iter());
            let tally = server.stalls_for(ms(50), load, script).await;
            assert_eq!(tally.answered, 3);
            assert_eq!(tally.lateness.max(), 0);
            assert!((tally.percentile_us(1.0) - 50_000.0).abs() < 100.0);
            assert!(tally.percentile_us(0.6) < 100.0);
        })
        .await;
    }

    #[tokio::test]
    async fn a_run_that_is_ended_tells_of_what_was_answered_by_then() {
        let mut server = Stalled::start().await;
        server.goes_on.send(true).unwrap();
        let script = Bytes(vec![0, 0, 3_600_000].into_iter());
        let twice = async {
            server.heard.recv().await.unwrap();
            server.heard.recv().await.unwrap();
        };
        let load = load(&server.to, Pace::Open);
        let tally = load.run_until(twice, script, |_| ()).await;
        assert!((1..=2).contains(&tally.answered), "{}", tally.answered);
    }

    #[tokio::test]
    async fn who_cannot_be_reached_is_a_failure_of_each_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = Destination::plain(listener.local_addr().unwrap());
        drop(listener);
        let script = Bytes(vec![0; 3].into_iter());
        let tally = load(&nobody, Pace::Closed).run(script).await;
        assert_eq!((tally.answered, tally.failures["connection"]), (0, 3));
        assert!(tally.first_failure.unwrap().starts_with("cannot connect"));
    }
}
