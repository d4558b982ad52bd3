//! Taking the content coding off an answer that the edge has asked for in one (`upstream.fetch_coding`).
//!
//! What comes out is bounded like what comes in: a body that grows beyond the bound is given up there, not when all of it
//! is in memory. What is no whole gzip, or is followed by something else, is no answer; no body at all has nothing to be
//! decoded, whatever the header says of it: many an error and every 204 has none.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora_http::ResponseHeader;

use crate::request::fields::members;

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecoded {
    /// It is longer than it may be.
    TooLarge,
    /// It is not gzip, or not the whole of it, or more than it.
    Malformed,
}

/// Whether a body is in gzip, and in no other coding.
pub(super) fn is_gzip(headers: &HeaderMap) -> bool {
    let mut codings = members(headers, header::CONTENT_ENCODING);
    let only = (codings.next(), codings.next());
    let is_gzip = |coding: &[u8]| {
        coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
    };
    matches!(only, (Some(coding), None) if is_gzip(coding))
}

/// The body without its coding, at most `most` bytes of it.
pub(super) fn gunzip(body: &[u8], most: usize) -> Result<Bytes, Undecoded> {
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let mut decoder = GzDecoder::new(body);
    // JSON comes out about so much longer.
    let mut decoded = Vec::with_capacity(most.min(body.len() * 5));
    let read = (&mut decoder)
        .take(most as u64 + 1)
        .read_to_end(&mut decoded);
    match read {
        Ok(length) if length > most => Err(Undecoded::TooLarge),
        Ok(_) if decoder.into_inner().is_empty() => Ok(decoded.into()),
        _ => Err(Undecoded::Malformed),
    }
}

/// Makes the header that of the decoded body: digests of the coded one go, and a tag is no longer of every byte (RFC 9110,
/// 7.7 and 8.8.3.3).
pub(super) fn describe(response: &mut ResponseHeader) {
    const OF_THE_CODED: [HeaderName; 7] = [
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::ACCEPT_RANGES,
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    for name in &OF_THE_CODED {
        response.remove_header(name);
    }
    let tag = response
        .headers
        .get(header::ETAG)
        .map(HeaderValue::as_bytes);
    if let Some(strong) = tag.filter(|tag| !tag.starts_with(b"W/")) {
        let weak = [b"W/", strong].concat();
        // A tag that cannot be sent is none.
        if response.insert_header("ETag", weak).is_err() {
            response.remove_header(&header::ETAG);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut gzip = Vec::new();
        let mut encoder = flate2::bufread::GzEncoder::new(body, flate2::Compression::default());
        encoder.read_to_end(&mut gzip).unwrap();
        gzip
    }

    #[test]
    fn only_gzip_alone_is_decoded() {
        for (lines, expected) in [
            (&["gzip"][..], true),
            (&["X-GZip"], true),
            (&["br"], false),
            (&["gzip, gzip"], false),
            (&["gzip", "br"], false),
            (&["identity"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
            }
            assert_eq!(is_gzip(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_grows_beyond_its_bound_is_given_up_there() {
        let bomb = gzip(&vec![b' '; 10_000_000]);
        assert!(bomb.len() < 20_000);
        assert_eq!(gunzip(&bomb, 1_000), Err(Undecoded::TooLarge));
        assert_eq!(gunzip(&bomb, 10_000_000).unwrap().len(), 10_000_000);
    }

    #[test]
    fn what_is_not_one_whole_gzip_is_refused() {
        let whole = gzip(b"[{\"id\":1}]");
        let refused = |body: &[u8]| assert_eq!(gunzip(body, 1_000), Err(Undecoded::Malformed));
        for end in 1..whole.len() {
            refused(&whole[..end]);
        }
        refused(&[&whole[..], b"x"].concat());
        refused(&[&whole[..], &whole[..]].concat());
        refused(b"[{\"id\":1}]");
        let mut corrupt = whole.clone();
        let check = corrupt.len() - 6;
        corrupt[check] ^= 1;
        refused(&corrupt);
    }

    #[test]
    fn no_body_is_one_that_is_empty() {
        assert_eq!(gunzip(b"", 1_000).unwrap(), "");
    }

    #[test]
    fn what_is_told_of_the_coded_body_is_told_no_more() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Content-Encoding", "gzip"),
            ("Content-Length", "9"),
            ("Content-MD5", "x"),
            ("ETag", "\"a\""),
            ("Vary", "Accept-Encoding"),
        ] {
            response.append_header(name, value).unwrap();
        }
        describe(&mut response);
        describe(&mut response);
        let left: Vec<_> = response.headers.iter().collect();
        assert_eq!(left.len(), 2);
        assert_eq!(response.headers["etag"], "W/\"a\"");
        assert_eq!(response.headers["vary"], "Accept-Encoding");
    }

    proptest! {
        #[test]
        fn what_was_coded_is_decoded(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(gunzip(&gzip(&body), 2_000).unwrap(), body);
        }

        #[test]
        fn no_body_makes_decoding_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = gunzip(&body, 1_000);
        }
    }
}
