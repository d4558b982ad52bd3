//! Which server of the VMS to ask, and how to connect to it.
//!
//! Names are resolved when the edge starts and again every [`RESOLVE_EVERY`], off the request path: a request only
//! ever sees addresses. A name that fails to resolve keeps the addresses it had.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::upstreams::peer::HttpPeer;

use super::trust::{self, Authorities};
use crate::config::{self, ServerName};

/// How often names are resolved again.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// Longest wait for one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept for the next request, unless the VMS closes it first.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Unused connections that one pool keeps.
const POOL_SIZE: usize = 256;

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

/// The servers of the VMS, as they resolve now; asked in turn.
pub struct Servers {
    upstream: config::Upstream,
    authorities: Authorities,
    resolver: Box<dyn Resolve>,
    addresses: ArcSwap<Vec<Server>>,
    turn: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    address: SocketAddr,
    /// Name for SNI and certificate.
    name: Arc<str>,
    /// The configured server behind the address, so that a failing name keeps its own.
    configured: usize,
}

impl Servers {
    /// Resolves all configured servers, which are believed on the word of `authorities`.
    ///
    /// # Errors
    ///
    /// The first that has no address.
    pub async fn resolve(
        upstream: &config::Upstream,
        authorities: Authorities,
        resolver: Box<dyn Resolve>,
    ) -> Result<Self, Unresolvable> {
        let servers = Self {
            upstream: upstream.clone(),
            authorities,
            resolver,
            addresses: ArcSwap::default(),
            turn: AtomicUsize::new(0),
        };
        let mut found = Vec::new();
        for configured in 0..upstream.servers.len() {
            found.extend(servers.look_up(configured).await?);
        }
        servers.adopt(found);
        Ok(servers)
    }

    /// Resolves the names again; those that fail keep their addresses, and are returned.
    pub async fn refresh(&self) -> Vec<Unresolvable> {
        let before = self.addresses.load_full();
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for configured in 0..self.upstream.servers.len() {
            match self.look_up(configured).await {
                Ok(servers) => found.extend(servers),
                Err(failure) => {
                    let kept = before.iter().filter(|s| s.configured == configured);
                    found.extend(kept.cloned());
                    failures.push(failure);
                }
            }
        }
        if found != **before {
            self.adopt(found);
        }
        failures
    }

    async fn look_up(&self, configured: usize) -> Result<Vec<Server>, Unresolvable> {
        let name = &self.upstream.servers[configured];
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
        let tls_name = self
            .upstream
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name.as_deref());
        let tls_name: Arc<str> = tls_name.unwrap_or(&name.host).into();
        Ok(addresses
            .into_iter()
            .map(|address| Server {
                address,
                name: Arc::clone(&tls_name),
                configured,
            })
            .collect())
    }

    fn adopt(&self, mut servers: Vec<Server>) {
        let mut seen = HashSet::new();
        servers.retain(|server| seen.insert(server.address));
        self.addresses.store(Arc::new(servers));
    }

    /// How many addresses there are: at least one.
    pub fn count(&self) -> usize {
        self.addresses.load().len()
    }

    /// The next server in turn, with the configured timeouts.
    ///
    /// `idle_timeout` bounds each wait for a byte; `None` waits for ever.
    pub fn next_peer(&self, idle_timeout: Option<Duration>) -> HttpPeer {
        let addresses = self.addresses.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = &addresses[turn % addresses.len()];
        let tls = self.upstream.tls.as_ref();
        let name = tls.map(|_| server.name.to_string()).unwrap_or_default();
        let mut peer = HttpPeer::new(server.address, tls.is_some(), name);
        peer.options.connection_timeout = Some(self.upstream.connect_timeout);
        peer.options.total_connection_timeout = Some(self.upstream.connect_timeout);
        peer.options.read_timeout = idle_timeout;
        peer.options.write_timeout = idle_timeout;
        peer.options.idle_timeout = Some(POOL_IDLE);
        peer.options.verify_cert = tls.is_none_or(|tls| tls.verify);
        peer.options.verify_hostname = peer.options.verify_cert;
        peer.options.ca.clone_from(&self.authorities);
        peer
    }

    /// Options for a pool of connections to these servers.
    pub fn connector_options(upstream: &config::Upstream) -> ConnectorOptions {
        let mut options = ConnectorOptions::new(POOL_SIZE);
        options.ca_file = trust::connector_file(upstream);
        options
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers what it is told to.
    struct Told(Arc<Mutex<Vec<&'static str>>>);

    #[async_trait]
    impl Resolve for Told {
        async fn resolve(&self, _: &ServerName) -> io::Result<Vec<SocketAddr>> {
            let addresses = self.0.lock().unwrap().clone();
            if addresses.is_empty() {
                return Err(io::Error::other("down"));
            }
            Ok(addresses.iter().map(|a| a.parse().unwrap()).collect())
        }
    }

    fn upstream(servers: &str) -> config::Upstream {
        let text = format!("upstream.servers = [{servers}]");
        config::Config::parse(&text, "test").unwrap().upstream
    }

    fn asked(servers: &Servers, times: usize) -> Vec<String> {
        let peer = || servers.next_peer(None)._address.to_string();
        (0..times).map(|_| peer()).collect()
    }

    #[tokio::test]
    async fn servers_are_asked_in_turn() {
        let upstream = upstream(r#""10.0.0.1:80", "[::1]:81""#);
        let servers = Servers::resolve(&upstream, None, Box::new(SystemResolver))
            .await
            .unwrap();
        assert_eq!(
            asked(&servers, 3),
            ["10.0.0.1:80", "[::1]:81", "10.0.0.1:80"]
        );
    }

    #[tokio::test]
    async fn a_name_is_followed_when_it_moves_and_kept_when_it_fails() {
        let told = Arc::new(Mutex::new(vec!["10.0.0.1:80"]));
        let upstream = upstream(r#""vms.test:80""#);
        let servers = Servers::resolve(&upstream, None, Box::new(Told(Arc::clone(&told))))
            .await
            .unwrap();
        assert_eq!(asked(&servers, 1), ["10.0.0.1:80"]);

        *told.lock().unwrap() = vec!["10.0.0.2:80", "10.0.0.3:80", "10.0.0.2:80"];
        assert!(servers.refresh().await.is_empty());
        let mut both = asked(&servers, 2);
        both.sort();
        assert_eq!(both, ["10.0.0.2:80", "10.0.0.3:80"]);

        told.lock().unwrap().clear();
        assert_eq!(servers.refresh().await.len(), 1);
        assert_eq!(servers.count(), 2);
    }

    #[tokio::test]
    async fn a_name_without_address_at_the_start_is_named() {
        let told = Arc::new(Mutex::new(vec![]));
        let upstream = upstream(r#""vms.test:80""#);
        let failure = Servers::resolve(&upstream, None, Box::new(Told(told)))
            .await
            .err()
            .unwrap();
        assert_eq!(
            failure.to_string(),
            "upstream.servers: vms.test:80 does not resolve: down"
        );
    }
}
