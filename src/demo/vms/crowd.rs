//! How many batches are under way at once: what a VMS that comes back has to bear.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: usize,
    most: usize,
}

/// Counts one for as long as it lives.
#[derive(Debug)]
pub(crate) struct Present<'a>(&'a Crowd);

impl Crowd {
    pub(crate) fn enter(&self) -> Present<'_> {
        let mut counts = self.lock();
        counts.now += 1;
        counts.most = counts.most.max(counts.now);
        Present(self)
    }

    /// The most at once since this was asked last; those present now count again from here on.
    pub(crate) fn most(&self) -> usize {
        let mut counts = self.lock();
        let now = counts.now;
        std::mem::replace(&mut counts.most, now)
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.lock().now -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_still_there_count_for_the_next_time_too() {
        let crowd = Crowd::default();
        let first = crowd.enter();
        drop(crowd.enter());
        assert_eq!(crowd.most(), 2);
        assert_eq!(crowd.most(), 1);
        drop(first);
        assert_eq!(crowd.most(), 1);
        assert_eq!(crowd.most(), 0);
    }
}
