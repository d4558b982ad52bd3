use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cache::clock::{Clock, Hand};

const PAUSE: Duration = Duration::from_secs(1);

fn breaker(failures: usize, probes: usize) -> (Breaker, Clock, Hand) {
    let (clock, hand) = Clock::manual();
    let policy = config::Breaker {
        failures,
        pause: PAUSE,
        probes,
    };
    (Breaker::new(policy), clock, hand)
}

/// One fetch from start to end; false if it was given no leave.
fn fetch(breaker: &mut Breaker, verdict: Verdict, now: Time) -> bool {
    let Some(leave) = breaker.admit(Traffic::Fetch, now) else {
        return false;
    };
    breaker.settle(leave, verdict, now);
    true
}

/// A breaker that has just opened.
fn opened(probes: usize) -> (Breaker, Clock, Hand) {
    let (mut breaker, clock, hand) = breaker(1, probes);
    assert!(fetch(&mut breaker, Verdict::Failure, clock.now()));
    assert_eq!(breaker.position(clock.now()), Position::Open);
    (breaker, clock, hand)
}

#[test]
fn it_opens_after_so_many_failures_in_a_row() {
    let (mut breaker, clock, _) = breaker(3, 1);
    let now = clock.now();
    use Verdict::{Failure, Neither, Success};
    for verdict in [Failure, Failure, Success, Failure, Neither, Failure] {
        assert!(fetch(&mut breaker, verdict, now));
        assert_eq!(breaker.position(now), Position::Closed);
    }
    assert!(fetch(&mut breaker, Failure, now));
    assert_eq!(breaker.position(now), Position::Open);
    assert!(!breaker.admits(Traffic::Fetch, now));
    assert!(!breaker.admits(Traffic::Pass, now));
}

#[test]
fn with_zero_failures_it_never_opens() {
    let (mut breaker, clock, _) = breaker(0, 1);
    for _ in 0..10_000 {
        assert!(fetch(&mut breaker, Verdict::Failure, clock.now()));
    }
    assert_eq!(breaker.position(clock.now()), Position::Closed);
}

#[test]
fn it_lets_nothing_through_until_the_pause_is_over() {
    let (mut breaker, clock, hand) = opened(1);
    hand.advance(PAUSE - Duration::from_nanos(1));
    assert_eq!(breaker.position(clock.now()), Position::Open);
    assert!(!fetch(&mut breaker, Verdict::Success, clock.now()));
    hand.advance(Duration::from_nanos(1));
    assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
}

#[test]
fn half_open_it_admits_so_many_probes_at_once_and_another_for_each_that_ends() {
    let (mut breaker, clock, hand) = opened(3);
    hand.advance(PAUSE);
    let now = clock.now();
    let mut under_way: Vec<Leave> = (0..3)
        .map(|_| breaker.admit(Traffic::Fetch, now).expect("a probe"))
        .collect();
    assert!(breaker.admit(Traffic::Fetch, now).is_none());
    for verdict in [Verdict::Success, Verdict::Neither] {
        breaker.settle(under_way.pop().expect("one of three"), verdict, now);
        under_way.push(breaker.admit(Traffic::Fetch, now).expect("a place is free"));
        assert!(breaker.admit(Traffic::Fetch, now).is_none());
    }
    // What passes through has probes of its own.
    assert!(breaker.admits(Traffic::Pass, now));
}

#[test]
fn half_open_it_closes_after_two_rounds_of_successes() {
    let (mut breaker, clock, hand) = opened(2);
    hand.advance(PAUSE);
    for _ in 0..3 {
        assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
        assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    }
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
    assert_eq!(breaker.position(clock.now()), Position::Closed);
}

#[test]
fn half_open_any_failure_opens_it_for_another_pause() {
    let (mut breaker, clock, hand) = opened(2);
    hand.advance(PAUSE);
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
    assert!(fetch(&mut breaker, Verdict::Failure, clock.now()));
    assert_eq!(breaker.position(clock.now()), Position::Open);
    hand.advance(PAUSE / 2);
    assert!(!breaker.admits(Traffic::Fetch, clock.now()));
    hand.advance(PAUSE / 2);
    assert!(breaker.admits(Traffic::Fetch, clock.now()));
}

#[test]
fn what_began_in_another_era_has_no_say() {
    let (mut breaker, clock, hand) = breaker(2, 1);
    let hung: Vec<Leave> = (0..10)
        .map(|_| breaker.admit(Traffic::Fetch, clock.now()).expect("closed"))
        .collect();
    let mut hung = hung.into_iter();
    for leave in hung.by_ref().take(2) {
        breaker.settle(leave, Verdict::Failure, clock.now());
    }
    hand.advance(PAUSE);
    let probe = breaker.admit(Traffic::Fetch, clock.now());
    for (leave, verdict) in hung.zip([Verdict::Failure, Verdict::Success].repeat(4)) {
        breaker.settle(leave, verdict, clock.now());
        assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    }
    breaker.settle(probe.expect("a probe"), Verdict::Success, clock.now());
    assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
    assert_eq!(breaker.position(clock.now()), Position::Closed);
}

#[test]
fn what_passes_through_takes_no_failures_of_fetches_back_and_closes_nothing_they_opened() {
    let (mut breaker, clock, hand) = breaker(2, 1);
    let pass = |breaker: &mut Breaker| {
        let leave = breaker.wave_through();
        breaker.settle(leave, Verdict::Success, clock.now());
    };
    for _ in 0..2 {
        assert!(fetch(&mut breaker, Verdict::Failure, clock.now()));
        pass(&mut breaker);
    }
    assert_eq!(breaker.position(clock.now()), Position::Open);
    hand.advance(PAUSE);
    let probe = breaker.admit(Traffic::Fetch, clock.now()).expect("a probe");
    for _ in 0..10 {
        pass(&mut breaker);
    }
    assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    breaker.settle(probe, Verdict::Success, clock.now());
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
    assert_eq!(breaker.position(clock.now()), Position::Closed);
}

#[test]
fn what_is_waved_through_counts_in_every_position_but_open() {
    let (mut breaker, clock, hand) = breaker(2, 1);
    for _ in 0..2 {
        let leave = breaker.wave_through();
        breaker.settle(leave, Verdict::Failure, clock.now());
    }
    for verdict in [Verdict::Success, Verdict::Failure] {
        let leave = breaker.wave_through();
        hand.advance(PAUSE / 2);
        breaker.settle(leave, verdict, clock.now());
    }
    // Neither closed by the success nor held open any longer by the failure.
    assert_eq!(breaker.position(clock.now()), Position::HalfOpen);
    assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
    let leave = breaker.wave_through();
    breaker.settle(leave, Verdict::Success, clock.now());
    assert_eq!(breaker.position(clock.now()), Position::Closed);
}

/// What may happen to a breaker.
#[derive(Clone, Debug)]
enum Event {
    Ask(bool),
    Wave,
    Settle(prop::sample::Index, u8),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(Event::Ask),
        1 => Just(Event::Wave),
        4 => (any::<prop::sample::Index>(), 0..3_u8).prop_map(|(at, verdict)| Event::Settle(at, verdict)),
        1 => (0..1_500_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_admits_no_more_than_it_says_and_always_recovers(
        failures in 1..4_usize,
        probes in 1..4_usize,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let (mut breaker, clock, hand) = breaker(failures, probes);
        // Each with its traffic and the era in which it was admitted.
        let mut under_way: Vec<(Leave, Option<Traffic>, u64)> = Vec::new();
        for event in events {
            let now = clock.now();
            match event {
                Event::Ask(fetch) => {
                    let traffic = if fetch { Traffic::Fetch } else { Traffic::Pass };
                    let admits = breaker.admits(traffic, now);
                    let leave = breaker.admit(traffic, now);
                    prop_assert_eq!(leave.is_some(), admits);
                    under_way.extend(leave.map(|leave| (leave, Some(traffic), breaker.era)));
                }
                Event::Wave => under_way.push((breaker.wave_through(), None, breaker.era)),
                Event::Settle(at, verdict) if !under_way.is_empty() => {
                    let (leave, ..) = under_way.swap_remove(at.index(under_way.len()));
                    let verdicts = [Verdict::Success, Verdict::Failure, Verdict::Neither];
                    breaker.settle(leave, verdicts[usize::from(verdict)], now);
                }
                Event::Settle(..) => {}
                Event::Wait(millis) => hand.advance(Duration::from_millis(millis)),
            }
            if matches!(breaker.state, State::HalfOpen { .. }) {
                for traffic in [Traffic::Fetch, Traffic::Pass] {
                    let probing = under_way.iter().filter(|(_, whose, era)| {
                        *whose == Some(traffic) && *era == breaker.era
                    });
                    prop_assert!(probing.count() <= probes);
                }
            }
        }
        for (leave, ..) in under_way {
            breaker.settle(leave, Verdict::Neither, clock.now());
        }
        hand.advance(PAUSE);
        for _ in 0..ROUNDS * probes {
            prop_assert!(fetch(&mut breaker, Verdict::Success, clock.now()));
        }
        prop_assert_eq!(breaker.position(clock.now()), Position::Closed);
    }
}
