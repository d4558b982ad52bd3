//! What to do about a batch: decided in one step, while nothing lands and nothing takes off.
//!
//! A plan claims what it wants fetched ([`crate::origin::collapse`]), so it must be carried out or dropped; either way
//! whoever waits for its claims hears of it.

use std::sync::Arc;

use super::fill::{Filler, Landed};
use super::{BatchEndpoint, answered};
use crate::cache::clock::Time;
use crate::cache::shelf::Shelf;
use crate::cache::store::Stored;
use crate::cache::{Need, Sorted, sort_out};
use crate::origin::collapse::{Board, Flight, Lead, Waiting};
use crate::reply::order::Sequence;
use crate::request::BatchRequest;

/// What memory can do for a batch at one moment.
pub(super) struct View {
    pub(super) shelf: Option<Arc<Stored>>,
    pub(super) sorted: Sorted,
    /// The order in which the VMS would answer; `None` if only it can tell.
    pub(super) sequence: Option<Sequence>,
    pub(super) now: Time,
}

/// What to do.
pub(super) enum Plan {
    /// Answer from memory, in this order; then fetch what of it is stale and nobody fetches yet.
    Hit(View, Sequence, Option<Lead<Landed>>),
    /// Ask the VMS for all of it, as the client did.
    Whole(Whole),
    /// Put together what is at hand and what is in flight, then.
    Together(Parts),
}

/// A batch that the VMS answers as a whole.
pub(super) struct Whole {
    /// What is at hand all the same.
    pub(super) shelf: Option<Arc<Stored>>,
    pub(super) lead: Lead<Landed>,
}

/// Where the ids of a batch come from that are not at hand.
pub(super) struct Parts {
    /// What is at hand.
    pub(super) shelf: Option<Arc<Stored>>,
    /// Missing ids that nobody fetches yet, and the stale ones that may travel with them.
    pub(super) own: Option<Lead<Landed>>,
    /// Stale ids alone that nobody fetches yet: nobody has to wait for them.
    pub(super) refresh: Option<Lead<Landed>>,
    /// The flights that bring the missing ids which others fetch.
    pub(super) waits: Vec<Waiting<Landed>>,
    /// How many ids those are.
    pub(super) awaited: usize,
}

impl View {
    /// Whether the batch can be answered from it, and in which order.
    pub(super) fn answers(&self) -> Option<Sequence> {
        self.sequence.filter(|_| self.sorted.missing.is_empty())
    }

    /// The same, if nothing of it is stale.
    pub(super) fn answers_freshly(&self) -> Option<Sequence> {
        self.answers().filter(|_| self.sorted.stale.is_empty())
    }
}

impl BatchEndpoint {
    /// What memory can do for a batch now.
    pub(super) fn look(&self, filler: &Filler, batch: &BatchRequest) -> View {
        let now = filler.clock.now();
        let shelf = match batch.no_cache {
            true => None,
            false => filler.store.shelf(&confused!(LooksAtAnother, batch.key)),
        };
        let fence = filler.marks.fence(self.config.endpoint, &batch.user);
        let (sorted, sequence) = match &shelf {
            Some(shelf) => {
                let need = Need::Answer;
                let sorted = sort_out(shelf, &batch.ids, &self.windows, &fence, need, now);
                let sequence = self.sequence(shelf, &sorted, batch);
                (sorted, sequence)
            }
            None => {
                let sequence = self.order.sequence(batch.ids.in_order());
                (Sorted::nothing(&batch.ids), sequence)
            }
        };
        View {
            shelf,
            sorted,
            sequence,
            now,
        }
    }

    /// The order in which the VMS would answer a batch of which the shelf knows so much.
    pub(super) fn sequence(
        &self,
        shelf: &Shelf,
        sorted: &Sorted,
        batch: &BatchRequest,
    ) -> Option<Sequence> {
        if sorted.absent == 0 {
            return self.order.sequence(batch.ids.in_order());
        }
        self.order.sequence(&answered(shelf, sorted, batch))
    }

    /// Decides, and claims what is to be fetched.
    pub(super) fn plan(&self, filler: &Filler, batch: &BatchRequest) -> Plan {
        let mut board = filler.flights.board(batch.user, batch.key);
        // Looked at while nothing can land: what is neither on the shelf now nor in flight, nobody has asked for.
        let view = self.look(filler, batch);
        if batch.no_cache {
            return Plan::Whole(whole(board, view, batch));
        }
        let fence = filler.marks.fence(self.config.endpoint, &batch.user);
        let mut unclaimed = Vec::new();
        let mut flights: Vec<Arc<Flight<Landed>>> = Vec::new();
        let mut awaited = 0;
        for &id in batch.ids.in_order() {
            let is_missing = view.sorted.missing.contains(&id);
            if !is_missing && !view.sorted.stale.contains(&id) {
                continue;
            }
            // What a flight brings that took off before a mark is not to be used: it is as if there were none.
            let flight = board.find(id);
            let may_join = |flight: &&Arc<Flight<Landed>>| {
                !flight.is_condemned()
                    && (planted!(TrustsOlder) || !fence.covers_time(id, flight.began()))
            };
            match flight.filter(may_join) {
                None => unclaimed.push(id),
                Some(flight) if is_missing => {
                    awaited += 1;
                    if !flights.iter().any(|other| Arc::ptr_eq(other, flight)) {
                        flights.push(Arc::clone(flight));
                    }
                }
                Some(_) => {}
            }
        }
        let is_needed = unclaimed.iter().any(|id| view.sorted.missing.contains(id));
        let rests = |shelf: &Arc<Stored>| shelf.rests(view.now);
        if !is_needed && view.shelf.as_ref().is_some_and(rests) {
            unclaimed.clear();
        }
        if let Some(sequence) = view.answers() {
            let refresh = claim(&mut board, unclaimed, view.now);
            return Plan::Hit(view, sequence, refresh);
        }
        // Flights may yet teach the order; the VMS is asked at once where nothing will.
        let order_will_be_known =
            view.sequence.is_some() || (awaited > 0 && self.order.may_be_learnt());
        if unclaimed.len() == batch.ids.len() || !order_will_be_known {
            return Plan::Whole(whole(board, view, batch));
        }
        let lead = claim(&mut board, unclaimed, view.now);
        let (own, refresh) = if is_needed {
            (lead, None)
        } else {
            (None, lead)
        };
        Plan::Together(Parts {
            shelf: view.shelf,
            own,
            refresh,
            waits: flights.iter().map(|flight| flight.wait()).collect(),
            awaited,
        })
    }

    /// Claims the whole batch, whoever else fetches what of it.
    pub(super) fn plan_alone(&self, filler: &Filler, batch: &BatchRequest) -> Whole {
        let board = filler.flights.board(batch.user, batch.key);
        whole(board, self.look(filler, batch), batch)
    }
}

fn claim(board: &mut Board<'_, Landed>, ids: Vec<u64>, now: Time) -> Option<Lead<Landed>> {
    (!ids.is_empty()).then(|| board.claim(ids, now))
}

fn whole(mut board: Board<'_, Landed>, view: View, batch: &BatchRequest) -> Whole {
    let ids = batch.ids.in_order().to_vec();
    Whole {
        shelf: view.shelf,
        lead: board.claim(ids, view.now),
    }
}
