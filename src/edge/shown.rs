//! What lines and spans show of a request.
//!
//! A path is shown without its query, whose values could be secret, and is visible ASCII whatever the client sent: nothing
//! in it can begin a line of its own, or hide one from whoever reads it.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pingora_http::RequestHeader;

use crate::request;

/// Most bytes of a path that are shown: a header may have a megabyte.
const MAX_PATH_BYTES: usize = 2048;

/// Most bytes of a method that are shown.
const MAX_METHOD_BYTES: usize = 32;

/// The beginning of a request's method.
pub(super) fn shown_method(header: &RequestHeader) -> &str {
    let method = header.method.as_str();
    &method[..method.len().min(MAX_METHOD_BYTES)]
}

/// The beginning of a request's path.
pub(super) fn shown_path(header: &RequestHeader) -> Cow<'_, str> {
    visible(own_path(request::path(header)))
}

/// A time in whole microseconds.
pub(super) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The path of a target, which may be a whole address (RFC 9112, 3.2.2) with a user and a password in it.
fn own_path(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") || target == b"*" {
        return target;
    }
    let after_scheme = target.windows(3).position(|three| three == b"://");
    let authority = after_scheme.map_or(&b""[..], |at| &target[at + 3..]);
    let path = authority.iter().position(|&byte| byte == b'/');
    path.map_or(b"", |at| &authority[at..])
}

/// The beginning of a path, with what is not visible ASCII percent-encoded, as it ought to have been.
fn visible(path: &[u8]) -> Cow<'_, str> {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'\\');
    percent_encode(&path[..path.len().min(MAX_PATH_BYTES)], ENCODED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_came_if_it_is_visible() {
        for path in [
            "/api/v1/intercom/shows",
            "/%0a%00%ff",
            "/a;b=c,~!$&'()",
            "*",
            "",
        ] {
            let shown = visible(path.as_bytes());
            assert!(
                matches!(shown, Cow::Borrowed(shown) if shown == path),
                "{path}"
            );
        }
    }

    #[test]
    fn nothing_in_a_path_breaks_a_line_or_moves_a_cursor() {
        let odd = "/a\r\n\t\0\x1b[2K\u{7f}\u{85}\u{2028}\u{202e}é \"\\".as_bytes();
        assert_eq!(
            visible(odd),
            "/a%0D%0A%09%00%1B[2K%7F%C2%85%E2%80%A8%E2%80%AE%C3%A9%20%22%5C"
        );
        assert_eq!(visible(b"/\xff\xc0"), "/%FF%C0");
    }

    #[test]
    fn a_long_path_is_cut() {
        assert_eq!(visible(&[b'x'; 100_000]).len(), MAX_PATH_BYTES);
    }

    #[test]
    fn of_a_whole_address_only_the_path_is_shown() {
        for (target, path) in [
            (&b"/a://b/c"[..], &b"/a://b/c"[..]),
            (b"http://user:password@vms.local/a/b", b"/a/b"),
            (b"http://user:password@vms.local", b""),
            (b"user:password@vms.local:443", b""),
            (b"*", b"*"),
        ] {
            assert_eq!(own_path(target), path);
        }
    }
}
