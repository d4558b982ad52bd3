//! What is remembered: one shelf of items per key, how old they are, and which of them may answer.
//!
//! [`sort_out`] is the decision on which every answer rests; it is a pure function of a shelf, the ids asked, the
//! freshness windows and a time.

pub mod clock;
pub mod freshness;
pub mod header;
pub mod shelf;
pub mod store;

use std::time::Duration;

use clock::Time;
use freshness::{Kind, Usability, Windows};
use shelf::{Shelf, Slot};

use crate::request::ids::AskedIds;

/// What a shelf can do for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Places on the shelf of the usable items, in ascending order of their ids.
    pub usable: Vec<usize>,
    /// How many ids are known to be absent.
    pub absent: usize,
    /// Ids about which nothing usable is stored, in the order asked.
    pub missing: Vec<u64>,
    /// When the fetch of the oldest usable item or absence began.
    pub oldest: Option<Time>,
    /// How long all that is usable stays fresh.
    pub ttl: Option<Duration>,
}

impl Sorted {
    /// With nothing usable: all ids are missing.
    pub fn nothing(ids: &AskedIds) -> Self {
        Self {
            missing: ids.in_order().to_vec(),
            ..Self::default()
        }
    }

    /// Every asked id that the shelf knows of, whatever its age; the others are missing.
    pub fn everything(shelf: &Shelf, ids: &AskedIds) -> Self {
        let mut all = Self::default();
        for &id in ids.ascending() {
            match shelf.find(id) {
                Some((place, slot)) => all.add(place, slot, None),
                None => all.missing.push(id),
            }
        }
        all
    }

    fn add(&mut self, place: usize, slot: &Slot, ttl: Option<Duration>) {
        match slot.kind() {
            Kind::Item => self.usable.push(place),
            Kind::Absence => self.absent += 1,
        }
        self.oldest = Some(self.oldest.map_or(slot.fetched, |t| t.min(slot.fetched)));
        if let Some(ttl) = ttl {
            self.ttl = Some(self.ttl.map_or(ttl, |t| t.min(ttl)));
        }
    }

    /// How many of the ids are usable or known to be absent.
    pub fn known(&self) -> usize {
        self.usable.len() + self.absent
    }
}

/// Sorts the asked ids into usable, absent and missing.
pub fn sort_out(shelf: &Shelf, ids: &AskedIds, windows: &Windows, now: Time) -> Sorted {
    let mut sorted = Sorted::default();
    sorted.usable.reserve_exact(ids.len());
    for &id in ids.ascending() {
        let Some((place, slot)) = shelf.find(id) else {
            sorted.missing.push(id);
            continue;
        };
        let age = now.since(slot.fetched);
        match windows.usability(slot.kind(), age, slot.jitter) {
            Usability::Fresh { ttl } => sorted.add(place, slot, Some(ttl)),
            Usability::Expired => sorted.missing.push(id),
        }
    }
    if !sorted.missing.is_empty() {
        sorted.missing = in_asked_order(ids, &sorted.missing);
    }
    sorted
}

/// The members of `ascending` in the order in which they were asked.
fn in_asked_order(ids: &AskedIds, ascending: &[u64]) -> Vec<u64> {
    ids.in_order()
        .iter()
        .copied()
        .filter(|id| ascending.binary_search(id).is_ok())
        .collect()
}
