//! What the edge must know by now, as far as its answers have told.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Windows of the edge, scaled so that items are stale, and too old to answer but instead of an error, within a drill.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
pub(crate) const WHILE_REVALIDATE: Duration = Duration::from_secs(4);
pub(crate) const STALE_IF_ERROR: Duration = Duration::from_secs(600);

/// What jitter leaves of a window at the least.
const SHORTEST: f64 = 0.9;

/// When each id of each user was fetched last, at the latest.
#[derive(Default)]
pub(crate) struct Memory(HashMap<(u64, u64), Instant>);

impl Memory {
    /// A user was answered about `ids`, by what was fetched no earlier than `fetched`.
    pub(crate) fn learn(&mut self, user: u64, ids: &[u64], fetched: Instant) {
        for &id in ids {
            let known = self.0.entry((user, id)).or_insert(fetched);
            *known = fetched.max(*known);
        }
    }

    /// Whether all of `ids` could still be answered instead of an error.
    pub(crate) fn reaches(&self, user: u64, ids: &[u64], now: Instant) -> bool {
        let bound = FRESH.mul_f64(SHORTEST) + STALE_IF_ERROR;
        let is_known = |&id: &u64| {
            let known = self.0.get(&(user, id));
            known.is_some_and(|&fetched| now.duration_since(fetched) < bound)
        };
        ids.iter().all(is_known)
    }
}
