//! Points in time by what they are about, as many as there is room for.
//!
//! What must be forgotten for want of room goes the earliest first, and is made known as a mark of everything before it
//! goes: no reader finds neither of the two. What is older than anything that could still be of use goes without.
//!
//! Writers hold the queue for as long as they write, and take the lock of one shard at a time within it. Readers take
//! the lock of one shard alone.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::Latest;
use crate::cache::clock::{Time, nanoseconds};

/// So many locks that readers of different users seldom share one.
const SHARDS: usize = 64;

pub(super) struct Remembered<K> {
    shards: Box<[RwLock<HashMap<K, Time>>]>,
    /// Each remembered key once, with its time then; in about the order of the times.
    queue: Mutex<VecDeque<(Time, K)>>,
    hasher: RandomState,
    /// In nanoseconds.
    longest: AtomicU64,
    most: usize,
}

impl<K: Copy + Eq + Hash> Remembered<K> {
    /// With room for `most`, each of which is of use for `longest`.
    pub(super) fn new(longest: Duration, most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            queue: Mutex::default(),
            hasher: RandomState::new(),
            longest: AtomicU64::new(nanoseconds(longest)),
            most,
        }
    }

    /// From now on, each is of use for `longest`, if that is longer than before.
    pub(super) fn lengthen(&self, longest: Duration) {
        self.longest
            .fetch_max(nanoseconds(longest), Ordering::SeqCst);
        // Whoever is forgetting by the shorter time has done so when this returns.
        drop(self.queue.lock());
    }

    /// How long each is of use.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::SeqCst))
    }

    pub(super) fn get(&self, key: &K) -> Option<Time> {
        self.shard(key).read().get(key).copied()
    }

    /// Remembers `now` of a key, unless it has a later time already; `everything` takes the place of what is forgotten.
    pub(super) fn raise(&self, key: K, now: Time, everything: &Latest) {
        let mut queue = self.queue.lock();
        let mut is_new = false;
        self.shard(&key)
            .write()
            .entry(key)
            .and_modify(|time| *time = now.max(*time))
            .or_insert_with(|| {
                is_new = true;
                now
            });
        if is_new {
            queue.push_back((now, key));
        }
        self.tidy_up(&mut queue, now, everything);
    }

    fn tidy_up(&self, queue: &mut VecDeque<(Time, K)>, now: Time, everything: &Latest) {
        while let Some(&(queued, key)) = queue.front() {
            let time = self.get(&key).unwrap_or(queued);
            let is_of_use = now.since(time) <= self.longest();
            if is_of_use && queue.len() <= self.most && time == queued {
                return;
            }
            queue.pop_front();
            if time > queued {
                queue.push_back((time, key));
                continue;
            }
            if is_of_use {
                everything.raise(time);
            }
            self.shard(&key).write().remove(&key);
        }
    }

    fn shard(&self, key: &K) -> &RwLock<HashMap<K, Time>> {
        let hash = self.hasher.hash_one(key);
        let shards = self.shards.len() as u64;
        let place = usize::try_from(hash % shards).expect("there are few shards");
        &self.shards[place]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shelf::tests::second;
    use super::*;

    fn remembered(most: usize) -> (Remembered<u64>, Latest) {
        let longest = Duration::from_secs(10);
        (Remembered::new(longest, most), Latest::default())
    }

    fn len(remembered: &Remembered<u64>) -> (usize, usize) {
        let shards = remembered.shards.iter();
        let there = shards.map(|shard| shard.read().len()).sum();
        (there, remembered.queue.lock().len())
    }

    #[test]
    fn what_is_of_no_use_any_more_is_forgotten_without_a_word() {
        let (remembered, everything) = remembered(100);
        remembered.raise(1, second(0), &everything);
        remembered.raise(2, second(5), &everything);
        remembered.raise(3, second(10), &everything);
        assert_eq!(remembered.get(&1), Some(second(0)));
        remembered.raise(3, second(11), &everything);
        assert_eq!((remembered.get(&1), len(&remembered)), (None, (2, 2)));
        assert_eq!(everything.get(), None);
    }

    #[test]
    fn what_was_marked_again_is_as_young_as_its_latest_mark() {
        let (remembered, everything) = remembered(2);
        for (key, at) in [(1, 0), (2, 1), (1, 2), (3, 3)] {
            remembered.raise(key, second(at), &everything);
        }
        assert_eq!(remembered.get(&1), Some(second(2)));
        assert_eq!(remembered.get(&2), None);
        assert_eq!(everything.get(), Some(second(1)));
        for at in 4..1_000 {
            remembered.raise(1, second(at), &everything);
        }
        assert_eq!(len(&remembered), (1, 1), "one key takes the room of one");
        assert_eq!(everything.get(), Some(second(1)));
    }
}
