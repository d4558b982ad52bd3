//! Turns for what may wait: a step of one, and then the thread looks at its sockets before there is another.
//!
//! A step of a TLS handshake takes as long as ten answers from memory and more, and a piece of a body as long as some. A
//! thousand clients who send one at the same moment make a thousand steps due at once, and whoever asks for something
//! meanwhile would wait for them all.
//!
//! Whoever is called need not come: nobody holds a turn while he waits for something else, and none waits for him.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::task::yield_now;

/// Reads that make a step, of which the TLS library has several for one record. Who sends as fast as he is read, in however
/// small pieces, would otherwise have the thread for as long as tokio lets him, which is 128 reads and what follows of them.
pub(super) const READS: u8 = 8;

/// The turns of one thread. Clones are of the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Whether somebody has had his turn since the sockets were looked at.
    is_taken: bool,
    /// How often they were while somebody took turns.
    looks: u64,
    /// Who waits, in the order in which they came.
    waiting: VecDeque<Waker>,
    /// How many of those who waited were called. Who waits has the number of those who were called before he will be.
    called: u64,
}

impl Turns {
    /// Calls those who wait, one after each look at the sockets, until there is nobody.
    async fn call(self) {
        loop {
            // A runtime of one thread looks at its sockets before it goes on with who yields.
            yield_now().await;
            let Some(next) = self.0.lock().next() else {
                return;
            };
            next.wake();
        }
    }
}

impl Queue {
    /// The sockets were looked at; whose turn it is now.
    fn next(&mut self) -> Option<Waker> {
        self.looks += 1;
        let next = self.waiting.pop_front();
        match next {
            Some(_) => self.called += 1,
            None => self.is_taken = false,
        }
        next
    }
}

/// Somebody who takes turns.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    /// His number, while he waits.
    number: Option<u64>,
    /// After how many looks at the sockets he had his last turn, and what he may still read in it.
    had: u64,
    left: u8,
}

impl Turn {
    /// Somebody who has not come for a turn yet.
    pub(super) fn of(turns: Turns) -> Self {
        Self {
            turns,
            number: None,
            had: 0,
            left: 0,
        }
    }

    /// Whether he waits for a turn.
    pub(super) fn is_awaited(&self) -> bool {
        self.number.is_some()
    }

    /// Comes for a turn, and is ready for each read that belongs to it.
    pub(super) fn poll_read(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.turns.0.lock();
        match self.number {
            None if self.had == queue.looks && self.left > 0 => {
                self.left -= 1;
                return Poll::Ready(());
            }
            None if !queue.is_taken => {
                queue.is_taken = true;
                tokio::spawn(self.turns.clone().call());
            }
            None => {
                self.number = Some(queue.called + queue.waiting.len() as u64);
                queue.waiting.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            Some(number) if number < queue.called => self.number = None,
            Some(number) => {
                let place = usize::try_from(number - queue.called);
                let place = place.expect("those who wait are in memory");
                queue.waiting[place].clone_from(cx.waker());
                return Poll::Pending;
            }
        }
        self.had = queue.looks;
        self.left = READS - 1;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    async fn takes(turn: &mut Turn) {
        poll_fn(|cx| turn.poll_read(cx)).await;
    }

    #[tokio::test]
    async fn the_sockets_are_looked_at_between_two_steps() {
        let turns = Turns::default();
        let steps = Arc::new(AtomicUsize::new(0));
        let mut working = JoinSet::new();
        for _ in 0..20 {
            let (mut turn, steps) = (Turn::of(turns.clone()), Arc::clone(&steps));
            working.spawn(async move {
                for _ in 0..3 {
                    for _ in 0..READS {
                        takes(&mut turn).await;
                    }
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut most = 0;
        let mut before = 0;
        while before < 60 {
            // This comes back once they were.
            yield_now().await;
            let done = steps.load(Ordering::Relaxed);
            most = most.max(done - before);
            before = done;
        }
        assert_eq!(most, 1);
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
    async fn who_does_not_come_when_called_keeps_nobody_waiting() {
        let turns = Turns::default();
        let [mut first, mut absent, mut gone, mut last] =
            std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        let nobody = &Context::from_waker(Waker::noop());
        assert!(absent.poll_read(nobody).is_pending());
        assert!(gone.poll_read(nobody).is_pending());
        drop(gone);
        takes(&mut last).await;
        // His turn has come, and he may have it when he likes.
        assert!(absent.poll_read(nobody).is_ready());
    }

    #[tokio::test]
    async fn whoever_asks_last_is_called_of_those_who_ask_for_one() {
        let turns = Turns::default();
        let [mut first, mut second] = std::array::from_fn(|_| Turn::of(turns.clone()));
        takes(&mut first).await;
        let nobody = &Context::from_waker(Waker::noop());
        assert!(second.poll_read(nobody).is_pending());
        // Another task, or another part of the same one.
        takes(&mut second).await;
    }
}
