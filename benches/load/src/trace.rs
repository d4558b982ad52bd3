//! What widgets of many users ask in the course of some time: the same every time, from a seed.
//!
//! A user has one to three devices, each of which is a client of its own to whoever caches, and twenty intercoms. When a
//! phone wakes up, its widgets ask for two overlapping batches of ten of them, a few milliseconds apart. Phones wake up at
//! Poisson times, those of some users much more often than those of others (Zipf); and after a push, many of them within a
//! second.

pub(crate) mod ideal;

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

/// Intercoms of each user that widgets ask for, and how many of them a batch asks for.
pub(crate) const INTERCOMS: usize = 20;
pub(crate) const BATCH: usize = 10;

/// The most devices of a user.
const DEVICES: u64 = 3;

/// How long after the first batch the second one comes.
const SECOND: Duration = Duration::from_millis(5);

/// In which time the phones wake up that a push reaches.
const BURST: Duration = Duration::from_secs(1);

/// What a trace is made from.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) users: usize,
    pub(crate) lasting: Duration,
    /// Phones that wake up of themselves.
    pub(crate) wakes_per_second: f64,
    /// When there is a push, as shares of the time.
    pub(crate) pushes: &'static [f64],
    /// Which share of the users it wakes up.
    pub(crate) reached: f64,
    /// How much more often users wake up who do so more often than others: the exponent of Zipf's law.
    pub(crate) exponent: f64,
}

/// A batch of a widget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// From the beginning of the trace.
    pub(crate) due: Duration,
    pub(crate) widget: Device,
    /// Which of the user's intercoms it asks for.
    pub(crate) places: Range<usize>,
}

/// Whose widget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Device {
    /// From 0.
    pub(crate) user: usize,
    /// From 0.
    pub(crate) device: u64,
}

/// All batches of a trace, in the order in which they are due.
pub(crate) fn trace(settings: &Settings) -> Vec<Batch> {
    let mut random = Rng::with_seed(settings.seed);
    let popularity = Zipf::new(settings.users, settings.exponent);
    let mut batches = Vec::new();
    let mut due = Duration::ZERO;
    loop {
        due += exponential(&mut random, settings.wakes_per_second);
        if due >= settings.lasting {
            break;
        }
        let user = popularity.draw(&mut random);
        batches.extend(wake(&mut random, due, user));
    }
    for share in settings.pushes {
        let push = settings.lasting.mul_f64(*share);
        for user in 0..settings.users {
            if random.f64() < settings.reached {
                let due = push + BURST.mul_f64(random.f64());
                batches.extend(wake(&mut random, due, user));
            }
        }
    }
    batches.sort_by_key(|batch| (batch.due, batch.widget, batch.places.start));
    batches
}

/// What a phone asks for when it wakes up.
fn wake(random: &mut Rng, due: Duration, user: usize) -> [Batch; 2] {
    // How many devices a user has follows from who he is.
    let devices = 1 + user as u64 % DEVICES;
    let device = random.u64(..devices);
    let first = random.usize(..=INTERCOMS - BATCH);
    let near = first.saturating_sub(BATCH / 2)..=(first + BATCH / 2).min(INTERCOMS - BATCH);
    let second = random.usize(near);
    [(due, first), (due + SECOND, second)].map(|(due, start)| Batch {
        due,
        widget: Device { user, device },
        places: start..start + BATCH,
    })
}

/// The time until the next of so many events in a second, if they have nothing to do with each other.
pub(crate) fn exponential(random: &mut Rng, per_second: f64) -> Duration {
    // Never the logarithm of 0.
    Duration::from_secs_f64(-(1.0 - random.f64()).ln() / per_second)
}

/// Draws the first of some more often than the second, and so on.
struct Zipf {
    /// The weight of each and of all before it.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: usize, exponent: f64) -> Self {
        let ranks = (1..=count).map(|rank| crate::figure::float(rank as u64));
        let sums = ranks.scan(0.0, |sum, rank| {
            *sum += rank.powf(-exponent);
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
        }
    }

    fn draw(&self, random: &mut Rng) -> usize {
        let whole = self.sums.last().copied().unwrap_or_default();
        let drawn = random.f64() * whole;
        self.sums
            .partition_point(|sum| *sum <= drawn)
            .min(self.sums.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn settings() -> Settings {
        Settings {
            seed: 1,
            users: 100,
            lasting: Duration::from_secs(60),
            wakes_per_second: 50.0,
            pushes: &[0.5],
            reached: 0.5,
            exponent: 0.9,
        }
    }

    #[test]
    fn a_trace_is_the_same_every_time_and_another_from_another_seed() {
        let first = trace(&settings());
        assert_eq!(first, trace(&settings()));
        let other = Settings {
            seed: 2,
            ..settings()
        };
        assert_ne!(first, trace(&other));
    }

    #[test]
    fn batches_come_in_order_in_overlapping_pairs_of_ten() {
        let batches = trace(&settings());
        assert!(batches.is_sorted_by_key(|batch| batch.due));
        let mut of_widget: HashMap<Device, Vec<Batch>> = HashMap::new();
        for batch in batches {
            assert_eq!(batch.places.len(), BATCH);
            assert!(batch.places.end <= INTERCOMS);
            let devices = 1 + batch.widget.user as u64 % DEVICES;
            assert!(batch.widget.device < devices);
            of_widget.entry(batch.widget).or_default().push(batch);
        }
        let overlap = |one: &Batch, other: &Batch| {
            one.places.start < other.places.end && other.places.start < one.places.end
        };
        for batches in of_widget.values() {
            for one in batches {
                let is_pair =
                    |other: &&Batch| other.due == one.due + SECOND || one.due == other.due + SECOND;
                let mut pairs = batches.iter().filter(is_pair);
                assert!(pairs.any(|other| overlap(one, other)), "{one:?}");
            }
        }
    }

    #[test]
    fn a_push_wakes_up_many_within_a_second() {
        let within = |batches: &[Batch], second: u64| {
            let in_second = |batch: &&Batch| batch.due.as_secs() == second;
            batches.iter().filter(in_second).count()
        };
        let batches = trace(&settings());
        // A hundred of themselves, and about another hundred.
        let (calm, burst) = (within(&batches, 20), within(&batches, 30));
        assert!(burst > calm + 60, "{calm} and {burst}");
    }

    #[test]
    fn some_users_ask_far_more_often_than_others() {
        let zipf = Zipf::new(100, 0.9);
        let mut random = Rng::with_seed(3);
        let mut drawn = [0; 100];
        for _ in 0..10_000 {
            drawn[zipf.draw(&mut random)] += 1;
        }
        assert!(drawn[0] > 10 * drawn[99]);
        assert!(drawn.iter().all(|count| *count > 0));
    }
}
