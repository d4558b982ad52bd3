//! The room that shelves have, and which of them go when it is full. The only file of the store that knows quick_cache.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::{Stored, Usage, weight};
use crate::request::key::Key;

/// Each has a lock of its own and a part of the room, in which the largest shelf must find its place: it is a user's
/// share at the most, and that is half of such a part.
const PARTS: usize = 4;

/// What a shelf is taken to occupy, to begin with: so many that went are remembered by their keys as there would be
/// half of in the store, to tell those that are asked again from those that never are.
const TYPICAL_BYTES: u64 = 8 << 10;

/// Shelves under their keys.
pub(super) struct Room {
    cache: Cache<Key, Arc<Stored>, Weight, Spread, Leave>,
    ledger: Arc<Ledger>,
}

/// Why a shelf goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another one of its key takes its place.
    Replaced,
    /// Others take its room.
    Room,
    /// Nothing on it is of use.
    Age,
    /// Its user has too many.
    User,
    /// Somebody wants it gone.
    Asked,
}

/// What there is, and what went.
#[derive(Default)]
struct Ledger {
    items: AtomicU64,
    for_room: AtomicU64,
    for_age: AtomicU64,
    for_user: AtomicU64,
}

impl Ledger {
    fn count_in(&self, shelf: &Stored) {
        let items = shelf.slots().len() as u64;
        self.items.fetch_add(items, Ordering::Relaxed);
    }

    fn count_out(&self, shelf: &Stored, cause: Cause) {
        shelf.reason.take_off();
        let items = shelf.slots().len() as u64;
        self.items.fetch_sub(items, Ordering::Relaxed);
        let counter = match cause {
            Cause::Room => &self.for_room,
            Cause::Age => &self.for_age,
            Cause::User => &self.for_user,
            Cause::Replaced | Cause::Asked => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Room {
    pub(super) fn new(max_bytes: u64) -> Self {
        let ledger = Arc::default();
        let typical = usize::try_from(max_bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        // With fewer, it would be divided into fewer parts.
        let typical = typical.max(PARTS * 32);
        let options = OptionsBuilder::new()
            .shards(PARTS)
            .estimated_items_capacity(typical)
            .weight_capacity(max_bytes)
            .build()
            .expect("all that there is to be said is said");
        let leave = Leave(Arc::clone(&ledger));
        Self {
            cache: Cache::with_options(options, Weight, Spread, leave),
            ledger,
        }
    }

    pub(super) fn resize(&self, max_bytes: u64) {
        self.cache.set_capacity(max_bytes);
    }

    /// The shelf of a key, which is noted as asked.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.cache.get(key)
    }

    /// The shelf of a key, of which nothing is noted.
    pub(super) fn peek(&self, key: &Key) -> Option<Arc<Stored>> {
        self.cache.peek(key)
    }

    /// Puts a shelf in the place of the one that its key has.
    pub(super) fn put(&self, key: Key, shelf: Arc<Stored>) {
        self.ledger.count_in(&shelf);
        let mut going = Going {
            replaced: Some(key),
            shelves: Vec::new(),
        };
        self.cache.insert_with_lifecycle(key, shelf, &mut going);
    }

    pub(super) fn remove(&self, key: &Key, cause: Cause) {
        if let Some((_, shelf)) = self.cache.remove(key) {
            self.ledger.count_out(&shelf, cause);
        }
    }

    /// Drops every shelf of which that is true. Each is looked at under a lock that is held for it alone.
    pub(super) fn sweep(&self, is_of_no_use: impl Fn(&Stored) -> bool) {
        for (key, shelf) in self.cache.iter() {
            if is_of_no_use(&shelf) {
                let is_the_same = |found: &Arc<Stored>| Arc::ptr_eq(found, &shelf);
                if let Some((_, shelf)) = self.cache.remove_if(&key, is_the_same) {
                    self.ledger.count_out(&shelf, Cause::Age);
                }
            }
        }
    }

    pub(super) fn usage(&self, max_bytes: u64) -> Usage {
        let Ledger {
            items,
            for_room,
            for_age,
            for_user,
        } = &*self.ledger;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            bytes: self.cache.weight(),
            items: count(items),
            shelves: self.cache.len() as u64,
            max_bytes,
            evicted_for_room: count(for_room),
            evicted_for_age: count(for_age),
            evicted_for_user: count(for_user),
        }
    }
}

/// Weighs shelves by what they occupy.
#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<Stored>> for Weight {
    fn weight(&self, _: &Key, shelf: &Arc<Stored>) -> u64 {
        u64::from(weight(shelf))
    }
}

/// Sees shelves off, within the lock of their part; they are freed outside of it.
#[derive(Clone)]
struct Leave(Arc<Ledger>);

/// Shelves that go with one step.
#[derive(Default)]
struct Going {
    /// The key whose shelf is replaced.
    replaced: Option<Key>,
    shelves: Vec<Arc<Stored>>,
}

impl Lifecycle<Key, Arc<Stored>> for Leave {
    type RequestState = Going;

    fn on_evict(&self, going: &mut Going, key: Key, shelf: Arc<Stored>) {
        let cause = match going.replaced {
            Some(replaced) if replaced == key => Cause::Replaced,
            _ => Cause::Room,
        };
        self.0.count_out(&shelf, cause);
        going.shelves.push(shelf);
    }
}

/// Takes the first bits of a key for its hash: nobody can tell what they will be, and they are spread evenly.
#[derive(Clone)]
struct Spread;

struct FirstBits(u64);

impl BuildHasher for Spread {
    type Hasher = FirstBits;

    fn build_hasher(&self) -> FirstBits {
        FirstBits(0)
    }
}

impl Hasher for FirstBits {
    /// What is written last counts: before it may come its length.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
