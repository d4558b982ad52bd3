//! One server of the VMS: where it is, whether its breaker lets anybody ask it, whether it is healthy.
//!
//! What is known of a server belongs to its address and is shared by all who hold the server, so it outlives every
//! resolving of names that finds the same address again. Each change is one line in the log. The locks are held for a few
//! instructions each, never two at once and never across an await.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::breaker::{Breaker, Leave, Position, Traffic, Verdict};
use super::health::Health;
use super::latency::{Latencies, Quantiles};
use super::resolve::Resolved;
use crate::cache::clock::{Clock, Time};
use crate::config;

/// How an address stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It is asked.
    Closed,
    /// Its breaker is open: it is left alone.
    Open,
    /// It is being probed.
    HalfOpen,
    /// Its health checks fail: it is passed over.
    Unhealthy,
}

impl ServerState {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::Unhealthy];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl From<Position> for ServerState {
    fn from(position: Position) -> Self {
        match position {
            Position::Closed => Self::Closed,
            Position::Open => Self::Open,
            Position::HalfOpen => Self::HalfOpen,
        }
    }
}

/// A server at one address. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) at: Resolved,
    condition: Arc<Condition>,
}

#[derive(Debug)]
struct Condition {
    clock: Clock,
    breaker: Mutex<Breaker>,
    health: Mutex<Health>,
    /// What `health` has come to, for whoever only wants to know that.
    is_healthy: AtomicBool,
    /// Of the latest fetches.
    latencies: Mutex<Latencies>,
    last_error: Mutex<Option<Trouble>>,
}

/// What last went wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When.
    pub at: Time,
    /// In the words of the log, which quote nothing that came over the wire.
    pub why: String,
}

/// How one server stands, for operators.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it is.
    pub address: SocketAddr,
    /// In one word.
    pub state: ServerState,
    /// Whether its checks pass, or it has none.
    pub is_healthy: bool,
    /// What its breaker lets through.
    pub breaker: Position,
    /// How long its recent fetches took.
    pub latency: Option<Quantiles>,
    /// What last went wrong, if anything ever did.
    pub last_error: Option<Trouble>,
}

impl Server {
    /// One of which nothing bad is known.
    pub(super) fn new(at: Resolved, upstream: &config::Upstream, clock: &Clock) -> Self {
        Self {
            at,
            condition: Arc::new(Condition {
                clock: clock.clone(),
                breaker: Mutex::new(Breaker::new(upstream.breaker)),
                health: Mutex::new(Health::new(&upstream.health)),
                is_healthy: AtomicBool::new(true),
                latencies: Mutex::default(),
                last_error: Mutex::default(),
            }),
        }
    }

    /// The same server under what its address was resolved from this time.
    pub(super) fn found_again(&self, at: Resolved) -> Self {
        Self {
            at,
            condition: Arc::clone(&self.condition),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.condition.is_healthy.load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        let now = self.condition.clock.now();
        self.condition.breaker.lock().position(now) == Position::Closed
    }

    pub(super) fn is_open(&self) -> bool {
        let now = self.condition.clock.now();
        self.condition.breaker.lock().position(now) == Position::Open
    }

    pub(super) fn admits(&self, traffic: Traffic) -> bool {
        let now = self.condition.clock.now();
        self.condition.breaker.lock().admits(traffic, now)
    }

    pub(super) fn state(&self) -> ServerState {
        if !self.is_healthy() {
            return ServerState::Unhealthy;
        }
        let now = self.condition.clock.now();
        self.condition.breaker.lock().position(now).into()
    }

    pub(super) fn report(&self) -> Report {
        let now = self.condition.clock.now();
        Report {
            address: self.at.address,
            state: self.state(),
            is_healthy: self.is_healthy(),
            breaker: self.condition.breaker.lock().position(now),
            latency: self.condition.latencies.lock().recent(now),
            last_error: self.condition.last_error.lock().clone(),
        }
    }

    /// Adds the latencies of fetches that ended since a point in time.
    pub(super) fn latencies_since(&self, since: Time, into: &mut Vec<Duration>) {
        into.extend(self.condition.latencies.lock().since(since));
    }

    /// A turn at this server, if its breaker gives leave.
    pub(super) fn admit(&self, traffic: Traffic) -> Option<Turn> {
        let now = self.condition.clock.now();
        let leave = self.change(&"its pause is over", |breaker| breaker.admit(traffic, now))?;
        Some(self.turn(leave, traffic))
    }

    /// A turn at this server, whatever its breaker says.
    pub(super) fn wave_through(&self) -> Turn {
        let leave = self.condition.breaker.lock().wave_through();
        self.turn(leave, Traffic::Pass)
    }

    fn turn(&self, leave: Leave, traffic: Traffic) -> Turn {
        Turn {
            server: self.clone(),
            leave: Some(leave),
            unsettled: match traffic {
                Traffic::Fetch => Verdict::Failure,
                Traffic::Pass => Verdict::Neither,
            },
        }
    }

    fn settle(&self, leave: Leave, verdict: Verdict, why: &dyn Display) {
        let now = self.condition.clock.now();
        if matches!(verdict, Verdict::Failure | Verdict::Unreached) {
            self.remember(why);
        }
        self.change(why, |breaker| breaker.settle(leave, verdict, now));
    }

    fn remember(&self, why: &dyn Display) {
        let trouble = Trouble {
            at: self.condition.clock.now(),
            why: why.to_string(),
        };
        *self.condition.last_error.lock() = Some(trouble);
    }

    /// Does something to the breaker, and tells the log if that moved it.
    fn change<T>(&self, why: &dyn Display, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.condition.breaker.lock();
        let before = breaker.standing();
        let done = change(&mut breaker);
        let after = breaker.standing();
        drop(breaker);
        if before != after {
            let (server, state) = (self.at.address, ServerState::from(after).name());
            if after == Position::Open {
                tracing::warn!(%server, state, %why, "breaker");
            } else {
                tracing::info!(%server, state, %why, "breaker");
            }
        }
        done
    }

    /// Takes note of a health check.
    pub(super) fn checked<E: Display>(&self, result: Result<(), E>) {
        if let Err(why) = &result {
            self.remember(why);
        }
        let mut health = self.condition.health.lock();
        if !health.note(result.is_ok()) {
            return;
        }
        let is_healthy = health.is_healthy();
        self.condition
            .is_healthy
            .store(is_healthy, Ordering::Relaxed);
        drop(health);
        let server = self.at.address;
        match result {
            Ok(()) => tracing::info!(%server, "healthy again"),
            Err(why) => tracing::warn!(%server, %why, "unhealthy"),
        }
    }
}

/// The turn of one server to be asked once, which owes its breaker a verdict.
///
/// A fetch that is dropped without one has failed: its deadline dropped it. A request that passes through says nothing
/// then: its client left.
#[derive(Debug)]
#[must_use = "whoever has a turn asks, and tells what came of it"]
pub struct Turn {
    server: Server,
    /// `None` once a verdict was given.
    leave: Option<Leave>,
    unsettled: Verdict,
}

impl Turn {
    /// Whose turn it is.
    pub fn address(&self) -> SocketAddr {
        self.server.at.address
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The server works.
    pub fn succeeded(&mut self) {
        self.settle(Verdict::Success, &"its probes were answered");
    }

    /// It answered a fetch completely, in this time.
    pub fn took(&self, time: Duration) {
        let condition = &self.server.condition;
        let now = condition.clock.now();
        condition.latencies.lock().note(now, time);
    }

    /// It does not.
    pub fn failed(&mut self, why: &dyn Display) {
        self.settle(Verdict::Failure, why);
    }

    /// It cannot be connected to.
    pub fn unreached(&mut self, why: &dyn Display) {
        self.settle(Verdict::Unreached, why);
    }

    /// It cannot be told whether it does.
    pub fn told_nothing(&mut self) {
        self.settle(Verdict::Neither, &"nothing");
    }

    /// Only the first verdict counts.
    fn settle(&mut self, verdict: Verdict, why: &dyn Display) {
        if let Some(leave) = self.leave.take() {
            self.server.settle(leave, verdict, why);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.settle(self.unsettled, &"no complete answer in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of what is done, without its times.
    fn log_of(act: impl FnOnce()) -> Vec<String> {
        let written = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Arc::new(written.reopen().unwrap()))
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let text = std::fs::read_to_string(written.path()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn each_change_is_one_line_with_the_address_and_the_reason() {
        let text = "upstream.servers = [\"10.0.0.1:80\"]\n\
                    upstream.breaker = { failures = 2, probes = 1 }\n\
                    upstream.health = { unhealthy = 2, healthy = 1 }";
        let upstream = config::Config::parse(text, "test").unwrap().upstream;
        let at = Resolved {
            address: "10.0.0.1:80".parse().unwrap(),
            tls_name: "10.0.0.1".into(),
            configured: 0,
        };
        let (clock, hand) = Clock::manual();
        let server = Server::new(at, &upstream, &clock);
        let fetch = || server.admit(Traffic::Fetch);
        let log = log_of(|| {
            fetch().unwrap().failed(&"status 503");
            fetch().unwrap().failed(&"status 502");
            assert!(fetch().is_none() && fetch().is_none());
            hand.advance(Duration::from_secs(1));
            drop(fetch().unwrap());
            hand.advance(Duration::from_secs(1));
            for _ in 0..3 {
                fetch().unwrap().succeeded();
            }
            for result in [Err("status 500"), Err("no complete answer"), Ok(())] {
                server.checked(result);
                server.checked(result);
            }
        });
        let of = "server=10.0.0.1:80";
        assert_eq!(
            log,
            [
                format!("WARN breaker {of} state=\"open\" why=status 502"),
                format!("INFO breaker {of} state=\"half_open\" why=its pause is over"),
                format!("WARN breaker {of} state=\"open\" why=no complete answer in time"),
                format!("INFO breaker {of} state=\"half_open\" why=its pause is over"),
                format!("INFO breaker {of} state=\"closed\" why=its probes were answered"),
                format!("WARN unhealthy {of} why=status 500"),
                format!("INFO healthy again {of}"),
            ]
        );
    }
}
