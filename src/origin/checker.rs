//! Health checks: a small request to each server, round by round, so that one that is not well is passed over before
//! anybody had to wait for it.
//!
//! [`Checker::round`] asks all servers once; [`keep_checked`] is the clockwork around it. A check is a fetch in small: the
//! same addresses, the same trust in certificates, the same Host, over a connection of its own each time, since accepting
//! one is part of being well.

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
            // Whoever was found unhealthy while there were several is not left so for ever.
            HealthCheck::Auto => {
                self.servers.count() > 1 || !self.servers.all().iter().all(Server::is_healthy)
            }
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
