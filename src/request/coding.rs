//! Which content codings a client takes, and how gladly (RFC 9110, 12.5.3).
//!
//! Without the field a client takes everything, and is sent what everybody understands: no coding at all. What is not
//! listed has the weight of `*`; identity, unless it is listed or `*` is, is good where nothing better is to be had.

use http::{HeaderMap, header};

use super::fields::members;
use crate::config::Coding;

/// A weight in thousandths: 0 is a refusal, 1000 the most.
pub type Weight = u16;

/// The weight of identity where nothing is said of it: less than of whatever is named.
const UNSAID: Weight = 1;

/// What `Accept-Encoding` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    codings: [Option<Weight>; Coding::ALL.len()],
    identity: Option<Weight>,
    rest: Option<Weight>,
}

impl Accepted {
    /// Reads all lines of the field. Of a coding that is listed twice, the first counts; one with a weight that cannot be
    /// read is not sent.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for member in members(headers, header::ACCEPT_ENCODING) {
            let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = weight(parts);
            let (place, weight) = if name.eq_ignore_ascii_case(b"identity") {
                (&mut accepted.identity, weight.unwrap_or(UNSAID))
            } else if name == b"*" {
                // A refusal of all that is not listed must be one.
                (&mut accepted.rest, weight.unwrap_or(UNSAID))
            } else if let Some(coding) = named(name) {
                let place = &mut accepted.codings[coding as usize];
                (place, weight.unwrap_or_default())
            } else {
                continue;
            };
            place.get_or_insert(weight);
        }
        accepted
    }

    /// How gladly a coding is taken.
    pub fn weight(&self, coding: Coding) -> Weight {
        self.codings[coding as usize]
            .or(self.rest)
            .unwrap_or_default()
    }

    /// How gladly an answer without a coding is taken.
    pub fn weight_of_identity(&self) -> Weight {
        self.identity.or(self.rest).unwrap_or(UNSAID)
    }

    /// Whether a coding is taken at least as gladly as none.
    pub fn prefers(&self, coding: Coding) -> bool {
        let weight = self.weight(coding);
        weight > 0 && weight >= self.weight_of_identity()
    }
}

/// The coding of this name; `x-gzip` is another for gzip (RFC 9110, 8.4.1.3).
fn named(name: &[u8]) -> Option<Coding> {
    if name.eq_ignore_ascii_case(b"x-gzip") {
        return Some(Coding::Gzip);
    }
    let is_named = |coding: &Coding| name.eq_ignore_ascii_case(coding.name().as_bytes());
    Coding::ALL.into_iter().find(is_named)
}

/// The weight among a member's parameters (RFC 9110, 12.4.2), the most where there is none; `None` if it is no weight.
fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<Weight> {
    let mut weights = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_at_checked(2)?;
        name.eq_ignore_ascii_case(b"q=").then_some(value)
    });
    let Some(value) = weights.next() else {
        return Some(1000);
    };
    let (&whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| Weight::from(digits.get(place).map_or(0, |digit| digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (_, 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepted(lines: &[&str]) -> Accepted {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, line.parse().unwrap());
        }
        Accepted::read(&headers)
    }

    /// Weights of br, zstd, gzip and identity.
    fn weights(lines: &[&str]) -> [Weight; 4] {
        let accepted = accepted(lines);
        let [br, zstd, gzip] = Coding::ALL.map(|coding| accepted.weight(coding));
        [br, zstd, gzip, accepted.weight_of_identity()]
    }

    #[test]
    fn who_says_nothing_is_sent_no_coding() {
        assert_eq!(weights(&[]), [0, 0, 0, 1]);
        assert_eq!(weights(&[""]), [0, 0, 0, 1]);
        assert!(!accepted(&[]).prefers(Coding::Gzip));
    }

    #[test]
    fn what_is_listed_is_taken_and_the_rest_as_the_star_says() {
        assert_eq!(weights(&["gzip, deflate, br"]), [1000, 0, 1000, 1]);
        assert_eq!(weights(&["GZIP", "br;q=0.5"]), [500, 0, 1000, 1]);
        assert_eq!(weights(&["x-gzip"]), [0, 0, 1000, 1]);
        assert_eq!(weights(&["gzip;q=0.2, *;q=0.7"]), [700, 700, 200, 700]);
        assert_eq!(weights(&["*"]), [1000; 4]);
        assert_eq!(weights(&["*;q=0, gzip"]), [0, 0, 1000, 0]);
        assert_eq!(weights(&["identity;q=0, *"]), [1000, 1000, 1000, 0]);
    }

    #[test]
    fn weights_are_read_to_the_thousandth() {
        for (written, weight) in [
            ("gzip;q=0", 0),
            ("gzip;q=0.000", 0),
            ("gzip ; Q=0.001", 1),
            ("gzip;q=0.12", 120),
            ("gzip;level=9;q=0.3", 300),
            ("gzip;q=1.000", 1000),
            ("gzip;q=1.001", 0),
            ("gzip;q=0.1234", 0),
            ("gzip;q=", 0),
            ("gzip;q=2", 0),
            ("gzip;q=0,5", 0),
            ("gzip, gzip;q=0", 1000),
        ] {
            assert_eq!(weights(&[written])[2], weight, "{written}");
        }
    }

    #[test]
    fn a_coding_must_be_taken_as_gladly_as_none() {
        assert!(accepted(&["gzip;q=0.1"]).prefers(Coding::Gzip));
        assert!(!accepted(&["gzip;q=0.1, identity"]).prefers(Coding::Gzip));
        assert!(accepted(&["gzip, identity"]).prefers(Coding::Gzip));
        assert!(!accepted(&["gzip;q=0"]).prefers(Coding::Gzip));
    }

    proptest! {
        #[test]
        fn no_line_makes_reading_panic(line in "[a-z*;=q0-9.,\\- ]{0,60}") {
            let _ = accepted(&[&line]);
        }

        #[test]
        fn a_written_weight_is_read_back(thousandths in 0u16..=1000) {
            let written = format!("br;q={}.{:03}", thousandths / 1000, thousandths % 1000);
            prop_assert_eq!(weights(&[&written])[0], thousandths);
        }
    }
}
