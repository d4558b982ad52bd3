//! The model: random schedules of all that happens to batches, played without sockets and judged by the VMS's history.
//!
//! Several users with several phones ask for overlapping batches in several languages and forms, in codings or not, saying
//! what they hold or not; they leave, write, are refused and purged, while the VMS is slow, fails and forgets, and the edge
//! is reloaded and loses what it has stored. No answer may be another's, older than a mark, with a hole, too old, twice
//! fetched, or missing. That the judge is no fool is shown by faults planted in the code, each of which it finds.
//!
//! # Isolation
//!
//! Whatever the model's VMS says, items, errors and headers, names whom it is for by all that it saw of the request: user,
//! phone, kind of client and language, the VMS's name and scheme and what a proxy says of them, the endpoint, and whether the
//! ids stood in the query or in the body, beside which other parameters. No answer may hold a name that is not the asker's.
//! At some point the VMS begins to tell by one header more, and the edge has to learn it while they ask. All phones share
//! one memory of tags and bodies, and for a 304 the judge looks at what the phone would show then. A reload may bring other
//! keys, or take an endpoint away and bring it back later, and all that is stored may have to go at any time.
//!
//! Two things cannot go wrong by construction. Answers that were made before, and those that clients hold, are found by a
//! digest of every byte of theirs: who finds another's has found the very bytes that he was to be sent. That this is what
//! they rest on is shown by a tag of ids alone (`TagOfIds`). And a key, like a user's identity, can be made only from a
//! request that was checked; what is shown is also what would happen if one were wrong.
//!
//! Every run of the tests plays fifty thousand schedules. `make model` plays a million, or as many as `SCHEDULES` says,
//! in an optimised build: when it did so last, 4.8 million answers were judged in two and a half minutes on two cores, and
//! none was wrong.
//!
//! # Why it stands beside another
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

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::planted::{self, Fault};
use oracle::ANOTHER_USERS;
use phones::{Trait, Who};
use schedule::{Action, Ask, Step, drawn, shortened};
use vms::Failure;
use world::World;

/// Schedules that are played in every run of the tests, unless the environment says how many.
const SCHEDULES: u64 = 50_000;

/// The variable that says so.
const SCHEDULES_VARIABLE: &str = "VMS_EDGE_SCHEDULES";

/// Schedules that are played in one world: it takes long to build, and its memory must not fill up.
const SCHEDULES_PER_WORLD: u64 = 250;

/// Schedules within which each planted fault must be found.
const SCHEDULES_PER_FAULT: u64 = 20_000;

/// Worlds in which it must be seen what a fault of isolation leads to.
const WORLDS_PER_FAULT: u64 = 40;

/// What goes wrong under a seed, with the shortest schedule that shows it.
fn explained(seed: u64, fault: &str) -> String {
    let play = |schedule: &[Step]| World::new().play(schedule);
    let schedule = drawn(seed);
    if play(&schedule).is_ok() {
        return format!("seed {seed}, only after others: {fault}");
    }
    let shortest = shortened(schedule, |schedule| play(schedule).is_err());
    let fault = play(&shortest).expect_err("the shortest fails too");
    let steps = shortest.iter().map(|step| format!("\n  {step:?}"));
    format!("seed {seed}: {fault}{}", steps.collect::<String>())
}

/// Plays the schedules of one world, from that of a seed on; tells how many answers were judged.
///
/// # Errors
///
/// The first that goes wrong, and how.
fn played_from(first: u64) -> Result<u64, (u64, String)> {
    let mut world = World::new();
    for seed in first..first + SCHEDULES_PER_WORLD {
        let played = world.play(&drawn(seed));
        played.map_err(|fault| (seed, fault))?;
    }
    Ok(world.judged)
}

/// How many schedules are to be played.
fn schedules() -> u64 {
    let told = env::var(SCHEDULES_VARIABLE).ok();
    told.map_or(SCHEDULES, |told| told.parse().expect("it is a number"))
}

#[test]
fn no_schedule_breaks_a_promise() {
    let schedules = schedules();
    let (next, judged) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let first = next.fetch_add(SCHEDULES_PER_WORLD, Ordering::Relaxed);
            if first >= schedules {
                break;
            }
            match played_from(first) {
                Ok(answers) => judged.fetch_add(answers, Ordering::Relaxed),
                Err((seed, fault)) => panic!("{}", explained(seed, &fault)),
            };
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("{} answers in {schedules} schedules", judged.into_inner());
}

/// Plants a fault, and tells how many schedules it took to find it.
fn found_after(faults: &'static [Fault]) -> Option<u64> {
    planted::with(faults, || {
        let worlds = (0..SCHEDULES_PER_FAULT)
            .step_by(usize::try_from(SCHEDULES_PER_WORLD).expect("it is small"));
        let mut wrong = worlds.filter_map(|first| played_from(first).err());
        wrong.next().map(|(seed, _)| seed)
    })
}

#[test]
fn each_planted_fault_is_found() {
    let all = [planted::OF_USERS, planted::OF_ISOLATION, planted::OTHERS];
    let next = std::sync::Mutex::new(all.into_iter().flatten());
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

/// What is wrong first in each of the worlds in which a fault of isolation must show.
fn first_wrong() -> impl Iterator<Item = String> {
    let firsts = (0..WORLDS_PER_FAULT).map(|world| world * SCHEDULES_PER_WORLD);
    firsts.filter_map(|first| Some(played_from(first).err()?.1))
}

#[test]
fn a_fault_of_isolation_shows_somebody_what_is_not_his() {
    for faults in planted::OF_ISOLATION {
        let leak = planted::with(faults, || {
            first_wrong().find(|wrong| oracle::is_leak(wrong))
        });
        assert!(leak.is_some(), "{faults:?}");
    }
}

#[test]
fn whatever_is_mixed_up_another_users_answer_is_shown_to_nobody() {
    for faults in planted::OF_USERS {
        let wrong: Vec<String> = planted::with(faults, || first_wrong().collect());
        for wrong in &wrong {
            assert!(!wrong.starts_with(ANOTHER_USERS), "{faults:?}: {wrong}");
        }
        let is_noticed = wrong.iter().any(|wrong| wrong.contains("(Foreign)"));
        assert!(is_noticed, "{faults:?}: {wrong:#?}");
    }
}

/// A user's first phone asks for the ids whose bits are set.
fn asks(user: u8, ids: u8) -> Action {
    asks_as(Who::plain(user, 0), ids)
}

/// The same of anybody.
fn asks_as(who: Who, ids: u8) -> Action {
    Action::Ask(Ask {
        who,
        ids,
        no_cache: false,
        holds: false,
        gzip: false,
        plainly: false,
    })
}

fn steps(actions: &[Action]) -> Vec<Step> {
    let steps = actions.iter();
    steps.map(|&action| Step { action, seed: 0 }).collect()
}

#[test]
fn what_was_fetched_for_another_user_is_shown_to_nobody_whatever_key_it_is_under() {
    let (on, deliver) = (Action::Run(50), Action::Deliver(0));
    let schedule = steps(&[asks(0, 0b11), on, deliver, on, asks(1, 0b11), on]);
    let mut world = World::new();
    planted::with(&[Fault::KeyWithoutToken], || {
        let wrong = world.play(&schedule).expect_err("the fault is noticed");
        assert!(wrong.contains("PassedThrough(Foreign)"), "{wrong}");
    });
    assert!(world.counted("vms_edge_foreign_shelves_total 1"));
    assert!(world.counted("vms_edge_cache_items 0"), "nor ever will be");
}

/// What two widgets of one phone are told, the second of which waits for the first's fetch, when that fails.
fn told_when(failure: Failure) -> (String, String) {
    let on = Action::Run(50);
    let fail = Action::Fail(0, failure);
    let schedule = steps(&[asks(0, 0b11), on, asks(0, 0b10), on, fail, on]);
    let mut world = World::new();
    world.play(&schedule).unwrap();
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
fn whoever_waits_for_an_error_that_differs_by_what_is_not_yet_learnt_asks_by_himself() {
    let (on, fail) = (Action::Run(50), Action::Fail(0, Failure::Status(500)));
    let ask = |zone, ids| asks_as(Who::plain(0, 0).with(Trait::Zone, zone), ids);
    let schedule = steps(&[Action::Vary, ask(1, 0b11), on, ask(2, 0b10), on, fail, on]);
    let mut world = World::new();
    world.play(&schedule).unwrap();
    let told = world.told();
    assert_eq!(told[0], "500 vms-edge; fwd=miss; fwd-status=500");
    assert_eq!(told[1], "200 vms-edge; fwd=miss; fwd-status=200");
}

#[test]
fn an_endpoint_that_was_away_knows_nothing_of_before_since_nobody_told_it_what_was_marked() {
    let ask = asks_as(Who::plain(0, 0).with(Trait::Path, 1), 0b11);
    let (on, deliver) = (Action::Run(50), Action::Deliver(0));
    let purge = Action::Purge {
        scope: history::Scope::Item(1),
        is_soft: false,
    };
    let before = [ask, on, deliver, on];
    let away = [Action::Reload(2), purge, Action::Reload(0)];
    let schedule = steps(&[&before[..], &away, &[ask, on]].concat());
    World::new().play(&schedule).unwrap();
    planted::with(&[Fault::KeyWithoutEra], || {
        let wrong = World::new().play(&schedule);
        wrong.expect_err("the fault is noticed");
    });
}

#[test]
fn a_fetch_that_panics_is_counted_whether_or_not_anybody_waits() {
    let on = Action::Run(50);
    let (leave, panic) = (Action::Leave(0), Action::Fail(0, Failure::Panic));
    let schedule = steps(&[asks(0, 1), on, leave, panic, on]);
    let mut world = World::new();
    world.play(&schedule).unwrap();
    assert!(world.counted("vms_edge_fetches_total{outcome=\"broken\"} 1\n"));
}
