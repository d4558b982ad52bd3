//! Points in time as operators are told them: by the clock on the wall, and how long ago.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::cache::clock::Time;

/// A point in time: RFC 3339 in UTC, and seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// By the wall's clock, which may have been set since.
    at: String,
    /// How long ago, exactly.
    seconds_ago: f64,
}

impl Moment {
    /// The moment `at`, as told `now`.
    pub fn of(at: Time, now: Time) -> Self {
        Self::ago(now.since(at))
    }

    /// The moment that lies `age` back.
    pub fn ago(age: Duration) -> Self {
        let at = SystemTime::now().checked_sub(age);
        Self {
            at: rfc_3339(at.unwrap_or(SystemTime::UNIX_EPOCH)),
            seconds_ago: seconds(age),
        }
    }

    /// A moment by the wall's clock.
    pub fn on_the_wall(at: SystemTime) -> Self {
        Self {
            at: rfc_3339(at),
            seconds_ago: seconds(at.elapsed().unwrap_or_default()),
        }
    }
}

/// To the millisecond, which is more than anybody reads.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}

fn rfc_3339(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_utc_and_seconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        assert_eq!(rfc_3339(at), "2023-11-14T22:13:20.250Z");
        let moment = Moment::ago(Duration::from_micros(1_234_567));
        assert_eq!(moment.seconds_ago, 1.235);
        assert!(moment.at.ends_with('Z'));
    }
}
