//! How often a task was woken, for tests that poll by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// Counts what its wakers are told.
#[derive(Default)]
pub(super) struct Wakings(AtomicUsize);

impl Wakings {
    /// None yet, and who is woken.
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let wakings = Arc::new(Self::default());
        (Arc::clone(&wakings), wakings.into())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakings {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
