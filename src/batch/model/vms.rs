//! The VMS of the model: it answers when, and how, the schedule says.
//!
//! A fetch arrives, is processed at a later moment, and its answer is delivered at another: what lies between is where
//! marks and fetches race.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderName;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::oneshot;

use super::history::{Asker, History, Moment};
use super::phones::LANGUAGE;
use crate::cache::clock::Clock;
use crate::origin::fetch::{Answer, Course, FetchError, Origin};
use crate::request;

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

/// The header in which the VMS names whom it answers, whatever it says.
pub(super) const SHOWN_TO: HeaderName = HeaderName::from_static("x-shown-to");

/// A fetch on its way.
pub(super) struct Pending {
    pub(super) asker: Asker,
    pub(super) ids: Vec<u64>,
    pub(super) started: Moment,
    no_cache: bool,
    processed: Option<(u16, String)>,
    answer: oneshot::Sender<Result<Told, Failure>>,
}

/// Status and body.
type Told = (u16, String);

pub(super) struct Vms {
    pub(super) clock: Clock,
    pub(super) history: Mutex<History>,
    pub(super) pending: Mutex<BTreeMap<u64, Pending>>,
    /// Whether the latest fetch failed.
    pub(super) is_failing: AtomicBool,
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
            twice: Mutex::default(),
        }
    }

    /// Begins another history.
    pub(super) fn begin(&self) {
        *self.history.lock().unwrap() = History::new(self.clock.now());
        self.twice.lock().unwrap().clear();
        self.is_failing.store(false, Ordering::Relaxed);
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
        let asker = fetch.asker;
        fetch.processed = Some(if history.is_good(asker.user) {
            let mut ids = fetch.ids.clone();
            ids.retain(|id| history.owns(asker.user, *id));
            ids.sort_unstable();
            let items: Vec<String> = ids
                .iter()
                .map(|id| {
                    let (number, time) = (at.number, at.time.since(history.start).as_secs());
                    let names = names(asker);
                    format!(r#"{{"id":{id},{names},"number":{number},"seconds":{time}}}"#)
                })
                .collect();
            (200, format!("[{}]", items.join(",")))
        } else {
            (401, format!("{{{}}}", names(asker)))
        });
    }

    /// Lets the edge have the answer; tells the fetch, and the answer's status.
    pub(super) fn deliver(&self, number: u64) -> (Pending, u16) {
        self.process(number);
        self.is_failing.store(false, Ordering::Relaxed);
        let mut fetch = self.take(number);
        let told = fetch.processed.take().expect("it was processed above");
        let status = told.0;
        let (answer, _) = oneshot::channel();
        let answer = std::mem::replace(&mut fetch.answer, answer);
        // The fill may have ended meanwhile.
        let _ = answer.send(Ok(told));
        (fetch, status)
    }

    pub(super) fn fail(&self, number: u64, failure: Failure) {
        self.is_failing.store(true, Ordering::Relaxed);
        let _ = self.take(number).answer.send(Err(failure));
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
                let mark = history.last_mark(fetch.asker.user, **id, false, fetch.started);
                other.ids.contains(id)
                    && mark.is_none_or(|mark| other.started.time > mark.since.time)
            };
            // Who asks for the newest waits for nobody.
            if !(fetch.no_cache || other.no_cache)
                && other.asker == fetch.asker
                && let Some(id) = fetch.ids.iter().find(is_good)
            {
                self.twice.lock().unwrap().push(format!("id {id}"));
            }
        }
    }
}

/// Members that name whom an object is for.
fn names(asker: Asker) -> String {
    let Asker {
        user,
        device,
        language,
    } = asker;
    format!(r#""user":{user},"device":{device},"language":{language}"#)
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
        _: &Bytes,
        _: &mut Course,
    ) -> Result<Answer, FetchError> {
        let (answer, answered) = oneshot::channel();
        let started = self.moment();
        let field = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        let number_of = |text: String| text[text.len() - 1..].parse().unwrap();
        let query = String::from_utf8(request::query(request).to_vec()).unwrap();
        let id = |parameter: &str| parameter.rsplit('=').next().unwrap().parse().unwrap();
        let asker = Asker {
            user: number_of(field("authorization")),
            device: number_of(field("x-uuid")),
            language: number_of(field("hl")),
        };
        let fetch = Pending {
            asker,
            ids: query.split('&').map(id).collect(),
            started,
            no_cache: request.headers.contains_key("cache-control"),
            processed: None,
            answer,
        };
        self.look_for_twice(&fetch);
        self.pending.lock().unwrap().insert(started.number, fetch);
        let error = |kind| Error::new_up(kind);
        let (status, body) = match answered.await.expect("each fetch is answered") {
            Ok(told) => told,
            Err(Failure::Status(status)) => (status, format!("{{{}}}", names(asker))),
            Err(Failure::Malformed) => (200, "[{\"id\":".to_owned()),
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
        let mut header = ResponseHeader::build(status, None).unwrap();
        header
            .insert_header("Content-Type", "application/json")
            .unwrap();
        header.insert_header("Vary", LANGUAGE.as_str()).unwrap();
        header.insert_header(SHOWN_TO, asker.to_string()).unwrap();
        Ok(Answer {
            header: Box::new(header),
            body: body.into(),
            started: started.time,
        })
    }
}
