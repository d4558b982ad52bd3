//! What would become of a request, decided by the very functions that decide about the ones that are sent.
//!
//! What it is asked and answers is `ops::explain`'s.
//!
//! Nothing changes by it: nothing is fetched, counted, learnt or marked. The one trace is in the store, which takes the look
//! at a shelf for one more request when it chooses what to let go.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::plan::View;
use super::{BatchEndpoint, fill::Filler};
use crate::cache::freshness::{Kind, Usability};
use crate::cache::judge;
use crate::config;
use crate::ops::explain::{Answer, Explanation, Id, Mark, Refused, StoredId, Supposed, Treated};
use crate::ops::moment::{Moment, seconds};
use crate::reply::cache_status::BatchResult;
use crate::reply::error::EdgeError;
use crate::request::checks::Refusal;
use crate::request::decline::Bypass;
use crate::request::key::KeyMaker;
use crate::request::peer::Peer;
use crate::request::{self, BatchRequest, Body, Declined, MAX_BODY_BYTES, framing};

/// Why a request passes through that is for no `[[batch]]`.
const NO_BATCH: &str = "path";

/// What decides about requests.
pub struct Explainer<'a> {
    /// The batch endpoints.
    pub endpoints: &'a [Arc<BatchEndpoint>],
    /// What is stored, marked and in flight.
    pub filler: &'a Filler,
    /// The secret of the process.
    pub keys: &'a KeyMaker,
    /// What a batch request must carry.
    pub headers: &'a config::Headers,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: &'a [IpNet],
}

impl Explainer<'_> {
    /// Says what would become of a request now.
    pub fn explain(&self, supposed: &Supposed) -> Explanation {
        let request = &supposed.request;
        if let Err(fault) = framing::check(request, &supposed.received) {
            let mut fault = Explanation::of(Treated::FramingFault, Some(fault));
            fault.refusal = Some(refused(&EdgeError::BadRequest));
            return fault;
        }
        let Some(endpoint) = BatchEndpoint::of(self.endpoints, request) else {
            return Explanation::of(Treated::PassesThrough, Some(NO_BATCH));
        };
        let keyed = endpoint.vary();
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = supposed.peer.unwrap_or(nowhere);
        let peer = Peer::new(address, supposed.scheme, self.trusted_proxies);
        let understood = request::examine(request, self.headers).and_then(|checked| {
            let body = match checked.body() {
                Body::Empty => &[][..],
                Body::Json if supposed.body.len() <= MAX_BODY_BYTES => &supposed.body,
                Body::Json | Body::TooLarge => {
                    return Err(Declined::Refused(Refusal::BodyTooLarge));
                }
            };
            let read = endpoint.understand(request, body, checked, &keyed, peer, self.keys);
            read.map_err(Declined::Bypass)
        });
        let mut explanation = match understood {
            Ok(batch) => self.batch(endpoint, &batch),
            Err(Declined::Bypass(reason)) => {
                Explanation::of(Treated::PassesThrough, Some(Bypass::name(reason)))
            }
            Err(Declined::Refused(refusal)) => {
                let mut explanation = Explanation::of(Treated::Refused, None);
                explanation.refusal = Some(refused(&EdgeError::Refused(refusal)));
                explanation
            }
        };
        explanation.batch = Some(endpoint.config.path.clone());
        let covered = endpoint.covered(&keyed, peer);
        explanation.key = covered.iter().map(ToString::to_string).collect();
        explanation
    }

    fn batch(&self, endpoint: &BatchEndpoint, batch: &BatchRequest) -> Explanation {
        let view = endpoint.look(self.filler, batch);
        let mut explanation = Explanation::of(Treated::Batch, None);
        explanation.answer = Some(answer(&view, batch));
        explanation.ids = self.ids(endpoint, batch, &view);
        explanation
    }

    fn ids(&self, endpoint: &BatchEndpoint, batch: &BatchRequest, view: &View) -> Vec<Id> {
        let (filler, now) = (self.filler, view.now);
        let in_flight: Vec<u64> = {
            let board = filler.flights.board(batch.user, batch.key);
            let ids = batch.ids.in_order().iter().copied();
            ids.filter(|&id| board.find(id).is_some()).collect()
        };
        // What may not answer a request with `no-cache` is shown all the same.
        let shelf = match batch.no_cache {
            true => filler.store.shelf(&batch.key),
            false => view.shelf.clone(),
        };
        let fence = filler.marks.fence(endpoint.config.endpoint, &batch.user);
        let id = |&id: &u64| {
            let slot = shelf.as_ref().and_then(|shelf| Some(shelf.find(id)?.1));
            let judged = slot.and_then(|slot| judge(&slot, &endpoint.windows, &fence, now));
            let state = match (judged, slot.map(|slot| slot.kind)) {
                (None, _) => "missing",
                (Some(judged), Some(Kind::Absence)) if judged.usability == Usability::Fresh => {
                    "absent"
                }
                (Some(judged), _) => judged.usability.name(),
            };
            let marked = slot.and_then(|slot| {
                let (endpoint, marks) = (endpoint.config.endpoint, &filler.marks);
                marks.covering(endpoint, &batch.user, id, slot.fetch.began)
            });
            Id {
                id,
                state,
                in_flight: in_flight.contains(&id),
                stored: slot.map(|slot| StoredId {
                    kind: match slot.kind {
                        Kind::Item => "item",
                        Kind::Absence => "absence",
                    },
                    age: seconds(now.since(slot.fetch.began)),
                    ttl: judged.map(|judged| milliseconds(judged.ttl_ms)),
                    fetched: Moment::of(slot.fetch.began, now),
                    by: slot.fetch.by.name(),
                }),
                mark: marked.map(|marked| Mark {
                    scope: marked.scope.name(),
                    strength: marked.strength.name(),
                    set: Moment::of(marked.at, now),
                }),
            }
        };
        batch.ids.in_order().iter().map(id).collect()
    }
}

impl Explanation {
    fn of(treated: Treated, reason: Option<&'static str>) -> Self {
        Self {
            treated,
            reason,
            refusal: None,
            batch: None,
            key: Vec::new(),
            answer: None,
            ids: Vec::new(),
        }
    }
}

/// How a batch would be answered of which so much is at hand.
fn answer(view: &View, batch: &BatchRequest) -> Answer {
    let result = match view.answers() {
        Some(_) if view.sorted.ttl_ms.unwrap_or_default() > 0 => BatchResult::Hit,
        Some(_) => BatchResult::Stale,
        None if view.sequence.is_none() || view.sorted.known() == 0 => BatchResult::Miss,
        None => BatchResult::Partial,
    };
    Answer {
        result: result.name(),
        no_cache: batch.no_cache,
        order_is_known: view.sequence.is_some(),
    }
}

fn refused(error: &EdgeError) -> Refused {
    let body = error.body();
    Refused {
        status: error.status(),
        body: serde_json::from_slice(&body).expect("the edge's own errors are JSON"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "these are days at the most")]
fn milliseconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1_000.0
}
