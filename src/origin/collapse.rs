//! Collapse: what is being fetched already is not fetched again.
//!
//! The table knows, for each user and key, the fetches that are in flight and the ids they bring. A batch looks at it and
//! takes its part in one step ([`Flights::board`]): ids that somebody fetches it waits for, the others it claims. Nothing
//! here knows what a fetch brings.
//!
//! # Why nobody waits for ever
//!
//! - **A claim is never held by one who waits.** Claiming makes a [`Lead`], which is given at once to a task of its own;
//!   only then does the batch wait. That task waits for no other flight: for a turn, for a connection and for the VMS, each
//!   with a deadline. So batches wait for tasks and tasks for deadlines, and no circle can close.
//! - **However the task ends, its waiters hear of it.** [`Lead::land`] tells them what came; a lead that is dropped without,
//!   by a panic or the end of its runtime, ends their wait with nothing ([`Waiting::landed`]), and takes its claim away.
//! - **The table's lock is held for no longer than a look at memory takes.** Whoever holds it awaits nothing, and takes only
//!   the locks inside the store and the marks, whose holders in turn never ask for the table's.
//!
//! # Why nothing is fetched twice
//!
//! What a fetch brought is put on the shelf before its lead lands, and landing takes the lock. So whoever holds the lock
//! and finds an id neither on the shelf nor in flight is the first to want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::cache::clock::Time;
use crate::request::key::{Key, UserId};

/// The fetches that are in flight; each will bring a `T`.
pub struct Flights<T>(Arc<Mutex<Table<T>>>);

/// The flights of each user, the latest last.
type Table<T> = HashMap<UserId, Vec<Arc<Flight<T>>>>;

/// A fetch in flight.
pub struct Flight<T> {
    key: Key,
    ids: Box<[u64]>,
    /// At the latest when the fetch was sent.
    began: Time,
    landing: watch::Receiver<Option<T>>,
    /// Whether its user was refused while it was in the air.
    is_condemned: AtomicBool,
}

/// The flights of one key, for as long as nothing can land or take off.
pub struct Board<'a, T> {
    all: &'a Flights<T>,
    table: MutexGuard<'a, Table<T>>,
    user: UserId,
    key: Key,
}

/// The duty to fetch some ids, and to tell whoever waits for them.
pub struct Lead<T> {
    all: Flights<T>,
    user: UserId,
    flight: Arc<Flight<T>>,
    landing: watch::Sender<Option<T>>,
}

/// One who waits for a flight.
pub struct Waiting<T>(watch::Receiver<Option<T>>);

impl<T> Flights<T> {
    /// The flights of a user's key; until it is dropped, nothing lands or takes off.
    pub fn board(&self, user: UserId, key: Key) -> Board<'_, T> {
        Board {
            all: self,
            table: self.0.lock(),
            user,
            key,
        }
    }

    /// Condemns what is in flight for a user whose token was refused: it may tell of the time before.
    ///
    /// A mark would do the same, but who is unknown gets none: guessed tokens must not fill the memory for marks.
    pub fn condemn(&self, user: &UserId) {
        let table = self.0.lock();
        for flight in table.get(user).into_iter().flatten() {
            flight.is_condemned.store(true, Ordering::SeqCst);
        }
    }

    /// How many fetches are in flight.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }
}

impl<T> Board<'_, T> {
    /// The latest flight that brings `id`.
    ///
    /// An earlier one may be under way still, begun before what is asked now could be trusted to it.
    pub fn find(&self, id: u64) -> Option<&Arc<Flight<T>>> {
        if planted!(NoCollapse) {
            return None;
        }
        if planted!(WaitsAcrossKeys) {
            let mut all = self.table.values().flatten();
            return all.find(|flight| flight.brings(id));
        }
        let flights = self.table.get(&self.user)?;
        let mut latest_first = flights.iter().rev();
        let is_ours = |key: Key| key == self.key || planted!(WaitsAcrossPhones);
        latest_first.find(|flight| is_ours(flight.key) && flight.brings(id))
    }

    /// Claims `ids`: from now on they are in flight.
    pub fn claim(&mut self, ids: Vec<u64>, now: Time) -> Lead<T> {
        let (landing, landed) = watch::channel(None);
        let flight = Arc::new(Flight {
            key: self.key,
            ids: ids.into(),
            began: now,
            landing: landed,
            is_condemned: AtomicBool::new(false),
        });
        let flights = self.table.entry(self.user).or_default();
        flights.push(Arc::clone(&flight));
        Lead {
            all: self.all.clone(),
            user: self.user,
            flight,
            landing,
        }
    }
}

impl<T> Flight<T> {
    /// When it began: what was marked since may not be answered with what it brings.
    pub fn began(&self) -> Time {
        self.began
    }

    /// Joins those who wait for it.
    pub fn wait(&self) -> Waiting<T> {
        Waiting(self.landing.clone())
    }

    /// Whether its user was refused meanwhile, so that nothing it brings may be kept.
    pub fn is_condemned(&self) -> bool {
        self.is_condemned.load(Ordering::SeqCst)
    }

    fn brings(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }
}

impl<T> Lead<T> {
    /// What is to be fetched, in the order in which it was claimed.
    pub fn ids(&self) -> &[u64] {
        &self.flight.ids
    }

    /// Whether nothing it brings may be kept.
    pub fn is_condemned(&self) -> bool {
        self.flight.is_condemned()
    }

    /// Joins those who wait for it.
    pub fn wait(&self) -> Waiting<T> {
        self.flight.wait()
    }

    /// Tells all who wait what came. What is to be remembered of it must be on the shelf by now.
    pub fn land(self, brought: T) {
        self.landing.send_replace(Some(brought));
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        let mut table = self.all.0.lock();
        if let Some(flights) = table.get_mut(&self.user) {
            flights.retain(|flight| !Arc::ptr_eq(flight, &self.flight));
            if flights.is_empty() {
                table.remove(&self.user);
            }
        }
    }
}

impl<T: Clone> Waiting<T> {
    /// What the flight brought; `None` if it was lost.
    pub async fn landed(mut self) -> Option<T> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::clock::Clock;

    const ANN: u8 = 1;
    const BOB: u8 = 2;

    fn claim(flights: &Flights<u32>, user: u8, ids: &[u64]) -> Lead<u32> {
        let now = Clock::manual().0.now();
        let mut board = flights.board(UserId::of_test(user), Key::of_test(user));
        board.claim(ids.to_vec(), now)
    }

    fn wait(flights: &Flights<u32>, user: u8, id: u64) -> Option<Waiting<u32>> {
        let board = flights.board(UserId::of_test(user), Key::of_test(user));
        board.find(id).map(|flight| flight.wait())
    }

    #[tokio::test]
    async fn all_who_wait_are_told_what_came() {
        let flights = Flights::default();
        let lead = claim(&flights, ANN, &[1, 2]);
        let (own, other) = (lead.wait(), wait(&flights, ANN, 2).unwrap());
        lead.land(7);
        assert_eq!(
            (own.landed().await, other.landed().await),
            (Some(7), Some(7))
        );
        assert!(wait(&flights, ANN, 1).is_none());
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn whoever_came_just_before_the_landing_is_told_too() {
        let flights = Flights::default();
        let lead = claim(&flights, ANN, &[1]);
        let late = wait(&flights, ANN, 1).unwrap();
        lead.land(7);
        assert_eq!(late.landed().await, Some(7));
    }

    #[tokio::test]
    async fn a_flight_is_found_by_its_key_and_its_ids_only() {
        let flights = Flights::default();
        let _lead = claim(&flights, ANN, &[1, 2]);
        assert!(wait(&flights, ANN, 2).is_some());
        assert!(wait(&flights, ANN, 3).is_none());
        assert!(wait(&flights, BOB, 2).is_none());
    }

    #[test]
    fn one_phone_of_a_user_finds_no_flight_of_another() {
        let flights: Flights<u32> = Flights::default();
        let _lead = claim(&flights, ANN, &[1]);
        let board = flights.board(UserId::of_test(ANN), Key::of_test(BOB));
        assert!(board.find(1).is_none());
    }

    #[tokio::test]
    async fn of_two_flights_the_later_is_found_and_each_ends_for_itself() {
        let flights = Flights::default();
        let (earlier, later) = (claim(&flights, ANN, &[1]), claim(&flights, ANN, &[1]));
        let waiting = wait(&flights, ANN, 1).unwrap();
        earlier.land(1);
        assert!(wait(&flights, ANN, 1).is_some());
        later.land(2);
        assert_eq!(waiting.landed().await, Some(2));
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn a_lead_that_is_dropped_leaves_nobody_waiting_and_no_claim() {
        let flights = Flights::default();
        let lead = claim(&flights, ANN, &[1]);
        let waiting = wait(&flights, ANN, 1).unwrap();
        drop(lead);
        assert_eq!(waiting.landed().await, None);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn a_leader_that_panics_leaves_nobody_waiting_and_no_claim() {
        let flights = Flights::default();
        let lead = claim(&flights, ANN, &[1]);
        let waiting = wait(&flights, ANN, 1).unwrap();
        let leader = tokio::spawn(async move {
            let _lead = lead;
            std::panic::resume_unwind(Box::new("a planned panic"));
        });
        assert!(leader.await.unwrap_err().is_panic());
        assert_eq!(waiting.landed().await, None);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn a_leader_that_is_cancelled_leaves_nobody_waiting_and_no_claim() {
        let flights = Flights::default();
        let lead = claim(&flights, ANN, &[1]);
        let waiting = wait(&flights, ANN, 1).unwrap();
        let leader = tokio::spawn(async move {
            let _lead = lead;
            std::future::pending::<()>().await;
        });
        leader.abort();
        assert_eq!(waiting.landed().await, None);
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn a_refused_user_condemns_what_is_in_the_air_for_that_user_only() {
        let flights = Flights::default();
        let (hers, his) = (claim(&flights, ANN, &[1]), claim(&flights, BOB, &[1]));
        flights.condemn(&UserId::of_test(ANN));
        assert!(hers.is_condemned() && !his.is_condemned());
        assert!(!claim(&flights, ANN, &[1]).is_condemned());
    }

    #[test]
    fn however_many_threads_want_something_each_fetches_only_what_nobody_has_fetched() {
        const THREADS: usize = 8;
        const IDS: u64 = 2_000;
        let flights: Flights<u32> = Flights::default();
        let shelf = Mutex::new(std::collections::HashSet::new());
        let fetched = std::sync::atomic::AtomicU64::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let start = std::sync::Barrier::new(THREADS);
        let want = |id| {
            let now = Clock::manual().0.now();
            let mut board = flights.board(UserId::of_test(ANN), Key::of_test(ANN));
            if shelf.lock().contains(&id) {
                return None;
            }
            if let Some(flight) = board.find(id) {
                return Some(flight.wait());
            }
            let lead = board.claim(vec![id], now);
            drop(board);
            fetched.fetch_add(1, Ordering::SeqCst);
            shelf.lock().insert(id);
            lead.land(7);
            None
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for waiting in (0..IDS).filter_map(want) {
                        assert_eq!(runtime.block_on(waiting.landed()), Some(7));
                    }
                });
            }
        });
        assert_eq!(fetched.into_inner(), IDS);
        assert_eq!(flights.count(), 0);
    }
}
