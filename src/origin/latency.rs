//! How long fetches took, of late: the latest few hundred of each server, as they were.
//!
//! Kept as they were, quantiles of them are exact and of any span of time. A histogram of as good a resolution is no
//! smaller, and would have to be emptied from time to time to forget.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cache::clock::Time;

/// Most fetches that are remembered of one server: of so many the slowest hundredth is still a few.
const MAX_REMEMBERED: usize = 512;

/// For how long a fetch is recent.
pub const RECENT: Duration = Duration::from_secs(5 * 60);

/// When the latest fetches ended and how long they took, the last one last. At most 8 KiB.
#[derive(Debug, Default)]
pub(super) struct Latencies(VecDeque<(Time, Duration)>);

/// Of some durations, those that half and that 99 in 100 of them do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Of half of them.
    pub p50: Duration,
    /// Of 99 in 100.
    pub p99: Duration,
    /// Of how many.
    pub count: usize,
}

impl Latencies {
    pub(super) fn note(&mut self, now: Time, took: Duration) {
        if self.0.len() == MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((now, took));
    }

    /// Of the fetches that ended since, this moment included.
    pub(super) fn since(&self, since: Time) -> impl Iterator<Item = Duration> {
        let ended = self.0.iter().filter(move |(ended, _)| *ended >= since);
        ended.map(|(_, took)| *took)
    }

    pub(super) fn recent(&self, now: Time) -> Option<Quantiles> {
        let ended = self.0.iter().filter(|(end, _)| now.since(*end) <= RECENT);
        Quantiles::of(ended.map(|(_, took)| *took).collect())
    }
}

impl Quantiles {
    /// Of these durations; `None` if there are none.
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let count = durations.len();
        // The nearest rank: always one of the durations, never one that nobody saw.
        let at = |percent: usize| durations.get((count * percent).div_ceil(100).max(1) - 1);
        Some(Self {
            p50: *at(50)?,
            p99: *at(99)?,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::clock::Clock;

    fn milliseconds(numbers: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        numbers.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn quantiles_are_durations_that_were_seen() {
        let of = |durations| Quantiles::of(milliseconds(durations)).map(|q| (q.p50, q.p99));
        let pair = |a, b| Some((Duration::from_millis(a), Duration::from_millis(b)));
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![7]), pair(7, 7));
        assert_eq!(of(vec![9, 1]), pair(1, 9));
        assert_eq!(of((1..=100).rev().collect()), pair(50, 99));
        assert_eq!(of((1..=1000).collect()), pair(500, 990));
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let (clock, hand) = Clock::manual();
        let mut latencies = Latencies::default();
        let start = clock.now();
        latencies.note(start, Duration::from_secs(9));
        hand.advance(RECENT);
        assert_eq!(latencies.recent(clock.now()).unwrap().count, 1);
        hand.advance(Duration::from_nanos(1));
        assert_eq!(latencies.recent(clock.now()), None);
        for took in milliseconds(1..=600) {
            latencies.note(clock.now(), took);
        }
        let recent = latencies.recent(clock.now()).unwrap();
        assert_eq!(recent.count, MAX_REMEMBERED);
        assert_eq!(recent.p99, Duration::from_millis(88 + 507));
        assert_eq!(latencies.since(clock.now()).count(), MAX_REMEMBERED);
    }

    proptest! {
        #[test]
        fn as_many_do_not_exceed_a_quantile_as_it_says(numbers in prop::collection::vec(0u64..50, 1..300)) {
            let durations = milliseconds(numbers);
            let quantiles = Quantiles::of(durations.clone()).unwrap();
            for (percent, quantile) in [(50, quantiles.p50), (99, quantiles.p99)] {
                let within = durations.iter().filter(|duration| **duration <= quantile).count();
                let below = durations.iter().filter(|duration| **duration < quantile).count();
                prop_assert!(within * 100 >= percent * durations.len());
                prop_assert!(below * 100 < percent * durations.len());
            }
        }
    }
}
