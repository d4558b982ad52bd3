//! HTTP/2 with clients: its limits, and what it says in another way than HTTP/1.1.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What a client is told whose connection is ended for its manners: ENHANCE_YOUR_CALM (RFC 9113, 6.8 and 7), and that any of
/// its requests may have been looked at.
pub(super) const GOAWAY: [u8; 17] = *b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0b";

/// How many of its requests the client of a connection takes back before they are looked at.
///
/// The `h2` crate counts those that it read in one go with what takes them back. Those of a client who sends no faster than
/// he is read it hands on at once, and sees that they are taken back later.
#[derive(Debug, Default)]
pub(super) struct Manners {
    asked: AtomicUsize,
    taken_back: AtomicUsize,
}

/// Whether a client is listened to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// He is.
    Lasts,
    /// He is not: he has taken back more than he may, and more than he left.
    Over,
}

impl Manners {
    /// The client asks for something.
    pub(super) fn asks(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// The client has taken a request back.
    pub(super) fn takes_back(&self) -> Patience {
        let taken_back = self.taken_back.fetch_add(1, Ordering::Relaxed) + 1;
        let most = MAX_RESETS.max(self.asked.load(Ordering::Relaxed));
        match taken_back > most {
            true => Patience::Over,
            false => Patience::Lasts,
        }
    }
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
    fn who_takes_back_much_and_more_than_he_leaves_is_not_listened_to_any_longer() {
        let manners = Manners::default();
        let take_back = |count| {
            let all = (0..count).map(|_| manners.takes_back());
            all.filter(|patience| *patience == Patience::Over).count()
        };
        assert_eq!((take_back(MAX_RESETS), take_back(1)), (0, 1));
        let manners = Manners::default();
        (0..100).for_each(|_| manners.asks());
        let taken_back: Vec<_> = (0..101).map(|_| manners.takes_back()).collect();
        let over = taken_back
            .iter()
            .position(|patience| *patience == Patience::Over);
        assert_eq!(over, Some(100), "a long connection may have many");
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
