//! All shelves, within a bound of memory. The only file that knows moka.
//!
//! A key holds one shelf; a fill replaces it atomically, so that two fills of one key never lose each other's items.
//! When the bound is reached, moka's TinyLFU lets the shelves go that are asked least.

mod known;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::clock::Time;
use super::header::{Headers, StoredHeader};
use super::shelf::{Fill, Shelf, Slot};
use crate::request::key::{Key, UserId};
use known::Known;
pub use known::Reason;

/// Memory that a shelf costs beside its own, in bytes: moka's entry, its places in the hash table and in two queues, the
/// key, its share of the frequency sketch, and the knowledge of its user.
///
/// Measured with an allocator's own counts (`tests/memory.rs`): 393 to 426 from 20,000 shelves on, the most while a hash
/// table has just grown; below, the table's 64 segments add 60 KiB in all, and with few shelves the rest of moka 150 KiB.
const ENTRY_BYTES: usize = 410;

/// A shelf is large if it takes more than one part in so many of the bound.
///
/// moka makes room for shelves only when it has been given 64 of them: at the most 3 % of the bound, if none is large.
const LARGE_SHARE: u64 = 2048;

/// Every requester's shelf.
pub struct Store {
    shelves: ArcSwap<Shelves>,
    known: Arc<Known>,
    evicted: Arc<Evicted>,
    headers: Headers,
}

/// The shelves within one bound; another bound needs a cache of its own, since moka's is fixed.
struct Shelves {
    cache: Cache<Key, Arc<Stored>>,
    items: Arc<AtomicU64>,
    max_bytes: u64,
    longest: Duration,
    /// From this weight on, room is made for a shelf at once.
    large: u64,
}

/// A shelf in the store, or on its way out of it. For as long as it lasts, its user is known.
pub struct Stored {
    shelf: Shelf,
    /// Until when nobody refreshes it, since that failed; in nanoseconds of [`Time`].
    rests_until: AtomicU64,
    _known: Reason,
}

impl Stored {
    /// Leaves it unrefreshed until a point in time.
    pub fn rest(&self, until: Time) {
        self.rests_until
            .fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Whether it is not to be refreshed yet.
    pub fn rests(&self, now: Time) -> bool {
        now.as_nanos() < self.rests_until.load(Ordering::Relaxed)
    }
}

impl Deref for Stored {
    type Target = Shelf;

    fn deref(&self) -> &Shelf {
        &self.shelf
    }
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
    /// Most bytes that the shelves may occupy.
    pub max_bytes: u64,
    /// Shelves that had to go so far, to make room for others.
    pub evicted_for_room: u64,
    /// Shelves that had to go so far, since nothing was put on them for as long as anything is of use.
    pub evicted_for_age: u64,
}

/// How many shelves have had to go, within whatever bounds.
#[derive(Default)]
struct Evicted {
    for_room: AtomicU64,
    for_age: AtomicU64,
}

impl Evicted {
    fn count(&self, cause: RemovalCause) {
        let counter = match cause {
            RemovalCause::Size => &self.for_room,
            RemovalCause::Expired => &self.for_age,
            RemovalCause::Explicit | RemovalCause::Replaced => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store {
    /// A store that occupies at most `max_bytes`, and drops a shelf when nothing was put on it for `longest`.
    pub fn new(max_bytes: u64, longest: Duration) -> Self {
        let evicted = Arc::default();
        Self {
            shelves: ArcSwap::from_pointee(Shelves::new(max_bytes, longest, &evicted)),
            known: Arc::default(),
            evicted,
            headers: Headers::default(),
        }
    }

    /// Gives the store another bound and another longest time, and keeps what it has as far as that fits.
    ///
    /// What is put on a shelf in the same moment may be lost, and is then fetched again.
    pub fn resize(&self, max_bytes: u64, longest: Duration) {
        let before = self.shelves.load();
        if (before.max_bytes, before.longest) == (max_bytes, longest) {
            return;
        }
        let shelves = Arc::new(Shelves::new(max_bytes, longest, &self.evicted));
        let before = self.shelves.swap(Arc::clone(&shelves));
        for (key, shelf) in &before.cache {
            shelves.adopt(*key, &shelf);
        }
    }

    /// The header to put on a shelf in place of `header`, and how many bytes of memory that adds to what is in use.
    pub fn share(&self, header: StoredHeader) -> (Arc<StoredHeader>, usize) {
        self.headers.share(header)
    }

    /// The shelf of a key.
    pub fn shelf(&self, key: &Key) -> Option<Arc<Stored>> {
        self.shelves.load().cache.get(key)
    }

    /// Whether anything is stored for a user, under any key, or about to be.
    pub fn knows(&self, user: &UserId) -> bool {
        self.known.has(user)
    }

    /// Makes a user known, before something is stored for the user.
    pub fn know(&self, user: UserId) -> Reason {
        Reason::new(&self.known, user)
    }

    /// Puts a fill on the shelf of a key, beside those slots of it that `keep` keeps.
    pub fn put(&self, key: Key, reason: Reason, fill: &Fill, keep: impl Fn(&Slot) -> bool) {
        let shelves = self.shelves.load();
        let mut is_large = false;
        shelves.cache.entry(key).and_compute_with(|before| {
            let before = before.map(|entry| entry.into_value());
            let before = before.as_deref().map(Deref::deref);
            let shelf = Shelf::merged(before, fill, &keep);
            shelves.count(&shelf);
            is_large = u64::from(weight(&shelf)) >= shelves.large;
            Op::Put(Arc::new(Stored {
                shelf,
                rests_until: AtomicU64::new(0),
                _known: reason,
            }))
        });
        if is_large {
            shelves.cache.run_pending_tasks();
        }
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let shelves = self.shelves.load();
        shelves.cache.run_pending_tasks();
        Usage {
            bytes: shelves.cache.weighted_size(),
            items: shelves.items.load(Ordering::Relaxed),
            shelves: shelves.cache.entry_count(),
            max_bytes: shelves.max_bytes,
            evicted_for_room: self.evicted.for_room.load(Ordering::Relaxed),
            evicted_for_age: self.evicted.for_age.load(Ordering::Relaxed),
        }
    }
}

impl Shelves {
    fn new(max_bytes: u64, longest: Duration, evicted: &Arc<Evicted>) -> Self {
        let items = Arc::new(AtomicU64::new(0));
        let gone = Arc::clone(&items);
        let evicted = Arc::clone(evicted);
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, shelf: &Arc<Stored>| weight(shelf))
            .time_to_live(longest.max(Duration::from_secs(1)))
            .eviction_listener(move |_, shelf: Arc<Stored>, cause| {
                evicted.count(cause);
                gone.fetch_sub(shelf.slots().len() as u64, Ordering::Relaxed);
            })
            .build();
        Self {
            cache,
            items,
            max_bytes,
            longest,
            large: max_bytes / LARGE_SHARE,
        }
    }

    /// Takes over a shelf, unless its key has a newer one already.
    fn adopt(&self, key: Key, shelf: &Arc<Stored>) {
        self.cache.entry(key).and_compute_with(|newer| match newer {
            Some(_) => Op::Nop,
            None => {
                self.count(shelf);
                Op::Put(Arc::clone(shelf))
            }
        });
    }

    fn count(&self, shelf: &Shelf) {
        let slots = shelf.slots().len() as u64;
        self.items.fetch_add(slots, Ordering::Relaxed);
    }
}

fn weight(shelf: &Shelf) -> u32 {
    u32::try_from(shelf.size_bytes() + ENTRY_BYTES).expect("a shelf is bounded far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use pingora_http::RequestHeader;

    use super::super::shelf::tests::{text_of, told};
    use super::*;
    use crate::config::Config;
    use crate::request::key::KeyMaker;
    use crate::request::{Endpoint, Scheme, examine};

    /// The key of a user's batches.
    fn key(keys: &KeyMaker, user: &str) -> Key {
        key_of(keys, user, "device")
    }

    fn key_of(keys: &KeyMaker, user: &str, device: &str) -> Key {
        let config = Config::parse("upstream.servers = [\"127.0.0.1:9\"]", "test").unwrap();
        let mut request = RequestHeader::build("GET", b"/?ids[]=1", None).unwrap();
        for (name, value) in [
            ("Authorization", format!("Bearer {user}")),
            ("X-Client", "ios".to_owned()),
            ("X-UUID", device.to_owned()),
        ] {
            request.append_header(name, value).unwrap();
        }
        let endpoint = Endpoint {
            batch: &config.batches[0],
            vary: &config.headers.vary,
            peer_is_trusted: false,
            scheme: Scheme::Http,
            era: 0,
        };
        let checked = examine(&request, &config.headers).unwrap();
        checked.read(&request, b"", &endpoint, keys).unwrap().key
    }

    fn store() -> (Store, KeyMaker) {
        let store = Store::new(64 << 20, Duration::from_secs(3600));
        (store, KeyMaker::new().unwrap())
    }

    fn put(store: &Store, keys: &KeyMaker, key: Key, fill: &Fill, keep: fn(&Slot) -> bool) {
        store.put(key, store.know(keys.holder(b"whoever")), fill, keep);
    }

    #[test]
    fn each_key_has_a_shelf_of_its_own() {
        let (store, keys) = store();
        let (ann, bob) = (key(&keys, "ann"), key(&keys, "bob"));
        put(&store, &keys, ann, &told(1, &[(1, "hers")], &[]), |_| true);
        assert!(store.shelf(&bob).is_none());
        put(&store, &keys, bob, &told(1, &[(1, "his")], &[2]), |_| true);
        assert_eq!(text_of(&store.shelf(&ann).unwrap(), 1), Some("hers"));
        assert_eq!(text_of(&store.shelf(&bob).unwrap(), 1), Some("his"));
        let usage = store.usage();
        assert_eq!((usage.shelves, usage.items), (2, 3));
        let weights = [ann, bob].map(|key| u64::from(weight(&store.shelf(&key).unwrap())));
        assert_eq!(usage.bytes, weights[0] + weights[1]);
    }

    #[test]
    fn what_an_earlier_fetch_told_is_not_brought_back_by_arriving_late() {
        let (store, keys) = store();
        let ann = key(&keys, "ann");
        put(&store, &keys, ann, &told(5, &[(1, "new")], &[2]), |_| true);
        put(
            &store,
            &keys,
            ann,
            &told(3, &[(1, "old"), (2, "old")], &[]),
            |_| true,
        );
        let shelf = store.shelf(&ann).unwrap();
        assert_eq!(text_of(&shelf, 1), Some("new"));
        assert_eq!(text_of(&shelf, 2), Some(""));
    }

    #[test]
    fn items_are_counted_as_they_are_replaced_and_dropped() {
        let (store, keys) = store();
        let ann = key(&keys, "ann");
        put(
            &store,
            &keys,
            ann,
            &told(1, &[(1, "a"), (2, "b")], &[3]),
            |_| true,
        );
        assert_eq!(store.usage().items, 3);
        put(&store, &keys, ann, &told(2, &[(3, "c")], &[1]), |_| true);
        assert_eq!(store.usage().items, 3);
        put(&store, &keys, ann, &told(3, &[(9, "d")], &[]), |slot| {
            slot.id == 2
        });
        assert_eq!((store.usage().items, store.usage().shelves), (2, 1));
    }

    #[test]
    fn fills_of_one_key_at_the_same_time_lose_nothing() {
        const THREADS: u32 = 8;
        const FILLS: u32 = 100;
        let (store, keys) = store();
        let ann = key(&keys, "ann");
        let start = Barrier::new(usize::try_from(THREADS).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, keys, start) = (&store, &keys, &start);
                scope.spawn(move || {
                    start.wait();
                    for fill in 0..FILLS {
                        let id = u64::from(1 + thread * FILLS + fill);
                        put(store, keys, ann, &told(1, &[(id, "item")], &[]), |_| true);
                    }
                });
            }
        });
        let shelf = store.shelf(&ann).unwrap();
        let ids: Vec<u64> = shelf.slots().iter().map(|slot| slot.id).collect();
        let all = u64::from(THREADS * FILLS);
        assert_eq!(ids, (1..=all).collect::<Vec<_>>());
        assert_eq!(store.usage().items, all);
    }

    #[test]
    fn another_bound_keeps_what_fits() {
        let (store, keys) = store();
        let name = |user: u32| format!("user-{user}");
        for user in 0..5_000 {
            let fill = told(1, &[(1, "item")], &[2]);
            put(&store, &keys, key(&keys, &name(user)), &fill, |_| true);
        }
        let before = store.usage();
        let hour = Duration::from_secs(3600);
        store.resize(128 << 20, 2 * hour);
        let (bound, larger) = (128 << 20, store.usage());
        assert_eq!(
            larger,
            Usage {
                max_bytes: bound,
                ..before
            }
        );
        assert_eq!(
            text_of(&store.shelf(&key(&keys, "user-7")).unwrap(), 1),
            Some("item")
        );

        store.resize(1 << 20, hour);
        let smaller = store.usage();
        assert!((1 << 19..=1 << 20).contains(&smaller.bytes), "{smaller:?}");
        assert_eq!(smaller.items, 2 * smaller.shelves);
    }

    #[test]
    fn a_newer_shelf_is_not_hidden_by_one_that_is_taken_over() {
        let (store, keys) = store();
        let ann = key(&keys, "ann");
        put(&store, &keys, ann, &told(1, &[(1, "old")], &[]), |_| true);
        let old = store.shelf(&ann).unwrap();
        put(&store, &keys, ann, &told(2, &[(1, "new")], &[]), |_| true);
        store.shelves.load().adopt(ann, &old);
        assert_eq!(text_of(&store.shelf(&ann).unwrap(), 1), Some("new"));
        assert_eq!(store.usage().items, 1);
    }

    #[test]
    fn a_user_is_known_until_the_last_shelf_is_gone() {
        let (store, keys) = store();
        let (ann, bob) = (keys.holder(b"ann"), keys.holder(b"bob"));
        let phones = [key_of(&keys, "ann", "one"), key_of(&keys, "ann", "two")];
        let reason = store.know(ann);
        assert!(store.knows(&ann) && !store.knows(&bob));
        drop(reason);
        assert!(!store.knows(&ann), "nothing came of it");
        for key in phones {
            store.put(key, store.know(ann), &told(1, &[(1, "a")], &[]), |_| true);
            store.put(key, store.know(ann), &told(2, &[(2, "b")], &[]), |_| true);
        }
        let shelves = store.shelves.load_full();
        shelves.cache.invalidate(&phones[0]);
        shelves.cache.run_pending_tasks();
        assert!(store.knows(&ann), "the other phone's are there");
        shelves.cache.invalidate(&phones[1]);
        shelves.cache.run_pending_tasks();
        assert_eq!(store.usage().shelves, 0);
        // What the store drops is freed while it is used, a little later.
        for turn in 0..100_000 {
            if !store.knows(&ann) {
                return;
            }
            let absent = told(turn, &[], &[1]);
            store.put(key(&keys, "bob"), store.know(bob), &absent, |_| true);
        }
        panic!("a user without a shelf is known for ever");
    }

    #[test]
    fn no_user_with_a_shelf_is_forgotten_however_full_the_store_is() {
        let store = Store::new(1 << 20, Duration::from_secs(3600));
        let keys = KeyMaker::new().unwrap();
        let name = |user: u32| format!("user-{user}");
        // The smallest shelves that there can be, more than fit.
        for user in 0..10_000 {
            let reason = store.know(keys.holder(name(user).as_bytes()));
            let absent = told(1, &[], &[1]);
            store.put(key(&keys, &name(user)), reason, &absent, |_| true);
        }
        let mut shelves = 0;
        for user in 0..10_000 {
            if store.shelf(&key(&keys, &name(user))).is_some() {
                shelves += 1;
                assert!(store.knows(&keys.holder(name(user).as_bytes())), "{user}");
            }
        }
        assert!((1_000..10_000).contains(&shelves), "{shelves}");
        let usage = store.usage();
        assert_eq!(usage.shelves + usage.evicted_for_room, 10_000);
        assert_eq!(usage.evicted_for_age, 0);
    }
}
