//! What `POST /explain` is asked and answers: a request that nobody sent, and what would become of it.
//!
//! `admin/explain` is the handler, and `batch::explain` finds the answer; here is only what they say to each other.
//!
//! The request is read as strictly as a purge, and shows as little of itself: it holds somebody's token.

use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderValue;
use pingora_http::RequestHeader;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{Fields, NotUnderstood, shown};
use super::moment::Moment;
use crate::request::Scheme;

/// Largest body that is read, in bytes: the largest body of a batch, escaped, and its header.
pub const MAX_BODY_BYTES: usize = 256 << 10;

const FIELDS: &str = "method, url, headers, body, peer";

/// A request that is explained instead of answered.
pub struct Supposed {
    /// Its header.
    pub request: RequestHeader,
    /// Its header as it would have come over the wire.
    pub received: Vec<u8>,
    /// Its body.
    pub body: Bytes,
    /// How its connection would have been protected.
    pub scheme: Scheme,
    /// Where it would have come from; `None`: from a peer that nothing is known of.
    pub peer: Option<IpAddr>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// What the edge does with it.
    pub treated: Treated,
    /// Why it passes through, under the name that metric and `Cache-Status` have for it; or what is wrong with its framing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What it is refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refused>,
    /// Path of the `[[batch]]` that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Headers that belong to its key, beside the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// How it would be answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What is known of each id, in the order asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Id>,
}

/// What the edge does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treated {
    /// It is a batch.
    Batch,
    /// It goes to the VMS as it came.
    PassesThrough,
    /// It is answered with an error of the edge's own.
    Refused,
    /// It could be taken for two requests, and is answered 400.
    FramingFault,
}

/// An error of the edge's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Value,
}

/// How a batch would be answered, if the VMS answers what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// As the metric and the access line call it: `hit`, `stale`, `partial` or `miss`. With an `If-None-Match` that holds,
    /// `hit` and `stale` come as a 304.
    pub result: &'static str,
    /// Whether it says `Cache-Control: no-cache`, so that nothing stored may answer it.
    pub no_cache: bool,
    /// Whether the order is known in which the VMS would answer; while it is not, only the VMS can.
    pub order_is_known: bool,
}

/// What is known of one id for this requester.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Id {
    /// The id.
    pub id: u64,
    /// `fresh`, `stale`, `stale_if_error`, `expired`; `absent`: known not to be this user's; `missing`: nothing is stored,
    /// or a mark ended it.
    pub state: &'static str,
    /// Whether somebody fetches it now.
    pub in_flight: bool,
    /// What is stored of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredId>,
    /// The mark that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// What is stored of an id.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredId {
    /// `item` or `absence`.
    pub kind: &'static str,
    /// Age, in seconds.
    pub age: f64,
    /// For how long it is fresh, in seconds, negative since it went stale; `None` if a mark ended it.
    pub ttl: Option<f64>,
    /// When its fetch began.
    pub fetched: Moment,
    /// What that fetch asked for: `whole` (all that a client asked for), `part` (what of it was missing) or `refresh` (what
    /// was stale, in the background).
    pub by: &'static str,
}

/// A mark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// `user`, `item` or `all`.
    pub scope: &'static str,
    /// `hard` or `soft`.
    pub strength: &'static str,
    /// When it was set.
    pub set: Moment,
}

impl Supposed {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// What is wrong with the first field that is.
    pub fn read(body: &[u8]) -> Result<Self, NotUnderstood> {
        let example = r#"{"url":"/api/v1/intercom/shows?ids[]=1","headers":{"Host":"vms.local"}}"#;
        let Fields(fields) = Fields::<Box<RawValue>>::read(body, example)?;
        let (mut method, mut url) = ("GET".to_owned(), None);
        let (mut headers, mut body, mut peer) = (Vec::new(), String::new(), None);
        for (name, value) in &fields {
            match name.as_str() {
                "method" => method = text("method", value)?,
                "url" => url = Some(text("url", value)?),
                "headers" => headers = pairs(value)?,
                "body" => body = text("body", value)?,
                "peer" => peer = Some(address(value)?),
                _ => {
                    let name = shown(name);
                    return Err(NotUnderstood::new(name, "is no field of a request", FIELDS));
                }
            }
        }
        let url = url.ok_or_else(|| NotUnderstood::new("url", "is missing", URL))?;
        let (scheme, host, target) = split(&url);
        let names = |name: &str| {
            headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        let mut added = Vec::new();
        if let Some(host) = host.filter(|_| !names("host")) {
            added.push(("Host".to_owned(), host.to_owned()));
        }
        if !body.is_empty() && !names("content-length") && !names("transfer-encoding") {
            added.push(("Content-Length".to_owned(), body.len().to_string()));
        }
        let headers = [added, headers].concat();
        let (request, received) = header(&method, target, &headers)?;
        Ok(Self {
            request,
            received,
            body: body.into(),
            scheme,
            peer,
        })
    }
}

/// A header as it is understood, and as it would have come.
fn header(
    method: &str,
    target: &str,
    fields: &[(String, String)],
) -> Result<(RequestHeader, Vec<u8>), NotUnderstood> {
    if method.parse::<http::Method>().is_err() {
        return Err(NotUnderstood::new("method", "is no method", "GET, POST, …"));
    }
    // Where it ends, nobody could tell from the line that it would come in.
    let is_one_word = !target.is_empty() && target.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    if !is_one_word {
        return Err(NotUnderstood::new("url", "cannot be sent", URL));
    }
    let mut request = RequestHeader::build(method, target.as_bytes(), Some(fields.len()))
        .map_err(|_| NotUnderstood::new("url", "cannot be sent", URL))?;
    request.set_version(http::Version::HTTP_11);
    let mut received = format!("{method} {target} HTTP/1.1\r\n");
    for (place, (name, value)) in fields.iter().enumerate() {
        let value = HeaderValue::from_bytes(value.as_bytes());
        let appended = value.map(|value| {
            received += &format!("{name}: \r\n");
            request.append_header(name.clone(), value)
        });
        if !appended.is_ok_and(|appended| appended.is_ok()) {
            let field = format!("headers[{place}]");
            return Err(NotUnderstood::new(field, "is no header field", HEADERS));
        }
    }
    Ok((request, received.into_bytes()))
}

const URL: &str =
    "a path with its query, such as /api/v1/intercom/shows?ids[]=1, or the same after http://HOST";

const HEADERS: &str = "an object of names and values, or a list of [name, value] where a name is there more than once";

fn text(name: &str, value: &RawValue) -> Result<String, NotUnderstood> {
    serde_json::from_str(value.get())
        .map_err(|_| NotUnderstood::new(name, "is not a string", "a string"))
}

fn pairs(value: &RawValue) -> Result<Vec<(String, String)>, NotUnderstood> {
    let wrong = || NotUnderstood::new("headers", "is neither", HEADERS);
    if value.get().starts_with('[') {
        return serde_json::from_str(value.get()).map_err(|_| wrong());
    }
    let Fields(fields) = serde_json::from_str(value.get()).map_err(|_| wrong())?;
    let pair = |(name, value): (String, Value)| match value {
        Value::String(value) => Ok((name, value)),
        _ => Err(wrong()),
    };
    fields.into_iter().map(pair).collect()
}

fn address(value: &RawValue) -> Result<IpAddr, NotUnderstood> {
    let text = text("peer", value)?;
    let wrong = |_| NotUnderstood::new("peer", "is no IP address", "such as 10.0.0.1 or fd00::1");
    text.parse().map_err(wrong)
}

/// Scheme, host and target of a URL; a target alone has no host.
fn split(url: &str) -> (Scheme, Option<&str>, &str) {
    let (scheme, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (Scheme::Http, rest),
        (_, Some(rest)) => (Scheme::Https, rest),
        (None, None) => return (Scheme::Http, None, url),
    };
    match rest.find(['/', '?']) {
        Some(end) => (scheme, Some(&rest[..end]), &rest[end..]),
        None => (scheme, Some(rest), "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Supposed, String> {
        Supposed::read(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn understood(body: &str) -> Supposed {
        read(body).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_request_is_read_as_it_would_have_come() {
        let supposed = understood(
            r#"{"method":"POST","url":"/a?b=%20","headers":[["X-A","1"],["x-a","2"]],"body":"{}","peer":"fd00::1"}"#,
        );
        let request = &supposed.request;
        assert_eq!(
            (request.method.as_str(), request.raw_path()),
            ("POST", &b"/a?b=%20"[..])
        );
        let values: Vec<_> = request.headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers["content-length"], "2");
        assert_eq!(&supposed.body[..], b"{}");
        assert_eq!(supposed.peer, Some("fd00::1".parse().unwrap()));
        assert!(!request.headers.contains_key("host"));
    }

    #[test]
    fn a_whole_address_names_the_host_unless_a_header_does() {
        for (url, headers, host, target) in [
            ("http://vms.local/a?b", "{}", "vms.local", "/a?b"),
            ("https://vms.local:8443", "{}", "vms.local:8443", "/"),
            ("http://vms.local/a", r#"{"host":"other"}"#, "other", "/a"),
        ] {
            let supposed = understood(&format!(r#"{{"url":"{url}","headers":{headers}}}"#));
            assert_eq!(supposed.request.headers["host"], host);
            assert_eq!(supposed.request.raw_path(), target.as_bytes());
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_without_being_quoted() {
        for (body, message) in [
            ("canary", "the body: is not a JSON object; "),
            (r#"{"canary-1":1}"#, "a field: is no field of a request; "),
            (r#"{"method":"GET"}"#, "url: is missing; "),
            (r#"{"url":"/a","url":"/b"}"#, "url: is given twice; "),
            (r#"{"url":["canary"]}"#, "url: is not a string; "),
            (r#"{"url":"/canary canary"}"#, "url: cannot be sent; "),
            (r#"{"url":"/#canary canary"}"#, "url: cannot be sent; "),
            (r#"{"url":""}"#, "url: cannot be sent; "),
            (
                r#"{"url":"/","method":"canary canary"}"#,
                "method: is no method; ",
            ),
            (r#"{"url":"/","headers":"canary"}"#, "headers: is neither; "),
            (
                r#"{"url":"/","headers":{"a":["canary"]}}"#,
                "headers: is neither; ",
            ),
            (r#"{"url":"/","headers":[["a"]]}"#, "headers: is neither; "),
            (
                r#"{"url":"/","headers":{"a":"canary\n"}}"#,
                "headers[0]: is no header field; ",
            ),
            (
                r#"{"url":"/","headers":{"canary canary":"a"}}"#,
                "headers[0]: is no header field; ",
            ),
            (r#"{"url":"/","body":{}}"#, "body: is not a string; "),
            (r#"{"url":"/","peer":"canary"}"#, "peer: is no IP address; "),
        ] {
            let told = read(body).err().expect(body);
            assert!(told.starts_with(message), "{body}: {told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
