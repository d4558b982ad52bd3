//! What was asked, and by whom.
//!
//! A request on a batch path goes through two steps. [`examine`] looks at the header alone: it refuses what the
//! header checks refuse, declines what the edge does not fully understand, and otherwise hands out [`Checked`], the
//! proof that both were done. [`Checked::read`] then takes that proof, the query and the body (if any), and yields a
//! [`BatchRequest`]: ids that are numbers, a [`Key`] that belongs to this requester alone.
//!
//! Past this module there are no ids as strings, no empty batch and no second check. Nothing here does I/O.

pub mod checks;
pub mod coding;
pub mod correlation;
pub mod credential;
pub mod decline;
pub mod fields;
pub mod framing;
pub mod ids;
pub mod key;
pub mod peer;
pub mod php;
pub mod tag;
pub mod trace;
pub mod write;

use http::{HeaderMap, HeaderName, Method, header};
use pingora_http::RequestHeader;

use crate::config;
pub use crate::config::Scheme;
use checks::Refusal;
use coding::Accepted;
use decline::Bypass;
use ids::{AskedIds, Form};
use key::{Key, KeyMaker, UserId};
use tag::Held;

/// Largest request body the edge reads in order to find ids in it, in bytes.
///
/// Pingora keeps this much for a request that is passed on after all, so a larger one could not be.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// Longest token under which anything is stored, in bytes; a request with a longer one is refused, or passes through where
/// the checks refuse nothing.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What the edge knows of one `[[batch]]` when it looks at a request.
pub struct Endpoint<'a> {
    /// The configured table.
    pub batch: &'a config::Batch,
    /// Request headers that join the key: the configured `vary` list, then those learnt from the VMS.
    pub vary: &'a [HeaderName],
    /// Whether forwarding headers of this client's peer are believed, and so reach the VMS and shape its answer.
    pub peer_is_trusted: bool,
    /// How the client's connection is protected, which the VMS is told, and may make addresses of.
    pub scheme: Scheme,
    /// Since when the endpoint has been there without a break. What was stored before is not known to it: nobody marked
    /// its items while it was away.
    pub era: u64,
}

/// Why a request on a batch path is not a batch that the edge answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The edge answers with an error of its own.
    Refused(Refusal),
    /// The request goes to the VMS as it came, and nothing is stored.
    Bypass(Bypass),
}

/// Proof that a request's header was checked and understood.
#[derive(Debug)]
pub struct Checked {
    body: Body,
    no_cache: bool,
    accepted: Accepted,
    held: Option<Held>,
}

/// The body that a request announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or an empty one.
    Empty,
    /// A JSON body of at most [`MAX_BODY_BYTES`], as far as the header tells.
    Json,
    /// A JSON body that announces more than [`MAX_BODY_BYTES`].
    TooLarge,
}

/// A batch, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// Whose items may answer it.
    pub key: Key,
    /// The user behind the key.
    pub user: UserId,
    /// The ids, at least one.
    pub ids: AskedIds,
    /// How they were written, so that a fetch can be written alike.
    pub form: Form,
    /// `Cache-Control: no-cache`: nothing stored may answer.
    pub no_cache: bool,
    /// In which codings it may be answered; identity is one of them.
    pub accepted: Accepted,
    /// What need not be sent, since the client holds it.
    pub held: Option<Held>,
}

/// Looks at the header of a request on the path of `endpoint`.
///
/// # Errors
///
/// [`Declined`] says what is to become of the request instead.
pub fn examine(request: &RequestHeader, headers: &config::Headers) -> Result<Checked, Declined> {
    if request.method != Method::GET {
        return Err(Declined::Bypass(Bypass::Method));
    }
    if let Some(refusal) = checks::check(&request.headers, &headers.clients) {
        return Err(match headers.check {
            config::Check::Enforce => Declined::Refused(refusal),
            config::Check::Forward => Declined::Bypass(Bypass::Headers),
        });
    }
    decline::header(&request.headers).map_err(Declined::Bypass)?;
    let accepted = decline::coding(&request.headers).map_err(Declined::Bypass)?;
    Ok(Checked {
        body: body(&request.headers).map_err(Declined::Bypass)?,
        no_cache: decline::asks_no_cache(&request.headers),
        accepted,
        held: Held::read(&request.headers).map_err(Declined::Bypass)?,
    })
}

impl Checked {
    /// The body to read before [`Checked::read`].
    pub fn body(&self) -> Body {
        self.body
    }

    /// Finds the ids in the query or in `body`, and derives the key.
    ///
    /// # Errors
    ///
    /// The reason why the request must go to the VMS as it came.
    pub fn read(
        self,
        request: &RequestHeader,
        body: &[u8],
        endpoint: &Endpoint<'_>,
        keys: &KeyMaker,
    ) -> Result<BatchRequest, Bypass> {
        let covered: Vec<&HeaderName> = key::covered(endpoint).collect();
        decline::nominated(&request.headers, &covered)?;
        let query = query(request);
        let (ids, form) = ids::read(query, body, endpoint.batch)?;
        let user = keys.holder(bearer(&request.headers).ok_or(Bypass::Authorization)?);
        let key = keys.key(&user, request, &form, endpoint);
        Ok(BatchRequest {
            key,
            user,
            ids,
            form,
            no_cache: self.no_cache,
            accepted: self.accepted,
            held: self.held,
        })
    }
}

/// The raw path of a request, without its query.
pub fn path(request: &RequestHeader) -> &[u8] {
    let target = request.raw_path();
    match target.iter().position(|&byte| byte == b'?') {
        Some(end) => &target[..end],
        None => target,
    }
}

/// The raw query of a request, without the question mark; empty where there is none.
pub fn query(request: &RequestHeader) -> &[u8] {
    let target = request.raw_path();
    match target.iter().position(|&byte| byte == b'?') {
        Some(end) => &target[end + 1..],
        None => b"",
    }
}

/// The token of the one plain `Authorization: Bearer TOKEN`, or `None` for any other form.
///
/// Laravel takes the last of several fields, cuts at a comma and ignores a lower-case scheme: only the form on which
/// every reader agrees may stand for a user.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let token = field.as_bytes().strip_prefix(b"Bearer ")?;
    // Looks at every byte even after an odd one, so that it is done many bytes at a time.
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let plain = token.iter().fold(true, |plain, byte| {
        plain & byte.is_ascii_graphic() & (*byte != b',')
    });
    (!token.is_empty() && plain).then_some(token)
}

fn body(headers: &HeaderMap) -> Result<Body, Bypass> {
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let length = match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length
            .to_str()
            .ok()
            .and_then(|length| length.parse::<u64>().ok())
            .ok_or(Bypass::Body)?,
        None => 0,
    };
    if !chunked && length == 0 {
        return Ok(Body::Empty);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return Err(Bypass::Body);
    };
    if fields::essence(content_type.as_bytes()) != b"application/json"
        || headers.contains_key(header::CONTENT_ENCODING)
    {
        return Err(Bypass::Body);
    }
    Ok(if length > MAX_BODY_BYTES as u64 {
        Body::TooLarge
    } else {
        Body::Json
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_authorization(fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::AUTHORIZATION, field.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_one_plain_bearer_field_stands_for_a_user() {
        assert_eq!(
            bearer(&with_authorization(&["Bearer a.b-c_d/e=~+"])),
            Some(&b"a.b-c_d/e=~+"[..])
        );
        for odd in [
            &["bearer abc"][..],
            &["Bearer  abc"],
            &["Bearer abc,def"],
            &["Bearer a b"],
            &["Bearer a\tb"],
            &["Bearer "],
            &["Basic abc"],
            &["Basic a, Bearer b"],
            &["Bearer a", "Bearer b"],
            &[],
        ] {
            assert_eq!(bearer(&with_authorization(odd)), None, "{odd:?}");
        }
    }

    #[test]
    fn a_token_has_a_length_beyond_which_it_stands_for_nobody() {
        let token = |bytes: usize| format!("Bearer {}", "x".repeat(bytes));
        for (bytes, stands) in [(MAX_TOKEN_BYTES, true), (MAX_TOKEN_BYTES + 1, false)] {
            let headers = with_authorization(&[&token(bytes)]);
            assert_eq!(bearer(&headers).is_some(), stands, "{bytes}");
        }
    }

    #[test]
    fn a_body_is_read_if_it_is_json_and_no_larger_than_what_is_kept() {
        let largest = MAX_BODY_BYTES.to_string();
        let too_large = (MAX_BODY_BYTES + 1).to_string();
        let json = ("content-type", "Application/JSON; charset=utf-8");
        for (fields, expected) in [
            (&[][..], Ok(Body::Empty)),
            (&[("content-length", "0")], Ok(Body::Empty)),
            (&[("content-length", "7"), json], Ok(Body::Json)),
            (&[("content-length", &*largest), json], Ok(Body::Json)),
            (&[("content-length", &*too_large), json], Ok(Body::TooLarge)),
            (&[("transfer-encoding", "chunked"), json], Ok(Body::Json)),
            (&[("transfer-encoding", "chunked")], Err(Bypass::Body)),
            (&[("content-length", "7")], Err(Bypass::Body)),
            (&[("content-length", "x"), json], Err(Bypass::Body)),
            (
                &[("content-length", "7"), ("content-type", "text/json")],
                Err(Bypass::Body),
            ),
            (
                &[("content-length", "7"), json, ("content-encoding", "gzip")],
                Err(Bypass::Body),
            ),
            (&[("content-length", "7"), json, json], Err(Bypass::Body)),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(body(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_scheme_is_named_as_addresses_have_it() {
        assert_eq!(
            (Scheme::Http.name(), Scheme::Https.name()),
            ("http", "https")
        );
    }

    #[test]
    fn path_and_query_are_the_raw_bytes_of_the_target() {
        let request = RequestHeader::build("GET", b"/a%20b?x=1?2", None).unwrap();
        assert_eq!(path(&request), b"/a%20b");
        assert_eq!(query(&request), b"x=1?2");
        let request = RequestHeader::build("GET", b"/a", None).unwrap();
        assert_eq!((path(&request), query(&request)), (&b"/a"[..], &b""[..]));
    }
}
