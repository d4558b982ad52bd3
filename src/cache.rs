//! What is remembered: one shelf of items per key, how old they are, and which of them may answer.
//!
//! [`sort_out`] is the decision on which every answer rests; it follows from a shelf, the ids asked, the
//! freshness windows, the marks that cover the shelf, and a time.

pub mod clock;
pub mod digest;
pub mod freshness;
pub mod header;
pub mod marks;
pub mod shelf;
pub mod store;

use clock::Time;
use freshness::{Judged, Kind, Usability, Windows};
use marks::Fence;
use shelf::{Shelf, Slot};

use crate::request::ids::AskedIds;

/// What a shelf can do for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Places on the shelf of the usable items, in ascending order of their ids.
    pub usable: Vec<usize>,
    /// Those of the usable items that are stale.
    pub stale: Vec<u64>,
    /// How many ids are known to be absent.
    pub absent: usize,
    /// Ids about which nothing usable is stored, in the order asked.
    pub missing: Vec<u64>,
    /// When the fetch of the oldest usable item or absence began.
    pub oldest: Option<Time>,
    /// For how long all that is usable stays fresh, in milliseconds; negative since the first went stale.
    pub ttl_ms: Option<i64>,
}

/// How good something must be to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Good enough to answer with.
    Answer,
    /// Better than an error.
    AnythingButAnError,
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
                Some((place, slot)) => all.add(place, &slot),
                None => all.missing.push(id),
            }
        }
        all
    }

    fn add(&mut self, place: usize, slot: &Slot) {
        match slot.kind {
            Kind::Item => self.usable.push(place),
            Kind::Absence => self.absent += 1,
        }
        self.oldest = Some(
            self.oldest
                .map_or(slot.fetch.began, |t| t.min(slot.fetch.began)),
        );
    }

    /// How many of the ids are usable or known to be absent.
    pub fn known(&self) -> usize {
        self.usable.len() + self.absent
    }

    /// How many of the usable items are fresh.
    pub fn fresh(&self) -> usize {
        self.usable.len() - self.stale.len()
    }
}

/// Sorts the asked ids into usable, absent and missing.
pub fn sort_out(
    shelf: &Shelf,
    ids: &AskedIds,
    windows: &Windows,
    fence: &Fence<'_>,
    need: Need,
    now: Time,
) -> Sorted {
    let worst = match need {
        Need::Answer => Usability::Stale,
        Need::AnythingButAnError => Usability::IfError,
    };
    let mut sorted = Sorted::default();
    sorted.usable.reserve_exact(ids.len());
    for &id in ids.ascending() {
        let judged =
            |(place, slot): (usize, Slot)| Some((place, slot, judge(&slot, windows, fence, now)?));
        let known = shelf.find(id).and_then(judged);
        let Some((place, slot, judged)) = known.filter(|known| known.2.usability <= worst) else {
            sorted.missing.push(id);
            continue;
        };
        sorted.add(place, &slot);
        sorted.ttl_ms = Some(
            sorted
                .ttl_ms
                .map_or(judged.ttl_ms, |t| t.min(judged.ttl_ms)),
        );
        if judged.usability > Usability::Fresh && slot.kind == Kind::Item {
            sorted.stale.push(id);
        }
    }
    if !sorted.missing.is_empty() {
        sorted.missing = in_asked_order(ids, &sorted.missing);
    }
    sorted
}

/// What is known about one id, judged by its age and the marks that cover it; `None` if one of them ended it.
pub fn judge(slot: &Slot, windows: &Windows, fence: &Fence<'_>, now: Time) -> Option<Judged> {
    if fence.covers(slot) && !planted!(NoFence) {
        return None;
    }
    let (kind, age, jitter) = (slot.kind, now.since(slot.fetch.began), slot.fetch.jitter);
    Some(match fence.softens(slot) && !planted!(IgnoresSoftPurges) {
        false => windows.judge(kind, age, jitter),
        true => windows.judge_softened(kind, age, jitter),
    })
}

/// The members of `ascending` in the order in which they were asked.
fn in_asked_order(ids: &AskedIds, ascending: &[u64]) -> Vec<u64> {
    ids.in_order()
        .iter()
        .copied()
        .filter(|id| ascending.binary_search(id).is_ok())
        .collect()
}
