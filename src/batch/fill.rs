//! A fill: one fetch, and the storing of what it told.
//!
//! Fills run detached from the client that caused them: one that leaves harms no one, and what was asked of the VMS is
//! not asked in vain.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};
use pingora_http::RequestHeader;

use super::waits::Told;
use super::{Asked, BatchEndpoint};
use crate::cache::clock::Clock;
use crate::cache::freshness::{Jitter, Usability};
use crate::cache::header::StoredHeader;
use crate::cache::marks::Marks;
use crate::cache::shelf::{Fetch, FetchKind, Fill};
use crate::cache::store::{Reason, Store};
use crate::config;
use crate::ops::metrics::{FetchOutcome, Label, Metrics};
use crate::ops::spans::{Kind, Span, Spans};
use crate::origin::answer::{self, Unfit};
use crate::origin::collapse::{Flights, Lead};
use crate::origin::fetch::{Answer, Course, FetchError, Origin};
use crate::origin::forward;
use crate::reply::answers::Answers;
use crate::reply::order::Lesson;
use crate::request::BatchRequest;
use crate::request::correlation::Correlation;
use crate::request::key::{Key, KeyMaker, UserId};
use crate::request::peer::Peer;
use crate::request::trace::Place;

/// What every fill works with.
pub struct Filler {
    /// Where items are put.
    pub store: Arc<Store>,
    /// What was invalidated, and when.
    pub marks: Arc<Marks>,
    /// What is being fetched.
    pub flights: Arc<Flights<Landed>>,
    /// Runs fills to their end, whatever becomes of the client that caused them.
    pub detach: Box<dyn Fn(Task) + Send + Sync>,
    /// Whom to ask.
    pub origin: Arc<dyn Origin>,
    /// What time it is.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where a fetch's span is put.
    pub spans: Arc<Spans>,
    /// Tells users by their tokens.
    pub keys: Arc<KeyMaker>,
    /// Answers that were made before.
    pub answers: Arc<Answers>,
    /// In which coding the VMS is asked for answers.
    pub fetch_coding: config::FetchCoding,
    /// In which codings answers may be sent.
    pub compression: config::Compression,
    /// Host to send instead of the client's own.
    pub host: Option<HeaderValue>,
}

/// How long what is stale is left so after it could not be refreshed.
const REST: Duration = Duration::from_secs(1);

/// The same where the VMS asks for longer (`Retry-After`).
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A fill on its way.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all who wait for a fill are told.
pub type Landed = Result<Arc<Filled>, Arc<FetchError>>;

/// A request to the VMS, ready to be sent.
pub struct Question {
    key: Key,
    user: UserId,
    by: FetchKind,
    /// Headers that the key covers; one learnt meanwhile is not among them.
    keyed: Arc<Vec<HeaderName>>,
    request: RequestHeader,
    body: Bytes,
    peer: Peer,
    correlation: Correlation,
    told: Told,
}

/// What came of a fill.
pub struct Filled {
    /// The VMS's answer.
    pub answer: Answer,
    /// What was stored, or why nothing was.
    pub fill: Result<Fill, Unfit>,
    /// Whose token the fetch carried.
    pub user: UserId,
    /// How long the VMS was waited for, the wait for a turn included.
    pub took: Duration,
}

impl Question {
    /// The client's request as it came.
    pub fn whole(asked: &Asked<'_>) -> Self {
        Self {
            key: asked.batch.key,
            user: asked.batch.user,
            by: FetchKind::Whole,
            keyed: Arc::clone(&asked.keyed),
            request: asked.request.clone(),
            body: asked.body.clone(),
            peer: asked.peer,
            correlation: asked.correlation.child(),
            told: Told::default(),
        }
    }

    /// The client's request, but for `ids` only, in the form that the client used.
    ///
    /// `None` where that makes a longer target than HTTP libraries take: brackets are encoded that were plain before.
    pub fn part(
        asked: &Asked<'_>,
        ids: &[u64],
        batch: &config::Batch,
        by: FetchKind,
    ) -> Option<Self> {
        let (query, body) = asked.batch.form.write(ids, batch);
        let mut target = batch.path.clone().into_bytes();
        if !query.is_empty() {
            target.push(b'?');
            target.extend_from_slice(&query);
        }
        let mut question = Self::whole(asked);
        question.by = by;
        question.request.set_raw_path(&target).ok()?;
        question.body = body.into();
        Some(question)
    }

    /// Where it will be told how the fetch went.
    pub(super) fn told(&self) -> Told {
        Arc::clone(&self.told)
    }

    /// The header as it is sent: end-to-end fields, the hop described, in the coding that the edge asks for.
    fn into_request(mut self, filler: &Filler) -> pingora_core::Result<(RequestHeader, Bytes)> {
        let request = &mut self.request;
        request.set_version(Version::HTTP_11);
        forward::drop_hop_by_hop(request);
        forward::describe_hop(request, self.peer, filler.host.as_ref())?;
        self.correlation.stamp(request)?;
        request.insert_header("Accept-Encoding", filler.fetch_coding.name())?;
        // An item that the client holds may be one that the edge does not, and the tag is the edge's own.
        request.remove_header(&header::IF_NONE_MATCH);
        request.remove_header(&header::CONTENT_LENGTH);
        if !self.body.is_empty() {
            request.insert_header("Content-Length", self.body.len())?;
        }
        Ok((self.request, self.body))
    }
}

/// Whether the VMS failed, so that something stale is better than what it said (RFC 5861, 4).
///
/// 401 and 403 are no failures: they say that the user may not see it.
pub fn has_failed(landed: &Landed) -> bool {
    if planted!(CoversNoFailure) {
        return false;
    }
    match landed {
        Ok(filled) => {
            matches!(filled.status(), 500 | 502 | 503 | 504)
                || filled.fill.as_ref().is_err_and(Unfit::is_malformed)
        }
        Err(error) => !matches!(**error, FetchError::TooLarge),
    }
}

/// Tells of a fill that panics; nobody else would.
struct Mourner<'a>(&'a Metrics);

impl Drop for Mourner<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_outcome(FetchOutcome::Broken);
            tracing::error!("a fetch panicked");
        }
    }
}

/// The span of a fetch that went so.
fn span(
    place: Place,
    endpoint: &BatchEndpoint,
    ids: usize,
    course: &Course,
    filled: &Result<Filled, FetchError>,
) -> Span {
    let outcome = match filled {
        Ok(filled) => FetchOutcome::of_fill(&filled.fill),
        Err(error) => FetchOutcome::of_error(error),
    };
    let path = &endpoint.config.path;
    let mut attributes = vec![
        ("http.request.method", "GET".into()),
        ("url.template", path.clone().into()),
        ("vms_edge.batch", endpoint.config.name.clone().into()),
        ("vms_edge.ids", ids.into()),
        ("vms_edge.outcome", outcome.name().into()),
        ("vms_edge.queue_seconds", course.queued.into()),
    ];
    if let Some(server) = course.server {
        attributes.push(("server.address", server.ip().to_string().into()));
        attributes.push(("server.port", server.port().into()));
    }
    if course.tries > 1 {
        attributes.push(("http.request.resend_count", (course.tries - 1).into()));
    }
    let has_failed = match filled {
        Ok(filled) => {
            attributes.push(("http.response.status_code", filled.status().into()));
            filled.status() >= 400
        }
        Err(_) => true,
    };
    if has_failed {
        attributes.push(("error.type", outcome.name().into()));
    }
    Span {
        place,
        kind: Kind::Client,
        name: format!("GET {path}"),
        ended: SystemTime::now(),
        took: course.took,
        has_failed,
        attributes,
    }
}

impl Filled {
    /// Status of the VMS's answer.
    pub fn status(&self) -> u16 {
        self.answer.header.status.as_u16()
    }

    /// Whether it brought an item of this id, or the knowledge that there is none.
    pub fn tells_of(&self, id: u64) -> bool {
        let brought = |fill: &Fill| {
            fill.absent.contains(&id) || fill.items.iter().any(|(brought, _)| *brought == id)
        };
        self.fill.as_ref().is_ok_and(brought)
    }
}

impl Filler {
    /// Begins the fill that `lead` claimed; whoever waits for it is told what comes.
    pub(super) fn take_off(
        self: &Arc<Self>,
        endpoint: &Arc<BatchEndpoint>,
        question: Question,
        lead: Lead<Landed>,
    ) {
        let (filler, endpoint) = (Arc::clone(self), Arc::clone(endpoint));
        (self.detach)(Box::pin(async move {
            let key = question.key;
            let _mourner = Mourner(&filler.metrics);
            let mut course = Course::default();
            let (told, correlation) = (question.told(), question.correlation.clone());
            let filled = filler.fill(&endpoint, question, &lead, &mut course).await;
            if let Some(place) = correlation.place.filter(Place::is_sampled) {
                let ids = lead.ids().len();
                let span = span(place, &endpoint, ids, &course, &filled);
                filler.spans.record(span);
            }
            // Before anybody hears of the end. There is nobody else who tells.
            let _ = told.set(course);
            filler.rest_after(&key, &filled);
            if planted!(FailsSilently) && filled.is_err() {
                return std::mem::forget(lead);
            }
            lead.land(filled.map(Arc::new).map_err(Arc::new));
        }));
    }

    /// The VMS's own answer to a batch, whatever is stored or in flight; nothing of it is kept or counted.
    ///
    /// # Errors
    ///
    /// When the VMS cannot be asked.
    pub(super) async fn ask_past_memory(&self, asked: &Asked<'_>) -> Result<Answer, FetchError> {
        let request = Question::whole(asked).into_request(self);
        let (request, body) = request.map_err(FetchError::Broken)?;
        let mut course = Course::default();
        self.origin.fetch(&request, &body, &mut course).await
    }

    /// Leaves what is stale unrefreshed for a moment if this is what came of fetching it, or for as long as the VMS asks.
    fn rest_after(&self, key: &Key, filled: &Result<Filled, FetchError>) {
        let header = match filled {
            Ok(filled) if filled.fill.is_ok() => return,
            Ok(filled) => Some(&filled.answer.header),
            Err(_) => None,
        };
        let asked = header
            .and_then(|header| header.headers.get(header::RETRY_AFTER))
            .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
            .map_or(REST, Duration::from_secs);
        if let Some(stored) = self.store.shelf(key) {
            stored.rest(self.clock.now().plus(asked.clamp(REST, LONGEST_REST)));
        }
    }

    async fn fill(
        &self,
        endpoint: &BatchEndpoint,
        question: Question,
        lead: &Lead<Landed>,
        course: &mut Course,
    ) -> Result<Filled, FetchError> {
        let ids = lead.ids();
        let (key, user, by) = (question.key, question.user, question.by);
        let correlation = question.correlation.clone();
        let request_id = &correlation.id;
        let keyed = Arc::clone(&question.keyed);
        let request = question.into_request(self).map_err(FetchError::Broken)?;
        let (request, body) = confused!(AsksForAnother, request);
        // By what is really sent, whatever key it is sent for.
        let fetched_for = self.keys.holder_of(&request);
        let fetched_for = fetched_for.expect("a batch has a plain token, and keeps it");
        let started = Instant::now();
        let answered = self.origin.fetch(&request, &body, course).await;
        let took = started.elapsed();
        course.took = took;
        if !matches!(answered, Err(FetchError::Open)) {
            self.metrics.queued(course.queued);
        }
        let was_sent = !matches!(answered, Err(FetchError::Open | FetchError::Busy(_)));
        if was_sent {
            self.metrics.fetch(&endpoint.counters, ids.len(), took);
        }
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                self.metrics.fetch_outcome(FetchOutcome::of_error(&error));
                match error {
                    // There is a line of the breaker's already.
                    FetchError::Open => {
                        tracing::debug!(%error, ids = ids.len(), %request_id, "not fetched")
                    }
                    _ => tracing::warn!(%error, ids = ids.len(), %request_id, "fetch failed"),
                }
                return Err(error);
            }
        };
        let keyed = match planted!(LearnsBackwards) {
            true => endpoint.vary(),
            false => keyed,
        };
        let fill = self
            .take_apart(endpoint, &answer, ids, &keyed, fetched_for, by)
            .and_then(|fill| {
                // Known first, then looked whether it was refused: a refusal does the two in the other order, so that one of
                // them sees the other.
                let reason = self.store.know(user);
                match lead.is_condemned() && !planted!(KeepsTheCondemned) {
                    true => Err(Unfit::Refused),
                    false => {
                        self.store(endpoint, confused!(FillsAnother, key), reason, &fill);
                        Ok(fill)
                    }
                }
            });
        self.metrics.fetch_outcome(FetchOutcome::of_fill(&fill));
        match &fill {
            Ok(_) => {}
            Err(Unfit::VaryNew(names)) if endpoint.learn_vary(names) => {
                tracing::info!(?names, path = endpoint.config.path, "headers join the key");
            }
            // The token is not, or no longer, good for what is stored under it.
            Err(Unfit::Status(401 | 403)) => self.end_user(user),
            Err(Unfit::Status(_)) => {}
            Err(unfit) => {
                let path = &endpoint.config.path;
                tracing::warn!(%unfit, path, %request_id, "answer not stored");
            }
        }
        Ok(Filled {
            answer,
            fill,
            user: fetched_for,
            took,
        })
    }

    fn take_apart(
        &self,
        endpoint: &BatchEndpoint,
        answer: &Answer,
        ids: &[u64],
        keyed: &[HeaderName],
        user: UserId,
        by: FetchKind,
    ) -> Result<Fill, Unfit> {
        let mut ascending = ids.to_vec();
        ascending.sort_unstable();
        let id = &endpoint.config.id;
        let items = answer::take_apart(&answer.header, &answer.body, id, &ascending, keyed)?;
        let answered = || items.iter().map(|(id, _)| *id);
        if endpoint.order.learn(ids, answered()) == Lesson::Contradicts {
            self.metrics.order_contradicted();
            let path = &endpoint.config.path;
            tracing::warn!(path, "the VMS answers in another order than before");
        }
        let mut absent = ascending;
        absent.retain(|id| answered().all(|answered| answered != *id));
        let header = match self.compression.codings.is_empty() {
            true => StoredHeader::of(&answer.header),
            false => StoredHeader::varying_by_coding(&answer.header),
        };
        let (header, header_bytes) = confused!(HeaderOfAnother, self.store.share(header));
        Ok(Fill {
            fetch: Fetch {
                began: match planted!(DatedByItsEnd) {
                    true => self.clock.now(),
                    false => answer.started,
                },
                user,
                jitter: Jitter::new(fastrand::u16(..)),
                by,
            },
            header,
            header_bytes,
            body: answer.body.clone(),
            digests: Fill::digests(&answer.body, &items),
            items,
            absent,
        })
    }

    /// Whether what a fetch brought, were it only an error, is not for who asks. Then nothing of that shelf is shown any more.
    pub(super) fn is_foreign(&self, landed: &Landed, batch: &BatchRequest) -> bool {
        let is_of_another = |filled: &Arc<Filled>| filled.user != batch.user;
        let is_foreign = landed.as_ref().is_ok_and(is_of_another) && !planted!(NoOwnerCheck);
        if is_foreign {
            self.end_foreign(&batch.key);
        }
        is_foreign
    }

    /// Ends a shelf on which, or for which, something was found that was fetched with another user's token: nobody is shown
    /// any of it.
    pub(super) fn end_foreign(&self, key: &Key) {
        self.store.remove(key);
        self.metrics.foreign_shelf();
        tracing::error!("an answer was about to be shown to another user than it was fetched for");
    }

    fn store(&self, endpoint: &BatchEndpoint, key: Key, reason: Reason, fill: &Fill) {
        let now = self.clock.now();
        self.store.put(key, reason, fill, |slot| {
            let Fetch { began, jitter, .. } = slot.fetch;
            let judged = endpoint.windows.judge(slot.kind, now.since(began), jitter);
            judged.usability != Usability::Expired
        });
    }
}
