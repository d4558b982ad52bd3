//! Health checks: a small request to each server, round by round, so that one that is not well is passed over before
//! anybody had to wait for it.
//!
//! [`Health`] counts, and knows neither time nor network; [`Checker::round`] asks all servers once; [`keep_checked`] is the
//! clockwork around it. A check is a fetch in small: the same addresses, the same trust in certificates, the same Host,
//! over a connection of its own each time, since accepting one is part of being well.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pingora_core::Error;
use pingora_core::connectors::http::Connector;
use pingora_http::RequestHeader;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::exchange::{self, NoBody, Unquoted};
use super::server::Server;
use super::servers::Servers;
use crate::config::{self, HealthCheck};

/// What the checks of one server have come to.
#[derive(Debug)]
pub struct Health {
    is_healthy: bool,
    /// Results in a row that speak against that.
    against: usize,
    /// How many it takes to turn unhealthy, and healthy again.
    thresholds: [usize; 2],
}

impl Health {
    /// Of a server that was never checked: healthy until it is shown otherwise.
    pub fn new(config: &config::Health) -> Self {
        Self {
            is_healthy: true,
            against: 0,
            thresholds: [config.unhealthy, config.healthy],
        }
    }

    /// Whether the server is to be asked.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Takes note of a check; true if that turns the server healthy or unhealthy.
    pub fn note(&mut self, passed: bool) -> bool {
        if passed == self.is_healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < self.thresholds[usize::from(!self.is_healthy)] {
            return false;
        }
        self.is_healthy = passed;
        self.against = 0;
        true
    }
}

/// Checks the servers.
pub struct Checker {
    servers: Arc<Servers>,
    connections: Connector,
    config: config::Health,
    request: RequestHeader,
    /// Host to send; each server's own name where none is configured.
    host: Option<HeaderValue>,
    names: Vec<HeaderValue>,
}

/// Why a check failed.
#[derive(Debug)]
enum Sick {
    Unreached(Box<Error>),
    Broken(Box<Error>),
    Status(StatusCode),
    Timeout(Duration),
}

impl fmt::Display for Sick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreached(error) => write!(f, "no connection: {}", Unquoted(error)),
            Self::Broken(error) => write!(f, "the answer broke off: {}", Unquoted(error)),
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
            Self::Timeout(timeout) => write!(f, "no complete answer within {timeout:?}"),
        }
    }
}

impl Checker {
    /// As configured.
    pub fn new(upstream: &config::Upstream, servers: Arc<Servers>) -> Self {
        const VALID: &str = "the configuration was checked, and the rest is constant";
        let path = upstream.health.path.as_bytes();
        let mut request = RequestHeader::build("GET", path, None).expect(VALID);
        for (name, value) in [
            ("User-Agent", "vms-edge"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ] {
            request.insert_header(name, value).expect(VALID);
        }
        let name = |server: &config::ServerName| {
            HeaderValue::try_from(server.to_string()).expect("a host and a port make a value")
        };
        Self {
            servers,
            connections: Connector::new(Some(Servers::connector_options(upstream))),
            config: upstream.health.clone(),
            request,
            host: upstream.host.clone(),
            names: upstream.servers.iter().map(name).collect(),
        }
    }

    /// Whether a round has a purpose now.
    pub fn is_wanted(&self) -> bool {
        match self.config.check {
            HealthCheck::Auto => self.servers.count() > 1,
            HealthCheck::Always => true,
            HealthCheck::Never => false,
        }
    }

    /// Checks every server once, all at the same time, and returns when the last result is known.
    pub async fn round(self: &Arc<Self>) {
        let mut checks = JoinSet::new();
        for server in self.servers.all().iter() {
            let (checker, server) = (Arc::clone(self), server.clone());
            checks.spawn(async move { server.checked(checker.check(&server).await) });
        }
        while checks.join_next().await.is_some() {}
    }

    async fn check(&self, server: &Server) -> Result<(), Sick> {
        timeout(self.config.timeout, self.ask(server))
            .await
            .unwrap_or(Err(Sick::Timeout(self.config.timeout)))
    }

    /// Any complete answer below 500 passes: whoever says 404 is alive.
    async fn ask(&self, server: &Server) -> Result<(), Sick> {
        let peer = self.servers.peer_of(server);
        let mut request = self.request.clone();
        let host = self.host.as_ref();
        let host = host.unwrap_or_else(|| &self.names[server.at.configured]);
        request
            .insert_header("Host", host.clone())
            .expect("a host and its name make a field");
        let connected = self.connections.get_http_session(&peer).await;
        let (mut session, _) = connected.map_err(Sick::Unreached)?;
        let status = exchange::ask(&mut session, &request, &Bytes::new())
            .await
            .map_err(|unanswered| Sick::Broken(unanswered.error))?;
        let body = exchange::read_body(&mut session).await;
        session.shutdown().await;
        match body {
            Err(NoBody::Broken(error)) => Err(Sick::Broken(error)),
            Ok(_) | Err(NoBody::TooLarge) if status.as_u16() < 500 => Ok(()),
            Ok(_) | Err(NoBody::TooLarge) => Err(Sick::Status(status)),
        }
    }
}

/// Checks the servers, round after round, for as long as the edge runs.
pub async fn keep_checked(checker: Arc<Checker>) {
    let mut tick = interval(checker.config.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if checker.is_wanted() {
            checker.round().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn health(unhealthy: usize, healthy: usize) -> Health {
        Health {
            is_healthy: true,
            against: 0,
            thresholds: [unhealthy, healthy],
        }
    }

    /// The state after each of these results.
    fn after(health: &mut Health, results: &[bool]) -> Vec<bool> {
        let note = |passed: &bool| {
            let before = health.is_healthy();
            assert_eq!(health.note(*passed), before != health.is_healthy());
            health.is_healthy()
        };
        results.iter().map(note).collect()
    }

    #[test]
    fn it_takes_so_many_failures_in_a_row_to_be_unhealthy_and_passes_to_be_healthy_again() {
        let mut health = health(3, 2);
        let failing = [false, false, true, false, false, false];
        assert_eq!(
            after(&mut health, &failing),
            [true, true, true, true, true, false]
        );
        let passing = [true, false, true, true];
        assert_eq!(after(&mut health, &passing), [false, false, false, true]);
    }

    #[test]
    fn a_threshold_of_one_follows_each_result() {
        let results = [false, true, false, false, true];
        assert_eq!(after(&mut health(1, 1), &results), results);
    }

    proptest! {
        #[test]
        fn a_change_has_as_many_results_before_it_as_configured(
            unhealthy in 1..5_usize,
            healthy in 1..5_usize,
            results in prop::collection::vec(any::<bool>(), 0..64),
        ) {
            let mut health = health(unhealthy, healthy);
            for at in 0..results.len() {
                if health.note(results[at]) {
                    let needed = if results[at] { healthy } else { unhealthy };
                    let last = &results[(at + 1).saturating_sub(needed)..=at];
                    prop_assert_eq!(last, vec![results[at]; needed]);
                }
            }
        }
    }
}
