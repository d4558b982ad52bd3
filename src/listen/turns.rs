//! Turns for what keeps a thread for long: one step, and then the thread looks at its sockets before the next.
//!
//! A step of a TLS handshake takes as long as ten answers from memory and more. Who connects again and again makes many of
//! them due at once, and whoever asks for something meanwhile would wait for them all.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// The turns of one thread. Clones are of the same ones.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// Those of a thread of which nobody has one.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Does this work, each step of it in a turn of its own. Those who wait are served in the order in which they came.
    pub(super) async fn take<F>(&self, work: F) -> F::Output
    where
        F: Future,
    {
        let mut work = pin!(work);
        loop {
            let turn = Arc::clone(&self.0).acquire_owned().await;
            let step = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
            tokio::spawn(async {
                // A runtime of one thread looks at its sockets before it goes on with who yields.
                yield_now().await;
                drop(turn);
            });
            match step {
                Poll::Ready(output) => return output,
                // Nothing is awaited since the step, so that what wakes this task has not come and gone.
                Poll::Pending => Woken::default().await,
            }
        }
    }
}

/// Waits for whatever wakes its task, for which somebody else has asked.
#[derive(Default)]
struct Woken {
    has_waited: bool,
}

impl Future for Woken {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.has_waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn the_sockets_are_looked_at_between_two_steps() {
        let turns = Turns::new();
        let steps = Arc::new(AtomicUsize::new(0));
        let mut working = JoinSet::new();
        for _ in 0..20 {
            let (turns, steps) = (turns.clone(), Arc::clone(&steps));
            let work = async move {
                for _ in 0..3 {
                    steps.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            };
            working.spawn(async move { turns.take(work).await });
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
    async fn who_waits_for_something_keeps_nobody_from_a_turn() {
        let turns = Turns::new();
        let told = Arc::new(Notify::new());
        let waiting = tokio::spawn({
            let (turns, told) = (turns.clone(), Arc::clone(&told));
            async move { turns.take(told.notified()).await }
        });
        yield_now().await;
        assert_eq!(turns.take(async { "done" }).await, "done");
        told.notify_one();
        waiting.await.unwrap();
    }
}
