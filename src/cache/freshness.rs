//! How long what is stored may answer.
//!
//! Pure functions of an age; the words are those of RFC 9111, section 4.2, but the lifetimes are the operator's, since
//! the VMS says `no-cache` of everything.

use std::time::Duration;

use crate::config;

/// The freshness windows of one batch endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    fresh: Duration,
    absent: Duration,
    jitter: f64,
}

/// What is known about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The VMS answered it.
    Item,
    /// The VMS left it out of a 200: it is not this user's.
    Absence,
}

/// Whether something stored may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usability {
    /// Yes, for `ttl` from now.
    Fresh {
        /// Time left.
        ttl: Duration,
    },
    /// No.
    Expired,
}

/// A fill's share of the jitter, drawn once: all items of a fill expire together, so that the batch they came in is one
/// fetch again, while different users' fills drift apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// From a random number, uniformly.
    pub fn new(random: u16) -> Self {
        Self(random)
    }

    /// As a fraction in `0.0 ..= 1.0`.
    fn share(self) -> f64 {
        f64::from(self.0) / f64::from(u16::MAX)
    }
}

impl Windows {
    /// As configured.
    pub fn new(batch: &config::Batch) -> Self {
        Self {
            fresh: batch.fresh,
            absent: batch.absent,
            jitter: batch.jitter,
        }
    }

    /// Whether something whose fetch began `age` ago may answer.
    ///
    /// Jitter only ever shortens a lifetime: `fresh` is a bound on which operators rely.
    pub fn usability(&self, kind: Kind, age: Duration, jitter: Jitter) -> Usability {
        let longest = match kind {
            Kind::Item => self.fresh,
            Kind::Absence => self.absent,
        };
        let lifetime = longest.mul_f64(1.0 - self.jitter * jitter.share());
        match lifetime.checked_sub(age) {
            Some(ttl) if !ttl.is_zero() => Usability::Fresh { ttl },
            _ => Usability::Expired,
        }
    }

    /// The age at which nothing is of use any more.
    pub fn longest(&self) -> Duration {
        self.fresh.max(self.absent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(fresh_ms: u64, absent_ms: u64, jitter: f64) -> Windows {
        Windows {
            fresh: Duration::from_millis(fresh_ms),
            absent: Duration::from_millis(absent_ms),
            jitter,
        }
    }

    #[test]
    fn an_item_is_fresh_until_its_lifetime_has_passed() {
        let windows = windows(30_000, 10_000, 0.0);
        let at = |kind, age| windows.usability(kind, Duration::from_secs(age), Jitter::new(77));
        let fresh = |left| Usability::Fresh {
            ttl: Duration::from_secs(left),
        };
        assert_eq!(at(Kind::Item, 0), fresh(30));
        assert_eq!(at(Kind::Item, 29), fresh(1));
        assert_eq!(at(Kind::Item, 30), Usability::Expired);
        assert_eq!(at(Kind::Absence, 9), fresh(1));
        assert_eq!(at(Kind::Absence, 10), Usability::Expired);
    }

    #[test]
    fn zero_seconds_are_never_fresh() {
        let never = windows(0, 0, 0.1);
        assert_eq!(
            never.usability(Kind::Item, Duration::ZERO, Jitter::new(0)),
            Usability::Expired
        );
    }

    #[test]
    fn the_whole_jitter_takes_its_full_share() {
        let windows = windows(10_000, 0, 0.1);
        let with = |random| windows.usability(Kind::Item, Duration::ZERO, Jitter::new(random));
        assert_eq!(
            with(0),
            Usability::Fresh {
                ttl: Duration::from_secs(10)
            }
        );
        assert_eq!(
            with(u16::MAX),
            Usability::Fresh {
                ttl: Duration::from_secs(9)
            }
        );
    }

    proptest! {
        #[test]
        fn what_has_expired_stays_expired_and_ttl_only_falls(
            fresh in 0u64..100_000, absent in 0u64..100_000, jitter in 0.0..0.5f64,
            share in any::<u16>(), age in 0u64..100_000, later in 0u64..100_000, item in any::<bool>(),
        ) {
            let windows = windows(fresh, absent, jitter);
            let kind = if item { Kind::Item } else { Kind::Absence };
            let at = |ms| windows.usability(kind, Duration::from_millis(ms), Jitter::new(share));
            match (at(age), at(age + later)) {
                (Usability::Expired, then) => prop_assert_eq!(then, Usability::Expired),
                (Usability::Fresh { ttl }, Usability::Fresh { ttl: then }) => {
                    prop_assert_eq!(ttl - then, Duration::from_millis(later));
                }
                (Usability::Fresh { .. }, Usability::Expired) => {}
            }
            prop_assert_eq!(
                matches!(at(age), Usability::Fresh { .. }) && age >= windows.longest().as_millis() as u64,
                false
            );
        }
    }
}
