//! What became of the requests of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(120);

/// Counts and latencies; a request that was not answered as it should be is a failure, and has no latency. One that was due
/// but could not be sent has that of those who were answered after as long as it had waited: it would have been later.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// In nanoseconds, since each request was due.
    pub(crate) latency: Histogram<u64>,
    /// How long after they were due requests were sent, in nanoseconds: how far the generator itself is behind.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) answered: u64,
    /// Requests of an open loop that were due and had not been sent when the time was up.
    pub(crate) unsent: u64,
    pub(crate) body_bytes: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) said: BTreeMap<Said, u64>,
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// The first failure, in words.
    pub(crate) first_failure: Option<String>,
}

/// What `Cache-Status` says became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Hit,
    Stale,
    /// Staler than that, since the VMS failed.
    InsteadOfError,
    Partial,
    Miss,
    Bypass,
    /// There is no such field, or it says something else.
    Nothing,
}

impl Default for Tally {
    fn default() -> Self {
        let empty = || {
            let longest = u64::try_from(LONGEST.as_nanos()).expect("two minutes fit");
            let mut histogram = Histogram::new_with_bounds(1, longest, 3)
                .expect("the bounds are in order, three digits are allowed");
            histogram.auto(false);
            histogram
        };
        Self {
            latency: empty(),
            lateness: empty(),
            answered: 0,
            unsent: 0,
            body_bytes: 0,
            statuses: BTreeMap::new(),
            said: BTreeMap::new(),
            failures: BTreeMap::new(),
            first_failure: None,
        }
    }
}

impl Tally {
    /// A request was answered as it should be, so long after it was due, of which the generator itself was late.
    pub(crate) fn answers(&mut self, latency: Duration, late: Duration) {
        self.answered += 1;
        self.latency.saturating_record(nanoseconds(latency));
        self.lateness.saturating_record(nanoseconds(late));
    }

    /// A request that had been due for so long when the time was up was not sent.
    pub(crate) fn leaves_unsent(&mut self, waited: Duration) {
        self.unsent += 1;
        self.latency.saturating_record(nanoseconds(waited));
        self.lateness.saturating_record(nanoseconds(waited));
    }

    /// An answer came, whether it is as it should be or not.
    pub(crate) fn hears(&mut self, status: u16, said: Said, body_bytes: usize) {
        *self.statuses.entry(status).or_default() += 1;
        *self.said.entry(said).or_default() += 1;
        self.body_bytes += u64::try_from(body_bytes).unwrap_or(u64::MAX);
    }

    pub(crate) fn fails(&mut self, kind: &'static str, why: impl FnOnce() -> String) {
        *self.failures.entry(kind).or_default() += 1;
        self.first_failure.get_or_insert_with(why);
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Requests that were sent.
    pub(crate) fn asked(&self) -> u64 {
        self.answered + self.failed()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.lateness, &other.lateness),
        ] {
            mine.add(theirs).expect("all have the same bounds");
        }
        self.answered += other.answered;
        self.unsent += other.unsent;
        self.body_bytes += other.body_bytes;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (said, count) in &other.said {
            *self.said.entry(*said).or_default() += count;
        }
        for (kind, count) in &other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }

    /// The latency below which this share of the answers came, in microseconds.
    pub(crate) fn percentile_us(&self, quantile: f64) -> f64 {
        microseconds(self.latency.value_at_quantile(quantile))
    }
}

impl Said {
    /// What a value of `Cache-Status` (RFC 9211) says; of several caches' words the last one's, which is nearest.
    pub(crate) fn of(value: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(value) else {
            return Self::Nothing;
        };
        let mut said = Self::Nothing;
        let mut is_stale = false;
        let mut instead_of_error = false;
        let nearest = text.rsplit(',').next().unwrap_or_default();
        for parameter in nearest.split(';').skip(1) {
            match parameter.trim().split_once('=') {
                None if parameter.trim() == "hit" => said = Self::Hit,
                Some(("fwd", "partial")) => said = Self::Partial,
                Some(("fwd", "bypass")) => said = Self::Bypass,
                Some(("fwd", _)) => said = Self::Miss,
                Some(("detail", "stale_if_error")) => instead_of_error = true,
                Some(("ttl", ttl)) => is_stale = ttl.starts_with('-') || ttl == "0",
                _ => {}
            }
        }
        match said {
            _ if instead_of_error => Self::InsteadOfError,
            Self::Hit if is_stale => Self::Stale,
            said => said,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::InsteadOfError => "stale instead of an error",
            Self::Partial => "partial",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Nothing => "says nothing",
        }
    }
}

/// Nanoseconds as microseconds.
pub(crate) fn microseconds(nanoseconds: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "latencies are far below what a double counts exactly"
    )]
    let nanoseconds = nanoseconds as f64;
    nanoseconds / 1e3
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_is_read_as_rfc_9211_has_it() {
        for (value, said) in [
            ("vms-edge; hit; ttl=12", Said::Hit),
            ("vms-edge; hit; ttl=-3", Said::Stale),
            (
                "vms-edge; hit; ttl=-9; detail=stale_if_error",
                Said::InsteadOfError,
            ),
            (
                "vms-edge; fwd=partial; detail=\"hit=9 miss=1\"",
                Said::Partial,
            ),
            ("vms-edge; fwd=miss; fwd-status=200; stored", Said::Miss),
            ("vms-edge; fwd=bypass; detail=cookie", Said::Bypass),
            ("origin; fwd=miss, vms-edge; hit; ttl=3", Said::Hit),
            ("", Said::Nothing),
        ] {
            assert_eq!(Said::of(value.as_bytes()), said, "{value}");
        }
    }

    #[test]
    fn a_failure_has_no_latency_and_is_remembered_in_words() {
        let mut tally = Tally::default();
        tally.answers(Duration::from_micros(100), Duration::ZERO);
        tally.fails("status", || "401".to_owned());
        tally.fails("status", || "402".to_owned());
        tally.leaves_unsent(Duration::from_micros(200));
        assert_eq!((tally.answered, tally.failed(), tally.asked()), (1, 2, 3));
        assert_eq!((tally.unsent, tally.latency.len()), (1, 2));
        assert_eq!(tally.first_failure.as_deref(), Some("401"));
        let mut all = Tally::default();
        all.merge(&tally);
        all.merge(&tally);
        assert_eq!((all.answered, all.failed(), all.latency.len()), (2, 4, 4));
        assert_eq!(all.unsent, 2);
    }
}
