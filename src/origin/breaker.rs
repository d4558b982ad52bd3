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
mod tests;
