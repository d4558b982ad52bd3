//! Token buckets: how often each of very many may do something.
//!
//! Each has a bucket of its own (GCRA, of the crate governor), in a table of ours. Governor's own tables grow with every key
//! that they ever saw until they are swept; pingora-limits has a fixed size, but it estimates, and counts whose 64-bit hashes
//! collide as one. Here a key is compared whole, so nobody pays for another, and there are at most [`MAX_REMEMBERED`].
//!
//! # What is forgotten
//!
//! The table has two generations. What is used is in the newer one; when that is full, it becomes the older one, whose
//! members are forgotten. So a bucket is forgotten, and thereby full again, only if half the table's worth of others were
//! used since its last use: whoever wants to bring that about has to ask far more often than he is kept from.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use crate::cache::clock::{Clock, Time};
use crate::config::Rate;

/// Most buckets that each limit remembers.
pub const MAX_REMEMBERED: usize = 2 * SHARDS * ROOM;

/// Parts of a table, each with a lock of its own.
const SHARDS: usize = 16;

/// Buckets in a generation of a shard.
const ROOM: usize = 4096;

/// One limit, for each `K` by itself.
pub struct Limit<K: Eq + Hash + Clone>(RateLimiter<K, Buckets<K>, Ticks, NoOpMiddleware<Nanos>>);

impl<K: Eq + Hash + Clone> Limit<K> {
    /// With all buckets full; `None` if nothing is limited.
    pub fn new(rate: Rate, clock: &Clock) -> Option<Self> {
        let number = |number: usize| NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX));
        let per_second = number(rate.per_second)?;
        let burst = number(rate.burst).unwrap_or(per_second);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let ticks = Ticks {
            start: clock.now(),
            clock: clock.clone(),
        };
        Some(Self(RateLimiter::new(quota, Buckets::default(), ticks)))
    }

    /// Takes one out of a bucket.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one again, if there is none.
    pub fn admit(&self, key: &K) -> Result<(), Duration> {
        let clock = self.0.clock();
        let admitted = self.0.check_key(key);
        admitted.map_err(|until| until.wait_time_from(clock.now()))
    }
}

/// Our clock, as governor reads it.
struct Ticks {
    start: Time,
    clock: Clock,
}

impl GovernorClock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.clock.now().since(self.start).into()
    }
}

/// The buckets of all `K`, but for those that are forgotten.
struct Buckets<K> {
    shards: [Mutex<Generations<K>>; SHARDS],
    hasher: RandomState,
}

struct Generations<K> {
    newer: HashMap<K, Nanos>,
    older: HashMap<K, Nanos>,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        let empty = || Generations {
            newer: HashMap::new(),
            older: HashMap::new(),
        };
        Self {
            shards: std::array::from_fn(|_| Mutex::new(empty())),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Eq + Hash + Clone> StateStore for Buckets<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Secret, so that nobody can choose keys that fill one shard.
        let hash = self.hasher.hash_one(key).to_le_bytes()[0];
        let mut buckets = self.shards[usize::from(hash) % SHARDS].lock();
        let before = buckets.get(key);
        match (measure(before), before) {
            (Ok((told, after)), _) => {
                buckets.put(key, after);
                Ok(told)
            }
            (Err(refusal), Some(before)) => {
                // Being refused is a use: it must not let the bucket be forgotten.
                buckets.put(key, before);
                Err(refusal)
            }
            (Err(refusal), None) => Err(refusal),
        }
    }
}

impl<K: Eq + Hash + Clone> Generations<K> {
    fn get(&self, key: &K) -> Option<Nanos> {
        self.newer.get(key).or_else(|| self.older.get(key)).copied()
    }

    fn put(&mut self, key: &K, bucket: Nanos) {
        if let Some(known) = self.newer.get_mut(key) {
            *known = bucket;
            return;
        }
        if self.newer.len() == ROOM {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key.clone(), bucket);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::clock::Hand;

    fn limit(per_second: usize, burst: usize) -> (Limit<u64>, Hand) {
        let (clock, hand) = Clock::manual();
        let limit = Limit::new(Rate { per_second, burst }, &clock);
        (limit.expect("there is a rate"), hand)
    }

    #[test]
    fn a_bucket_is_full_at_first_and_fills_again_at_its_rate() {
        let (limit, hand) = limit(4, 2);
        assert_eq!((limit.admit(&1), limit.admit(&1)), (Ok(()), Ok(())));
        assert_eq!(limit.admit(&1), Err(Duration::from_millis(250)));
        assert_eq!(limit.admit(&2), Ok(()), "another has a bucket of his own");
        hand.advance(Duration::from_millis(249));
        assert_eq!(limit.admit(&1), Err(Duration::from_millis(1)));
        hand.advance(Duration::from_millis(1));
        assert_eq!((limit.admit(&1), limit.admit(&1).is_err()), (Ok(()), true));
        hand.advance(Duration::from_secs(60));
        assert_eq!((limit.admit(&1), limit.admit(&1)), (Ok(()), Ok(())));
        assert!(
            limit.admit(&1).is_err(),
            "it never holds more than its burst"
        );
    }

    #[test]
    fn however_many_ask_only_so_many_are_remembered_and_each_is_limited_for_himself() {
        let (limit, _hand) = limit(1, 3);
        let mut refused = 0;
        for key in 0..300_000 {
            assert_eq!(limit.admit(&(key + 10)), Ok(()), "nobody pays for another");
            if key % 10_000 == 0 {
                refused += u32::from(limit.admit(&7).is_err());
            }
        }
        assert_eq!(refused, 30 - 3, "who goes on asking is not forgotten");
        let buckets = limit.0.into_state_store();
        let lengths = buckets.shards.iter().map(|shard| {
            let shard = shard.lock();
            shard.newer.len() + shard.older.len()
        });
        let remembered: usize = lengths.sum();
        assert!((MAX_REMEMBERED / 2..=MAX_REMEMBERED).contains(&remembered));
    }

    proptest! {
        #[test]
        fn in_no_stretch_of_time_more_is_let_through_than_the_burst_and_what_flows_back(
            rate in 1..20_usize,
            burst in 1..20_usize,
            pauses_ms in prop::collection::vec(0..400_u64, 1..100),
        ) {
            let (limit, hand) = limit(rate, burst);
            let (mut now_ms, mut let_through) = (0, Vec::new());
            for pause in pauses_ms {
                hand.advance(Duration::from_millis(pause));
                now_ms += pause;
                match limit.admit(&1) {
                    Ok(()) => let_through.push(now_ms),
                    Err(wait) => prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1)),
                }
            }
            for (first, from) in let_through.iter().enumerate() {
                for (last, to) in let_through.iter().enumerate().skip(first) {
                    // In thousandths of a request, and one for what is rounded.
                    let allowed = burst as u64 * 1_000 + (to - from) * rate as u64 + 1;
                    prop_assert!((last - first + 1) as u64 * 1_000 <= allowed);
                }
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_kept_waiting(rate in 1..50_usize, requests in 1..200_u32) {
            let (limit, hand) = limit(rate, 1);
            for _ in 0..requests {
                prop_assert_eq!(limit.admit(&1), Ok(()));
                hand.advance(Duration::from_nanos(1_000_000_000_u64.div_ceil(rate as u64)));
            }
        }
    }
}
