//! What tells one request from all others: its id, and its place in a trace.
//!
//! Both go with whatever the edge sends to the VMS for it, so that what the logs of the edge, of the VMS and of the proxies
//! before them say of one request can be found together. Neither says anything of who asks, and neither is ever stored.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use super::trace::{self, Place};

/// Carries a request's id, in requests and in answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The same as it is sent: of a name that is given as text, Pingora keeps the capitals.
pub const SENT_REQUEST_ID: &str = "X-Request-Id";

/// Longest id that is taken over.
const MAX_ID_BYTES: usize = 128;

/// A request's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// What a trusted proxy calls it: letters, digits and few signs, none of which means anything in a log.
    Given(HeaderValue),
    /// Drawn here.
    Drawn(u64),
}

/// What tells a request from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlation {
    /// Its id.
    pub id: RequestId,
    /// The edge's place in its trace; `None` while no spans are made, when a trace is merely passed on.
    pub place: Option<Place>,
}

/// Whether a field of a request tells it from all others.
pub fn is_own(name: &HeaderName) -> bool {
    [X_REQUEST_ID, trace::TRACEPARENT, trace::TRACESTATE].contains(name)
}

impl RequestId {
    /// An id that no other request has, as far as chance goes.
    pub fn draw() -> Self {
        Self::Drawn(fastrand::u64(..))
    }

    /// The id that a request came with, if it is one that can be taken over. Only a trusted proxy's word counts.
    pub fn given(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(X_REQUEST_ID).iter();
        let (Some(id), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
        let is_id = (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_safe);
        is_id.then(|| Self::Given(id.clone()))
    }

    /// As a field's value.
    pub fn to_value(&self) -> HeaderValue {
        match self {
            Self::Given(id) => id.clone(),
            Self::Drawn(_) => {
                HeaderValue::try_from(self.to_string()).expect("hexadecimal digits make a value")
            }
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(id) => f.write_str(id.to_str().expect("it is visible ASCII")),
            Self::Drawn(id) => write!(f, "{id:016x}"),
        }
    }
}

impl Correlation {
    /// Of a request of which nothing is known yet.
    pub fn drawn() -> Self {
        Self {
            id: RequestId::draw(),
            place: None,
        }
    }

    /// Of a request that the edge sends because of this one.
    pub fn child(&self) -> Self {
        Self {
            id: self.id.clone(),
            place: self.place.map(|place| place.child()),
        }
    }

    /// Writes it into a request on its way to the VMS.
    ///
    /// # Errors
    ///
    /// Never for a header that came over the wire; the signature is Pingora's.
    pub fn stamp(&self, request: &mut RequestHeader) -> pingora_core::Result<()> {
        request.insert_header(SENT_REQUEST_ID, self.id.to_value())?;
        match &self.place {
            Some(place) => place.stamp(request),
            None => trace::continue_in(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(lines: &[&str]) -> Option<RequestId> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(X_REQUEST_ID, value);
        }
        RequestId::given(&headers)
    }

    #[test]
    fn an_id_is_taken_over_if_it_is_short_and_safe() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for id in ["1", "7f3c-a_b.c:d/e+f=g@h~i", longest.as_str()] {
            assert_eq!(given(&[id]).unwrap().to_string(), id);
        }
        let too_long = "x".repeat(MAX_ID_BYTES + 1);
        for id in [
            "",
            "a b",
            "a\"b",
            "a\\b",
            "a,b",
            "a\tb",
            "é",
            "a;b",
            too_long.as_str(),
        ] {
            assert_eq!(given(&[id]), None, "{id}");
        }
        assert_eq!(given(&[]), None);
        assert_eq!(given(&["a", "a"]), None);
    }

    #[test]
    fn a_drawn_id_is_sixteen_digits_and_another_each_time() {
        let ids: std::collections::HashSet<String> =
            (0..1_000).map(|_| RequestId::draw().to_string()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()))
        );
        assert_eq!(RequestId::Drawn(7).to_value(), "0000000000000007");
    }
}
