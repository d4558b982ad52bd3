//! The model: random schedules of all that happens to batches, played without sockets and judged by the VMS's history.
//!
//! Several users with several phones ask for overlapping batches, leave, write, are refused and purged, while the VMS is
//! slow, fails and forgets. No answer may be another's, older than a mark, with a hole, too old, twice fetched, or missing.
//! That the judge is no fool is shown by faults planted in the code, each of which it finds.
//!
//! The model of the tests (`tests/behaviour/model.rs`) plays the whole edge through its sockets. Only this one decides which
//! task gets on when, step by step, and when an answer that the VMS has made arrives: it finds the one order of events in
//! which a mark, a fetch and a second look do not fit together, and what becomes of others when a fetch panics.

mod history;
mod oracle;
mod phones;
mod schedule;
mod tasks;
mod vms;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::planted::{self, Fault};
use schedule::{Action, drawn, shortened};
use vms::Failure;
use world::World;

/// Schedules that are played in every run of the tests.
const SCHEDULES: u64 = 100_000;

/// Schedules that are played in one world: it takes long to build, and its memory must not fill up.
const SCHEDULES_PER_WORLD: u64 = 250;

/// Schedules within which each planted fault must be found.
const SCHEDULES_PER_FAULT: u64 = 20_000;

/// What goes wrong under a seed, with the shortest schedule that shows it.
fn explained(seed: u64, fault: &str) -> String {
    let play = |schedule: &[Action]| World::new().play(schedule, seed);
    let schedule = drawn(seed);
    if play(&schedule).is_ok() {
        return format!("seed {seed}, only after others: {fault}");
    }
    let shortest = shortened(schedule, |schedule| play(schedule).is_err());
    let fault = play(&shortest).expect_err("the shortest fails too");
    format!("seed {seed}: {fault}\n{shortest:#?}")
}

/// Plays the schedules of one world, from that of a seed on.
///
/// # Errors
///
/// The first that goes wrong, and how.
fn played_from(first: u64) -> Result<(), (u64, String)> {
    let mut world = World::new();
    for seed in first..first + SCHEDULES_PER_WORLD {
        let played = world.play(&drawn(seed), seed);
        played.map_err(|fault| (seed, fault))?;
    }
    Ok(())
}

#[test]
fn no_schedule_breaks_a_promise() {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let first = next.fetch_add(SCHEDULES_PER_WORLD, Ordering::Relaxed);
            if first >= SCHEDULES {
                break;
            }
            if let Err((seed, fault)) = played_from(first) {
                panic!("{}", explained(seed, &fault));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

/// Plants a fault, and tells how many schedules it took to find it.
fn found_after(fault: Fault) -> Option<u64> {
    planted::with(fault, || {
        let worlds = (0..SCHEDULES_PER_FAULT)
            .step_by(usize::try_from(SCHEDULES_PER_WORLD).expect("it is small"));
        let mut wrong = worlds.filter_map(|first| played_from(first).err());
        wrong.next().map(|(seed, _)| seed)
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

#[test]
fn what_was_fetched_for_another_user_is_shown_to_nobody_whatever_key_it_is_under() {
    let ask = |user| Action::Ask {
        user,
        device: 0,
        ids: 0b11,
        no_cache: false,
    };
    let (on, deliver) = (Action::Run(50), Action::Deliver(0));
    let schedule = [ask(0), on, deliver, on, ask(1), on];
    let mut world = World::new();
    planted::with(Fault::KeyWithoutTokenAlone, || {
        let wrong = world.play(&schedule, 0).expect_err("the fault is noticed");
        assert!(wrong.contains("PassedThrough(Foreign)"), "{wrong}");
    });
    assert!(world.counted("vms_edge_foreign_shelves_total 1"));
    assert!(world.counted("vms_edge_cache_items 0"), "nor ever will be");
}

/// What two widgets of one phone are told, the second of which waits for the first's fetch, when that fails.
fn told_when(failure: Failure) -> (String, String) {
    let ask = |ids| Action::Ask {
        user: 0,
        device: 0,
        ids,
        no_cache: false,
    };
    let on = Action::Run(50);
    let schedule = [ask(0b11), on, ask(0b10), on, Action::Fail(0, failure), on];
    let mut world = World::new();
    world.play(&schedule, 0).unwrap();
    let [first, second] = world.told()[..] else {
        panic!("two asked");
    };
    (first.to_owned(), second.to_owned())
}

#[test]
fn whoever_waits_for_a_leader_that_panics_or_is_cut_off_is_served_by_a_fetch_of_his_own() {
    let served = "200 vms-edge; fwd=miss; fwd-status=200; stored";
    for (failure, told) in [(Failure::Panic, 500), (Failure::Reset, 502)] {
        let (first, second) = told_when(failure);
        assert_eq!(first, format!("{told} vms-edge; fwd=miss; detail=failed"));
        assert_eq!(second, served, "{failure:?}");
    }
}

#[test]
fn whoever_waits_for_a_vms_that_cannot_be_asked_is_told_so_when_the_leader_is() {
    for (failure, told) in [
        (Failure::TimedOut, "504 vms-edge; fwd=miss; detail=failed"),
        (Failure::Refused, "502 vms-edge; fwd=miss; detail=failed"),
        (
            Failure::Status(503),
            "503 vms-edge; fwd=miss; fwd-status=503",
        ),
    ] {
        let (first, second) = told_when(failure);
        assert_eq!(first, told);
        assert_eq!(second.replace("; collapsed", ""), told);
    }
}

#[test]
fn a_fetch_that_panics_is_counted_whether_or_not_anybody_waits() {
    let ask = Action::Ask {
        user: 0,
        device: 0,
        ids: 1,
        no_cache: false,
    };
    let on = Action::Run(50);
    let schedule = [
        ask,
        on,
        Action::Leave(0),
        Action::Fail(0, Failure::Panic),
        on,
    ];
    let mut world = World::new();
    world.play(&schedule, 0).unwrap();
    assert!(world.counted("vms_edge_fetches_total{outcome=\"broken\"} 1\n"));
}
