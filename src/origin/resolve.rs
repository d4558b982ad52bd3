//! Which addresses the configured servers have.
//!
//! Asked when the edge starts and again every [`RESOLVE_EVERY`], off the request path: a request only ever sees
//! addresses. What becomes of them is not known here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::{self, ServerName};

/// How often names are resolved again.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Turns names into addresses.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `name`.
    async fn resolve(&self, name: &ServerName) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver (`/etc/hosts`, DNS …), on threads of its own.
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &ServerName) -> io::Result<Vec<SocketAddr>> {
        let lookup = tokio::net::lookup_host((name.host.as_str(), name.port));
        match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
            Ok(found) => Ok(found?.collect()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 5s")),
        }
    }
}

/// A configured server has no address.
#[derive(Debug, thiserror::Error)]
#[error("upstream.servers: {name} does not resolve: {reason}")]
pub struct Unresolvable {
    name: ServerName,
    reason: io::Error,
}

/// One address of a configured server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) address: SocketAddr,
    /// Name for SNI and certificate.
    pub(super) tls_name: Arc<str>,
    /// Which of the configured servers it is, so that a failing name keeps its own.
    pub(super) configured: usize,
}

/// The configured servers, and whoever knows where they are.
pub(super) struct Names {
    servers: Vec<ServerName>,
    tls_name: Option<String>,
    resolver: Box<dyn Resolve>,
}

impl Names {
    pub(super) fn new(upstream: &config::Upstream, resolver: Box<dyn Resolve>) -> Self {
        Self {
            servers: upstream.servers.clone(),
            tls_name: upstream
                .tls
                .as_ref()
                .and_then(|tls| tls.server_name.clone()),
            resolver,
        }
    }

    /// All addresses, each server's as far as it has any.
    pub(super) async fn look_up(&self) -> Vec<Result<Vec<Resolved>, Unresolvable>> {
        let mut found = Vec::with_capacity(self.servers.len());
        for configured in 0..self.servers.len() {
            found.push(self.look_up_one(configured).await);
        }
        found
    }

    async fn look_up_one(&self, configured: usize) -> Result<Vec<Resolved>, Unresolvable> {
        let name = &self.servers[configured];
        let unresolvable = |reason| Unresolvable {
            name: name.clone(),
            reason,
        };
        let addresses = match name.host.parse::<IpAddr>() {
            Ok(literal) => vec![SocketAddr::new(literal, name.port)],
            Err(_) => self.resolver.resolve(name).await.map_err(unresolvable)?,
        };
        if addresses.is_empty() {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            return Err(unresolvable(nothing));
        }
        let tls_name: Arc<str> = self.tls_name.as_deref().unwrap_or(&name.host).into();
        let resolved = |address| Resolved {
            address,
            tls_name: Arc::clone(&tls_name),
            configured,
        };
        Ok(addresses.into_iter().map(resolved).collect())
    }
}
