//! The header checks: what a widget must send, and the error that says what was wrong.
//!
//! Knows header fields and nothing else. Every fault is named at once, in the words of the VMS's own validation.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::MAX_TOKEN_BYTES;

/// Name of the header that says which client software asks.
pub const X_CLIENT: HeaderName = HeaderName::from_static("x-client");
/// Name of the header that says which device asks.
pub const X_UUID: HeaderName = HeaderName::from_static("x-uuid");

const MAX_UUID_BYTES: usize = 128;

/// Longest `Authorization`, in bytes: that of the longest token.
const MAX_AUTHORIZATION_BYTES: usize = "Bearer ".len() + MAX_TOKEN_BYTES;

/// An answer of the edge's own to a request that lacks what a widget must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No `Authorization`, or an empty one: 401.
    Unauthenticated,
    /// Other headers are missing or wrong: 422.
    Invalid(Vec<Fault>),
    /// An `Authorization` that says more than a token of [`MAX_TOKEN_BYTES`]: 431.
    AuthorizationTooLarge,
    /// The body is larger than [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES): 413.
    BodyTooLarge,
}

/// One header that is missing or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No `X-Client`, or an empty one.
    ClientMissing,
    /// An `X-Client` that is not listed in `headers.clients`.
    ClientUnknown,
    /// No `X-UUID`, or an empty one.
    UuidMissing,
    /// An `X-UUID` of over 128 characters, or with other than visible ASCII ones.
    UuidInvalid,
    /// An `Accept` that does not admit `application/json`.
    Accept,
}

impl Fault {
    /// The header at fault, as it is written in the API's documentation.
    pub fn header(self) -> &'static str {
        match self {
            Self::ClientMissing | Self::ClientUnknown => "X-Client",
            Self::UuidMissing | Self::UuidInvalid => "X-UUID",
            Self::Accept => "Accept",
        }
    }

    /// What is wrong with it, for the client's developer.
    pub fn message(self) -> &'static str {
        match self {
            Self::ClientMissing => "The X-Client header is required.",
            Self::ClientUnknown => "The selected X-Client header is invalid.",
            Self::UuidMissing => "The X-UUID header is required.",
            Self::UuidInvalid => "The X-UUID header must be 1 to 128 visible ASCII characters.",
            Self::Accept => "The Accept header must admit application/json.",
        }
    }
}

/// Checks the headers of a batch request; `None` is a pass.
pub(super) fn check(headers: &HeaderMap, clients: &[String]) -> Option<Refusal> {
    let authorizations = headers.get_all(header::AUTHORIZATION);
    let is_said = |field: &HeaderValue| !field.as_bytes().trim_ascii().is_empty();
    if !authorizations.iter().any(is_said) {
        return Some(Refusal::Unauthenticated);
    }
    let is_too_large = |field: &HeaderValue| field.len() > MAX_AUTHORIZATION_BYTES;
    if authorizations.iter().any(is_too_large) {
        return Some(Refusal::AuthorizationTooLarge);
    }
    let faults = [
        client_fault(headers, clients),
        uuid_fault(headers),
        (!admits_json(headers)).then_some(Fault::Accept),
    ];
    if faults.iter().all(Option::is_none) {
        return None;
    }
    Some(Refusal::Invalid(faults.into_iter().flatten().collect()))
}

fn client_fault(headers: &HeaderMap, clients: &[String]) -> Option<Fault> {
    let listed = |value: &HeaderValue| {
        clients
            .iter()
            .any(|client| client.as_bytes() == value.as_bytes())
    };
    let mut fields = headers.get_all(X_CLIENT).iter().peekable();
    if fields.peek().is_none_or(|first| first.is_empty()) {
        return Some(Fault::ClientMissing);
    }
    (!fields.all(listed)).then_some(Fault::ClientUnknown)
}

fn uuid_fault(headers: &HeaderMap) -> Option<Fault> {
    let mut fields = headers.get_all(X_UUID).iter().peekable();
    if fields.peek().is_none_or(|first| first.is_empty()) {
        return Some(Fault::UuidMissing);
    }
    let valid = |value: &HeaderValue| {
        (1..=MAX_UUID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    (!fields.all(valid)).then_some(Fault::UuidInvalid)
}

/// Whether `Accept` admits `application/json` (RFC 9110, 12.5.1): the most specific matching range decides, and no
/// field at all admits everything.
fn admits_json(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::ACCEPT).iter().peekable();
    if fields.peek().is_none() {
        return true;
    }
    let mut best: Option<(u8, bool)> = None;
    for range in fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b',')) {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let specificity = match parts
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_slice()
        {
            b"application/json" => 3,
            b"application/*" => 2,
            b"*/*" => 1,
            _ => continue,
        };
        let admitted = !parts.any(is_zero_weight);
        best = best.max(Some((specificity, admitted)));
    }
    best.is_some_and(|(_, admitted)| admitted)
}

/// Whether a parameter is `q=0`, `q=0.0`, … (RFC 9110, 12.4.2).
pub(super) fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some((name, value)) = parameter.split_at_checked(2) else {
        return false;
    };
    name.eq_ignore_ascii_case(b"q=")
        && value.first() == Some(&b'0')
        && value[1..].iter().all(|byte| matches!(byte, b'.' | b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn faults(fields: &[(&'static str, &str)]) -> Option<Refusal> {
        let mut all = vec![("authorization", "Bearer t")];
        all.extend_from_slice(fields);
        check(&headers(&all), &["ios".into(), "web".into()])
    }

    #[test]
    fn a_widgets_headers_pass() {
        assert_eq!(
            faults(&[
                ("x-client", "ios"),
                ("x-uuid", "d"),
                ("accept", "application/json")
            ]),
            None
        );
        assert_eq!(faults(&[("x-client", "web"), ("x-uuid", "d")]), None);
    }

    #[test]
    fn a_missing_or_empty_authorization_is_unauthenticated_whatever_else_is_wrong() {
        for fields in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "  ")],
        ] {
            assert_eq!(check(&headers(fields), &[]), Some(Refusal::Unauthenticated));
        }
    }

    #[test]
    fn an_authorization_may_have_the_longest_token_and_no_more() {
        let refusal = |field: &str| {
            let authorization = ("authorization", field);
            let fields = [authorization, ("x-client", "ios"), ("x-uuid", "d")];
            check(&headers(&fields), &["ios".into()])
        };
        let longest = format!("Bearer {}", "t".repeat(8 << 10));
        assert_eq!(refusal(&longest), None);
        for larger in [format!("{longest}t"), format!("Basic a, {longest}")] {
            assert_eq!(refusal(&larger), Some(Refusal::AuthorizationTooLarge));
        }
    }

    #[test]
    fn every_fault_is_named_at_once() {
        assert_eq!(
            faults(&[("accept", "text/html")]),
            Some(Refusal::Invalid(vec![
                Fault::ClientMissing,
                Fault::UuidMissing,
                Fault::Accept
            ]))
        );
        assert_eq!(
            faults(&[("x-client", "toaster"), ("x-uuid", "a b")]),
            Some(Refusal::Invalid(vec![
                Fault::ClientUnknown,
                Fault::UuidInvalid
            ]))
        );
    }

    #[test]
    fn a_uuid_has_1_to_128_visible_characters() {
        let uuid = |value: &str| faults(&[("x-client", "ios"), ("x-uuid", value)]);
        assert_eq!(uuid(&"u".repeat(128)), None);
        assert_eq!(
            uuid(&"u".repeat(129)),
            Some(Refusal::Invalid(vec![Fault::UuidInvalid]))
        );
        assert_eq!(uuid(""), Some(Refusal::Invalid(vec![Fault::UuidMissing])));
    }

    #[test]
    fn accept_is_read_as_rfc_9110_says() {
        let accept = |value: &str| {
            faults(&[("x-client", "ios"), ("x-uuid", "d"), ("accept", value)]).is_none()
        };
        for admits in [
            "*/*",
            "application/*",
            "Application/JSON",
            "application/json;q=0.001",
            "text/html, application/json;charset=utf-8",
            "text/html;q=0.9,*/*;q=0.1",
            "*/*;q=0, application/json",
        ] {
            assert!(accept(admits), "{admits}");
        }
        for refuses in [
            "text/html",
            "",
            "application/vnd.api+json",
            "application/json;q=0",
            "*/*, application/json;q=0.000",
            "application/*;q=0, */*",
        ] {
            assert!(!accept(refuses), "{refuses}");
        }
    }
}
