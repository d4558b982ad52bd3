//! A fill: one fetch, and the storing of what it told.
//!
//! Fills run detached from the client that caused them: one that leaves harms no one, and what was asked of the VMS is
//! not asked in vain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};
use pingora_http::RequestHeader;

use super::refresh::Refreshes;
use super::{Asked, BatchEndpoint};
use crate::cache::clock::Clock;
use crate::cache::freshness::{Jitter, Usability};
use crate::cache::header::StoredHeader;
use crate::cache::marks::Marks;
use crate::cache::shelf::Fill;
use crate::cache::store::{Expected, Store};
use crate::config;
use crate::ops::metrics::{FetchOutcome, Metrics};
use crate::origin::answer::{self, Unfit};
use crate::origin::fetch::{Answer, FetchError, Origin};
use crate::origin::forward::{self, Peer};
use crate::reply::order::Lesson;
use crate::request::key::{Key, UserId};

/// What every fill works with.
pub struct Filler {
    /// Where items are put.
    pub store: Store,
    /// What was invalidated, and when.
    pub marks: Marks,
    /// Which stale items are being refreshed.
    pub refreshes: Refreshes,
    /// Whom to ask.
    pub origin: Box<dyn Origin>,
    /// What time it is.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Host to send instead of the client's own.
    pub host: Option<HeaderValue>,
}

/// A request to the VMS, ready to be sent.
pub struct Question {
    key: Key,
    user: UserId,
    /// Headers that the key covers; one learnt meanwhile is not among them.
    keyed: Arc<Vec<HeaderName>>,
    request: RequestHeader,
    body: Bytes,
    peer: Peer,
}

/// What came of a fill.
pub struct Filled {
    /// The VMS's answer.
    pub answer: Answer,
    /// What was stored, or why nothing was.
    pub fill: Result<Fill, Unfit>,
    /// How long the VMS was waited for, the wait for a permit included.
    pub took: Duration,
}

impl Question {
    /// The client's request as it came.
    pub fn whole(asked: &Asked<'_>) -> Self {
        Self {
            key: asked.batch.key,
            user: asked.batch.user,
            keyed: Arc::clone(&asked.keyed),
            request: asked.request.clone(),
            body: asked.body.clone(),
            peer: asked.peer,
        }
    }

    /// The client's request, but for `ids` only, in the form that the client used.
    ///
    /// `None` where that makes a longer target than HTTP libraries take: brackets are encoded that were plain before.
    pub fn part(asked: &Asked<'_>, ids: &[u64], batch: &config::Batch) -> Option<Self> {
        let (query, body) = asked.batch.form.write(ids, batch);
        let mut target = batch.path.clone().into_bytes();
        if !query.is_empty() {
            target.push(b'?');
            target.extend_from_slice(&query);
        }
        let mut question = Self::whole(asked);
        question.request.set_raw_path(&target).ok()?;
        question.body = body.into();
        Some(question)
    }

    /// The header as it is sent: end-to-end fields, the hop described, identity coding.
    fn into_request(mut self, filler: &Filler) -> pingora_core::Result<(RequestHeader, Bytes)> {
        let request = &mut self.request;
        request.set_version(Version::HTTP_11);
        forward::drop_hop_by_hop(request);
        forward::describe_hop(request, self.peer, filler.host.as_ref())?;
        request.insert_header("Accept-Encoding", "identity")?;
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
pub fn has_failed(filled: &Result<Filled, FetchError>) -> bool {
    match filled {
        Ok(filled) => {
            let status = filled.answer.header.status.as_u16();
            matches!(status, 500 | 502 | 503 | 504) || matches!(filled.fill, Err(Unfit::Shape))
        }
        Err(error) => !matches!(error, FetchError::TooLarge),
    }
}

/// Runs a fill of `ids` to its end, whether or not anybody still waits for it.
pub async fn detached(
    filler: &Arc<Filler>,
    endpoint: &Arc<BatchEndpoint>,
    question: Question,
    ids: Vec<u64>,
) -> Result<Filled, FetchError> {
    let filler = Arc::clone(filler);
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move { filler.fill(&endpoint, question, &ids).await })
        .await
        .unwrap_or(Err(FetchError::Panicked))
}

impl Filler {
    pub(super) async fn fill(
        &self,
        endpoint: &BatchEndpoint,
        question: Question,
        ids: &[u64],
    ) -> Result<Filled, FetchError> {
        let (key, user) = (question.key, question.user);
        let keyed = Arc::clone(&question.keyed);
        let (request, body) = question.into_request(self).map_err(FetchError::Broken)?;
        let expected = self.store.expect(user);
        let started = Instant::now();
        let answered = self.origin.fetch(&request, &body).await;
        let took = started.elapsed();
        self.metrics
            .fetch(endpoint.config.endpoint, ids.len(), took);
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                self.metrics.fetch_outcome(FetchOutcome::of_error(&error));
                tracing::warn!(%error, ids = ids.len(), "fetch failed");
                return Err(error);
            }
        };
        let fill = self.take_apart(endpoint, &answer, ids, &keyed);
        self.metrics.fetch_outcome(FetchOutcome::of_fill(&fill));
        match &fill {
            Ok(fill) => self.store(endpoint, key, expected, fill),
            Err(Unfit::VaryNew(names)) if endpoint.learn_vary(names) => {
                tracing::info!(?names, path = endpoint.config.path, "headers join the key");
            }
            Err(Unfit::Status(401 | 403)) => {
                drop(expected);
                self.mark_refused(user);
            }
            Err(Unfit::Status(_)) => {}
            Err(unfit) => tracing::warn!(%unfit, path = endpoint.config.path, "answer not stored"),
        }
        Ok(Filled { answer, fill, took })
    }

    fn take_apart(
        &self,
        endpoint: &BatchEndpoint,
        answer: &Answer,
        ids: &[u64],
        keyed: &[HeaderName],
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
        let (header, header_bytes) = self.store.share(StoredHeader::of(&answer.header));
        Ok(Fill {
            fetched: answer.started,
            jitter: Jitter::new(fastrand::u16(..)),
            header,
            header_bytes,
            body: answer.body.clone(),
            items,
            absent,
        })
    }

    fn store(&self, endpoint: &BatchEndpoint, key: Key, expected: Expected, fill: &Fill) {
        let now = self.clock.now();
        self.store.put(key, expected, fill, |slot| {
            let age = now.since(slot.fetched);
            let judged = endpoint.windows.judge(slot.kind(), age, slot.jitter);
            judged.usability != Usability::Expired
        });
    }
}
