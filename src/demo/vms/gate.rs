//! The gate before which batches wait, so that a test can be sure of what is under way without any sleeping.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Where batches pass; open unless a [`Hold`] closes it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// The newest hold; older ones keep those who already wait before them.
    closed: Arc<Mutex<Option<Arc<Barrier>>>>,
}

#[derive(Debug)]
struct Barrier {
    is_open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

/// Keeps batches that arrive after it waiting, each with its answer already made, until it is released or dropped.
#[derive(Debug)]
#[must_use = "dropping a hold releases it"]
pub struct Hold {
    barrier: Arc<Barrier>,
    gate: Arc<Mutex<Option<Arc<Barrier>>>>,
}

impl Gate {
    pub(crate) fn close(&self) -> Hold {
        let barrier = Arc::new(Barrier {
            is_open: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        });
        *lock(&self.closed) = Some(Arc::clone(&barrier));
        Hold {
            barrier,
            gate: Arc::clone(&self.closed),
        }
    }

    /// Waits while the gate is closed.
    pub(crate) async fn pass(&self) {
        let barrier = lock(&self.closed).clone();
        let Some(barrier) = barrier else { return };
        let mut is_open = barrier.is_open.subscribe();
        let _waiting = Waiting::at(&barrier);
        // The sender lives in the barrier, which is held here, so the wait cannot end in an error.
        let _ = is_open.wait_for(|is_open| *is_open).await;
    }
}

impl Hold {
    /// Resolves as soon as at least `count` batches wait.
    pub async fn arrived(&self, count: usize) {
        let mut waiting = self.barrier.waiting.subscribe();
        // The sender lives in the barrier, which is held here, so the wait cannot end in an error.
        let _ = waiting.wait_for(|waiting| *waiting >= count).await;
    }

    /// Resolves as soon as no batch waits: those that waited have been let go, or their clients have left.
    pub async fn left(&self) {
        let mut waiting = self.barrier.waiting.subscribe();
        // As above.
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// How many batches wait now.
    pub fn waiting(&self) -> usize {
        *self.barrier.waiting.borrow()
    }

    /// Lets all go who wait, and all who come later.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.barrier.is_open.send_replace(true);
        let mut closed = lock(&self.gate);
        if closed
            .as_ref()
            .is_some_and(|newest| Arc::ptr_eq(newest, &self.barrier))
        {
            *closed = None;
        }
    }
}

/// Counts a batch for as long as it waits, even if its connection ends meanwhile.
struct Waiting<'a>(&'a Barrier);

impl Waiting<'_> {
    fn at(barrier: &Barrier) -> Waiting<'_> {
        barrier.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(barrier)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

fn lock(gate: &Mutex<Option<Arc<Barrier>>>) -> MutexGuard<'_, Option<Arc<Barrier>>> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}
