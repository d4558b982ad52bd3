//! Time: monotonic, and in the hands of whoever runs the edge, so that a test can move it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A point in monotonic time, in nanoseconds since the process began to look at the clock.
///
/// Setting the machine's clock back or forth does not move it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// How long `earlier` lies back; zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point in time that lies `by` later.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(by)))
    }

    /// The point in time that lies `by` earlier, if there is one.
    pub fn minus(self, by: Duration) -> Option<Self> {
        self.0.checked_sub(nanoseconds(by)).map(Self)
    }

    pub(super) fn as_nanos(self) -> u64 {
        self.0
    }

    pub(super) fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }
}

/// Tells the time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

/// Moves the [`Clock`] it was made with.
#[derive(Clone, Debug)]
pub struct Hand(Arc<AtomicU64>);

impl Clock {
    /// The machine's monotonic clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until its hand is moved.
    pub fn manual() -> (Self, Hand) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&now))), Hand(now))
    }

    /// The time now.
    pub fn now(&self) -> Time {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        Time(match &self.0 {
            Source::System => nanoseconds(START.elapsed()),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        })
    }
}

impl Hand {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanoseconds(by), Ordering::SeqCst);
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::manual();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        hand.advance(Duration::from_secs(3));
        assert_eq!(clock.now().since(start), Duration::from_secs(3));
        assert_eq!(start.since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = Clock::system();
        let earlier = clock.now();
        assert!(clock.now() >= earlier);
    }
}
