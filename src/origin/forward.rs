//! The request header on its way to the VMS: what is taken off, and what is added.
//!
//! The rules are DESIGN's "Headers towards the VMS": the client's own header less hop-by-hop fields; what an untrusted
//! peer says of earlier hops is dropped, and what the edge itself saw is added.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::request::fields;
use crate::request::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that are of one connection only (RFC 9110, 7.6.1).
static HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Sets what the edge says of the client's hop, and the configured `Host`.
///
/// # Errors
///
/// Never for a header that came over the wire; the signature is Pingora's.
pub fn describe_hop(
    request: &mut RequestHeader,
    peer: Peer,
    host: Option<&HeaderValue>,
) -> pingora_core::Result<()> {
    if !peer.is_trusted {
        drop_forwarding(request);
    }
    let client = peer.address.to_string();
    let earlier = joined(&request.headers, &X_FORWARDED_FOR);
    let hops = match earlier.as_deref() {
        Some(earlier) => [earlier, b", ", client.as_bytes()].concat(),
        None => client.into_bytes(),
    };
    request.insert_header("X-Forwarded-For", hops)?;
    if !request.headers.contains_key(X_FORWARDED_PROTO) {
        request.insert_header("X-Forwarded-Proto", peer.scheme.name())?;
    }
    if !request.headers.contains_key(X_FORWARDED_HOST)
        && let Some(asked) = request.headers.get(header::HOST).cloned()
    {
        request.insert_header("X-Forwarded-Host", asked)?;
    }
    if let Some(host) = host {
        request.insert_header("Host", host.clone())?;
    } else if !request.headers.contains_key(header::HOST) {
        // An HTTP/1.0 client may leave it out; in HTTP/1.1, which the VMS is spoken to in, it is empty then.
        request.insert_header("Host", "")?;
    }
    Ok(())
}

/// Whether a field tells the VMS from where a client came. The edge writes it anew, or a proxy of the VMS's does from what
/// the edge says; so what the client wrote there is not what the VMS has seen, and no key covers that.
///
/// What else is said of earlier hops either stands in the key as it reaches the VMS, or never reaches it.
pub fn tells_address(name: &HeaderName) -> bool {
    const FIELDS: [&str; 2] = ["x-forwarded-for", "x-real-ip"];
    FIELDS
        .iter()
        .any(|field| name.as_str().len() == field.len() && begins(name.as_str(), field))
}

/// Makes the header of an answer that passes through one of the client's connection, `client` being the version it
/// speaks.
///
/// # Errors
///
/// As [`is_chunked`], and when nobody can tell how long the body is.
pub fn describe_answer(response: &mut ResponseHeader, client: Version) -> pingora_core::Result<()> {
    let is_chunked = is_chunked(response).map_err(Error::into_up)?;
    if !is_chunked {
        say_length_once(response)?;
    }
    drop_response_hop_by_hop(response);
    // HTTP/1.0 knows no chunks: there, the end of the connection is the end of the body (RFC 9112, 6.3).
    if is_chunked && client != Version::HTTP_10 && response.status != StatusCode::NO_CONTENT {
        response.insert_header("Transfer-Encoding", "chunked")?;
    }
    response.set_version(Version::HTTP_11);
    Ok(())
}

/// Whether the body of an answer comes in chunks.
///
/// # Errors
///
/// When it is coded in a way that only the VMS's own connection could undo. A length beside chunks Pingora drops (RFC 9112,
/// 6.3).
pub fn is_chunked(response: &ResponseHeader) -> pingora_core::Result<bool> {
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(false);
    };
    let is_only = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    if !is_only {
        return Error::e_explain(
            ErrorType::InvalidHTTPHeader,
            "a transfer coding that nobody asked for",
        );
    }
    Ok(true)
}

/// Says once what several lines or members say of the length, if they say the same (RFC 9110, 8.6).
///
/// # Errors
///
/// When they do not, or it is no length.
fn say_length_once(response: &mut ResponseHeader) -> pingora_core::Result<()> {
    let lengths: Vec<&[u8]> = fields::members(&response.headers, header::CONTENT_LENGTH).collect();
    let [first, others @ ..] = &lengths[..] else {
        return Ok(());
    };
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !is_number || others.iter().any(|other| other != first) {
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "a length that is none")
            .map_err(Error::into_up);
    }
    if !others.is_empty() {
        let length = first.to_vec();
        response.insert_header("Content-Length", length)?;
    }
    Ok(())
}

/// Takes off what belongs to the client's connection, for a request that the edge sends by itself.
pub fn drop_hop_by_hop(request: &mut RequestHeader) {
    for name in hop_by_hop(&request.headers) {
        request.remove_header(&name);
    }
}

/// Takes off what belongs to the VMS's connection, from an answer that the edge frames anew.
pub fn drop_response_hop_by_hop(response: &mut ResponseHeader) {
    for name in hop_by_hop(&response.headers) {
        response.remove_header(&name);
    }
}

/// Names of the fields of one connection that are there, those that `Connection` names among them.
fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let nominated = fields::nominated(headers).filter(|name| headers.contains_key(name));
    let standard = headers.keys().filter(|name| HOP_BY_HOP.contains(name));
    nominated.chain(standard.cloned()).collect()
}

fn drop_forwarding(request: &mut RequestHeader) {
    let dropped: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| *name == header::FORWARDED || is_x_forwarded(name.as_str()))
        .cloned()
        .collect();
    for name in &dropped {
        request.remove_header(name);
    }
}

/// Whether a field says what a hop saw.
fn is_x_forwarded(name: &str) -> bool {
    begins(name, "x-forwarded-")
}

/// Whether a name begins so, by whatever spelling: to CGI and PHP an underscore is a hyphen.
fn begins(name: &str, beginning: &str) -> bool {
    let is_same = |(byte, expected): (u8, u8)| match byte {
        b'_' => expected == b'-',
        byte => byte == expected,
    };
    name.len() >= beginning.len() && name.bytes().zip(beginning.bytes()).all(is_same)
}

/// All lines of a list field as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Scheme;

    fn described(
        fields: &[(&'static str, &str)],
        trusted: &str,
        host: Option<&str>,
    ) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let peer = Peer::new(
            "::ffff:10.0.0.9".parse().unwrap(),
            Scheme::Http,
            &[trusted.parse().unwrap()],
        );
        let host = host.map(|host| host.parse().unwrap());
        describe_hop(&mut request, peer, host.as_ref()).unwrap();
        request
    }

    fn lines<'a>(request: &'a RequestHeader, name: &str) -> Vec<&'a str> {
        request
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap())
            .collect()
    }

    const SAID: [(&str, &str); 8] = [
        ("Host", "vms.local"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-For", "2.2.2.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X_Forwarded_For", "1.1.1.1"),
        ("X-Forwarded_Port", "1"),
        ("Forwarded", "for=1.1.1.1"),
    ];

    #[test]
    fn an_untrusted_peers_word_is_replaced() {
        let request = described(&SAID, "192.0.2.0/24", None);
        assert_eq!(lines(&request, "x-forwarded-for"), ["10.0.0.9"]);
        assert_eq!(lines(&request, "x-forwarded-proto"), ["http"]);
        assert_eq!(lines(&request, "x-forwarded-host"), ["vms.local"]);
        for name in [
            "x-forwarded-prefix",
            "x_forwarded_for",
            "x-forwarded_port",
            "forwarded",
        ] {
            assert!(lines(&request, name).is_empty(), "{name}");
        }
    }

    #[test]
    fn an_underscore_is_a_hyphen_to_some() {
        for name in ["x-forwarded-for", "x_forwarded_for", "x-forwarded_ssl"] {
            assert!(is_x_forwarded(name), "{name}");
        }
        for name in [
            "x-forwarded",
            "x-forward-for",
            "xx-forwarded-for",
            "_x-forwarded-for",
        ] {
            assert!(!is_x_forwarded(name), "{name}");
        }
    }

    #[test]
    fn where_a_client_is_only_some_fields_tell() {
        let tells = |name: &'static str| tells_address(&HeaderName::from_static(name));
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-real-ip",
            "x_real-ip",
        ] {
            assert!(tells(name), "{name}");
        }
        // These reach the VMS as the key has them, or not at all.
        for name in [
            "forwarded",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-fo",
            "x-forwarded-force",
            "via",
        ] {
            assert!(!tells(name), "{name}");
        }
    }

    #[test]
    fn a_trusted_proxys_word_stands_and_its_address_is_added() {
        let request = described(&SAID, "10.0.0.0/8", None);
        assert_eq!(
            lines(&request, "x-forwarded-for"),
            ["1.1.1.1, 2.2.2.2, 10.0.0.9"]
        );
        assert_eq!(lines(&request, "x-forwarded-proto"), ["https"]);
        assert_eq!(lines(&request, "x-forwarded-prefix"), ["/evil"]);
        assert_eq!(lines(&request, "x_forwarded_for"), ["1.1.1.1"]);
        assert_eq!(lines(&request, "forwarded"), ["for=1.1.1.1"]);
    }

    #[test]
    fn a_configured_host_is_sent_and_the_clients_is_told() {
        let request = described(
            &[("Host", "edge.local")],
            "10.0.0.0/8",
            Some("vms.internal"),
        );
        assert_eq!(lines(&request, "host"), ["vms.internal"]);
        assert_eq!(lines(&request, "x-forwarded-host"), ["edge.local"]);
    }

    #[test]
    fn fields_of_the_connection_are_dropped_with_those_it_names() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("Connection", "keep-alive, X-Hop"),
            ("Connection", "X-Absent, x-other, TE"),
            ("X-Hop", "1"),
            ("X-Other", "1"),
            ("X-Other", "2"),
            ("TE", "trailers"),
            ("X-End", "1"),
        ] {
            request.append_header(name, value).unwrap();
        }
        drop_hop_by_hop(&mut request);
        let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-end"]);
        assert_eq!(hop_by_hop(&request.headers).capacity(), 0);
    }

    #[test]
    fn a_length_that_was_said_more_than_once_is_said_once_and_must_be_one() {
        let told = |lines: &[&str]| {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for line in lines {
                response.append_header("Content-Length", *line).unwrap();
            }
            describe_answer(&mut response, Version::HTTP_11).ok()?;
            let told = response.headers.get_all(header::CONTENT_LENGTH).iter();
            Some(told.map(|line| line.to_str().unwrap().to_owned()).collect())
        };
        let once = Some(vec!["20".to_owned()]);
        assert_eq!(told(&["20"]), once);
        assert_eq!(told(&["20", "20"]), once);
        assert_eq!(told(&["20, 20"]), once);
        assert_eq!(told(&[]), Some(vec![]));
        for lines in [&["20", "21"][..], &["+20"], &[""], &["20,"], &["twenty"]] {
            assert_eq!(told(lines), None, "{lines:?}");
        }
    }
}
