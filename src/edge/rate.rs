//! Rate limits: how often one token, and one client address, may ask.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_http::RequestHeader;

use crate::cache::clock::Clock;
use crate::config::Rates;
use crate::listen::buckets::Limit;
use crate::ops::metrics::LimitedBy;
use crate::reply::error::EdgeError;
use crate::request::credential;
use crate::request::key::{KeyMaker, UserId};
use crate::request::peer::{Peer, client_address, client_network};

/// How often tokens and addresses may ask.
pub struct RateLimits {
    config: Rates,
    users: Option<Limit<UserId>>,
    addresses: Option<Limit<IpAddr>>,
}

/// A request that comes too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// Which limit it is over.
    pub by: LimitedBy,
    /// How long until the next one is let through.
    pub wait: Duration,
}

impl Limited {
    /// By this limit, for so long.
    fn by(by: LimitedBy) -> impl Fn(Duration) -> Self {
        move |wait| Self { by, wait }
    }
}

impl From<Limited> for EdgeError {
    fn from(limited: Limited) -> Self {
        let is_begun = limited.wait.subsec_nanos() > 0;
        Self::TooManyAttempts {
            retry_after_seconds: (limited.wait.as_secs() + u64::from(is_begun)).max(1),
        }
    }
}

impl RateLimits {
    /// As `config` has them, with all buckets full; those of `before`, if they are the same.
    pub fn new(config: &Rates, clock: &Clock, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(before) = before
            && before.config == *config
        {
            return Arc::clone(before);
        }
        Arc::new(Self {
            users: Limit::new(config.user, clock),
            addresses: Limit::new(config.address, clock),
            config: *config,
        })
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// The limit that it is over; of a token's bucket nothing is taken if it is the address's.
    pub fn admit(
        &self,
        request: &RequestHeader,
        keys: &KeyMaker,
        peer: Peer,
        trusted: &[ipnet::IpNet],
    ) -> Result<(), Limited> {
        if let Some(limit) = &self.addresses {
            let client = client_network(client_address(&request.headers, peer, trusted));
            let admitted = limit.admit(&client);
            admitted.map_err(Limited::by(LimitedBy::Address))?;
        }
        if let Some(limit) = &self.users {
            // However many there are, and however they are written: who wants more does not get it by writing his token
            // oddly, or a made-up one beside it.
            for user in credential::holders(request, keys) {
                let admitted = limit.admit(&user);
                admitted.map_err(Limited::by(LimitedBy::User))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_changes_no_limit_forgets_no_bucket() {
        let (clock, _hand) = Clock::manual();
        let mut config = Rates::default();
        config.user.per_second = 1;
        let before = RateLimits::new(&config, &clock, None);
        let same = RateLimits::new(&config, &clock, Some(&before));
        assert!(Arc::ptr_eq(&before, &same) && before.addresses.is_none());
        config.user.per_second = 2;
        let other = RateLimits::new(&config, &clock, Some(&before));
        assert!(!Arc::ptr_eq(&before, &other));
    }
}
