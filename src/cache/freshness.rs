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
    while_revalidate: Duration,
    if_error: Duration,
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

/// Whether something stored may answer, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usability {
    /// Yes.
    Fresh,
    /// Yes, while it is refreshed in the background (RFC 5861, 3).
    Stale,
    /// Only instead of an error (RFC 5861, 4).
    IfError,
    /// No.
    Expired,
}

impl Usability {
    /// The name that operators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::IfError => "stale_if_error",
            Self::Expired => "expired",
        }
    }
}

/// The judgement on something stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it may answer.
    pub usability: Usability,
    /// For how long it is fresh, in milliseconds; negative since it went stale.
    pub ttl_ms: i64,
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
            while_revalidate: batch.stale_while_revalidate,
            if_error: batch.stale_if_error,
            jitter: batch.jitter,
        }
    }

    /// Judges something whose fetch began `age` ago.
    ///
    /// Jitter only ever shortens a lifetime: `fresh` is a bound on which operators rely. An absence is never answered
    /// stale, so that who is given access sees it after `absent`.
    pub fn judge(&self, kind: Kind, age: Duration, jitter: Jitter) -> Judged {
        let (lifetime, while_revalidate) = self.lifetime(kind, jitter);
        let usability = if age < lifetime {
            Usability::Fresh
        } else if age < lifetime + while_revalidate || planted!(NeverExpires) {
            Usability::Stale
        } else if age < lifetime + self.if_error {
            Usability::IfError
        } else {
            Usability::Expired
        };
        let ttl_ms = milliseconds(lifetime) - milliseconds(age);
        Judged { usability, ttl_ms }
    }

    /// The same of something that a soft mark covers: it has come to the end of its lifetime, if it is younger.
    ///
    /// So a soft mark never lets anything answer that would not without it, nor longer.
    pub fn judge_softened(&self, kind: Kind, age: Duration, jitter: Jitter) -> Judged {
        let (lifetime, _) = self.lifetime(kind, jitter);
        self.judge(kind, age.max(lifetime), jitter)
    }

    /// How long something is fresh, and then stale.
    fn lifetime(&self, kind: Kind, jitter: Jitter) -> (Duration, Duration) {
        let (longest, while_revalidate) = match kind {
            Kind::Item => (self.fresh, self.while_revalidate),
            Kind::Absence if planted!(StaleAbsences) => (self.absent, self.while_revalidate),
            Kind::Absence => (self.absent, Duration::ZERO),
        };
        let lifetime = longest.mul_f64(1.0 - self.jitter * jitter.share());
        (lifetime, while_revalidate)
    }

    /// The age at which nothing is of use any more.
    pub fn longest(&self) -> Duration {
        self.fresh.max(self.absent) + self.while_revalidate.max(self.if_error)
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(fresh: u64, absent: u64, jitter: f64) -> Windows {
        Windows {
            fresh: Duration::from_secs(fresh),
            absent: Duration::from_secs(absent),
            while_revalidate: Duration::from_secs(60),
            if_error: Duration::from_secs(300),
            jitter,
        }
    }

    fn judged(windows: &Windows, kind: Kind, age: u64, jitter: u16) -> (Usability, i64) {
        let judged = windows.judge(kind, Duration::from_secs(age), Jitter::new(jitter));
        (judged.usability, judged.ttl_ms)
    }

    fn softened(windows: &Windows, kind: Kind, age: u64, jitter: u16) -> (Usability, i64) {
        let judged = windows.judge_softened(kind, Duration::from_secs(age), Jitter::new(jitter));
        (judged.usability, judged.ttl_ms)
    }

    #[test]
    fn an_item_is_fresh_then_stale_then_good_enough_for_an_error_then_expired() {
        let windows = windows(30, 10, 0.0);
        let at = |age| judged(&windows, Kind::Item, age, 77);
        assert_eq!(at(0), (Usability::Fresh, 30_000));
        assert_eq!(at(29), (Usability::Fresh, 1_000));
        assert_eq!(at(30), (Usability::Stale, 0));
        assert_eq!(at(89), (Usability::Stale, -59_000));
        assert_eq!(at(90), (Usability::IfError, -60_000));
        assert_eq!(at(329), (Usability::IfError, -299_000));
        assert_eq!(at(330), (Usability::Expired, -300_000));
    }

    #[test]
    fn an_absence_is_never_stale() {
        let windows = windows(30, 10, 0.0);
        let at = |age| judged(&windows, Kind::Absence, age, 0).0;
        assert_eq!(at(9), Usability::Fresh);
        assert_eq!(at(10), Usability::IfError);
        assert_eq!(at(310), Usability::Expired);
    }

    #[test]
    fn zero_seconds_are_never_fresh() {
        let never = windows(0, 0, 0.1);
        assert_eq!(judged(&never, Kind::Item, 0, 0).0, Usability::Stale);
        assert_eq!(judged(&never, Kind::Absence, 0, 0).0, Usability::IfError);
    }

    #[test]
    fn what_is_softened_is_no_longer_fresh_and_otherwise_as_old_as_it_is() {
        let windows = windows(30, 10, 0.0);
        let item = |age| softened(&windows, Kind::Item, age, 0);
        assert_eq!(item(0), (Usability::Stale, 0));
        assert_eq!(item(29), (Usability::Stale, 0));
        assert_eq!(item(31), (Usability::Stale, -1_000));
        assert_eq!(item(90), (Usability::IfError, -60_000));
        assert_eq!(item(330).0, Usability::Expired);
        let absence = |age| softened(&windows, Kind::Absence, age, 0).0;
        assert_eq!(absence(0), Usability::IfError);
        assert_eq!(absence(310), Usability::Expired);
    }

    #[test]
    fn where_nothing_may_be_stale_what_is_softened_is_good_only_instead_of_an_error() {
        let mut strict = windows(30, 10, 0.0);
        strict.while_revalidate = Duration::ZERO;
        assert_eq!(softened(&strict, Kind::Item, 0, 0).0, Usability::IfError);
        strict.if_error = Duration::ZERO;
        assert_eq!(softened(&strict, Kind::Item, 0, 0).0, Usability::Expired);
    }

    #[test]
    fn the_whole_jitter_takes_its_full_share() {
        let windows = windows(10, 0, 0.1);
        assert_eq!(judged(&windows, Kind::Item, 0, 0).1, 10_000);
        assert_eq!(judged(&windows, Kind::Item, 0, u16::MAX).1, 9_000);
    }

    proptest! {
        #[test]
        fn nothing_is_answered_beyond_the_bound_that_operators_are_told(
            fresh in 0u64..100, absent in 0u64..100, revalidate in 0u64..100, more in 0u64..100,
            jitter in 0.0..=0.5f64, share in any::<u16>(), early in 0u64..50_000, soft in any::<bool>(),
        ) {
            let text = format!(
                "upstream.servers = [\"vms:1\"]\n[[batch]]\npath = \"/a\"\nfresh = \"{fresh}s\"\n\
                 absent = \"{absent}s\"\nstale_while_revalidate = \"{revalidate}s\"\n\
                 stale_if_error = \"{}s\"\njitter = {jitter:?}",
                revalidate + more
            );
            let config = config::Config::parse(&text, "test").unwrap();
            let windows = Windows::new(&config.batches[0]);
            let told = config.revocation();
            for (bound, worst) in [(told.usual, Usability::Stale), (told.failing, Usability::IfError)] {
                let usability = |kind, age| match soft {
                    true => windows.judge_softened(kind, age, Jitter::new(share)).usability,
                    false => windows.judge(kind, age, Jitter::new(share)).usability,
                };
                for kind in [Kind::Item, Kind::Absence] {
                    prop_assert!(usability(kind, bound.time) > worst);
                }
                let (age, unspread) = (bound.time.saturating_sub(Duration::from_millis(early + 1)), Jitter::new(0));
                let answers = [Kind::Item, Kind::Absence]
                    .map(|kind| windows.judge(kind, age, unspread).usability <= worst);
                prop_assert!(bound.time.is_zero() || answers.contains(&true), "no more is told than need be");
            }
        }

        #[test]
        fn usability_only_falls_and_nothing_outlives_the_longest_window(
            fresh in 0u64..1000, absent in 0u64..1000, jitter in 0.0..0.5f64,
            share in any::<u16>(), age in 0u64..2000, later in 0u64..2000, item in any::<bool>(),
        ) {
            let windows = windows(fresh, absent, jitter);
            let kind = if item { Kind::Item } else { Kind::Absence };
            let (now, then) = (judged(&windows, kind, age, share), judged(&windows, kind, age + later, share));
            prop_assert!(now.0 <= then.0);
            prop_assert_eq!(now.1 - then.1, i64::try_from(later * 1000).unwrap());
            let soft = softened(&windows, kind, age, share);
            prop_assert!(soft.0 >= now.0.max(Usability::Stale) && soft.1 == now.1.min(0));
            let longest = judged(&windows, kind, windows.longest().as_secs(), share);
            prop_assert_eq!(longest.0, Usability::Expired);
        }
    }
}
