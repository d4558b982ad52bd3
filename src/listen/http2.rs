//! HTTP/2 with clients: its limits, and what it says in another way than HTTP/1.1.

use std::pin::pin;
use std::task::{Context, Waker};

use http::HeaderValue;
use http::header;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_http::RequestHeader;

use super::IDLE_TIMEOUT;

/// Requests in flight on one connection.
const MAX_STREAMS: u32 = 100;

/// Names and values of one request, decoded. Tokens of 8 KiB fit, and cookies beside them.
const MAX_HEADER_BYTES: u32 = 64 << 10;

/// What a client may send of one body before it is read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// What a client may send of all bodies of a connection before they are read.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// What is held of one answer for a client that reads slowly.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Requests that a client took back before they were begun, and streams that its faults ended, after which a connection
/// is closed: what is left of a rapid reset (CVE-2023-44487) once streams are counted.
const MAX_RESETS: usize = 20;

/// The limits of a connection. What is left out is the `h2` crate's own: floods of CONTINUATION, of empty and of small DATA
/// frames, of PING and SETTINGS are bounded there.
pub fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_frame_size(16 << 10)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(Some(MAX_RESETS));
    options
}

/// How Pingora is to treat connections.
pub fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(IDLE_TIMEOUT);
    options
}

/// Says a request of HTTP/2 as HTTP/1.1 would: `Host` for `:authority`, one `Cookie` (RFC 9113, 8.3.1 and 8.2.3), and
/// `Transfer-Encoding` for a body whose length is not told.
///
/// # Errors
///
/// Never for a header that came over the wire; the signature is Pingora's.
pub fn as_http1(session: &mut ServerSession) -> pingora_core::Result<()> {
    if !session.is_http2() {
        return Ok(());
    }
    let has_body = !session.is_body_empty();
    say_as_http1(session.req_header_mut(), has_body)
}

/// Whether the client has taken a request of HTTP/2 back already.
pub fn is_taken_back(session: &mut ServerSession) -> bool {
    let ServerSession::H2(session) = session else {
        return false;
    };
    // Nobody waits for it yet who would have to be woken.
    let mut context = Context::from_waker(Waker::noop());
    pin!(session.idle()).poll(&mut context).is_ready()
}

fn say_as_http1(request: &mut RequestHeader, has_body: bool) -> pingora_core::Result<()> {
    // Pingora has refused an authority that contradicts a Host.
    if !request.headers.contains_key(header::HOST)
        && let Some(authority) = request.uri.authority()
    {
        let host = authority.as_str().to_owned();
        request.insert_header(header::HOST, host)?;
    }
    let mut cookies = request.headers.get_all(header::COOKIE).iter();
    if cookies.next().is_some() && cookies.next().is_some() {
        let crumbs = request.headers.get_all(header::COOKIE).iter();
        let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
        let whole = crumbs.join(&b"; "[..]);
        request.insert_header(header::COOKIE, whole)?;
    }
    if has_body && !request.headers.contains_key(header::CONTENT_LENGTH) {
        request.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(has_body: bool, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.set_uri("https://vms.local/".parse().unwrap());
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        say_as_http1(&mut request, has_body).unwrap();
        let lines = request.headers.iter();
        let mut lines: Vec<_> = lines
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_again_and_the_authority_is_the_host() {
        let crumbs = [("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")];
        assert_eq!(
            said(false, &crumbs),
            ["cookie: a=b; c=d; e=f", "host: vms.local"]
        );
    }

    #[test]
    fn a_body_is_as_long_as_it_says_or_chunked() {
        let length = [("content-length", "5"), ("host", "vms.local")];
        assert_eq!(
            said(true, &length),
            ["content-length: 5", "host: vms.local"]
        );
        assert_eq!(
            said(true, &[]),
            ["host: vms.local", "transfer-encoding: chunked"]
        );
    }
}
