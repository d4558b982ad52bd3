//! What the edge declines to understand, and so passes through untouched.
//!
//! Declining is never an error: the VMS is the judge of what is wrong with a request. Each reason is a variant with
//! one name, the same in the metric, in the log and in `Cache-Status`.

use http::{HeaderMap, HeaderName, header};

use super::bearer;
use super::checks::{X_CLIENT, X_UUID};
use super::coding::Accepted;
use super::fields::{self, has_member};

/// Why a request on a batch path passes through uncached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// A method other than GET.
    Method,
    /// The header checks failed, and `headers.check` is `forward`.
    Headers,
    /// `Authorization` is not one plain `Bearer TOKEN`.
    Authorization,
    /// A `Cookie`: another credential.
    Cookie,
    /// A parameter such as `api_token`: another credential.
    Credential,
    /// `Connection` names a header that belongs to the key.
    Connection,
    /// A `Range`.
    Range,
    /// A precondition other than an `If-None-Match` with a tag of the edge's, or with `*`.
    Conditional,
    /// `Cache-Control: no-store`, or `only-if-cached`.
    CacheControl,
    /// `Upgrade`, `Expect` or a method override: more than a plain GET.
    Protocol,
    /// `Accept-Encoding` excludes the identity coding.
    Coding,
    /// Ids that are missing, too many, or written in another way than the edge reads.
    Ids,
    /// A body that is not plain JSON, or one beside ids in the query.
    Body,
    /// The answer of the VMS to a part of the batch was not one that can be put together with the rest.
    Unfit,
    /// The answer of the VMS was too large to be held in memory, or the request for a part too long to be sent.
    TooLarge,
    /// An item in memory was not fetched for this user. That never happens, and is not relied on.
    Foreign,
}

impl Bypass {
    /// All of them, for the metric's closed set of labels.
    pub const ALL: [Self; 16] = [
        Self::Method,
        Self::Headers,
        Self::Authorization,
        Self::Cookie,
        Self::Credential,
        Self::Connection,
        Self::Range,
        Self::Conditional,
        Self::CacheControl,
        Self::Protocol,
        Self::Coding,
        Self::Ids,
        Self::Body,
        Self::Unfit,
        Self::TooLarge,
        Self::Foreign,
    ];

    /// The name in metrics, logs and `Cache-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Headers => "headers",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Credential => "credential",
            Self::Connection => "connection",
            Self::Range => "range",
            Self::Conditional => "conditional",
            Self::CacheControl => "cache_control",
            Self::Protocol => "protocol",
            Self::Coding => "coding",
            Self::Ids => "ids",
            Self::Body => "body",
            Self::Unfit => "unfit",
            Self::TooLarge => "too_large",
            Self::Foreign => "foreign",
        }
    }
}

/// Names of parameters that carry a credential, in a query or in a JSON body.
const CREDENTIALS: [&str; 3] = ["token", "api_token", "access_token"];

/// Whether a parameter of this name may carry a credential beside the bearer token.
pub(super) fn is_credential(name: &str) -> bool {
    CREDENTIALS
        .iter()
        .any(|credential| name.eq_ignore_ascii_case(credential))
}

/// Declines a GET whose header asks for more than a batch, or in a way that could mean two things.
pub(super) fn header(headers: &HeaderMap) -> Result<(), Bypass> {
    if bearer(headers).is_none() {
        return Err(Bypass::Authorization);
    }
    const DECLINED: [(HeaderName, Bypass); 10] = [
        (header::COOKIE, Bypass::Cookie),
        (header::RANGE, Bypass::Range),
        (header::IF_RANGE, Bypass::Range),
        (header::IF_MATCH, Bypass::Conditional),
        (header::IF_MODIFIED_SINCE, Bypass::Conditional),
        (header::IF_UNMODIFIED_SINCE, Bypass::Conditional),
        (header::UPGRADE, Bypass::Protocol),
        (header::EXPECT, Bypass::Protocol),
        (
            HeaderName::from_static("x-http-method-override"),
            Bypass::Protocol,
        ),
        (header::PROXY_AUTHORIZATION, Bypass::Credential),
    ];
    for (name, reason) in &DECLINED {
        if headers.contains_key(name) {
            return Err(*reason);
        }
    }
    let directive = |directive| has_member(headers, header::CACHE_CONTROL, directive);
    if directive(b"no-store") || directive(b"only-if-cached") {
        return Err(Bypass::CacheControl);
    }
    Ok(())
}

/// Reads the codings in which a GET may be answered, and declines one that refuses an answer without any: there is always
/// one without, and not always another.
pub(super) fn coding(headers: &HeaderMap) -> Result<Accepted, Bypass> {
    let accepted = Accepted::read(headers);
    match accepted.weight_of_identity() {
        0 => Err(Bypass::Coding),
        _ => Ok(accepted),
    }
}

/// Whether `Cache-Control: no-cache` is asked for (RFC 9111, 5.2.1.4).
pub(super) fn asks_no_cache(headers: &HeaderMap) -> bool {
    has_member(headers, header::CACHE_CONTROL, b"no-cache")
}

/// Declines a request whose `Connection` names a header that the edge has read: it would be taken off on the way to the
/// VMS, which would then answer somebody else than the key says.
///
/// `covered` are the headers that the key covers.
pub(super) fn nominated(headers: &HeaderMap, covered: &[&HeaderName]) -> Result<(), Bypass> {
    const READ: [HeaderName; 7] = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::ACCEPT,
        header::IF_NONE_MATCH,
        X_CLIENT,
        X_UUID,
    ];
    let is_read = |name: &HeaderName| READ.contains(name) || covered.contains(&name);
    if fields::nominated(headers).any(|name| is_read(&name)) {
        return Err(Bypass::Connection);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_is_asked_for_among_other_directives_and_in_any_case() {
        for (line, asked) in [
            ("no-cache", true),
            ("max-age=0, No-Cache", true),
            ("no-store", false),
        ] {
            let mut headers = HeaderMap::new();
            assert!(!asks_no_cache(&headers));
            headers.append(header::CACHE_CONTROL, line.parse().unwrap());
            assert_eq!(asks_no_cache(&headers), asked, "{line}");
        }
    }

    fn declined(fields: &[(&'static str, &str)]) -> Result<(), Bypass> {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "Bearer t".parse().unwrap());
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        header(&headers)?;
        coding(&headers)?;
        nominated(&headers, &[&HeaderName::from_static("hl")])
    }

    #[test]
    fn a_plain_get_is_not_declined() {
        assert_eq!(
            declined(&[
                ("connection", "keep-alive, te"),
                ("cache-control", "no-cache, max-age=0"),
                ("accept-encoding", "gzip, br;q=0"),
            ]),
            Ok(())
        );
    }

    #[test]
    fn whatever_could_mean_two_things_is_declined_with_its_reason() {
        for (field, reason) in [
            (("cookie", "a=b"), Bypass::Cookie),
            (("range", "bytes=0-1"), Bypass::Range),
            (("if-match", "\"x\""), Bypass::Conditional),
            (
                ("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT"),
                Bypass::Conditional,
            ),
            (("upgrade", "websocket"), Bypass::Protocol),
            (("expect", "100-continue"), Bypass::Protocol),
            (("x-http-method-override", "PUT"), Bypass::Protocol),
            (("connection", "close, Authorization"), Bypass::Connection),
            (("connection", "HL"), Bypass::Connection),
            (
                ("cache-control", "max-age=0, No-Store"),
                Bypass::CacheControl,
            ),
            (("accept-encoding", "gzip, identity;q=0"), Bypass::Coding),
            (("accept-encoding", "gzip, *;q=0.0"), Bypass::Coding),
            (("authorization", "Bearer second"), Bypass::Authorization),
            (("proxy-authorization", "Basic x"), Bypass::Credential),
        ] {
            assert_eq!(declined(&[field]), Err(reason), "{field:?}");
        }
    }

    #[test]
    fn identity_may_be_named_beside_a_refused_rest() {
        assert_eq!(declined(&[("accept-encoding", "identity, *;q=0")]), Ok(()));
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Bypass::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Bypass::ALL.len());
    }
}
