//! What is kept of a response header: what belongs to the content, not to one connection, one moment or one client.
//!
//! Names and values are copied: those of a header that was read from a connection are parts of that connection's
//! buffer, and would keep all of it in memory. The answers of the VMS have few different headers: mostly one, or one for
//! each of its servers and each language. Each is then kept once ([`Headers`]).

use std::sync::Arc;

use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use pingora_http::{HeaderNameVariant, ResponseHeader};

use crate::request::fields;

/// Memory that a header takes whatever is in it, in bytes. This and the two below were measured (`tests/memory.rs`).
const BASE_BYTES: usize = 256;

/// Memory of a place for a field, in bytes: in the map of values, and in that of names as they were spelt.
const PLACE_BYTES: usize = 224;

/// Memory of a field beside its place and its text, in bytes.
const FIELD_BYTES: usize = 48;

const ACCEPT_ENCODING: &[u8] = b"Accept-Encoding";

const VALID: &str = "the fields of a valid header make a valid header";

/// The end-to-end fields that every answer made from stored items carries, in the VMS's own order and case.
#[derive(Debug)]
pub struct StoredHeader {
    response: ResponseHeader,
    size_bytes: u32,
    /// Whether its `Vary` says that answers differ by coding.
    varies_by_coding: bool,
}

impl PartialEq for StoredHeader {
    fn eq(&self, other: &Self) -> bool {
        self.response.headers == other.response.headers
    }
}

impl StoredHeader {
    /// Keeps of `response` what may be said again.
    ///
    /// `Set-Cookie` and rate limits are one client's, tracing is one request's, `Date` and `Age` are one moment's,
    /// validators are of the whole body, and framing is one message's (RFC 9111, 3.1 and RFC 9110, 7.6.1).
    pub fn of(response: &ResponseHeader) -> Self {
        Self::keeping(response, false)
    }

    /// The same of answers that may be sent in a content coding: `Vary` names `Accept-Encoding`.
    pub fn varying_by_coding(response: &ResponseHeader) -> Self {
        Self::keeping(response, true)
    }

    fn keeping(response: &ResponseHeader, may_be_coded: bool) -> Self {
        let nominated: Vec<HeaderName> = fields::nominated(&response.headers).collect();
        let mut lengths = Vec::with_capacity(response.headers.len());
        let mut text = Vec::new();
        let collected = response.map(|name, value| {
            let name = match name {
                HeaderNameVariant::Case(name) => name.as_slice(),
                HeaderNameVariant::Titled(name) => name.as_bytes(),
            };
            let lower_case = HeaderName::from_bytes(name).expect(VALID);
            if is_kept(lower_case.as_str()) && !nominated.contains(&lower_case) {
                text.extend_from_slice(name);
                text.extend_from_slice(value.as_bytes());
                lengths.push((name.len(), value.len()));
            }
            Ok(())
        });
        collected.expect("nothing in it fails");
        if may_be_coded && !fields::has_member(&response.headers, VARY, ACCEPT_ENCODING) {
            text.extend_from_slice(b"Vary");
            text.extend_from_slice(ACCEPT_ENCODING);
            lengths.push((b"Vary".len(), ACCEPT_ENCODING.len()));
        }
        Self::build(response, &lengths, text)
    }

    /// A header of `fields`, given as the lengths of names and values that stand one after the other in `text`.
    fn build(response: &ResponseHeader, fields: &[(usize, usize)], text: Vec<u8>) -> Self {
        let size_bytes = BASE_BYTES
            + places(fields.len()) * PLACE_BYTES
            + fields.len() * FIELD_BYTES
            + text.len();
        // One allocation, of just this length, for all of them.
        let mut text = Bytes::from(text.into_boxed_slice());
        let mut kept = ResponseHeader::build(response.status, Some(fields.len())).expect(VALID);
        let reason = response.get_reason_phrase();
        kept.set_reason_phrase(reason).expect(VALID);
        for &(name_bytes, value_bytes) in fields {
            let name = text.split_to(name_bytes);
            let value = HeaderValue::from_maybe_shared(text.split_to(value_bytes)).expect(VALID);
            kept.append_header(name, value).expect(VALID);
        }
        Self {
            varies_by_coding: fields::has_member(&kept.headers, VARY, ACCEPT_ENCODING),
            response: kept,
            size_bytes: u32::try_from(size_bytes).expect("a header is bounded far below 4 GiB"),
        }
    }

    /// A response header to which length, age and cache status are still to be added.
    pub fn to_response(&self) -> Box<ResponseHeader> {
        Box::new(self.response.clone())
    }

    /// Whether `Vary` names `Accept-Encoding` already.
    pub fn varies_by_coding(&self) -> bool {
        self.varies_by_coding
    }
}

/// Places that a map has which was made for so many fields: more than it needs.
fn places(fields: usize) -> usize {
    HeaderMap::<()>::with_capacity(fields).capacity()
}

/// Most headers that are kept in mind to be shared. The one goes that no answer had for longest.
const MAX_SHARED: usize = 16;

/// Lets answers share a header. Only fills ask, so a lock is good enough.
#[derive(Debug, Default)]
pub struct Headers {
    /// The latest first.
    recent: Mutex<Vec<Arc<StoredHeader>>>,
}

impl Headers {
    /// The header to keep in place of `header`, and how many bytes of memory that adds to what is in use.
    pub fn share(&self, header: StoredHeader) -> (Arc<StoredHeader>, usize) {
        let mut recent = self.recent.lock();
        if let Some(place) = recent.iter().position(|known| **known == header) {
            recent[..=place].rotate_right(1);
            return (Arc::clone(&recent[0]), 0);
        }
        let header = Arc::new(header);
        recent.truncate(MAX_SHARED - 1);
        recent.insert(0, Arc::clone(&header));
        let added = header.size_bytes as usize;
        (header, added)
    }
}

/// Whether a field tells one request from others, or how it went: it is for whoever sent that request.
pub fn is_of_one_request(name: &str) -> bool {
    OF_ONE_REQUEST.contains(&name)
}

const OF_ONE_REQUEST: [&str; 21] = [
    "traceparent",
    "tracestate",
    "traceresponse",
    "baggage",
    "b3",
    "server-timing",
    "x-request-id",
    "x-correlation-id",
    "x-trace-id",
    "x-amzn-trace-id",
    "x-amzn-requestid",
    "x-amz-cf-id",
    "x-cloud-trace-context",
    "uber-trace-id",
    "sentry-trace",
    "cf-ray",
    "x-runtime",
    "x-response-time",
    "x-debug-token",
    "x-debug-token-link",
    "phpdebugbar-id",
];

fn is_kept(name: &str) -> bool {
    const DROPPED: [&str; 30] = [
        "set-cookie",
        "set-cookie2",
        "authorization",
        "authentication-info",
        "www-authenticate",
        "clear-site-data",
        "retry-after",
        "date",
        "age",
        "expires",
        "cache-status",
        "etag",
        "last-modified",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "content-range",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
    ];
    const DROPPED_PREFIXES: [&str; 5] = [
        "x-ratelimit",
        "x-rate-limit",
        "ratelimit",
        "x-b3-",
        "x-datadog-",
    ];
    !DROPPED.contains(&name)
        && !is_of_one_request(name)
        && !DROPPED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_coded_says_that_it_varies_and_says_it_once() {
        for (said, kept) in [
            (&[][..], &["Accept-Encoding"][..]),
            (&["Origin"], &["Origin", "Accept-Encoding"]),
            (&["Origin, accept-encoding"], &["Origin, accept-encoding"]),
        ] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for line in said {
                response.append_header("Vary", *line).unwrap();
            }
            assert_eq!(StoredHeader::of(&response).varies_by_coding(), said == kept);
            let stored = StoredHeader::varying_by_coding(&response);
            assert!(stored.varies_by_coding());
            let response = stored.to_response();
            let lines: Vec<_> = response.headers.get_all(VARY).iter().collect();
            assert_eq!(lines, kept);
        }
    }

    #[test]
    fn only_what_may_be_said_again_is_kept() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Server", "nginx"),
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-cache, private"),
            ("Access-Control-Allow-Origin", "*"),
            ("Vary", "Origin"),
            ("Vary", "hl"),
            ("Set-Cookie", "a=b"),
            ("X-RateLimit-Remaining", "59"),
            ("RateLimit-Policy", "60"),
            ("traceparent", "00-1-2-01"),
            ("X-Request-Id", "1"),
            ("Date", "now"),
            ("Age", "1"),
            ("ETag", "\"x\""),
            ("Last-Modified", "then"),
            ("Content-Length", "2"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
        ] {
            response.append_header(name, value).unwrap();
        }
        let kept = StoredHeader::of(&response).to_response();
        let names: Vec<_> = kept.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "server",
                "content-type",
                "cache-control",
                "access-control-allow-origin",
                "vary",
                "vary"
            ]
        );
    }

    /// The header of one of the VMS's servers.
    fn served_by(server: usize) -> StoredHeader {
        let mut response = ResponseHeader::build(200, None).unwrap();
        let server = format!("vms-{server}");
        response.append_header("X-Served-By", server).unwrap();
        StoredHeader::of(&response)
    }

    #[test]
    fn each_of_several_headers_that_take_turns_is_kept_once() {
        let headers = Headers::default();
        let first: Vec<_> = (0..MAX_SHARED)
            .map(|server| headers.share(served_by(server)))
            .collect();
        assert!(first.iter().all(|(_, added)| *added > 0));
        for server in (0..MAX_SHARED).chain((0..MAX_SHARED).rev()) {
            let (shared, added) = headers.share(served_by(server));
            assert!(Arc::ptr_eq(&shared, &first[server].0), "{server}");
            assert_eq!(added, 0, "{server}");
        }
    }

    #[test]
    fn however_many_headers_come_the_ones_in_use_stay_shared() {
        let headers = Headers::default();
        let (in_use, _) = headers.share(served_by(0));
        for server in 1..10 * MAX_SHARED {
            assert!(headers.share(served_by(server)).1 > 0, "it is new");
            if server % (MAX_SHARED - 1) == 0 {
                assert!(Arc::ptr_eq(&headers.share(served_by(0)).0, &in_use));
            }
        }
        assert_eq!(headers.recent.lock().len(), MAX_SHARED);
        assert!(headers.share(served_by(1)).1 > 0, "it was forgotten");
    }
}
