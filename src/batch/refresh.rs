//! Which stale items are being refreshed, so that each is refreshed once at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::request::key::Key;

/// The refreshes that run now.
#[derive(Clone, Default)]
pub struct Refreshes(Arc<Mutex<HashSet<(Key, u64)>>>);

/// One refresh; its ids may be refreshed again once it is dropped, however it ended.
pub struct Refresh {
    all: Refreshes,
    key: Key,
    ids: Vec<u64>,
}

impl Refreshes {
    /// Begins to refresh those of `ids` that nobody refreshes yet; `None` if there are none.
    pub fn begin(&self, key: Key, ids: &[u64]) -> Option<Refresh> {
        let mut running = self.lock();
        let ids: Vec<u64> = ids
            .iter()
            .copied()
            .filter(|id| running.insert((key, *id)))
            .collect();
        drop(running);
        let all = self.clone();
        (!ids.is_empty()).then_some(Refresh { all, key, ids })
    }

    /// A panic elsewhere cannot leave the set half-changed.
    fn lock(&self) -> MutexGuard<'_, HashSet<(Key, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refresh {
    /// The ids to fetch: at least one.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        let mut running = self.all.lock();
        for id in &self.ids {
            running.remove(&(self.key, *id));
        }
    }
}
