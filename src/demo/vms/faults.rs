//! Faults: the ways in which a batch may be answered wrongly, late or not at all.
//!
//! Scheduled faults are used up in the order in which they were scheduled; one that applies always stays until all are
//! cleared, and hides those behind it.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::body::{self, Body};
use super::health::Health;

/// An id that no user owns and that [`Fault::Unasked`] adds.
pub const UNASKED_ID: u64 = 2_000_000;

/// What goes wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with the body that Laravel would send.
    Status(u16),
    /// Never answers.
    Hang,
    /// Closes the connection without a byte.
    CloseBeforeAnswer,
    /// Announces more than it sends, then closes.
    CutBody,
    /// Half of the JSON in a whole frame.
    CutJson,
    /// 200 with a page of HTML.
    Html,
    /// The right answer with `Cache-Control: no-store`.
    NoStore,
    /// One more object, with [`UNASKED_ID`].
    Unasked,
    /// The first object twice.
    Twice,
    /// Each object's id as text.
    IdsAsStrings,
    /// The array in an object: `{"data":[…]}`.
    NotAnArray,
    /// 204.
    NoContent,
    /// 304.
    NotModified,
    /// The right answer, compressed although nobody asked for that.
    Gzipped,
    /// A body that never ends.
    Endless,
    /// The right answer, one byte at a time.
    Drip(Pace),
    /// The right answer with `Vary` naming this.
    VaryOn(String),
    /// 302 to the login page.
    Redirect,
}

/// When [`Fault::Drip`] lets the next byte go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Whenever so much time has passed.
    Every(Duration),
    /// At each call of `StandIn::step`.
    Step,
}

/// How often a fault applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To one batch.
    Once,
    /// To so many batches.
    Next(usize),
    /// To every batch until the faults are cleared.
    Always,
}

/// What comes of an answer once a fault has been at it.
pub(crate) enum Reply {
    /// To be sent like any other.
    Answer(Answer),
    /// To be sent with a body of its own.
    Response(Response<Body>),
    Close,
    Hang,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// With how often each still applies; `None` is always.
    scheduled: Mutex<VecDeque<(Fault, Option<usize>)>>,
}

impl Faults {
    pub(crate) fn schedule(&self, fault: Fault, times: Times) {
        let left = match times {
            Times::Once => Some(1),
            Times::Next(0) => return,
            Times::Next(count) => Some(count),
            Times::Always => None,
        };
        self.lock().push_back((fault, left));
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// The fault of the next batch.
    pub(crate) fn take(&self) -> Option<Fault> {
        let mut scheduled = self.lock();
        let (fault, left) = scheduled.front_mut()?;
        let fault = fault.clone();
        match left {
            None => {}
            Some(1) => {
                scheduled.pop_front();
            }
            Some(left) => *left -= 1,
        }
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Fault, Option<usize>)>> {
        self.scheduled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does to an answer what the fault says.
pub(crate) fn apply(
    fault: &Fault,
    mut answer: Answer,
    health: &Arc<Health>,
    steps: &Arc<Semaphore>,
) -> Reply {
    let body = answer.body.clone();
    match fault {
        Fault::Hang => return Reply::Hang,
        Fault::CloseBeforeAnswer => return Reply::Close,
        Fault::CutBody => {
            let length = HeaderValue::from(body.len() + 1);
            answer.put(header::CONTENT_LENGTH, length);
            let half = body.slice(..body.len() / 2);
            return with_body(answer, body::cut(half));
        }
        Fault::Endless => return with_body(answer, body::endless(health)),
        Fault::Drip(Pace::Every(period)) => {
            return with_body(answer, body::drip(health, body, *period));
        }
        Fault::Drip(Pace::Step) => {
            let steps = Arc::clone(steps);
            let bytes = (0..body.len()).map(move |at| body.slice(at..=at));
            return with_body(answer, body::stepwise(health, steps, bytes));
        }
        Fault::Status(status) => answer = refusal(*status),
        Fault::Html => {
            let page = "<!DOCTYPE html><html><body>Be right back.</body></html>";
            answer = Answer::new(StatusCode::OK, "text/html; charset=UTF-8", page);
        }
        Fault::NoContent => answer = Answer::bare(StatusCode::NO_CONTENT),
        Fault::NotModified => answer = Answer::bare(StatusCode::NOT_MODIFIED),
        Fault::Redirect => {
            answer = Answer::new(StatusCode::FOUND, "text/html; charset=UTF-8", "");
            answer.put(header::LOCATION, HeaderValue::from_static("/login"));
        }
        Fault::NoStore => answer.put(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store, private"),
        ),
        Fault::VaryOn(name) => answer.put_text(header::VARY, name),
        Fault::CutJson => answer.body = body.slice(..body.len() / 2),
        Fault::Gzipped => {
            answer.put(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer.body = gzip(&body);
        }
        Fault::NotAnArray => {
            answer.body = [&b"{\"data\":"[..], &body, b"}"].concat().into();
        }
        Fault::Unasked => rearrange(&mut answer, |objects| {
            objects.push(format!(r#"{{"id":{UNASKED_ID},"title":"Unasked"}}"#));
        }),
        Fault::Twice => rearrange(&mut answer, |objects| {
            objects.extend(objects.first().cloned());
        }),
        Fault::IdsAsStrings => rearrange(&mut answer, |objects| {
            objects.iter_mut().for_each(quote_id);
        }),
    }
    Reply::Answer(answer)
}

fn with_body(answer: Answer, body: Body) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Reply::Response(response)
}

/// What Laravel's exception handler sends with a status.
fn refusal(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = |mut answer: Answer, seconds| {
        answer.put(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        answer
    };
    match status.as_u16() {
        204 | 304 => Answer::bare(status),
        401 => Answer::unauthenticated(),
        403 => Answer::exception(status, "This action is unauthorized."),
        404 => Answer::not_found(),
        419 => Answer::exception(status, "CSRF token mismatch."),
        429 => {
            let mut answer = retry_after(Answer::exception(status, "Too Many Attempts."), "7");
            let left = HeaderName::from_static("x-ratelimit-remaining");
            answer.put(left, HeaderValue::from_static("0"));
            answer
        }
        500 => Answer::exception(status, "Server Error"),
        503 => retry_after(Answer::exception(status, "Service Unavailable"), "60"),
        _ => Answer::exception(status, status.canonical_reason().unwrap_or_default()),
    }
}

/// Changes an array's objects; an answer that is no array stays as it is.
fn rearrange(answer: &mut Answer, change: impl FnOnce(&mut Vec<String>)) {
    let Ok(objects) = serde_json::from_slice::<Vec<&RawValue>>(&answer.body) else {
        return;
    };
    let mut objects: Vec<String> = objects.iter().map(|raw| raw.get().to_owned()).collect();
    change(&mut objects);
    answer.body = format!("[{}]", objects.join(",")).into();
}

fn quote_id(object: &mut String) {
    let id_first = object.strip_prefix(r#"{"id":"#);
    if let Some((id, rest)) = id_first.and_then(|object| object.split_once(',')) {
        *object = format!(r#"{{"id":"{id}",{rest}"#);
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("a vector takes every write").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_used_up_in_their_order() {
        let faults = Faults::default();
        faults.schedule(Fault::Html, Times::Once);
        faults.schedule(Fault::Redirect, Times::Next(0));
        faults.schedule(Fault::Twice, Times::Next(2));
        faults.schedule(Fault::Hang, Times::Always);
        faults.schedule(Fault::NoStore, Times::Once);
        let taken: Vec<_> = std::iter::from_fn(|| faults.take()).take(5).collect();
        let hang = Fault::Hang;
        assert_eq!(
            taken,
            [Fault::Html, Fault::Twice, Fault::Twice, hang.clone(), hang]
        );
        faults.clear();
        assert_eq!(faults.take(), None);
    }
}
