//! What was counted up to one moment, to be held against another.

use super::{Label, Metrics, RequestKind};
use crate::cache::marks::Scope;
use crate::ops::metrics::{FetchOutcome, ItemResult};
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;

/// Counters at one moment, or what they grew by between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests on a batch path, by [`BatchResult`].
    pub results: [u64; BatchResult::ALL.len()],
    /// Ids asked in them, by [`ItemResult`].
    pub items: [u64; ItemResult::ALL.len()],
    /// Finished requests of any kind.
    pub requests: u64,
    /// Of these, the ones that passed through.
    pub passed: u64,
    /// Fetches that were sent, or could not be for want of a connection.
    pub fetches: u64,
    /// Ids asked in them.
    pub fetch_ids: u64,
}

impl Counts {
    /// By how much they have grown since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        // Each is read by itself, and a reading that was overtaken must not wrap.
        Self {
            results: less(self.results, earlier.results),
            items: less(self.items, earlier.items),
            requests: self.requests.saturating_sub(earlier.requests),
            passed: self.passed.saturating_sub(earlier.passed),
            fetches: self.fetches.saturating_sub(earlier.fetches),
            fetch_ids: self.fetch_ids.saturating_sub(earlier.fetch_ids),
        }
    }

    /// Batches that the edge took upon itself: all but those that passed through or were refused.
    pub fn batches(&self) -> u64 {
        use BatchResult::{Error, Hit, Miss, Partial, Stale};
        let of = |result: BatchResult| self.results[result.place()];
        [Hit, Stale, Partial, Miss, Error].map(of).iter().sum()
    }

    /// The share of those batches that memory alone answered; `None` if there were none.
    pub fn hit_ratio(&self) -> Option<f64> {
        use BatchResult::{Hit, Stale};
        let hits = self.results[Hit.place()] + self.results[Stale.place()];
        ratio(hits, self.batches())
    }

    /// The share of the asked ids that memory knew; `None` if none were asked.
    pub fn item_hit_ratio(&self) -> Option<f64> {
        let all = self.items.iter().sum();
        ratio(all - self.items[ItemResult::Missing.place()], all)
    }

    /// How many requests fewer the VMS had than if each of those batches had gone there; below zero where refreshing in
    /// the background took more than it spared.
    pub fn saved(&self) -> i64 {
        let of = |count| i64::try_from(count).unwrap_or(i64::MAX);
        of(self.batches()) - of(self.fetches)
    }
}

fn less<const N: usize>(mut now: [u64; N], earlier: [u64; N]) -> [u64; N] {
    for (now, earlier) in now.iter_mut().zip(earlier) {
        *now = now.saturating_sub(earlier);
    }
    now
}

/// As a number from 0 to 1, to four digits.
#[expect(clippy::cast_precision_loss, reason = "a ratio is no exact number")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

impl Metrics {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let finished = |kind: RequestKind| self.requests.seconds[kind.place()].get_sample_count();
        let passed = finished(RequestKind::Pass);
        // The fetches first: whoever is read later may have grown meanwhile, and so saves no less than is told.
        let fetches = self.fetches.seconds.get_sample_count();
        Counts {
            fetches,
            fetch_ids: self.fetches.ids.get(),
            results: BatchResult::ALL.map(|result| self.batch_requests.get(result)),
            items: std::array::from_fn(|place| self.batch_items.get(ItemResult::ALL[place])),
            requests: finished(RequestKind::Batch) + passed,
            passed,
        }
    }

    /// Requests on a batch path that passed through, by reason.
    pub fn bypasses(&self) -> impl Iterator<Item = (Bypass, u64)> {
        self.bypasses.all()
    }

    /// Fetches, by what came of them.
    pub fn fetches(&self) -> impl Iterator<Item = (FetchOutcome, u64)> {
        self.fetches.outcomes.all()
    }

    /// Invalidations, by what they cover.
    pub fn marks(&self) -> impl Iterator<Item = (Scope, u64)> {
        self.marks.all()
    }
}
