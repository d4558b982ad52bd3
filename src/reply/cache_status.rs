//! The `Cache-Status` field (RFC 9211): what the edge did with a batch.

use std::fmt::Write;

use http::HeaderValue;

use crate::request::decline::Bypass;

/// How a batch was answered, as `Cache-Status`, metric and access line tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From memory alone.
    Hit {
        /// How long it would stay fresh, in milliseconds; negative since it went stale.
        ttl_ms: i64,
    },
    /// Nothing of it was at hand; the VMS answered `status`.
    Miss {
        /// Status of the VMS's answer.
        status: u16,
        /// Whether the answer was stored.
        stored: bool,
        /// Whether another batch's fetch brought some of it.
        collapsed: bool,
    },
    /// Some ids were at hand, the others were fetched.
    Partial {
        /// Ids at hand.
        hit: usize,
        /// Ids fetched.
        miss: usize,
        /// Status of the VMS's answer.
        status: u16,
        /// Whether the answer was stored.
        stored: bool,
        /// Whether another batch's fetch brought some of it.
        collapsed: bool,
    },
    /// It passed through.
    Bypass(Bypass),
    /// The VMS failed, and what was stale is better than an error.
    InsteadOfError {
        /// Status of the VMS's answer, if there was one.
        status: Option<u16>,
        /// For how long it has been stale, in milliseconds, negative.
        ttl_ms: i64,
    },
    /// Ids were missing, and the VMS could not be asked.
    Failed {
        /// Whether others were at hand.
        partial: bool,
    },
}

/// How a request on a batch path was answered, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchResult {
    /// From memory alone.
    Hit,
    /// From memory alone, some of it stale.
    Stale,
    /// Some ids from memory, the others fetched.
    Partial,
    /// All ids fetched.
    Miss,
    /// Passed through uncached.
    Bypass,
    /// Refused by the header checks.
    Rejected,
    /// The VMS could not be asked.
    Error,
}

impl BatchResult {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::Hit,
        Self::Stale,
        Self::Partial,
        Self::Miss,
        Self::Bypass,
        Self::Rejected,
        Self::Error,
    ];

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Partial => "partial",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Rejected => "rejected",
            Self::Error => "error",
        }
    }
}

impl CacheStatus {
    /// The same in one word.
    pub fn result(self) -> BatchResult {
        match self {
            Self::Hit { ttl_ms } if ttl_ms <= 0 => BatchResult::Stale,
            Self::Hit { .. } => BatchResult::Hit,
            Self::Miss { .. } => BatchResult::Miss,
            Self::Partial { .. } => BatchResult::Partial,
            Self::Bypass(_) => BatchResult::Bypass,
            Self::InsteadOfError { .. } => BatchResult::Stale,
            Self::Failed { .. } => BatchResult::Error,
        }
    }

    /// The field's value, ready to be sent. That of a hit takes one allocation, of its own length.
    pub fn to_value(self) -> HeaderValue {
        const VALID: &str = "a cache status is visible ASCII";
        let Self::Hit { ttl_ms } = self else {
            return HeaderValue::try_from(self.to_field()).expect(VALID);
        };
        let mut text = [0; HIT.len() + 20];
        let mut number = itoa::Buffer::new();
        let seconds = number.format(ttl_ms.div_euclid(1000)).as_bytes();
        text[..HIT.len()].copy_from_slice(HIT.as_bytes());
        text[HIT.len()..][..seconds.len()].copy_from_slice(seconds);
        HeaderValue::from_bytes(&text[..HIT.len() + seconds.len()]).expect(VALID)
    }

    /// The field's value.
    ///
    /// Written by hand; the tests hold it against a structured-field parser.
    pub fn to_field(self) -> String {
        const WRITTEN: &str = "writing to a String cannot fail";
        if let Self::Hit { ttl_ms } = self {
            return format!("{HIT}{}", ttl_ms.div_euclid(1000));
        }
        let mut field = String::with_capacity(64);
        field.push_str("vms-edge");
        match self {
            Self::Hit { .. } => {}
            Self::Miss {
                status,
                stored,
                collapsed,
            } => {
                write!(field, "; fwd=miss; fwd-status={status}").expect(WRITTEN);
                push_if(&mut field, stored, "; stored");
                push_if(&mut field, collapsed, "; collapsed");
            }
            Self::Partial {
                hit,
                miss,
                status,
                stored,
                collapsed,
            } => {
                write!(field, "; fwd=partial; fwd-status={status}").expect(WRITTEN);
                push_if(&mut field, stored, "; stored");
                push_if(&mut field, collapsed, "; collapsed");
                write!(field, "; detail=\"hit={hit} miss={miss}\"").expect(WRITTEN);
            }
            Self::Bypass(reason) => {
                write!(field, "; fwd=bypass; detail={}", reason.name()).expect(WRITTEN);
            }
            Self::InsteadOfError { status, ttl_ms } => {
                field.push_str("; fwd=stale");
                if let Some(status) = status {
                    write!(field, "; fwd-status={status}").expect(WRITTEN);
                }
                let ttl = ttl_ms.div_euclid(1000);
                write!(field, "; ttl={ttl}; detail=stale_if_error").expect(WRITTEN);
            }
            Self::Failed { partial } => {
                let forwarded = if partial { "partial" } else { "miss" };
                write!(field, "; fwd={forwarded}; detail=failed").expect(WRITTEN);
            }
        }
        field
    }
}

/// How the field of a hit begins.
const HIT: &str = "vms-edge; hit; ttl=";

fn push_if(field: &mut String, holds: bool, parameter: &str) {
    if holds {
        field.push_str(parameter);
    }
}

#[cfg(test)]
mod tests {
    use sfv::{List, ListEntry, Parser};

    use super::*;

    #[test]
    fn the_field_reads_as_the_design_has_it() {
        let miss = CacheStatus::Miss {
            status: 200,
            stored: true,
            collapsed: false,
        };
        assert_eq!(
            miss.to_field(),
            "vms-edge; fwd=miss; fwd-status=200; stored"
        );
        let hit = CacheStatus::Hit { ttl_ms: 12_900 };
        assert_eq!(hit.to_field(), "vms-edge; hit; ttl=12");
        let stale = CacheStatus::Hit { ttl_ms: -400 };
        assert_eq!(stale.to_field(), "vms-edge; hit; ttl=-1");
        let partial = CacheStatus::Partial {
            hit: 9,
            miss: 1,
            status: 200,
            stored: true,
            collapsed: false,
        };
        assert_eq!(
            partial.to_field(),
            "vms-edge; fwd=partial; fwd-status=200; stored; detail=\"hit=9 miss=1\""
        );
        let awaited = CacheStatus::Miss {
            status: 200,
            stored: true,
            collapsed: true,
        };
        assert_eq!(
            awaited.to_field(),
            "vms-edge; fwd=miss; fwd-status=200; stored; collapsed"
        );
        assert_eq!(
            CacheStatus::Bypass(Bypass::Cookie).to_field(),
            "vms-edge; fwd=bypass; detail=cookie"
        );
    }

    #[test]
    fn there_is_room_for_any_ttl() {
        for ttl_ms in [i64::MIN, -1, 0, 999, i64::MAX] {
            let hit = CacheStatus::Hit { ttl_ms };
            assert_eq!(hit.to_value(), hit.to_field());
        }
    }

    #[test]
    fn every_field_is_a_structured_list_of_one_token_with_known_parameters() {
        let mut all = vec![
            CacheStatus::Hit { ttl_ms: -9_500 },
            CacheStatus::Miss {
                status: 404,
                stored: false,
                collapsed: true,
            },
            CacheStatus::Partial {
                hit: 1,
                miss: 2,
                status: 200,
                stored: true,
                collapsed: true,
            },
            CacheStatus::InsteadOfError {
                status: Some(503),
                ttl_ms: -1,
            },
            CacheStatus::Failed { partial: true },
        ];
        all.extend(Bypass::ALL.map(CacheStatus::Bypass));
        for status in all {
            let field = status.to_field();
            assert_eq!(status.to_value(), field);
            let list: List = Parser::new(&field).parse().expect(&field);
            let [ListEntry::Item(item)] = &list[..] else {
                panic!("{field} is not one item");
            };
            assert_eq!(
                item.bare_item.as_token().map(|token| token.as_str()),
                Some("vms-edge")
            );
            for name in item.params.keys() {
                let known = [
                    "hit",
                    "fwd",
                    "fwd-status",
                    "ttl",
                    "stored",
                    "collapsed",
                    "detail",
                ];
                assert!(known.contains(&name.as_str()), "{field}");
            }
        }
    }
}
