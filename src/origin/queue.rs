//! The queue before the VMS: how many fetches it is sent at once, and how long the others wait for their turn.
//!
//! That is `upstream.max_fetches`, but after an outage it begins anew with a few and grows by one with each success, so that
//! it doubles with each round of answers: what has piled up while the VMS was away does not come down on it all at once
//! when it is back, slow and with cold caches.
//!
//! What it counts for operators it reads of itself when somebody looks; nothing is kept for that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Most fetches that wait; whoever comes then is told so at once.
const MAX_WAITING: usize = 4096;

/// Where fetches wait for their turn.
pub struct Queue {
    places: Semaphore,
    sizes: Mutex<Sizes>,
    most: usize,
    /// How many are let in after an outage.
    fewest: usize,
    patience: Duration,
    waiting: AtomicUsize,
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Fetches that wait for their turn.
    pub waiting: usize,
    /// Fetches that have it.
    pub in_flight: usize,
    /// How many may have it at once now.
    pub places: usize,
    /// How many may when all is well (`upstream.max_fetches`).
    pub most: usize,
}

/// One who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many places there are: never fewer than are to be, but for as long as it takes to leave them.
struct Sizes {
    are: usize,
    are_to_be: usize,
}

/// One turn; it ends when it is dropped.
pub(super) struct Place<'a> {
    queue: &'a Queue,
    permit: Option<SemaphorePermit<'a>>,
}

impl Queue {
    /// With `most` places, `fewest` of them after an outage; nobody waits for one longer than `patience`.
    pub(super) fn new(most: usize, fewest: usize, patience: Duration) -> Self {
        Self {
            places: Semaphore::new(most),
            sizes: Mutex::new(Sizes {
                are: most,
                are_to_be: most,
            }),
            most,
            fewest: fewest.min(most),
            patience,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a place; `None` if there is none in time, or if too many wait already.
    pub(super) async fn enter(&self) -> Option<Place<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= MAX_WAITING {
            return None;
        }
        let permit = timeout(self.patience, self.places.acquire()).await.ok()?;
        Some(Place {
            queue: self,
            permit: Some(permit.expect("the semaphore is never closed")),
        })
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let sizes = self.sizes.lock();
        Occupancy {
            waiting: self.waiting.load(Ordering::Relaxed),
            // Whoever leaves gives the place back without the lock: there may be more free ones than were counted.
            in_flight: sizes.are.saturating_sub(self.places.available_permits()),
            places: sizes.are_to_be,
            most: self.most,
        }
    }

    /// How many places there are to be now.
    pub(super) fn size(&self) -> usize {
        self.sizes.lock().are_to_be
    }

    /// Whether all places are taken while there are fewer than before the last outage.
    pub(super) fn is_crowded(&self) -> bool {
        self.size() < self.most && self.places.available_permits() == 0
    }

    /// The VMS is failing: whoever comes when it is back comes slowly.
    pub(super) fn shrink(&self) {
        let mut sizes = self.sizes.lock();
        sizes.are_to_be = self.fewest;
        sizes.are -= self.places.forget_permits(sizes.are - self.fewest);
    }

    /// It has answered.
    pub(super) fn grow(&self) {
        let mut sizes = self.sizes.lock();
        if sizes.are_to_be == self.most {
            return;
        }
        sizes.are_to_be += 1;
        if sizes.are < sizes.are_to_be {
            sizes.are += 1;
            self.places.add_permits(1);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut sizes = self.queue.sizes.lock();
        if sizes.are > sizes.are_to_be {
            sizes.are -= 1;
            self.permit.take().expect("it is dropped once").forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn queue(most: usize, fewest: usize) -> Queue {
        Queue::new(most, fewest, Duration::ZERO)
    }

    fn polled_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Enters as often as it can.
    async fn enter(queue: &Queue) -> Vec<Place<'_>> {
        let mut places = Vec::new();
        while let Some(place) = queue.enter().await {
            places.push(place);
        }
        places
    }

    async fn enter_times(queue: &Queue, count: usize) -> Vec<Place<'_>> {
        let mut places = Vec::new();
        for _ in 0..count {
            places.extend(queue.enter().await);
        }
        places
    }

    #[tokio::test]
    async fn after_an_outage_a_few_are_let_in_and_one_more_with_each_success() {
        let queue = queue(8, 2);
        assert_eq!(enter(&queue).await.len(), 8);
        queue.shrink();
        for size in 2..8 {
            assert_eq!((enter(&queue).await.len(), queue.size()), (size, size));
            queue.grow();
        }
        queue.grow();
        assert_eq!(enter(&queue).await.len(), 8);
    }

    #[tokio::test]
    async fn it_is_crowded_while_it_is_short_and_has_no_room() {
        let queue = queue(2, 1);
        let taken = enter(&queue).await;
        assert!(!queue.is_crowded(), "as many as ever");
        queue.shrink();
        assert!(queue.is_crowded());
        drop(taken);
        assert!(!queue.is_crowded(), "there is room");
    }

    #[tokio::test]
    async fn it_tells_how_many_wait_and_how_many_have_their_turn() {
        let queue = Queue::new(3, 1, Duration::MAX);
        let mut taken = enter_times(&queue, 3).await;
        let mut waits = Box::pin(queue.enter());
        assert!(polled_once(waits.as_mut()).is_pending());
        let occupancy = |waiting, in_flight, places| Occupancy {
            waiting,
            in_flight,
            places,
            most: 3,
        };
        assert_eq!(queue.occupancy(), occupancy(1, 3, 3));
        queue.shrink();
        assert_eq!(queue.occupancy(), occupancy(1, 3, 1), "three are still out");
        drop(waits);
        taken.truncate(1);
        assert_eq!(queue.occupancy(), occupancy(0, 1, 1));
        taken.clear();
        queue.grow();
        assert_eq!(queue.occupancy(), occupancy(0, 0, 2));
    }

    #[tokio::test]
    async fn places_that_are_taken_in_an_outage_are_not_given_again() {
        let queue = queue(4, 1);
        let mut taken = enter(&queue).await;
        queue.shrink();
        while taken.len() > 1 {
            taken.pop();
            assert!(queue.enter().await.is_none());
        }
        taken.pop();
        assert_eq!(enter(&queue).await.len(), 1);
    }

    #[tokio::test]
    async fn no_more_are_let_in_after_an_outage_than_before_it() {
        let queue = queue(2, 6);
        queue.shrink();
        assert_eq!(enter(&queue).await.len(), 2);
    }

    #[tokio::test]
    async fn whoever_finds_too_many_waiting_is_sent_away_at_once() {
        let queue = Queue::new(1, 1, Duration::MAX);
        let _taken = queue.enter().await;
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(queue.enter())).collect();
        for turn in &mut waiting {
            assert!(polled_once(turn.as_mut()).is_pending());
        }
        assert!(queue.enter().await.is_none());
        waiting.pop();
        assert!(polled_once(Box::pin(queue.enter()).as_mut()).is_pending());
    }

    proptest! {
        #[test]
        fn whatever_happens_there_are_as_many_places_as_there_are_to_be_once_all_have_left(
            steps in prop::collection::vec(0..4_u8, 0..64),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let queue = queue(8, 3);
                let mut taken = Vec::new();
                for step in steps {
                    match step {
                        0 => queue.shrink(),
                        1 => queue.grow(),
                        2 => taken.extend(queue.enter().await),
                        _ => drop(taken.pop()),
                    }
                    prop_assert!(taken.len() <= 8);
                }
                drop(taken);
                prop_assert_eq!(enter(&queue).await.len(), queue.size());
                Ok(())
            })?;
        }
    }
}
