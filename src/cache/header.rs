//! What is kept of a response header: what belongs to the content, not to one connection, one moment or one client.

use http::{HeaderName, header};
use pingora_http::ResponseHeader;

/// The end-to-end fields that every answer made from stored items carries, in the VMS's own order and case.
#[derive(Debug)]
pub struct StoredHeader(ResponseHeader);

impl PartialEq for StoredHeader {
    fn eq(&self, other: &Self) -> bool {
        self.0.headers == other.0.headers
    }
}

impl StoredHeader {
    /// Keeps of `response` what may be said again.
    ///
    /// `Set-Cookie` and rate limits are one client's, tracing is one request's, `Date` and `Age` are one moment's,
    /// validators are of the whole body, and framing is one message's (RFC 9111, 3.1 and RFC 9110, 7.6.1).
    pub fn of(response: &ResponseHeader) -> Self {
        let mut kept = response.clone();
        let nominated: Vec<HeaderName> = response
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        let dropped: Vec<HeaderName> = response
            .headers
            .keys()
            .filter(|name| !is_kept(name.as_str()) || nominated.contains(name))
            .cloned()
            .collect();
        for name in &dropped {
            kept.remove_header(name);
        }
        Self(kept)
    }

    /// A response header to which length, age and cache status are still to be added.
    pub fn to_response(&self) -> Box<ResponseHeader> {
        Box::new(self.0.clone())
    }
}

fn is_kept(name: &str) -> bool {
    const DROPPED: [&str; 31] = [
        "set-cookie",
        "set-cookie2",
        "retry-after",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "server-timing",
        "x-request-id",
        "x-correlation-id",
        "x-amzn-trace-id",
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
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
    ];
    const DROPPED_PREFIXES: [&str; 4] = ["x-ratelimit", "x-rate-limit", "ratelimit", "x-b3-"];
    !DROPPED.contains(&name)
        && !DROPPED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
