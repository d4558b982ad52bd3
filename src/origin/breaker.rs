//! A circuit breaker: a server that keeps failing is left alone, and is not stampeded when it is back.
//!
//! ```text
//!         `failures` in a row               `pause` is over, somebody asks
//! closed ────────────────────▶ open ──────────────────────────────────▶ half-open
//!   ▲                           ▲──────────────── any failure ──────────────┤
//!   └─────────────────────── 2 × `probes` successes ────────────────────────┘
//! ```
//! Pure: the time is given, and what a server or a request is stays unknown here.
//!
//! Fetches and what passes through are counted apart, but for a server that cannot be connected to: a proxy before the VMS
//! that still serves pictures says nothing of batches. So a success takes back failures of its own kind only, and what
//! fetches have opened only fetches close.
//!
//! What always holds: of one era while half-open, at most `probes` fetches have leave at once, and at most `probes` requests
//! that pass through, beside those that are waved through. A verdict counts only in the era in which its leave was given, an
//! era being the time from one change of position to the next: who hung all through an outage has no say in the recovery
//! after it.

use crate::cache::clock::Time;
use crate::config;

/// Successes that close a half-open breaker, for each probe that it admits at once.
const ROUNDS: usize = 2;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// A few probes at once.
    HalfOpen,
}

/// Who wants to ask. Each kind has probes of its own: a fetch has a deadline, what passes through may take its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A fetch of the edge's own.
    Fetch,
    /// A request that passes through.
    Pass,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server works.
    Success,
    /// It does not.
    Failure,
    /// It cannot be connected to, by whomever.
    Unreached,
    /// It cannot be told.
    Neither,
}

/// Leave to ask once; owed a verdict, since a probe holds a place until then.
#[derive(Debug)]
#[must_use = "a verdict is owed"]
pub struct Leave {
    era: u64,
    traffic: Traffic,
    is_probe: bool,
}

/// The breaker of one server.
#[derive(Debug)]
pub struct Breaker {
    policy: config::Breaker,
    era: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed {
        /// In a row, since the last success; by [`Traffic`].
        failures: [usize; 2],
    },
    Open {
        since: Time,
        /// Whose failures opened it.
        by: Traffic,
    },
    HalfOpen {
        /// Probes under way, by [`Traffic`].
        probing: [usize; 2],
        successes: usize,
        /// Whose failures opened it.
        by: Traffic,
    },
}

impl State {
    const CLOSED: Self = Self::Closed { failures: [0; 2] };
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: config::Breaker) -> Self {
        Self {
            policy,
            era: 0,
            state: State::CLOSED,
        }
    }

    /// What it would let through now: once its pause is over, an open one is as good as half-open.
    pub fn position(&self, now: Time) -> Position {
        match self.state {
            State::Open { since, .. } if now.since(since) >= self.policy.pause => {
                Position::HalfOpen
            }
            _ => self.standing(),
        }
    }

    /// Where it stands, whatever the time: open until somebody asks after its pause.
    pub fn standing(&self) -> Position {
        match self.state {
            State::Closed { .. } => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// Whether [`Breaker::admit`] would give leave.
    pub fn admits(&self, traffic: Traffic, now: Time) -> bool {
        match (self.position(now), &self.state) {
            (Position::Open, _) => false,
            (_, State::HalfOpen { probing, .. }) => probing[traffic as usize] < self.policy.probes,
            (Position::Closed | Position::HalfOpen, _) => true,
        }
    }

    /// Gives leave to ask; `None` while the server is left alone.
    pub fn admit(&mut self, traffic: Traffic, now: Time) -> Option<Leave> {
        if !self.admits(traffic, now) {
            return None;
        }
        if let State::Open { by, .. } = self.state {
            self.enter(State::HalfOpen {
                probing: [0; 2],
                successes: 0,
                by,
            });
        }
        let is_probe = match &mut self.state {
            State::HalfOpen { probing, .. } => {
                probing[traffic as usize] += 1;
                true
            }
            _ => false,
        };
        Some(Leave {
            era: self.era,
            traffic,
            is_probe,
        })
    }

    /// Gives leave to ask whatever the position, to what must not be kept back.
    pub fn wave_through(&self) -> Leave {
        Leave {
            era: self.era,
            traffic: Traffic::Pass,
            is_probe: false,
        }
    }

    /// Takes back a leave, with what came of it.
    pub fn settle(&mut self, leave: Leave, verdict: Verdict, now: Time) {
        if leave.era != self.era {
            return;
        }
        let (policy, traffic) = (&self.policy, leave.traffic);
        match &mut self.state {
            State::Closed { failures } => {
                let counts: &[Traffic] = match verdict {
                    Verdict::Success => {
                        failures[traffic as usize] = 0;
                        &[]
                    }
                    Verdict::Failure => &[traffic],
                    Verdict::Unreached => &[Traffic::Pass, Traffic::Fetch],
                    Verdict::Neither => &[],
                };
                for &traffic in counts {
                    let failures = &mut failures[traffic as usize];
                    *failures = failures.saturating_add(1);
                }
                let is_enough = |by: &&Traffic| {
                    policy.failures > 0 && failures[**by as usize] >= policy.failures
                };
                if let Some(&by) = counts.iter().find(is_enough) {
                    self.open(by, now);
                }
            }
            State::HalfOpen {
                probing,
                successes,
                by,
            } => {
                if leave.is_probe {
                    probing[traffic as usize] -= 1;
                }
                match verdict {
                    Verdict::Success if traffic == Traffic::Fetch || *by == Traffic::Pass => {
                        *successes += 1;
                        if *successes >= ROUNDS * policy.probes {
                            self.enter(State::CLOSED);
                        }
                    }
                    Verdict::Failure | Verdict::Unreached => {
                        let by = match verdict == Verdict::Failure && traffic == Traffic::Fetch {
                            true => Traffic::Fetch,
                            false => *by,
                        };
                        self.open(by, now);
                    }
                    Verdict::Success | Verdict::Neither => {}
                }
            }
            State::Open { .. } => {}
        }
    }

    fn open(&mut self, by: Traffic, now: Time) {
        self.enter(State::Open { since: now, by });
    }

    fn enter(&mut self, state: State) {
        self.era += 1;
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
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
}
