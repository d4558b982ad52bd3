//! What a request says of its own form: where it goes, how long it is, what it waits for.
//!
//! [`check`] refuses what two readers could take for two different requests, as RFC 9112 asks of every recipient. What
//! passes means the same to the edge and to whatever stands before and behind it. Nothing here does I/O.

use http::uri::PathAndQuery;
use http::{Method, Version, header};
use pingora_http::RequestHeader;

/// Fields of one request. Pingora reads no more of them over HTTP/1.1, and over HTTP/2 as many as fit.
const MAX_FIELDS: usize = 256;

/// Refuses a request that is not of the one plain form; `received` is its header as it came.
///
/// Pingora has refused what cannot be parsed, several `Host` fields and contradicting lengths before.
///
/// # Errors
///
/// The fault, for the log.
pub fn check(request: &RequestHeader, received: &[u8]) -> Result<(), &'static str> {
    if request.headers.len() > MAX_FIELDS {
        return Err("too many fields");
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    if !hosts.all(|host| is_host(host.as_bytes())) {
        return Err("a Host that is none");
    }
    let target = request.raw_path();
    let is_whole_server = target == b"*" && request.method == Method::OPTIONS;
    // The absolute form names a server, and the edge's is fixed by its configuration (RFC 9112, 3.2.2).
    if !target.starts_with(b"/") && !is_whole_server && request.method != Method::CONNECT {
        return Err("the target is not a path");
    }
    // A fragment is taken off when it is parsed. What is left of nothing else is shown as `/`, and is equal to another.
    if target == b"/" && request.uri.path_and_query() != Some(&PathAndQuery::from_static("/")) {
        return Err("the target is but a fragment");
    }
    // RFC 9112, 3.2.
    if request.version == Version::HTTP_11 && !request.headers.contains_key(header::HOST) {
        return Err("no Host");
    }
    let mut codings = request.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err("a transfer coding other than chunked");
        }
        // Pingora takes the length off such a request, so only what was received tells (RFC 9112, 6.1).
        if names_length(received) {
            return Err("both Content-Length and Transfer-Encoding");
        }
    } else {
        let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
        let first = lengths.next().map(|length| length.as_bytes());
        let is_plain = first.is_none_or(|length| length.iter().all(u8::is_ascii_digit));
        if !is_plain || lengths.next().is_some() {
            return Err("more than one Content-Length");
        }
    }
    Ok(())
}

/// Whether the first line of a header has but characters that are seen, and two blanks: others end it, or its target, for
/// some readers, and Pingora writes them in another way (RFC 9112, 3.2).
pub fn is_plain_line(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let blanks = line.iter().filter(|&&byte| byte == b' ').count();
    blanks == 2 && !line.iter().any(u8::is_ascii_control)
}

/// Whether this is the name or address of a host, and a port if there is one (RFC 9110, 7.2 and RFC 3986, 3.2.2).
///
/// Nothing else may reach a VMS that makes addresses of it.
fn is_host(host: &[u8]) -> bool {
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    if let Some(rest) = host.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, port) = (&rest[..end], &rest[end + 1..]);
        let is_of_address =
            |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'v');
        return !address.is_empty()
            && address.iter().all(is_of_address)
            && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port));
    }
    let mut parts = host.splitn(2, |&byte| byte == b':');
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    parts.next().is_some_and(|name| name.iter().all(is_of_name)) && parts.next().is_none_or(is_port)
}

/// The length of the body as the header tells it; `None` for a chunked one.
pub fn length(request: &RequestHeader) -> Option<usize> {
    if request.headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    match request.headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => Some(0),
    }
}

/// Whether the client waits for a `100 Continue` before it sends its body (RFC 9110, 10.1.1).
pub fn expects_continue(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_11
        && request
            .headers
            .get(header::EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether the client asks for a WebSocket, the only protocol to which a connection may change. One has no body: where
/// that ends the tunnel would begin, and not everybody looks there.
pub fn is_websocket(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_11
        && request
            .headers
            .get(header::UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && length(request) == Some(0)
}

fn names_length(received: &[u8]) -> bool {
    received.split(|&byte| byte == b'\n').any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(method: &str, target: &[u8], fields: &[(&'static str, &str)]) -> Option<&'static str> {
        let mut request = RequestHeader::build(method, target, None).unwrap();
        request.set_version(Version::HTTP_11);
        let mut received = b"X / HTTP/1.1\r\n".to_vec();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
            received.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        check(&request, &received).err()
    }

    const HOST: (&str, &str) = ("Host", "vms.local");

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "a",
            "a.example:8080",
            "A-1_b",
            "10.0.0.1:",
            "[::1]:80",
            "[::ffff:10.0.0.1]",
            "%41",
            "",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a@b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a:b",
            "a:1:2",
            "a, b",
            "[::1",
            "[]",
            "[::1]80",
            "[::1]:x",
            "caf\u{e9}",
            "a\t",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn the_first_line_alone_must_be_plain() {
        for (head, is_plain) in [
            (&b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n"[..], true),
            (b"GET / HTTP/1.1\n\n", true),
            (b"GET /\r HTTP/1.1\r\n\r\n", false),
            (b"GET /\0 HTTP/1.1\r\n\r\n", false),
            (b"GET\t/ HTTP/1.1\r\n\r\n", false),
            (b"GET / HTTP/1.1\x7f\r\n\r\n", false),
            (b"GET  / HTTP/1.1\r\n\r\n", false),
            (b"GET /a b HTTP/1.1\r\n\r\n", false),
            (b"GET / HTTP/1.1 \r\n\r\n", false),
            (b"GET\r\n\r\n", false),
        ] {
            assert_eq!(is_plain_line(head), is_plain, "{}", head.escape_ascii());
        }
    }

    fn request(method: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_length_is_told_but_for_chunks() {
        for (fields, told) in [
            (&[][..], Some(0)),
            (&[("Content-Length", "5")], Some(5)),
            (&[("Transfer-Encoding", "chunked")], None),
        ] {
            assert_eq!(length(&request("POST", fields)), told, "{fields:?}");
        }
    }

    #[test]
    fn only_http_1_1_waits_for_a_go_ahead_or_opens_a_websocket() {
        let asking = [("Expect", "100-Continue"), ("Upgrade", "WebSocket")];
        let mut both = request("GET", &asking);
        assert!(expects_continue(&both) && is_websocket(&both));
        both.set_version(Version::HTTP_10);
        assert!(!expects_continue(&both) && !is_websocket(&both));
        for body in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
            assert!(!is_websocket(&request("GET", &[asking[1], body])));
        }
        let others = request("GET", &[("Expect", "100"), ("Upgrade", "h2c")]);
        assert!(!expects_continue(&others) && !is_websocket(&others));
        let none = request("GET", &[]);
        assert!(!expects_continue(&none) && !is_websocket(&none));
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(fault("GET", b"/a?b", &[HOST]), None);
        assert_eq!(fault("OPTIONS", b"*", &[HOST]), None);
        assert_eq!(fault("POST", b"/", &[HOST, ("Content-Length", "5")]), None);
        let chunked = ("Transfer-Encoding", "Chunked");
        assert_eq!(fault("POST", b"/", &[HOST, chunked]), None);
    }

    #[test]
    fn there_are_no_more_fields_over_http_2_than_over_http_1() {
        let mut fields = vec![HOST];
        fields.resize(MAX_FIELDS, ("X-More", "1"));
        assert_eq!(fault("GET", b"/", &fields), None);
        fields.push(("X-More", "1"));
        assert_eq!(fault("GET", b"/", &fields), Some("too many fields"));
    }

    #[test]
    fn a_target_is_a_path() {
        for target in [&b"http://vms.local/a"[..], b"*", b"a"] {
            let found = fault("GET", target, &[HOST]);
            assert_eq!(found, Some("the target is not a path"));
        }
    }

    #[test]
    fn a_target_is_more_than_a_fragment() {
        for target in [&b"#"[..], b"#/a"] {
            let found = fault("GET", target, &[HOST]);
            assert_eq!(found, Some("the target is but a fragment"));
        }
        assert_eq!(fault("GET", b"/#/a", &[HOST]), None);
        assert_eq!(fault("GET", b"/", &[HOST]), None);
    }

    #[test]
    fn http_1_1_needs_a_host_and_http_1_0_does_not() {
        assert_eq!(fault("GET", b"/", &[]), Some("no Host"));
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.set_version(Version::HTTP_10);
        assert_eq!(check(&request, b""), Ok(()));
    }

    #[test]
    fn a_body_has_one_length() {
        for fields in [
            &[HOST, ("Content-Length", "5"), ("Content-Length", "5")][..],
            &[HOST, ("Content-Length", "5, 5")],
            &[HOST, ("Content-Length", "+5")],
            &[HOST, ("Transfer-Encoding", "gzip, chunked")],
            &[
                HOST,
                ("Transfer-Encoding", "chunked"),
                ("Transfer-Encoding", "chunked"),
            ],
            &[
                HOST,
                ("Transfer-Encoding", "chunked"),
                ("cOntent-Length", "5"),
            ],
        ] {
            assert!(fault("POST", b"/", fields).is_some(), "{fields:?}");
        }
    }
}
