//! Whose turn it is to be asked, and how to connect to it.
//!
//! All addresses of all configured servers are asked in turn; passed over are those whose breaker is open and those
//! whose health checks fail. If the checks say that nobody is well, it is the checks that are not believed. A fetch is
//! sent to nobody rather than to a server with an open breaker; what passes through is sent in any case, since the edge
//! invents no errors for it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::upstreams::peer::HttpPeer;

use super::breaker::Traffic;
use super::latency::Quantiles;
use super::resolve::{Names, Resolve, Resolved, Unresolvable};
use super::server::{Report, Server, ServerState, Turn};
use super::trust::{self, Authorities};
use crate::cache::clock::{Clock, Time};
use crate::config;

/// How long an unused connection is kept for the next request, unless the VMS closes it first.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Pools from here on are of one request each, beyond those that all requests under one configuration share.
const LONE_POOLS: u64 = 1 << 32;

/// Unused connections that one pool keeps.
const POOL_SIZE: usize = 256;

/// The servers of the VMS, as they resolve now; asked in turn.
pub struct Servers {
    upstream: config::Upstream,
    authorities: Authorities,
    names: Names,
    clock: Clock,
    /// At least one, each address once.
    servers: ArcSwap<Vec<Server>>,
    turn: AtomicUsize,
    /// The group of pooled connections that any request to them may use. What was connected to under another
    /// configuration was perhaps trusted on another word.
    pool: u64,
}

/// What one request has tried in vain.
#[derive(Debug, Default)]
pub struct Tried {
    /// Addresses that could not be connected to; none of them is tried again.
    pub unreached: Vec<SocketAddr>,
    /// The address whose connection ended unheard; it is tried again only if there is no other.
    pub unheard: Option<SocketAddr>,
    /// Whether the request is said once more, and so over a connection that is new: pooled ones may be closed as well.
    pub repeated: bool,
}

impl Servers {
    /// Resolves all configured servers, which are believed on the word of `authorities`.
    ///
    /// What `before` knows of an address stays known, if the configuration judges it as it did then.
    ///
    /// # Errors
    ///
    /// The first that has no address.
    pub async fn resolve(
        upstream: &config::Upstream,
        authorities: Authorities,
        resolver: Box<dyn Resolve>,
        clock: Clock,
        before: Option<&Self>,
    ) -> Result<Self, Unresolvable> {
        static POOLS: AtomicU64 = AtomicU64::new(0);
        let judge = |upstream: &config::Upstream| (upstream.breaker, upstream.health.clone());
        let before = before.filter(|before| judge(&before.upstream) == judge(upstream));
        let servers = Self {
            upstream: upstream.clone(),
            authorities,
            names: Names::new(upstream, resolver),
            clock,
            servers: before.map_or_else(ArcSwap::default, |before| ArcSwap::new(before.all())),
            turn: AtomicUsize::new(0),
            pool: POOLS.fetch_add(1, Ordering::Relaxed),
        };
        let mut found = Vec::new();
        for resolved in servers.names.look_up().await {
            found.extend(resolved?);
        }
        servers.adopt(found);
        Ok(servers)
    }

    /// Whether a configuration and its authorities are those of these servers, so that it may go on with them.
    pub fn are_of(&self, upstream: &config::Upstream, authorities: &Authorities) -> bool {
        self.upstream == *upstream && trust::are_same(&self.authorities, authorities)
    }

    /// Resolves the names again; those that fail keep their addresses, and are returned.
    pub async fn refresh(&self) -> Vec<Unresolvable> {
        let before = self.servers.load_full();
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for (configured, resolved) in self.names.look_up().await.into_iter().enumerate() {
            match resolved {
                Ok(resolved) => found.extend(resolved),
                Err(failure) => {
                    let kept = before.iter().map(|server| &server.at);
                    found.extend(kept.filter(|at| at.configured == configured).cloned());
                    failures.push(failure);
                }
            }
        }
        if !before.iter().map(|server| &server.at).eq(&found) {
            self.adopt(found);
        }
        failures
    }

    /// What is known of an address stays known.
    fn adopt(&self, mut found: Vec<Resolved>) {
        let mut seen = HashSet::new();
        found.retain(|at| seen.insert(at.address));
        let before = self.servers.load();
        let servers = found.into_iter().map(|at| {
            let known = before.iter().find(|server| server.at.address == at.address);
            match known {
                Some(server) => server.found_again(at),
                None => Server::new(at, &self.upstream, &self.clock),
            }
        });
        self.servers.store(Arc::new(servers.collect()));
    }

    /// How many addresses there are: at least one.
    pub fn count(&self) -> usize {
        self.servers.load().len()
    }

    /// How many addresses are in each state.
    pub fn states(&self) -> [usize; ServerState::ALL.len()] {
        let mut states = [0; ServerState::ALL.len()];
        for server in self.servers.load().iter() {
            states[server.state() as usize] += 1;
        }
        states
    }

    /// How each address stands, for operators.
    pub fn report(&self) -> Vec<Report> {
        self.servers.load().iter().map(Server::report).collect()
    }

    /// How long the fetches took that ended since a point in time, as far as they are remembered; `None` if there are none.
    pub fn latency_since(&self, since: Time) -> Option<Quantiles> {
        let mut times = Vec::new();
        for server in self.servers.load().iter() {
            server.latencies_since(since, &mut times);
        }
        Quantiles::of(times)
    }

    /// All of them, as they resolve now.
    pub(super) fn all(&self) -> Arc<Vec<Server>> {
        self.servers.load_full()
    }

    /// Whether there would be a turn for a fetch.
    pub fn admit_fetches(&self) -> bool {
        let servers = self.servers.load();
        let tried = Tried::default();
        let candidates = Candidates::of(&servers, &tried, 0);
        candidates
            .well()
            .any(|server| server.admits(Traffic::Fetch))
    }

    /// Whether no server is closed: whoever is asked is asked to see whether he is well again.
    pub fn are_failing(&self) -> bool {
        let servers = self.servers.load();
        let tried = Tried::default();
        !Candidates::of(&servers, &tried, 0)
            .well()
            .any(Server::is_closed)
    }

    /// The next server in turn for a fetch; `None` if no breaker gives leave.
    pub fn next_for_fetch(&self, tried: &Tried) -> Option<Turn> {
        let servers = self.servers.load();
        let candidates = Candidates::of(&servers, tried, self.take_turn());
        candidates
            .well()
            .find_map(|server| server.admit(Traffic::Fetch))
    }

    /// The next server in turn for a request that passes through; `None` if all were tried.
    ///
    /// A server that is half-open is probed with requests that could be said again (`may_probe`), and passed over by
    /// others.
    pub fn next_for_pass(&self, tried: &Tried, may_probe: bool) -> Option<Turn> {
        let servers = self.servers.load();
        let candidates = Candidates::of(&servers, tried, self.take_turn());
        let turn = |server: &Server| match may_probe || server.is_closed() {
            true => server.admit(Traffic::Pass),
            false => None,
        };
        let worth = |server: &&Server| (!server.is_healthy(), server.is_open());
        let best_of_all = || candidates.all().min_by_key(worth);
        candidates
            .well()
            .find_map(turn)
            .or_else(|| best_of_all().map(Server::wave_through))
    }

    /// Whether there is a server that was not tried.
    pub fn has_more(&self, tried: &Tried) -> bool {
        let servers = self.servers.load();
        Candidates::of(&servers, tried, 0).all().next().is_some()
    }

    fn take_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The way to whose turn it is, with the configured timeouts.
    ///
    /// `idle_timeout` bounds each wait for a byte; `None` waits for ever.
    pub fn peer(&self, turn: &Turn, tried: &Tried, idle_timeout: Option<Duration>) -> HttpPeer {
        let mut peer = self.peer_of(turn.server());
        peer.options.read_timeout = idle_timeout;
        peer.options.write_timeout = idle_timeout;
        if tried.repeated {
            // Shares no pool with anybody, so that the connection is a new one.
            peer.group_key = fastrand::u64(LONE_POOLS..);
        }
        peer
    }

    /// The way to one of them, with no bound on silence.
    pub(super) fn peer_of(&self, server: &Server) -> HttpPeer {
        let tls = self.upstream.tls.as_ref();
        let name = tls.map(|_| server.at.tls_name.to_string());
        let mut peer = HttpPeer::new(server.at.address, tls.is_some(), name.unwrap_or_default());
        peer.group_key = self.pool;
        peer.options.connection_timeout = Some(self.upstream.connect_timeout);
        peer.options.total_connection_timeout = Some(self.upstream.connect_timeout);
        peer.options.idle_timeout = Some(POOL_IDLE);
        peer.options.verify_cert = tls.is_none_or(|tls| tls.verify);
        peer.options.verify_hostname = peer.options.verify_cert;
        peer.options.ca.clone_from(&self.authorities);
        peer
    }

    /// The group of pooled connections that any request to these servers may use.
    pub fn pool(&self) -> u64 {
        self.pool
    }

    /// Options for a pool of connections to these servers.
    pub fn connector_options(upstream: &config::Upstream) -> ConnectorOptions {
        let mut options = ConnectorOptions::new(POOL_SIZE);
        options.ca_file = trust::connector_file(upstream);
        options
    }
}

/// Whom one request may still be sent to, beginning with whose turn it is.
struct Candidates<'a> {
    servers: &'a [Server],
    tried: &'a Tried,
    first: usize,
    believes_checks: bool,
}

impl<'a> Candidates<'a> {
    fn of(servers: &'a [Server], tried: &'a Tried, turn: usize) -> Self {
        let mut candidates = Self {
            servers,
            tried,
            first: turn % servers.len(),
            believes_checks: false,
        };
        let any_is_healthy = candidates.all().any(Server::is_healthy);
        candidates.believes_checks = any_is_healthy;
        candidates
    }

    fn all(&self) -> impl Iterator<Item = &'a Server> {
        let (before, after) = self.servers.split_at(self.first);
        let Tried {
            unreached, unheard, ..
        } = self.tried;
        let in_turn = after.iter().chain(before);
        let left = in_turn.filter(|server| !unreached.contains(&server.at.address));
        let is_unheard = move |server: &&Server| Some(server.at.address) == *unheard;
        let others = left.clone().filter(move |server| !is_unheard(server));
        others.chain(left.filter(is_unheard))
    }

    /// Those whose checks pass; all, if none does.
    fn well(&self) -> impl Iterator<Item = &'a Server> {
        let believes_checks = self.believes_checks;
        self.all()
            .filter(move |server| !believes_checks || server.is_healthy())
    }
}

#[cfg(test)]
mod tests;
