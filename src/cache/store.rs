//! All shelves, within a bound of memory.
//!
//! A key holds one shelf. Fills of one key take turns, so that none loses another's items; whoever only reads waits for
//! none of them. When the bound is reached, the shelves go that are asked least: `quick_cache` notes with a bit that one
//! was asked (CLOCK-Pro), where a list of all of them would have to be kept in order.

mod known;
mod room;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Time;
use super::header::{Headers, StoredHeader};
use super::shelf::{Fill, Shelf, Slot};
use crate::request::key::{Key, UserId};
use known::Known;
pub use known::Reason;
use room::{Cause, Room};

/// Memory that a shelf costs beside its own, in bytes: its entry, its place in the hash table, the key, and the knowledge
/// of its user.
///
/// Measured with an allocator's own counts (`tests/memory.rs`): 199 to 263, the most while a table has just grown.
const ENTRY_BYTES: usize = 250;

/// Most bytes that one user may occupy, under all keys together; what was stored first goes.
///
/// A token with ever new phones would have everybody else's shelves, otherwise.
const MAX_USER_BYTES: u64 = 32 << 20;

/// Where the bound is small, it is one part in so many of it.
const USER_SHARE: u64 = 8;

/// So many locks that fills of different keys seldom wait for each other.
const TURNS: u8 = 64;

/// Every requester's shelf.
pub struct Store {
    room: Room,
    /// One fill of a key at a time.
    turns: Vec<Mutex<()>>,
    known: Arc<Known>,
    headers: Headers,
    max_bytes: AtomicU64,
    /// For how long anything is of use, in nanoseconds of [`Time`].
    longest: AtomicU64,
}

/// A shelf in the store, or on its way out of it. For as long as it lasts, its user is known.
pub struct Stored {
    shelf: Shelf,
    /// Until when nobody refreshes it, since that failed; in nanoseconds of [`Time`].
    rests_until: AtomicU64,
    reason: Reason,
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
    /// Shelves that had to go so far, since their user had more than one user's share.
    pub evicted_for_user: u64,
}

impl Store {
    /// A store that occupies at most `max_bytes`, and of which nothing is of use that was fetched longer than `longest` ago.
    pub fn new(max_bytes: u64, longest: Duration) -> Self {
        Self {
            room: Room::new(max_bytes),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            known: Arc::default(),
            headers: Headers::default(),
            max_bytes: max_bytes.into(),
            longest: nanoseconds(longest).into(),
        }
    }

    /// Gives the store another bound and another longest time, and keeps what it has as far as that fits.
    pub fn resize(&self, max_bytes: u64, longest: Duration) {
        self.longest.store(nanoseconds(longest), Ordering::Relaxed);
        if self.max_bytes.swap(max_bytes, Ordering::Relaxed) == max_bytes {
            return;
        }
        self.room.resize(max_bytes);
        for key in self.known.over(share(max_bytes)) {
            self.room.remove(&key, Cause::User);
        }
    }

    /// Drops the shelves of which nothing is of use any more.
    ///
    /// Looks at every shelf, for a tenth of a microsecond each, and keeps nobody waiting meanwhile.
    pub fn sweep(&self, now: Time) {
        let longest = Duration::from_nanos(self.longest.load(Ordering::Relaxed));
        self.room.sweep(|shelf| now.since(shelf.latest()) > longest);
    }

    /// The header to put on a shelf in place of `header`, and how many bytes of memory that adds to what is in use.
    pub fn share(&self, header: StoredHeader) -> (Arc<StoredHeader>, usize) {
        self.headers.share(header)
    }

    /// The shelf of a key.
    pub fn shelf(&self, key: &Key) -> Option<Arc<Stored>> {
        self.room.get(key)
    }

    /// Whether anything is stored for a user, under any key, or about to be.
    pub fn knows(&self, user: &UserId) -> bool {
        self.known.has(user) && !planted!(KnowsNobody)
    }

    /// Makes a user known, before something is stored for the user.
    pub fn know(&self, user: UserId) -> Reason {
        Reason::new(&self.known, user)
    }

    /// Puts a fill on the shelf of a key, beside those slots of it that `keep` keeps.
    ///
    /// If that is more than one user's share, the user's other shelves make room for it, and if it is more by itself, it
    /// goes: nobody else's do.
    pub fn put(&self, key: Key, mut reason: Reason, fill: &Fill, keep: impl Fn(&Slot) -> bool) {
        let _turn = self.turns[usize::from(key.spread() % TURNS)].lock();
        let before = self.room.peek(&key);
        let shelf = Shelf::merged(before.as_deref().map(Deref::deref), fill, keep);
        let share = share(self.max_bytes.load(Ordering::Relaxed));
        let bytes = weight(&shelf);
        let over = reason.put_down(key, bytes, share);
        if u64::from(bytes) <= share {
            let stored = Stored {
                shelf,
                rests_until: AtomicU64::new(0),
                reason,
            };
            self.room.put(key, Arc::new(stored));
        }
        for key in over {
            self.room.remove(&key, Cause::User);
        }
    }

    /// Drops the shelf of a key.
    pub fn remove(&self, key: &Key) {
        self.room.remove(key, Cause::Asked);
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        self.room.usage(self.max_bytes.load(Ordering::Relaxed))
    }
}

/// Most bytes of one user, where all together have `max_bytes`.
fn share(max_bytes: u64) -> u64 {
    MAX_USER_BYTES.min(max_bytes / USER_SHARE)
}

fn weight(shelf: &Shelf) -> u32 {
    u32::try_from(shelf.size_bytes() + ENTRY_BYTES).expect("a shelf is bounded far below 4 GiB")
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use pingora_http::RequestHeader;

    use super::super::shelf::tests::{second, text_of, told};
    use super::known::MAX_SHELVES;
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

    /// Puts a fill on one of Ann's shelves.
    fn put_anns(store: &Store, keys: &KeyMaker, key: Key, fill: &Fill) {
        store.put(key, store.know(keys.holder(b"ann")), fill, |_| true);
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
        let ids: Vec<u64> = shelf.slots().map(|slot| slot.id).collect();
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
            let reason = store.know(keys.holder(name(user).as_bytes()));
            store.put(key(&keys, &name(user)), reason, &fill, |_| true);
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
        store.remove(&phones[0]);
        assert!(store.knows(&ann), "the other phone's are there");
        store.remove(&phones[1]);
        assert_eq!(store.usage().shelves, 0);
        assert!(!store.knows(&ann), "a user without a shelf");
    }

    #[test]
    fn a_shelf_of_no_use_goes_when_it_is_swept_and_no_other() {
        let (store, keys) = store();
        let (old, new) = (key(&keys, "old"), key(&keys, "new"));
        let hour = 3600;
        put(&store, &keys, old, &told(1, &[(1, "a")], &[]), |_| true);
        put(&store, &keys, new, &told(1, &[(1, "a")], &[]), |_| true);
        put(&store, &keys, new, &told(2, &[(2, "b")], &[]), |_| true);
        store.sweep(second(1 + hour));
        assert_eq!(store.usage().shelves, 2, "they are of use still");
        store.sweep(second(2 + hour));
        assert!(store.shelf(&old).is_none() && store.shelf(&new).is_some());
        let usage = store.usage();
        assert_eq!((usage.items, usage.evicted_for_age), (2, 1));
        store.resize(usage.max_bytes, Duration::from_secs(1));
        store.sweep(second(4));
        assert_eq!(store.usage().shelves, 0, "by the time that holds now");
    }

    #[test]
    fn a_smaller_store_leaves_each_user_a_smaller_share() {
        let (store, keys) = store();
        let megabyte = "x".repeat(1 << 20);
        for phone in 0..7 {
            let key = key_of(&keys, "ann", &phone.to_string());
            put_anns(&store, &keys, key, &told(1, &[(1, &megabyte)], &[]));
        }
        store.resize(32 << 20, Duration::from_secs(3600));
        let usage = store.usage();
        assert_eq!((usage.shelves, usage.evicted_for_user), (3, 4));
        let latest = key_of(&keys, "ann", "6");
        assert!(store.shelf(&latest).is_some());
    }

    #[test]
    fn a_user_with_ever_new_phones_takes_a_share_and_nothing_from_others() {
        let store = Store::new(16 << 20, Duration::from_secs(3600));
        let keys = KeyMaker::new().unwrap();
        let share = (16 << 20) / USER_SHARE;
        let item = "x".repeat(8_000);
        let fill = || told(1, &[(1, &item)], &[]);
        let put = |user: &str, device: &str| {
            let reason = store.know(keys.holder(user.as_bytes()));
            store.put(key_of(&keys, user, device), reason, &fill(), |_| true);
        };
        let others: Vec<String> = (0..500).map(|user| format!("user-{user}")).collect();
        for user in &others {
            put(user, "device");
        }
        let theirs = store.usage();
        let phone = |number: u32| format!("phone-{number}");
        for number in 0..10_000 {
            put("ann", &phone(number));
            if number % 100 == 0 {
                let usage = store.usage();
                assert!(usage.bytes <= theirs.bytes + share, "{usage:?}");
            }
        }
        let kept = |user: &str, device: &str| store.shelf(&key_of(&keys, user, device)).is_some();
        assert!(others.iter().all(|user| kept(user, "device")));
        let usage = store.usage();
        let hers = usage.shelves - theirs.shelves;
        assert!(hers * 9_000 > share / 2, "she has her share: {usage:?}");
        let latest = 10_000 - u32::try_from(hers).unwrap();
        assert!((0..10_000).all(|number| kept("ann", &phone(number)) == (number >= latest)));
        assert_eq!(usage.evicted_for_user, u64::from(latest));
        assert_eq!(usage.evicted_for_room, 0);
    }

    #[test]
    fn a_user_has_so_many_shelves_at_the_most_however_small() {
        let (store, keys) = store();
        let ann = keys.holder(b"ann");
        for number in 0..MAX_SHELVES + 100 {
            let key = key_of(&keys, "ann", &number.to_string());
            store.put(key, store.know(ann), &told(1, &[], &[1]), |_| true);
        }
        let usage = store.usage();
        assert_eq!(usage.shelves, MAX_SHELVES as u64);
        assert_eq!(usage.evicted_for_user, 100);
    }

    #[test]
    fn a_shelf_that_outgrows_a_share_goes_and_the_users_others_stay() {
        let store = Store::new(16 << 20, Duration::from_secs(3600));
        let keys = KeyMaker::new().unwrap();
        let (one, two) = (key_of(&keys, "ann", "one"), key_of(&keys, "ann", "two"));
        let megabyte = "x".repeat(1 << 20);
        put_anns(&store, &keys, one, &told(1, &[(1, "small")], &[]));
        put_anns(&store, &keys, two, &told(1, &[(1, &megabyte)], &[]));
        assert!(store.shelf(&two).is_some());
        put_anns(&store, &keys, two, &told(1, &[(2, &megabyte)], &[]));
        assert!(store.shelf(&two).is_none(), "two are more than a share");
        assert!(store.shelf(&one).is_some());
        put_anns(&store, &keys, two, &told(1, &[(2, &megabyte)], &[]));
        assert!(store.shelf(&two).is_some(), "what went is not counted");
    }

    #[test]
    fn what_is_replaced_pressed_out_or_taken_over_counts_once_for_its_user() {
        let hour = Duration::from_secs(3600);
        let store = Store::new(16 << 20, hour);
        let keys = KeyMaker::new().unwrap();
        let (ann, bob) = (keys.holder(b"ann"), keys.holder(b"bob"));
        let phones = ["one", "two"].map(|phone| key_of(&keys, "ann", phone));
        let large = "x".repeat(900 << 10);
        let stored = |keys: &[Key]| -> u64 {
            let shelves = keys.iter().filter_map(|key| store.shelf(key));
            shelves.map(|shelf| u64::from(weight(&shelf))).sum()
        };
        for turn in 0..10 {
            // It stays readable for whoever has it, but is not in the store.
            let _read = phones.map(|key| store.shelf(&key));
            put_anns(&store, &keys, phones[0], &told(turn, &[(1, &large)], &[]));
            put_anns(&store, &keys, phones[1], &told(turn, &[(1, "a")], &[]));
            store.resize((16 << 20) + turn, hour);
            assert!(phones.iter().all(|key| store.shelf(key).is_some()));
            assert_eq!(store.known.bytes_of(&ann), stored(&phones), "{turn}");
        }
        let _read = phones.map(|key| store.shelf(&key));
        // Hers does not fit any more.
        store.resize(900 << 10, hour);
        store.usage();
        for turn in 0..10 {
            let reason = store.know(bob);
            let fill = told(turn, &[(1, &large[..50 << 10])], &[]);
            store.put(key(&keys, "bob"), reason, &fill, |_| true);
        }
        let usage = store.usage();
        assert!(usage.evicted_for_room > 0, "{usage:?}");
        assert_eq!(store.known.bytes_of(&ann), stored(&phones));
        assert_eq!(store.known.bytes_of(&bob), stored(&[key(&keys, "bob")]));
        assert_eq!(usage.evicted_for_user, 0);
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
