//! Runs tasks one step at a time, in an order that is drawn.
//!
//! With a runtime of its own the model decides which task gets on when, so that a seed is a schedule.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use fastrand::Rng;

use super::super::fill::Task;

/// The tasks of one world.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// In the order in which they were spawned; `None` once they have ended.
    tasks: Vec<Option<Task>>,
    /// Those that can get on.
    ready: Vec<usize>,
}

struct Wakes {
    number: usize,
    of: Tasks,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let mut state = self.of.0.lock().unwrap();
        if !state.ready.contains(&self.number) {
            state.ready.push(self.number);
        }
    }
}

impl Tasks {
    /// Adds a task, and tells its number.
    pub(super) fn spawn(&self, task: Task) -> usize {
        let mut state = self.0.lock().unwrap();
        let number = state.tasks.len();
        state.tasks.push(Some(task));
        state.ready.push(number);
        number
    }

    /// Ends all tasks.
    pub(super) fn clear(&self) {
        let state = std::mem::take(&mut *self.0.lock().unwrap());
        drop(state);
    }

    /// Ends a task where it stands, as a connection that is closed ends its request.
    pub(super) fn cancel(&self, number: usize) {
        let task = self.0.lock().unwrap().tasks[number].take();
        drop(task);
    }

    /// Lets one task that can get on do so, until it has to wait; false if there is none.
    pub(super) fn step(&self, rng: &mut Rng) -> bool {
        let (number, task) = {
            let mut state = self.0.lock().unwrap();
            if state.ready.is_empty() {
                return false;
            }
            let drawn = rng.usize(..state.ready.len());
            let number = state.ready.swap_remove(drawn);
            (number, state.tasks[number].take())
        };
        let Some(mut task) = task else { return true };
        let waker = Waker::from(Arc::new(Wakes {
            number,
            of: self.clone(),
        }));
        let mut context = Context::from_waker(&waker);
        // A task that panics has ended, as it has on any runtime.
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
        if let Ok(Poll::Pending) = polled {
            self.0.lock().unwrap().tasks[number] = Some(task);
        }
        true
    }
}
