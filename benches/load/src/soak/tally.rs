//! What was counted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::generator::tally::Tally;

/// Wrong answers that are kept in words.
const REMEMBERED: usize = 10;

/// How long after the VMS is well again an edge may still be finding that out.
const AFTERMATH: Duration = Duration::from_secs(4);

/// What all people and operators of a soak have in common.
#[derive(Debug, Default)]
pub(super) struct Counted {
    of: Mutex<Counts>,
}

/// Counts since the beginning.
#[derive(Debug, Default)]
struct Counts {
    numbers: Numbers,
    latency: Tally,
    wrong: Vec<String>,
    /// Until when the VMS excuses failures; `None`: nobody knows yet.
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, Default)]
enum Trouble {
    #[default]
    Never,
    Now,
    Until(Instant),
}

/// Numbers of a soak, so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Numbers {
    /// Batches that were answered 200, each held against the VMS.
    pub(super) batches: u64,
    /// Other requests that were answered as they should be.
    pub(super) others: u64,
    /// Writes that were done.
    pub(super) writes: u64,
    /// Requests whose client left.
    pub(super) left: u64,
    /// Purges and reloads.
    pub(super) orders: u64,
    /// How often the VMS was away or slow, or failed.
    pub(super) troubles: u64,
    /// Connections of hostile clients.
    pub(super) hostile: u64,
    /// Requests that failed while the VMS did.
    pub(super) excused: u64,
    /// Requests that failed though the VMS was well.
    pub(super) failed: u64,
    /// Answers that the VMS would not have given.
    pub(super) wrong: u64,
}

impl Counted {
    pub(super) fn count(&self, what: impl FnOnce(&mut Numbers)) {
        what(&mut self.lock().numbers);
    }

    /// A batch was answered as the VMS would have.
    pub(super) fn batch(&self, latency: Duration) {
        let mut counts = self.lock();
        counts.numbers.batches += 1;
        counts.latency.answers(latency, Duration::ZERO);
    }

    /// An answer is one that the VMS would not have given.
    pub(super) fn wrong(&self, why: impl FnOnce() -> String) {
        let mut counts = self.lock();
        counts.numbers.wrong += 1;
        if counts.wrong.len() < REMEMBERED {
            counts.wrong.push(why());
        }
    }

    /// A request that was sent then was not answered, or answered that it cannot be.
    pub(super) fn failed(&self, sent: Instant, why: impl FnOnce() -> String) {
        let mut counts = self.lock();
        let is_excused = match counts.trouble {
            Trouble::Never => false,
            Trouble::Now => true,
            Trouble::Until(over) => sent < over + AFTERMATH,
        };
        if is_excused {
            counts.numbers.excused += 1;
            return;
        }
        counts.numbers.failed += 1;
        if counts.wrong.len() < REMEMBERED {
            counts.wrong.push(why());
        }
    }

    /// The VMS is in trouble from now on.
    pub(super) fn trouble(&self) {
        let mut counts = self.lock();
        counts.numbers.troubles += 1;
        counts.trouble = Trouble::Now;
    }

    /// It is well again.
    pub(super) fn well(&self) {
        self.lock().trouble = Trouble::Until(Instant::now());
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.lock().numbers
    }

    /// Latency of batches, p50 and p99 in microseconds.
    pub(super) fn percentiles_us(&self) -> [f64; 2] {
        let counts = self.lock();
        [0.5, 0.99].map(|quantile| counts.latency.percentile_us(quantile))
    }

    /// The first of what was wrong, in words.
    pub(super) fn words(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
