//! Turns for what may wait: one step of it for each round of a thread, in which everybody else who has something to do is
//! polled and the sockets are looked at.
//!
//! A step of a TLS handshake takes as long as ten answers from memory and more, and a piece of a body as long as some. A
//! thousand clients who send one at the same moment make a thousand steps due at once, and whoever asks for something
//! meanwhile would wait for them all. In a round of much else there are more steps, so that those who wait are not kept for
//! ever by those who do not.
//!
//! A turn is there to be had in the round in which its owner is called, and in the next. Nobody holds one, and who has left
//! costs none.

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::task::yield_now;

/// Reads that make a step: the TLS library has several for one record. Who sends as fast as he is read would otherwise have
/// the thread for as long as tokio lets him, which is 128 reads and what follows of them.
const READS: u8 = 8;

/// After so many reads that waited for no turn there is one step more in a round.
const READS_OF_OTHERS: usize = 8;

/// The turns of one thread. Clones are of the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Whether there are rounds: from somebody's turn until one in which nobody is called. Who waits relies on it, and only
    /// who begins the first and ends the last says so.
    goes_round: bool,
    rounds: u64,
    /// Who waits, in the order in which they came; `None`: he has left.
    waiting: VecDeque<Option<Waker>>,
    /// The number of the first of them: how many were there before.
    first: u64,
    /// The number of the first who was called in this round.
    called: u64,
    /// The same of the round before. Whom somebody handed his turn on to may come when the next round has begun.
    called_before: u64,
    /// Reads in this round that waited for no turn.
    reads_of_others: usize,
}

/// Where somebody stands who has a number.
enum Standing {
    /// So many are before him.
    Waits(usize),
    /// It is his turn.
    Called,
    /// He was called, and did not come.
    Missed,
}

impl Turns {
    /// Goes round, until there is nobody to be called.
    async fn go_round(self) {
        loop {
            // A runtime of one thread polls all who are ready and looks at its sockets before it goes on with who yields.
            yield_now().await;
            let called = self.0.lock().next_round();
            if called.is_empty() {
                return;
            }
            called.into_iter().for_each(Waker::wake);
        }
    }
}

impl Queue {
    /// Begins a round, and calls those whose turn is in it. Nobody: it was the last.
    fn next_round(&mut self) -> Vec<Waker> {
        self.rounds += 1;
        self.called_before = mem::replace(&mut self.called, self.first);
        let steps = 1 + mem::take(&mut self.reads_of_others) / READS_OF_OTHERS;
        let called: Vec<Waker> = iter::from_fn(|| self.call()).take(steps).collect();
        self.goes_round = !called.is_empty();
        called
    }

    /// Calls the next who is still there.
    fn call(&mut self) -> Option<Waker> {
        while let Some(next) = self.waiting.pop_front() {
            self.first += 1;
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn standing(&self, number: u64) -> Standing {
        if number < self.called_before {
            return Standing::Missed;
        }
        match number.checked_sub(self.first) {
            None => Standing::Called,
            Some(before) => Standing::Waits(usize::try_from(before).expect("they are in memory")),
        }
    }

    fn join(&mut self, waker: &Waker) -> u64 {
        self.waiting.push_back(Some(waker.clone()));
        self.first + self.waiting.len() as u64 - 1
    }
}

/// Somebody who takes turns.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    /// His number, while he waits.
    number: Option<u64>,
    /// The round in which he had his last turn, and what he may still read in it.
    round: u64,
    left: u8,
}

impl Turn {
    /// Somebody who has not come for a turn yet.
    pub(super) fn of(turns: Turns) -> Self {
        Self {
            turns,
            number: None,
            round: 0,
            left: 0,
        }
    }

    /// Comes for a turn, and is ready for each read that belongs to it.
    pub(super) fn poll_read(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.turns.0.lock();
        if self.left > 0 && self.round == queue.rounds {
            self.left -= 1;
            return Poll::Ready(());
        }
        let standing = self.number.map(|number| queue.standing(number));
        match standing {
            Some(Standing::Called) => {}
            Some(Standing::Waits(before)) => {
                queue.waiting[before] = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Some(Standing::Missed) | None if queue.goes_round => {
                self.number = Some(queue.join(cx.waker()));
                return Poll::Pending;
            }
            Some(Standing::Missed) | None => {
                queue.goes_round = true;
                tokio::spawn(self.turns.clone().go_round());
            }
        }
        self.number = None;
        self.round = queue.rounds;
        self.left = READS - 1;
        Poll::Ready(())
    }

    /// There is nothing more to be read. If nothing was, it is the next one's turn already.
    pub(super) fn end(&mut self) {
        let is_for_nothing = self.left == READS - 1;
        self.left = 0;
        if !is_for_nothing {
            return;
        }
        let next = self.turns.0.lock().call();
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Something was read that waits for no turn.
    pub(super) fn read_at_once(&mut self) {
        let mut queue = self.turns.0.lock();
        if queue.goes_round {
            queue.reads_of_others += 1;
        }
    }

    /// Waits no longer.
    pub(super) fn leave(&mut self) {
        let Some(number) = self.number.take() else {
            return;
        };
        let mut queue = self.turns.0.lock();
        if let Standing::Waits(before) = queue.standing(number) {
            queue.waiting[before] = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::JoinSet;

    use super::super::wakings::Wakings;
    use super::*;

    async fn takes(turn: &mut Turn) {
        poll_fn(|cx| turn.poll_read(cx)).await;
    }

    fn comes(turn: &mut Turn) -> Poll<()> {
        turn.poll_read(&Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn who_asks_after_a_step_is_heard_before_the_next() {
        const WORKERS: usize = 20;
        const STEPS: usize = 3;
        let turns = Turns::default();
        let steps = Arc::new(AtomicUsize::new(0));
        let (asks, mut hears) = UnixStream::pair().unwrap();
        let asks = Arc::new(tokio::sync::Mutex::new(asks));
        let mut working = JoinSet::new();
        for _ in 0..WORKERS {
            let (mut turn, steps, asks) = (
                Turn::of(turns.clone()),
                Arc::clone(&steps),
                Arc::clone(&asks),
            );
            working.spawn(async move {
                for _ in 0..STEPS {
                    // All reads of a step are in one poll.
                    for _ in 0..READS {
                        takes(&mut turn).await;
                    }
                    steps.fetch_add(1, Ordering::Relaxed);
                    asks.lock().await.write_u8(0).await.unwrap();
                }
            });
        }
        for step in 1..=WORKERS * STEPS {
            hears.read_u8().await.unwrap();
            assert_eq!(steps.load(Ordering::Relaxed), step);
        }
        working.join_all().await;
    }

    #[tokio::test]
    async fn turns_are_had_in_the_order_in_which_they_were_asked_for() {
        let turns = Turns::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut working = JoinSet::new();
        for number in 0..5 {
            let (mut turn, order) = (Turn::of(turns.clone()), Arc::clone(&order));
            working.spawn(async move {
                takes(&mut turn).await;
                order.lock().push(number);
            });
        }
        working.join_all().await;
        assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn the_more_others_read_in_a_round_the_more_steps_there_are_in_the_next() {
        let turns = Turns::default();
        let [mut first, mut other] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        let mut waiting: Vec<Turn> = (0..20).map(|_| Turn::of(turns.clone())).collect();
        for turn in &mut waiting {
            assert!(comes(turn).is_pending());
        }
        for _ in 0..4 * READS_OF_OTHERS {
            other.read_at_once();
        }
        // The next round begins in the course of the second.
        for _ in 0..2 {
            yield_now().await;
        }
        let called = waiting.iter_mut().filter_map(|turn| match comes(turn) {
            Poll::Ready(()) => Some(()),
            Poll::Pending => None,
        });
        assert_eq!(called.count(), 1 + 4);
    }

    #[tokio::test]
    async fn what_others_read_while_nobody_waited_makes_no_steps() {
        let turns = Turns::default();
        let [mut first, mut other] = std::array::from_fn(|_| Turn::of(turns.clone()));
        for _ in 0..100 * READS_OF_OTHERS {
            other.read_at_once();
        }
        takes(&mut first).await;
        let mut waiting: Vec<Turn> = (0..20).map(|_| Turn::of(turns.clone())).collect();
        for turn in &mut waiting {
            assert!(comes(turn).is_pending());
        }
        assert_eq!(turns.0.lock().next_round().len(), 1);
    }

    #[tokio::test]
    async fn who_has_left_costs_no_round() {
        let turns = Turns::default();
        let [mut first, mut gone, mut next] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        for turn in [&mut gone, &mut next] {
            assert!(comes(turn).is_pending());
        }
        drop(gone);
        takes(&mut next).await;
        assert_eq!(turns.0.lock().rounds, 1);
    }

    #[tokio::test]
    async fn who_is_called_may_come_in_the_next_round_and_has_no_turn_later() {
        let turns = Turns::default();
        let [mut first, mut late, mut absent, mut next] =
            std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        for turn in [&mut late, &mut absent, &mut next] {
            assert!(comes(turn).is_pending());
        }
        let round = || turns.0.lock().next_round().len();
        assert_eq!([round(), round()], [1, 1]);
        assert!(comes(&mut late).is_ready());
        assert_eq!(round(), 1);
        assert!(comes(&mut absent).is_ready());
        assert_eq!(round(), 0);
        assert!(comes(&mut next).is_ready());
    }

    #[tokio::test]
    async fn who_comes_too_late_waits_again() {
        let turns = Turns::default();
        let mut all: [Turn; 4] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut all[0]).await;
        for turn in &mut all[1..] {
            assert!(comes(turn).is_pending());
        }
        for _ in 1..all.len() {
            assert_eq!(turns.0.lock().next_round().len(), 1);
        }
        assert!(comes(&mut all[1]).is_pending());
        takes(&mut all[1]).await;
    }

    #[tokio::test]
    async fn a_turn_for_nothing_is_the_next_ones_who_is_told() {
        let turns = Turns::default();
        let [mut first, mut second, mut third] = std::array::from_fn(|_| Turn::of(turns.clone()));
        assert!(comes(&mut first).is_ready());
        let (wakings, waker) = Wakings::new();
        assert!(second.poll_read(&Context::from_waker(&waker)).is_pending());
        assert!(comes(&mut third).is_pending());
        first.end();
        assert_eq!(wakings.count(), 1);
        assert!(comes(&mut second).is_ready());
        assert!(comes(&mut third).is_pending());
    }

    #[tokio::test]
    async fn a_turn_in_which_something_was_read_is_not_handed_on() {
        let turns = Turns::default();
        let [mut first, mut second] = std::array::from_fn(|_| Turn::of(turns.clone()));
        for _ in 0..2 {
            assert!(comes(&mut first).is_ready());
        }
        assert!(comes(&mut second).is_pending());
        first.end();
        assert!(comes(&mut second).is_pending());
    }

    #[tokio::test]
    async fn whoever_asks_last_is_called_of_those_who_ask_for_one() {
        let turns = Turns::default();
        let [mut first, mut second] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        assert!(comes(&mut second).is_pending());
        // Another task, or another part of the same one.
        takes(&mut second).await;
    }

    #[tokio::test]
    async fn after_a_round_of_none_but_those_who_have_left_whoever_comes_has_his_turn() {
        let turns = Turns::default();
        let [mut first, mut gone, mut next] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        assert!(comes(&mut gone).is_pending());
        drop(gone);
        for _ in 0..2 {
            yield_now().await;
        }
        assert!(comes(&mut next).is_ready());
    }

    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Comes,
        ComesForNothing,
        ReadsAtOnce,
        Leaves,
        LooksAway,
    }

    fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
        let deed = prop_oneof![
            4 => Just(Deed::Comes),
            1 => Just(Deed::ComesForNothing),
            1 => Just(Deed::ReadsAtOnce),
            2 => Just(Deed::Leaves),
            2 => Just(Deed::LooksAway),
        ];
        prop::collection::vec((0..6_usize, deed), 0..40)
    }

    proptest! {
        #[test]
        fn whatever_was_done_before_whoever_comes_has_his_turn(deeds in deeds()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let turns = Turns::default();
                let mut all: Vec<Turn> = (0..6).map(|_| Turn::of(turns.clone())).collect();
                for (who, deed) in deeds {
                    match deed {
                        Deed::Comes => drop(comes(&mut all[who])),
                        Deed::ComesForNothing => {
                            if comes(&mut all[who]).is_ready() {
                                all[who].end();
                            }
                        }
                        Deed::ReadsAtOnce => {
                            all[who].leave();
                            all[who].read_at_once();
                        }
                        Deed::Leaves => all[who] = Turn::of(turns.clone()),
                        Deed::LooksAway => yield_now().await,
                    }
                }
                for turn in &mut all {
                    let mut rounds = 0;
                    while comes(turn).is_pending() {
                        rounds += 1;
                        assert!(rounds < 100, "he waits for ever");
                        yield_now().await;
                    }
                }
            });
        }
    }
}
