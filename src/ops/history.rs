//! What was counted in the last hour, step by step: from it come ratios over windows (`admin/status`), and the lines of the
//! page (`admin/history`).
//!
//! Pure: the time and the counts are given. Bounded: one sample of less than 300 bytes for each [`STEP`] of [`LONGEST`],
//! some 200 KiB in all.
//!
//! What always holds: a window counts only what came after its beginning. It may begin up to a step later than asked, and
//! says how long it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::metrics::counts::Counts;
use crate::cache::clock::Time;
use crate::origin::latency::Quantiles;

/// Time from one sample to the next.
pub const STEP: Duration = Duration::from_secs(5);

/// The longest window.
pub const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What there was at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Time,
    /// What was counted so far.
    pub counts: Counts,
    /// How long the fetches took that ended since the sample before.
    pub latency: Option<Quantiles>,
}

/// The samples of the last hour, the latest last; the first of a young process is its start.
pub struct History {
    samples: VecDeque<Sample>,
    start: Time,
}

/// What a window counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// How long it is.
    pub length: Duration,
    /// What was counted in it.
    pub counts: Counts,
}

impl History {
    /// Of a process that starts now, and has counted nothing.
    pub fn new(start: Time) -> Self {
        let sample = Sample {
            at: start,
            counts: Counts::default(),
            latency: None,
        };
        Self {
            samples: VecDeque::from([sample]),
            start,
        }
    }

    /// Whether a sample is to be noted, as `now` is in a later step than the last one: then the time of that.
    pub fn is_due(&self, now: Time) -> Option<Time> {
        let step = |time: Time| time.since(self.start).as_nanos() / STEP.as_nanos();
        let last = self.samples.back().map_or(self.start, |sample| sample.at);
        (step(now) > step(last)).then_some(last)
    }

    /// Adds a sample; forgets what no window reaches any more.
    pub fn note(&mut self, sample: Sample) {
        self.samples.push_back(sample);
        let is_reached = |sample: &Sample| sample.at.plus(LONGEST + STEP) >= self.newest();
        let kept = self.samples.iter().position(is_reached);
        self.samples.drain(..kept.unwrap_or_default());
    }

    fn newest(&self) -> Time {
        self.samples.back().map_or(self.start, |sample| sample.at)
    }

    /// What was counted within `length` before `now`, when it is `counts`.
    pub fn window(&self, length: Duration, now: Time, counts: &Counts) -> Window {
        let is_within = |sample: &&Sample| now.since(sample.at) <= length;
        match self.samples.iter().find(is_within) {
            Some(first) => Window {
                length: now.since(first.at),
                counts: counts.since(&first.counts),
            },
            // Nobody looked for so long, so nothing can be told.
            None => Window {
                length: Duration::ZERO,
                counts: Counts::default(),
            },
        }
    }

    /// What was counted since the start.
    pub fn since_start(&self, now: Time, counts: &Counts) -> Window {
        Window {
            length: now.since(self.start),
            counts: *counts,
        }
    }

    /// Each pair of neighbouring samples within `length` before `now`, the earliest first.
    pub fn steps(&self, length: Duration, now: Time) -> impl Iterator<Item = (&Sample, &Sample)> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs.filter(move |(before, _)| now.since(before.at) <= length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::clock::{Clock, Hand};

    fn history() -> (Clock, Hand, History) {
        let (clock, hand) = Clock::manual();
        let history = History::new(clock.now());
        (clock, hand, history)
    }

    fn counted(requests: u64) -> Counts {
        Counts {
            requests,
            ..Counts::default()
        }
    }

    fn sample(at: Time, requests: u64) -> Sample {
        Sample {
            at,
            counts: counted(requests),
            latency: None,
        }
    }

    #[test]
    fn each_step_has_one_sample() {
        let (clock, hand, mut history) = history();
        let start = clock.now();
        hand.advance(STEP - Duration::from_nanos(1));
        assert_eq!(history.is_due(clock.now()), None);
        hand.advance(Duration::from_nanos(1));
        assert_eq!(history.is_due(clock.now()), Some(start));
        history.note(sample(clock.now(), 1));
        assert_eq!(history.is_due(clock.now()), None);
    }

    #[test]
    fn a_window_that_nobody_looked_into_tells_nothing() {
        let (clock, hand, history) = history();
        hand.advance(Duration::from_secs(61));
        let window = history.window(Duration::from_secs(60), clock.now(), &counted(7));
        assert_eq!((window.length, window.counts), (Duration::ZERO, counted(0)));
        assert_eq!(
            history.since_start(clock.now(), &counted(7)).counts,
            counted(7)
        );
    }

    #[test]
    fn an_hour_of_samples_is_bounded() {
        assert!(size_of::<Sample>() < 300);
        let (clock, hand, mut history) = history();
        for _ in 0..3_000 {
            hand.advance(STEP);
            history.note(sample(clock.now(), 0));
        }
        assert_eq!(history.samples.len(), 60 * 60 / 5 + 2);
    }

    proptest! {
        #[test]
        fn a_window_counts_what_came_within_it_and_nothing_else(
            events in prop::collection::vec((0u64..30_000, 0u64..5), 1..200),
            length in 5u64..4_000,
        ) {
            let (clock, hand, mut history) = history();
            let start = clock.now();
            let mut counts = 0;
            let mut came = Vec::new();
            for (milliseconds, more) in events {
                hand.advance(Duration::from_millis(milliseconds));
                let now = clock.now();
                if history.is_due(now).is_some() {
                    history.note(sample(now, counts));
                }
                counts += more;
                came.push((now, more));
            }
            hand.advance(Duration::from_nanos(1));
            let (now, length) = (clock.now(), Duration::from_secs(length).min(LONGEST));
            let window = history.window(length, now, &counted(counts));
            prop_assert!(window.length <= length);
            let within = |length| came.iter().filter(|(at, _)| now.since(*at) <= length).map(|(_, more)| more).sum::<u64>();
            prop_assert!(window.counts.requests <= within(length), "what is outside is not counted");
            prop_assert_eq!(window.counts.requests, within(window.length), "what is inside is");
            let all = history.window(LONGEST, now, &counted(counts));
            if now.since(start) <= LONGEST {
                prop_assert_eq!(all.counts.requests, counts, "the sum is the total");
                let stepped: u64 = history.steps(LONGEST, now).map(|(a, b)| b.counts.since(&a.counts).requests).sum();
                let last = history.samples.back().unwrap().counts.requests;
                prop_assert_eq!(stepped, last, "and so is that of the steps");
            }
        }
    }
}
