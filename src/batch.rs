//! The main job, start to end: a batch is answered from memory, and only what is missing is fetched.
//!
//! ```text
//! look ─┬─ all fresh ─────────────────────────────────────────────────────▶ hit
//!       └─ plan ─┬─ nothing missing ───▶ hit; what is stale is refreshed afterwards
//!                ├─ some at hand, or   ▶ fill what nobody fetches ▶ wait for all ▶ put together ▶ partial, miss
//!                │  fetched by others       └─ others brought something else ▶ plan again, at last alone
//!                └─ nothing of use ────▶ fill ▶ the VMS's own bytes ▶ miss
//!                                             └─ failed ▶ from memory, if all of it is better than an error
//! ```
//! Whatever does not fit falls back to transparency: an answer that cannot be taken apart is relayed to the one client
//! who asked for exactly it, and if a part was at hand already, the whole request is passed through instead. There is
//! never an answer with a hole in it.

pub mod canary;
pub mod explain;
pub mod fill;
pub mod invalidate;
#[cfg(test)]
mod model;
mod plan;
mod respond;
mod together;
pub mod waits;

use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderName;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::cache::freshness::Windows;
use crate::cache::shelf::{FetchKind, Shelf};
use crate::cache::{Need, Sorted, sort_out};
use crate::config;
use crate::ops::metrics::{EndpointCounters, ItemResult, Metrics};
use crate::origin::collapse::Lead;
use crate::origin::fetch::FetchError;
use crate::reply::cache_status::{BatchResult, CacheStatus};
use crate::reply::error::EdgeError;
use crate::reply::order::{Order, Sequence};
use crate::request::correlation::Correlation;
use crate::request::decline::Bypass;
use crate::request::key::{self, KeyMaker};
use crate::request::peer::Peer;
use crate::request::{self, BatchRequest, Checked, Endpoint};
use crate::waited::waited;
use fill::{Filled, Filler, Landed, Question};
use plan::{Plan, View, Whole};
use waits::Waits;

/// Eras that began in this process.
static ERAS: AtomicU64 = AtomicU64::new(0);

/// How often a batch is planned together with others before it asks for itself alone.
///
/// It is planned again when a mark ended what was at hand, or when another's flight was lost or taught no order.
const MAX_PLANS: usize = 2;

/// Most headers that one endpoint learns from the VMS's `Vary`.
const MAX_LEARNT: usize = 16;

/// One batch endpoint, at work.
pub struct BatchEndpoint {
    /// As configured.
    pub config: config::Batch,
    windows: Windows,
    order: Order,
    /// What is counted of it.
    pub counters: EndpointCounters,
    /// Headers in the key: the configured ones, then those learnt from `Vary`.
    vary: ArcSwap<Vec<HeaderName>>,
    configured_vary: usize,
    /// Since when it has been there without a break.
    era: u64,
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
    /// What tells it from all others.
    pub correlation: &'a Correlation,
    /// Who asks.
    pub by: AskedBy,
}

/// Who asks a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// Somebody who wants to know.
    Client,
    /// The edge itself, to see that it answers rightly ([`canary`]): nothing is counted of what it asks.
    Canary,
}

/// What becomes of a batch.
pub enum Outcome {
    /// An answer for the client.
    Reply(Reply),
    /// The whole request goes to the VMS as it came.
    PassThrough(Bypass),
}

/// Whose answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The VMS's, or put together from what it said.
    Vms,
    /// The edge's own: an error.
    Edge,
}

/// An answer, and what is to be told about it.
pub struct Reply {
    /// Status and header.
    pub header: Box<ResponseHeader>,
    /// The body.
    pub body: Bytes,
    /// Whose it is.
    pub author: Author,
    /// For the metric.
    pub result: BatchResult,
    /// How long the VMS was waited for.
    pub upstream: Option<Duration>,
}

impl Reply {
    /// An error of the edge's own, to a request that was not looked at any further.
    pub fn error(error: &EdgeError) -> Self {
        let body = error.body();
        Self {
            header: error.header(body.len()),
            body,
            author: Author::Edge,
            result: BatchResult::Rejected,
            upstream: None,
        }
    }
}

/// All of a batch, fresh in memory.
pub struct AtHand {
    view: View,
    sequence: Sequence,
}

impl AtHand {
    /// The answer to `batch`, counted; `None` if it is not this user's after all.
    pub fn reply(
        &self,
        endpoint: &BatchEndpoint,
        filler: &Filler,
        batch: &BatchRequest,
    ) -> Option<Reply> {
        let reply = hit(filler, &self.view, batch, self.sequence)?;
        endpoint.count(filler, &self.view, batch);
        Some(reply)
    }
}

impl BatchEndpoint {
    /// An endpoint as configured, that has learnt nothing yet.
    pub fn new(config: &config::Batch, vary: &[HeaderName], metrics: &Metrics) -> Self {
        Self {
            counters: metrics.endpoint(&config.name),
            windows: Windows::new(config),
            order: Order::new(config.order),
            vary: ArcSwap::from_pointee(vary.to_vec()),
            configured_vary: vary.len(),
            era: ERAS.fetch_add(1, Ordering::Relaxed),
            config: config.clone(),
        }
    }

    /// The same endpoint as one under the configuration just before, which knows what that has stored and learnt.
    pub fn knowing(mut self, before: &Self) -> Self {
        self.era = before.era;
        let learnt = before.vary();
        self.learn_vary(&learnt[before.configured_vary..]);
        let read_by =
            |config: &config::Batch| (config.ids.clone(), config.id.clone(), config.order);
        if read_by(&self.config) == read_by(&before.config) {
            self.order = before.order.clone();
        }
        self
    }

    /// The one of `endpoints` whose path is, byte for byte, that of the request.
    pub fn of<'a>(endpoints: &'a [Arc<Self>], request: &RequestHeader) -> Option<&'a Arc<Self>> {
        let path = request::path(request);
        endpoints
            .iter()
            .find(|endpoint| endpoint.config.path.as_bytes() == path)
    }

    /// Understands a request on its path, under a key that covers the headers `keyed`.
    ///
    /// # Errors
    ///
    /// The reason why the request must go to the VMS as it came.
    pub fn understand(
        &self,
        request: &RequestHeader,
        body: &[u8],
        checked: Checked,
        keyed: &[HeaderName],
        peer: Peer,
        keys: &KeyMaker,
    ) -> Result<BatchRequest, Bypass> {
        checked.read(request, body, &self.seen_by(keyed, peer), keys)
    }

    /// Every header that such a key covers, beside the token.
    fn covered(&self, keyed: &[HeaderName], peer: Peer) -> Vec<HeaderName> {
        key::covered(&self.seen_by(keyed, peer)).cloned().collect()
    }

    fn seen_by<'a>(&'a self, keyed: &'a [HeaderName], peer: Peer) -> Endpoint<'a> {
        Endpoint {
            batch: &self.config,
            vary: keyed,
            peer_is_trusted: peer.is_trusted,
            scheme: peer.scheme,
            era: self.era,
        }
    }

    /// Headers that belong to the key now.
    pub fn vary(&self) -> Arc<Vec<HeaderName>> {
        self.vary.load_full()
    }

    /// The answer to a batch if memory has all of it, and nothing that is stale. Nothing is counted yet.
    pub fn at_hand(&self, filler: &Filler, batch: &BatchRequest) -> Option<AtHand> {
        let view = self.look(filler, batch);
        let sequence = view.answers_freshly()?;
        Some(AtHand { view, sequence })
    }

    /// Answers a batch, and notes what it waited for.
    pub async fn answer(
        self: &Arc<Self>,
        filler: &Arc<Filler>,
        asked: Asked<'_>,
        waits: &mut Waits,
    ) -> Outcome {
        let view = self.look(filler, &asked.batch);
        if asked.by == AskedBy::Client {
            self.count(filler, &view, &asked.batch);
        }
        if let Some(sequence) = view.answers_freshly() {
            return hit_or_pass(filler, &view, &asked.batch, sequence);
        }
        for _ in 0..MAX_PLANS {
            match self.plan(filler, &asked.batch) {
                Plan::Hit(view, sequence, lead) => {
                    if let Some(lead) = lead {
                        self.refresh(filler, &asked, lead);
                    }
                    return hit_or_pass(filler, &view, &asked.batch, sequence);
                }
                Plan::Whole(whole) => return self.whole(filler, &asked, whole, waits).await,
                Plan::Together(parts) => {
                    if let Some(outcome) = self.together(filler, &asked, parts, waits).await {
                        return outcome;
                    }
                }
            }
        }
        let whole = self.plan_alone(filler, &asked.batch);
        self.whole(filler, &asked, whole, waits).await
    }

    /// Fetches stale items, for whoever asks next.
    fn refresh(self: &Arc<Self>, filler: &Arc<Filler>, asked: &Asked<'_>, lead: Lead<Landed>) {
        // What fails is counted and logged by the fill; the items stay stale.
        if let Some(question) = Question::part(asked, lead.ids(), &self.config, FetchKind::Refresh)
        {
            filler.take_off(self, question, lead);
        }
    }

    /// Nothing at hand is of use: the VMS answers the request as it came.
    async fn whole(
        self: &Arc<Self>,
        filler: &Arc<Filler>,
        asked: &Asked<'_>,
        Whole { shelf, lead }: Whole,
        waits: &mut Waits,
    ) -> Outcome {
        let waiting = lead.wait();
        let question = Question::whole(asked);
        let told = question.told();
        filler.take_off(self, question, lead);
        let at_hand = shelf.as_deref().map(Deref::deref);
        let landed = self.in_time(filler, &asked.batch, at_hand, waiting.landed());
        let landed = match waited(landed).await {
            (Ok(landed), _) => landed,
            (Err(stale), in_vain) => {
                waits.vain += in_vain;
                return stale;
            }
        };
        waits.own.push(told);
        let landed = landed.unwrap_or_else(|| Err(Arc::new(FetchError::Panicked)));
        if filler.is_foreign(&landed, &asked.batch) {
            return Outcome::PassThrough(Bypass::Foreign);
        }
        if fill::has_failed(&landed)
            && let Some(stale) =
                self.instead_of_error(filler, &asked.batch, at_hand, landed.as_deref().ok())
        {
            return stale;
        }
        let filled = match landed {
            Ok(filled) => filled,
            Err(error) => return respond::failed(&error, CacheStatus::Failed { partial: false }),
        };
        let status = CacheStatus::Miss {
            status: filled.status(),
            stored: filled.fill.is_ok(),
            collapsed: false,
        };
        Outcome::Reply(respond::relayed(&filled, status))
    }

    /// Waits for what is in flight, as long as there is patience for it or memory cannot do without it.
    ///
    /// # Errors
    ///
    /// The whole batch from memory instead. What is in flight goes on.
    async fn in_time<T>(
        &self,
        filler: &Filler,
        batch: &BatchRequest,
        shelf: Option<&Shelf>,
        in_flight: impl Future<Output = T>,
    ) -> Result<T, Outcome> {
        let mut in_flight = pin!(in_flight);
        tokio::select! {
            biased;
            landed = &mut in_flight => return Ok(landed),
            () = filler.origin.patience() => {}
        }
        let stale = match batch.no_cache {
            true => None,
            false => self.instead_of_error(filler, batch, shelf, None),
        };
        match stale {
            Some(stale) => Err(stale),
            None => Ok(in_flight.await),
        }
    }

    /// The whole batch from memory, if each of its ids is at hand within `stale_if_error`.
    fn instead_of_error(
        &self,
        filler: &Filler,
        batch: &BatchRequest,
        shelf: Option<&Shelf>,
        filled: Option<&Filled>,
    ) -> Option<Outcome> {
        let (shelf, now) = (shelf?, filler.clock.now());
        let need = Need::AnythingButAnError;
        let fence = filler.marks.fence(self.config.endpoint, &batch.user);
        let sorted = sort_out(shelf, &batch.ids, &self.windows, &fence, need, now);
        if !sorted.missing.is_empty() {
            return None;
        }
        // In some order rather than with an error.
        let sequence = self.sequence(shelf, &sorted, batch);
        let sequence = sequence.unwrap_or(Sequence::Ascending);
        let status = CacheStatus::InsteadOfError {
            status: filled.map(Filled::status),
            ttl_ms: sorted.ttl_ms.unwrap_or_default(),
        };
        let mut reply = respond::composed(filler, shelf, &sorted, batch, sequence, now, status)?;
        reply.upstream = filled.map(|filled| filled.took);
        Some(Outcome::Reply(reply))
    }

    fn count(&self, filler: &Filler, view: &View, batch: &BatchRequest) {
        let count = |result, count| filler.metrics.items(&self.counters, result, count);
        if view.sequence.is_none() {
            // Where only the VMS knows the order, what is at hand is of no use.
            return count(ItemResult::Missing, batch.ids.len());
        }
        let sorted = &view.sorted;
        count(ItemResult::Fresh, sorted.fresh());
        count(ItemResult::Stale, sorted.stale.len());
        count(ItemResult::Absent, sorted.absent);
        count(ItemResult::Missing, sorted.missing.len());
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

fn hit_or_pass(filler: &Filler, view: &View, batch: &BatchRequest, sequence: Sequence) -> Outcome {
    match hit(filler, view, batch, sequence) {
        Some(reply) => Outcome::Reply(reply),
        None => Outcome::PassThrough(Bypass::Foreign),
    }
}

fn hit(filler: &Filler, view: &View, batch: &BatchRequest, sequence: Sequence) -> Option<Reply> {
    let shelf = view.shelf.as_ref().expect("what answers is on a shelf");
    let ttl_ms = view.sorted.ttl_ms.unwrap_or_default();
    let status = CacheStatus::Hit { ttl_ms };
    let (sorted, now) = (&view.sorted, view.now);
    respond::composed(filler, shelf, sorted, batch, sequence, now, status)
}
