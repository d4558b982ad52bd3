//! The main job, start to end: a batch is answered from memory, and only what is missing is fetched.
//!
//! ```text
//! shelf ─▶ sort out ─┬─ nothing missing ──▶ compose ──────────────────▶ hit; what is stale is refreshed afterwards
//!                    ├─ some missing ─────▶ fill ─▶ merge ─▶ compose ─▶ partial
//!                    └─ all missing, or   ▶ fill ─▶ the VMS's bytes ──▶ miss
//!                       order not known        └─ failed ─▶ compose from what is better than an error
//! ```
//! Whatever does not fit falls back to transparency: an answer that cannot be taken apart is relayed to the one client
//! who asked for exactly it, and if a part was at hand already, the whole request is passed through instead. There is
//! never an answer with a hole in it.

pub mod fill;
pub mod invalidate;
pub mod refresh;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::cache::clock::Time;
use crate::cache::freshness::Windows;
use crate::cache::shelf::Shelf;
use crate::cache::{Need, Sorted, sort_out};
use crate::config;
use crate::ops::metrics::{ItemResult, Metrics};
use crate::origin::fetch::FetchError;
use crate::origin::forward::{self, Peer};
use crate::reply::cache_status::{BatchResult, CacheStatus};
use crate::reply::compose::compose;
use crate::reply::error::EdgeError;
use crate::reply::order::{Order, Sequence};
use crate::request::BatchRequest;
use crate::request::decline::Bypass;
use fill::{Filled, Filler, Question};

/// Most headers that one endpoint learns from the VMS's `Vary`.
const MAX_LEARNT: usize = 16;

/// One batch endpoint, at work.
pub struct BatchEndpoint {
    /// As configured.
    pub config: config::Batch,
    windows: Windows,
    order: Order,
    /// Headers in the key: the configured ones, then those learnt from `Vary`.
    vary: ArcSwap<Vec<HeaderName>>,
    configured_vary: usize,
}

/// A batch and the request it came in.
pub struct Asked<'a> {
    /// What was asked.
    pub batch: BatchRequest,
    /// Headers that its key covers.
    pub keyed: Arc<Vec<HeaderName>>,
    /// The request's header, as it came.
    pub request: &'a RequestHeader,
    /// The request's body, as it came.
    pub body: Bytes,
    /// Where it came from.
    pub peer: Peer,
}

/// What becomes of a batch.
pub enum Outcome {
    /// An answer for the client.
    Reply(Reply),
    /// The whole request goes to the VMS as it came.
    PassThrough(Bypass),
}

/// An answer, and what is to be told about it.
pub struct Reply {
    /// Status and header.
    pub header: Box<ResponseHeader>,
    /// The body.
    pub body: Bytes,
    /// For the metric.
    pub result: BatchResult,
    /// How long the VMS was waited for.
    pub upstream: Option<Duration>,
}

impl BatchEndpoint {
    /// An endpoint as configured, that has learnt nothing yet.
    pub fn new(config: &config::Batch, vary: &[HeaderName]) -> Self {
        Self {
            windows: Windows::new(config),
            order: Order::new(config.order),
            vary: ArcSwap::from_pointee(vary.to_vec()),
            configured_vary: vary.len(),
            config: config.clone(),
        }
    }

    /// Headers that belong to the key now.
    pub fn vary(&self) -> Arc<Vec<HeaderName>> {
        self.vary.load_full()
    }

    /// Answers a batch.
    pub async fn answer(self: &Arc<Self>, filler: &Arc<Filler>, asked: Asked<'_>) -> Outcome {
        let shelf = match asked.batch.no_cache {
            true => None,
            false => filler.store.shelf(&asked.batch.key),
        };
        let Some(shelf) = shelf else {
            filler.metrics.items(
                self.config.endpoint,
                ItemResult::Missing,
                asked.batch.ids.len(),
            );
            return self.miss(filler, asked, None).await;
        };
        let now = filler.clock.now();
        let (sorted, sequence) = self.sort_out(filler, &shelf, &asked.batch, Need::Answer, now);
        count(&filler.metrics, self.config.endpoint, &sorted);
        match sequence {
            Some(sequence) if sorted.missing.is_empty() => {
                self.refresh(filler, &asked, &sorted);
                hit(&shelf, &sorted, &asked.batch, sequence, now)
            }
            Some(_) if sorted.fresh() + sorted.absent > 0 => {
                self.partial(filler, asked, &shelf, &sorted).await
            }
            _ => self.miss(filler, asked, Some(&shelf)).await,
        }
    }

    /// What the shelf can do for a batch; nothing, if only the VMS knows the order of the answer.
    fn sort_out(
        &self,
        filler: &Filler,
        shelf: &Shelf,
        batch: &BatchRequest,
        need: Need,
        now: Time,
    ) -> (Sorted, Option<Sequence>) {
        let fence = filler.marks.fence(self.config.endpoint, &batch.user);
        let sorted = sort_out(shelf, &batch.ids, &self.windows, &fence, need, now);
        let sequence = if sorted.absent == 0 {
            self.order.sequence(batch.ids.in_order())
        } else {
            self.order.sequence(&answered(shelf, &sorted, batch))
        };
        match sequence {
            Some(_) => (sorted, sequence),
            None => (Sorted::nothing(&batch.ids), None),
        }
    }

    /// Fetches the stale items that were just answered, unless somebody does already.
    fn refresh(self: &Arc<Self>, filler: &Arc<Filler>, asked: &Asked<'_>, sorted: &Sorted) {
        if sorted.stale.is_empty() {
            return;
        }
        let Some(refresh) = filler.refreshes.begin(asked.batch.key, &sorted.stale) else {
            return;
        };
        let Some(question) = Question::part(asked, refresh.ids(), &self.config) else {
            return;
        };
        let (filler, endpoint) = (Arc::clone(filler), Arc::clone(self));
        tokio::spawn(async move {
            // What fails is counted and logged by the fill; the item stays stale.
            let _ = filler.fill(&endpoint, question, refresh.ids()).await;
        });
    }

    /// Nothing fresh is at hand: the VMS answers the request as it came.
    async fn miss(
        self: &Arc<Self>,
        filler: &Arc<Filler>,
        asked: Asked<'_>,
        shelf: Option<&Shelf>,
    ) -> Outcome {
        let ids = asked.batch.ids.in_order().to_vec();
        let filled = fill::detached(filler, self, Question::whole(&asked), ids).await;
        if fill::has_failed(&filled)
            && let Some(stale) = self.instead_of_error(filler, &asked, shelf, &filled)
        {
            return stale;
        }
        let filled = match filled {
            Ok(filled) => filled,
            Err(error) => return failed(&error, CacheStatus::Failed { partial: false }),
        };
        let status = CacheStatus::Miss {
            status: filled.answer.header.status.as_u16(),
            stored: filled.fill.is_ok(),
        };
        relay(filled, status)
    }

    /// Some ids are at hand: the others are fetched, stale ones with them, and all are put together.
    async fn partial(
        self: &Arc<Self>,
        filler: &Arc<Filler>,
        asked: Asked<'_>,
        shelf: &Shelf,
        sorted: &Sorted,
    ) -> Outcome {
        let ids = sorted.to_fetch(&asked.batch.ids);
        let (hit, miss) = (asked.batch.ids.len() - ids.len(), ids.len());
        let Some(question) = Question::part(&asked, &ids, &self.config) else {
            return Outcome::PassThrough(Bypass::TooLarge);
        };
        let filled = fill::detached(filler, self, question, ids.clone()).await;
        if fill::has_failed(&filled)
            && let Some(stale) = self.instead_of_error(filler, &asked, Some(shelf), &filled)
        {
            return stale;
        }
        let filled = match filled {
            Ok(filled) => filled,
            Err(error) => return failed(&error, CacheStatus::Failed { partial: true }),
        };
        let status = CacheStatus::Partial {
            hit,
            miss,
            status: filled.answer.header.status.as_u16(),
            stored: filled.fill.is_ok(),
        };
        let fill = match &filled.fill {
            Ok(fill) => fill,
            Err(_) if filled.answer.header.status.as_u16() >= 400 => return relay(filled, status),
            Err(_) => return Outcome::PassThrough(Bypass::Unfit),
        };
        // A write or a refused token may meanwhile have ended what was at hand.
        let fence = filler.marks.fence(self.config.endpoint, &asked.batch.user);
        let mut at_hand = asked
            .batch
            .ids
            .ascending()
            .iter()
            .filter(|id| !ids.contains(id));
        if at_hand.any(|id| shelf.find(*id).is_some_and(|(_, slot)| fence.covers(slot))) {
            return Outcome::PassThrough(Bypass::Unfit);
        }
        // The store may have dropped what was usable a moment ago, so the answer is made from what this batch saw.
        let whole = Shelf::merged(Some(shelf), fill, |_| true);
        let all = Sorted::everything(&whole, &asked.batch.ids);
        // The fill may have taught another order than the one assumed before it.
        let sequence = self.order.sequence(&answered(&whole, &all, &asked.batch));
        let (true, Some(sequence)) = (all.missing.is_empty(), sequence) else {
            return Outcome::PassThrough(Bypass::Unfit);
        };
        let now = filler.clock.now();
        let mut reply = composed(&whole, &all, &asked.batch, sequence, now, status);
        reply.upstream = Some(filled.took);
        Outcome::Reply(reply)
    }

    /// The whole batch from memory, if each of its ids is at hand within `stale_if_error`.
    fn instead_of_error(
        &self,
        filler: &Filler,
        asked: &Asked<'_>,
        shelf: Option<&Shelf>,
        filled: &Result<Filled, FetchError>,
    ) -> Option<Outcome> {
        let (shelf, now) = (shelf?, filler.clock.now());
        let need = Need::AnythingButAnError;
        let (sorted, sequence) = self.sort_out(filler, shelf, &asked.batch, need, now);
        let (true, Some(sequence)) = (sorted.missing.is_empty(), sequence) else {
            return None;
        };
        let filled = filled.as_ref().ok();
        let status = CacheStatus::InsteadOfError {
            status: filled.map(|filled| filled.answer.header.status.as_u16()),
            ttl_ms: sorted.ttl_ms.unwrap_or_default(),
        };
        let mut reply = composed(shelf, &sorted, &asked.batch, sequence, now, status);
        reply.upstream = filled.map(|filled| filled.took);
        Some(Outcome::Reply(reply))
    }

    /// Adds headers that the VMS named in `Vary` to the key; false if there are too many already.
    fn learn_vary(&self, names: &[HeaderName]) -> bool {
        let mut learnt = false;
        self.vary.rcu(|before| {
            let mut vary = Vec::clone(before);
            for name in names {
                if !vary.contains(name) && vary.len() < self.configured_vary + MAX_LEARNT {
                    vary.push(name.clone());
                }
            }
            learnt = names.iter().all(|name| vary.contains(name));
            vary
        });
        learnt
    }
}

fn count(metrics: &Metrics, endpoint: config::EndpointId, sorted: &Sorted) {
    metrics.items(endpoint, ItemResult::Fresh, sorted.fresh());
    metrics.items(endpoint, ItemResult::Stale, sorted.stale.len());
    metrics.items(endpoint, ItemResult::Absent, sorted.absent);
    metrics.items(endpoint, ItemResult::Missing, sorted.missing.len());
}

/// The asked ids that are answered or may yet be, in the order asked: all but the known absences.
fn answered(shelf: &Shelf, sorted: &Sorted, batch: &BatchRequest) -> Vec<u64> {
    let usable = |id: u64| {
        sorted
            .usable
            .binary_search_by_key(&id, |&place| shelf.id_at(place))
            .is_ok()
    };
    let ids = batch.ids.in_order().iter().copied();
    ids.filter(|&id| usable(id) || sorted.missing.contains(&id))
        .collect()
}

fn hit(
    shelf: &Shelf,
    sorted: &Sorted,
    batch: &BatchRequest,
    sequence: Sequence,
    now: Time,
) -> Outcome {
    let ttl_ms = sorted.ttl_ms.unwrap_or_default();
    let status = CacheStatus::Hit { ttl_ms };
    Outcome::Reply(composed(shelf, sorted, batch, sequence, now, status))
}

/// An answer put together from a shelf.
fn composed(
    shelf: &Shelf,
    sorted: &Sorted,
    batch: &BatchRequest,
    sequence: Sequence,
    now: Time,
    status: CacheStatus,
) -> Reply {
    let body = compose(shelf, sorted, &batch.ids, sequence);
    let mut header = shelf.header().to_response();
    let age = sorted
        .oldest
        .map_or(0, |oldest| now.since(oldest).as_secs());
    insert(&mut header, "Content-Length", body.len());
    insert(&mut header, "Age", age);
    append_cache_status(&mut header, status);
    Reply {
        header,
        body,
        result: status.result(),
        upstream: None,
    }
}

/// The VMS's own answer, as it came.
fn relay(filled: Filled, status: CacheStatus) -> Outcome {
    let mut header = filled.answer.header;
    forward::drop_response_hop_by_hop(&mut header);
    header.set_version(Version::HTTP_11);
    if !matches!(header.status.as_u16(), 204 | 304) {
        insert(&mut header, "Content-Length", filled.answer.body.len());
    }
    append_cache_status(&mut header, status);
    Outcome::Reply(Reply {
        header,
        body: filled.answer.body,
        result: status.result(),
        upstream: Some(filled.took),
    })
}

fn failed(error: &FetchError, status: CacheStatus) -> Outcome {
    let error = match error {
        FetchError::TooLarge => return Outcome::PassThrough(Bypass::TooLarge),
        FetchError::Busy(_) => EdgeError::Busy,
        FetchError::Timeout(_) => EdgeError::GatewayTimeout,
        FetchError::Connect(..) | FetchError::Broken(_) => EdgeError::BadGateway,
        FetchError::Panicked => EdgeError::Internal,
    };
    let body = error.body();
    let mut header = error.header(body.len());
    append_cache_status(&mut header, status);
    Outcome::Reply(Reply {
        header,
        body,
        result: status.result(),
        upstream: None,
    })
}

/// Sets a field to a number.
fn insert(header: &mut ResponseHeader, name: &'static str, number: impl Into<HeaderValue>) {
    header
        .insert_header(name, number.into())
        .expect("a constant name and a number make a field");
}

fn append_cache_status(header: &mut ResponseHeader, status: CacheStatus) {
    header
        .append_header("Cache-Status", status.to_field())
        .expect("a cache status is a field value");
}
