//! The VMS of the model: it answers when, and how, the schedule says.
//!
//! A fetch arrives, is processed at a later moment, and its answer is delivered at another: what lies between is where
//! marks and fetches race. Whatever it answers says for whom it is, by all that it saw of the request.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::oneshot;

use super::history::{History, Moment};
use super::phones::{self, Read};
use crate::cache::clock::Clock;
use crate::origin::fetch::{Answer, Course, FetchError, Origin};

/// How long a fetch may take.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a fetch ends that the VMS does not answer as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    TimedOut,
    Reset,
    Status(u16),
    Malformed,
    Panic,
}

/// The zone that what the VMS says is for, while it does not depend on it.
pub(super) const ANY_ZONE: &str = "any";

/// A fetch on its way.
pub(super) struct Pending {
    pub(super) read: Read,
    pub(super) started: Moment,
    processed: Option<Told>,
    answer: oneshot::Sender<Result<Told, Failure>>,
}

/// What the VMS answers.
struct Told {
    status: u16,
    body: String,
    /// Whether it depends on the zone.
    varies: bool,
}

pub(super) struct Vms {
    pub(super) clock: Clock,
    pub(super) history: Mutex<History>,
    pub(super) pending: Mutex<BTreeMap<u64, Pending>>,
    /// Whether the latest fetch failed.
    pub(super) is_failing: AtomicBool,
    /// Whether answers depend on the zone, and say so.
    pub(super) varies: AtomicBool,
    /// Fetches of something that was being fetched already.
    pub(super) twice: Mutex<Vec<String>>,
}

impl Vms {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            history: Mutex::new(History::new(clock.now())),
            clock,
            pending: Mutex::default(),
            is_failing: AtomicBool::default(),
            varies: AtomicBool::default(),
            twice: Mutex::default(),
        }
    }

    /// Begins another history.
    pub(super) fn begin(&self) {
        *self.history.lock().unwrap() = History::new(self.clock.now());
        self.twice.lock().unwrap().clear();
        self.is_failing.store(false, Ordering::Relaxed);
        self.varies.store(false, Ordering::Relaxed);
    }

    pub(super) fn moment(&self) -> Moment {
        self.history.lock().unwrap().now(self.clock.now())
    }

    /// Answers a fetch in the VMS, for a later delivery.
    pub(super) fn process(&self, number: u64) {
        let at = self.moment();
        let history = self.history.lock().unwrap();
        let mut pending = self.pending.lock().unwrap();
        let fetch = pending.get_mut(&number).expect("it was chosen from these");
        if fetch.processed.is_some() {
            return;
        }
        let Read {
            user, seen, zone, ..
        } = &fetch.read;
        let varies = self.varies.load(Ordering::Relaxed);
        let zone = if varies { zone } else { ANY_ZONE };
        let (status, body) = if history.is_good(*user) {
            let mut ids = fetch.read.ids.clone();
            ids.retain(|id| history.owns(*user, *id));
            ids.sort_unstable();
            let (number, time) = (at.number, at.time.since(history.start).as_secs());
            let told =
                format!(r#""seen":{seen:?},"zone":{zone:?},"number":{number},"seconds":{time}}}"#);
            let items = ids.iter().map(|id| format!(r#"{{"id":{id},{told}"#));
            let items: Vec<String> = items.collect();
            (200, format!("[{}]", items.join(",")))
        } else {
            (401, refusal(seen, zone))
        };
        fetch.processed = Some(Told {
            status,
            body,
            varies,
        });
    }

    /// Lets the edge have the answer; tells the fetch, and the answer's status.
    pub(super) fn deliver(&self, number: u64) -> (Pending, u16) {
        self.process(number);
        self.is_failing.store(false, Ordering::Relaxed);
        let mut fetch = self.take(number);
        let told = fetch.processed.take().expect("it was processed above");
        let status = told.status;
        let (answer, _) = oneshot::channel();
        let answer = std::mem::replace(&mut fetch.answer, answer);
        // The fill may have ended meanwhile.
        let _ = answer.send(Ok(told));
        (fetch, status)
    }

    /// Lets a fetch go wrong; tells whose it was.
    pub(super) fn fail(&self, number: u64, failure: Failure) -> Read {
        self.is_failing.store(true, Ordering::Relaxed);
        let fetch = self.take(number);
        let _ = fetch.answer.send(Err(failure));
        fetch.read
    }

    fn take(&self, number: u64) -> Pending {
        let mut pending = self.pending.lock().unwrap();
        pending.remove(&number).expect("it was chosen from these")
    }

    /// Looks whether any of what a fetch asks for is in the air already, and good enough.
    fn look_for_twice(&self, fetch: &Pending) {
        let history = self.history.lock().unwrap();
        for other in self.pending.lock().unwrap().values() {
            let is_good = |id: &&u64| {
                let mark = history.last_mark(fetch.read.user, **id, false, fetch.started);
                other.read.ids.contains(id)
                    && mark.is_none_or(|mark| other.started.time > mark.since.time)
            };
            // Who asks for the newest waits for nobody.
            if !(fetch.read.no_cache || other.read.no_cache)
                && other.read.seen == fetch.read.seen
                && let Some(id) = fetch.read.ids.iter().find(is_good)
            {
                self.twice.lock().unwrap().push(format!("id {id}"));
            }
        }
    }
}

#[async_trait]
impl Origin for Vms {
    async fn patience(&self) {
        if !self.is_failing.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    async fn fetch(
        &self,
        request: &RequestHeader,
        body: &Bytes,
        _: &mut Course,
    ) -> Result<Answer, FetchError> {
        let (answer, answered) = oneshot::channel();
        let started = self.moment();
        let fetch = Pending {
            read: phones::read(request, body),
            started,
            processed: None,
            answer,
        };
        let (seen, zone) = (fetch.read.seen.clone(), fetch.read.zone.clone());
        self.look_for_twice(&fetch);
        self.pending.lock().unwrap().insert(started.number, fetch);
        let error = |kind| Error::new_up(kind);
        let varies = || self.varies.load(Ordering::Relaxed);
        let badly = |status, body| Told {
            status,
            body,
            varies: varies(),
        };
        let refused = |status| {
            let zone = if varies() { &*zone } else { ANY_ZONE };
            badly(status, refusal(&seen, zone))
        };
        let told = match answered.await.expect("each fetch is answered") {
            Ok(told) => told,
            Err(Failure::Status(status)) => refused(status),
            Err(Failure::Malformed) => badly(200, "[{\"id\":".to_owned()),
            Err(Failure::TimedOut) => return Err(FetchError::Timeout(FETCH_TIMEOUT)),
            Err(Failure::Reset) => return Err(FetchError::Broken(error(ErrorType::ReadError))),
            Err(Failure::Refused) => {
                let nobody = "127.0.0.1:9".parse().unwrap();
                return Err(FetchError::Connect(
                    nobody,
                    error(ErrorType::ConnectRefused),
                ));
            }
            // Without the noise of a panic that nobody planned.
            Err(Failure::Panic) => resume_unwind(Box::new("a planned panic")),
        };
        let mut header = ResponseHeader::build(told.status, None).unwrap();
        let mut set = |name, value: &str| header.insert_header(name, value).unwrap();
        set("Content-Type", "application/json");
        set("X-Seen", &seen);
        if told.varies {
            set("Vary", "X-Zone");
        }
        Ok(Answer {
            header: Box::new(header),
            body: told.body.into(),
            started: started.time,
        })
    }
}

/// What is said to one whom the VMS shows nothing.
fn refusal(seen: &str, zone: &str) -> String {
    format!(r#"{{"message":"No.","seen":{seen:?},"zone":{zone:?}}}"#)
}
