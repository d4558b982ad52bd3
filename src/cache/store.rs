//! All shelves, within a bound of memory. The only file that knows moka.
//!
//! A key holds one shelf; a fill replaces it atomically, so that two fills of one key never lose each other's items.
//! When the bound is reached, moka's TinyLFU lets the shelves go that are asked least.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;

use super::shelf::{Fill, Shelf, Slot};
use crate::request::key::Key;

/// Memory that a shelf costs beside its own bytes: moka's entry, its place in three queues, the key and the counts
/// of two `Arc`s. Measured with an allocator's own counts (`tests/memory.rs`).
const ENTRY_BYTES: usize = 400;

/// Every requester's shelf.
pub struct Store {
    shelves: Cache<Key, Arc<Shelf>>,
    items: Arc<AtomicU64>,
}

/// How full the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the shelves occupy.
    pub bytes: u64,
    /// Ids remembered, absences included.
    pub items: u64,
    /// Keys that have a shelf.
    pub shelves: u64,
}

impl Store {
    /// A store that occupies at most `max_bytes`, and drops a shelf when nothing was put on it for `longest`.
    pub fn new(max_bytes: u64, longest: Duration) -> Self {
        let items = Arc::new(AtomicU64::new(0));
        let gone = Arc::clone(&items);
        let shelves = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, shelf: &Arc<Shelf>| {
                u32::try_from(shelf.size_bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
            })
            .time_to_live(longest.max(Duration::from_secs(1)))
            .eviction_listener(move |_, shelf: Arc<Shelf>, _| {
                gone.fetch_sub(shelf.slots().len() as u64, Ordering::Relaxed);
            })
            .build();
        Self { shelves, items }
    }

    /// The shelf of a key.
    pub fn shelf(&self, key: &Key) -> Option<Arc<Shelf>> {
        self.shelves.get(key)
    }

    /// Puts a fill on the shelf of a key, beside those slots of it that `keep` keeps.
    pub fn put(&self, key: Key, fill: &Fill, keep: impl Fn(&Slot) -> bool) {
        self.shelves.entry(key).and_compute_with(|before| {
            let before = before.map(|entry| entry.into_value());
            let shelf = Arc::new(Shelf::merged(before.as_deref(), fill, &keep));
            self.items
                .fetch_add(shelf.slots().len() as u64, Ordering::Relaxed);
            Op::Put(shelf)
        });
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        self.shelves.run_pending_tasks();
        Usage {
            bytes: self.shelves.weighted_size(),
            items: self.items.load(Ordering::Relaxed),
            shelves: self.shelves.entry_count(),
        }
    }
}
