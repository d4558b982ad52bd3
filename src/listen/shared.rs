//! What the threads share with each connection: the application, the rules, the places, the counts.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::watch;

use super::buckets::Limit;
use super::places::Places;
use crate::cache::clock::Clock;
use crate::config::{Config, Limits};
use crate::ops::metrics::Metrics;

/// What all threads share.
pub(super) struct Shared<A> {
    pub(super) app: Arc<A>,
    pub(super) rules: Arc<Rules>,
    pub(super) places: Arc<Places>,
    pub(super) metrics: Arc<Metrics>,
    /// Connections that are open, refused ones included.
    pub(super) open: Arc<AtomicUsize>,
    /// Refused connections that are waited for.
    pub(super) lingering: AtomicUsize,
    pub(super) phase: watch::Sender<Phase>,
    /// How many accept loops there are.
    pub(super) accepting: Arc<AtomicUsize>,
}

/// What new connections are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    Patient,
    Quick,
    Over,
}

/// What connections are subject to, and a reload may change for those that come after it.
pub struct Rules {
    now: ArcSwap<Rule>,
    clock: Clock,
}

/// The rules at one time.
pub(super) struct Rule {
    pub(super) limits: Limits,
    /// How often each address connects.
    pub(super) connecting: Option<Arc<Limit<IpAddr>>>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) proxy_protocol: bool,
}

impl Rules {
    /// Those of `config`.
    pub fn of(config: &Config, clock: &Clock) -> Self {
        Self {
            now: ArcSwap::from_pointee(Rule::of(config, clock, None)),
            clock: clock.clone(),
        }
    }

    /// Takes over those of `config`.
    pub fn apply(&self, config: &Config) {
        let before = self.now();
        let after = Rule::of(config, &self.clock, Some(&before));
        self.now.store(Arc::new(after));
    }

    /// Those that are in effect.
    pub(super) fn now(&self) -> Arc<Rule> {
        self.now.load_full()
    }
}

impl Rule {
    /// A reload that leaves the limit of connecting alone leaves the buckets as they are.
    fn of(config: &Config, clock: &Clock, before: Option<&Self>) -> Self {
        let connecting = config.limits.connecting;
        let before = before.filter(|before| before.limits.connecting == connecting);
        Self {
            limits: config.limits,
            connecting: match before {
                Some(before) => before.connecting.clone(),
                None => Limit::new(connecting, clock).map(Arc::new),
            },
            trusted_proxies: config.server.trusted_proxies.clone(),
            proxy_protocol: config.server.proxy_protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_empties_and_fills_no_bucket_of_a_limit_that_it_leaves_alone() {
        let config = |limits: &str| {
            let text = format!("upstream.servers = [\"127.0.0.1:9\"]\n[limits]\n{limits}");
            Config::parse(&text, "test").unwrap()
        };
        let (clock, _hand) = Clock::manual();
        let once = "address_connection_rate = 1\n";
        let rules = Rules::of(&config(once), &clock);
        let comes = || {
            let address = IpAddr::from([10, 0, 0, 1]);
            let connecting = rules.now().connecting.clone();
            connecting.is_none_or(|limit| limit.admit(&address).is_ok())
        };
        assert_eq!((comes(), comes()), (true, false));
        rules.apply(&config(&format!("{once}connections = 5")));
        assert!(!comes());
        rules.apply(&config("address_connection_rate = 2"));
        assert!(comes());
        rules.apply(&config(""));
        assert!((0..10).all(|_| comes()));
    }
}
