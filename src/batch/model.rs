//! The model: random schedules of all that happens to batches, played without sockets and judged by the VMS's history.
//!
//! Several users with several phones ask for overlapping batches, leave, write, are refused and purged, while the VMS is
//! slow, fails and forgets. No answer may be another's, older than a mark, with a hole, too old, twice fetched, or missing.
//! That the judge is no fool is shown by faults planted in the code, each of which it finds.

mod history;
mod oracle;
mod schedule;
mod tasks;
mod vms;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::planted::{self, Fault};
use schedule::{drawn, shortened};
use world::play;

/// Schedules that are played in every run of the tests.
const SCHEDULES: u64 = 100_000;

/// Schedules within which each planted fault must be found.
const SCHEDULES_PER_FAULT: u64 = 20_000;

/// What goes wrong under a seed, with the shortest schedule that shows it.
fn wrong(seed: u64) -> Option<String> {
    let schedule = drawn(seed);
    play(&schedule, seed).err()?;
    let shortest = shortened(schedule, |schedule| play(schedule, seed).is_err());
    let fault = play(&shortest, seed).expect_err("the shortest fails too");
    Some(format!("seed {seed}: {fault}\n{shortest:#?}"))
}

#[test]
fn no_schedule_breaks_a_promise() {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SCHEDULES {
                        break;
                    }
                    if let Some(wrong) = wrong(seed) {
                        panic!("{wrong}");
                    }
                }
            });
        }
    });
}

/// Plants a fault, and tells how many schedules it took to find it.
fn found_after(fault: Fault) -> Option<u64> {
    planted::with(fault, || {
        (0..SCHEDULES_PER_FAULT).find(|&seed| play(&drawn(seed), seed).is_err())
    })
}

#[test]
fn each_planted_fault_is_found() {
    let next = std::sync::Mutex::new(planted::ALL.iter());
    let mut found = Vec::new();
    let look = || {
        let mut found = Vec::new();
        loop {
            let Some(&fault) = next.lock().unwrap().next() else {
                return found;
            };
            found.push((fault, found_after(fault)));
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
        for thread in threads {
            found.extend(thread.join().expect("the model does not panic"));
        }
    });
    let missed: Vec<_> = found.iter().filter(|(_, after)| after.is_none()).collect();
    assert!(missed.is_empty(), "{missed:?}");
    println!("{found:?}");
}
