//! Who has a core first of those that share it, and how long the others wait.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Runtime};

/// How urgent the threads of a runtime are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// As urgent as whoever starts them.
    Usual,
    /// Less urgent than anything else.
    Lowest,
}

/// What nice(2) calls the lowest priority.
const NICE: i32 = 19;

impl Priority {
    /// # Errors
    /// If the system refuses threads.
    pub(crate) fn runtime(self, threads: usize) -> io::Result<Runtime> {
        Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .on_thread_start(move || {
                if self == Self::Lowest {
                    // On Linux this is the thread's own. Without it all goes on all the same.
                    let _ = setpriority_process(None, NICE);
                }
            })
            .build()
    }
}

/// What the scheduler tells of a thread, to the nanosecond.
pub(crate) struct Times {
    pub(crate) cpu: Duration,
    /// For a core.
    pub(crate) waited: Duration,
}

impl Times {
    /// Of the thread with this folder in `/proc`; `None`: it is over, or the system does not tell.
    pub(crate) fn of(thread: &Path) -> Option<Self> {
        let statistics = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        let times = statistics.split_whitespace().map(str::parse);
        let mut times = times.map_while(Result::ok).map(Duration::from_nanos);
        Some(Self {
            cpu: times.next()?,
            waited: times.next()?,
        })
    }
}

/// How long this thread had something to do so far while its core was another's; nothing where the system does not tell.
pub(crate) fn kept_waiting() -> Duration {
    let own = Times::of(Path::new("/proc/thread-self"));
    own.map_or(Duration::ZERO, |times| times.waited)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn nice_of_a_thread_of(runtime: &Runtime) -> i32 {
        let nice = async { rustix::process::getpriority_process(None).unwrap() };
        let task = runtime.spawn(nice);
        runtime.block_on(task).unwrap()
    }

    #[test]
    fn only_who_is_less_urgent_has_the_lowest_priority() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let [usual, lowest] = [Priority::Usual, Priority::Lowest]
            .map(|priority| nice_of_a_thread_of(&priority.runtime(1).unwrap()));
        assert_eq!((usual, lowest), (own, NICE));
    }

    #[test]
    fn who_has_much_to_do_waits_for_a_core_that_others_want_too() {
        let is_over = AtomicBool::new(false);
        let works = || {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            let cores = std::thread::available_parallelism().unwrap().get();
            (0..cores).for_each(|_| {
                scope.spawn(works);
            });
            let before = kept_waiting();
            // The others have most of this thread's core long before that.
            let spins = (0..200_000_000).find(|_| kept_waiting() > before);
            is_over.store(true, Ordering::Relaxed);
            assert!(spins.is_some(), "it never waited");
        });
    }
}
