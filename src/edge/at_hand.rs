//! Batches whose answer is at hand: answered before Pingora sees them.
//!
//! This is a shorter way to the same answer, for requests of the plainest form only: whatever has to wait, to be refused, to
//! be passed on, or to be thought about, is left to the phases of [`EdgeProxy`]. Everything that decides
//! is asked here as it is there; the two differ in how they read and write HTTP, and nobody can tell them apart by an answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::HttpProxy;
use prometheus::IntGauge;

use super::access::{self, Ended};
use super::site::Site;
use super::{EdgeProxy, RequestContext};
use crate::batch::Reply;
use crate::listen::{Answer, Application, Client};
use crate::request::framing;
use crate::request::peer::Peer;

/// Most fields of a request that is looked at here.
const MAX_FIELDS: usize = 64;

/// What of an answer's header is not in the VMS's: room for it, in bytes.
const OWN_FIELDS_BYTES: usize = 256;

/// The edge: what is at hand is answered here, and all else by Pingora's proxying.
pub struct Front {
    proxy: Arc<HttpProxy<EdgeProxy>>,
    site: Arc<ArcSwap<Site>>,
    in_flight: IntGauge,
}

/// An answer at hand, as it is sent.
pub struct Prepared {
    request: RequestHeader,
    ctx: RequestContext,
    status: StatusCode,
    head: Vec<u8>,
    body: Bytes,
}

impl Front {
    /// The edge under whatever `site` holds when a request begins; `in_flight` counts requests.
    pub fn new(proxy: HttpProxy<EdgeProxy>, site: Arc<ArcSwap<Site>>, in_flight: IntGauge) -> Self {
        Self {
            proxy: Arc::new(proxy),
            site,
            in_flight,
        }
    }
}

impl Application for Front {
    type Proxy = HttpProxy<EdgeProxy>;
    type Answer = Prepared;

    fn proxy(&self) -> &Arc<Self::Proxy> {
        &self.proxy
    }

    fn at_hand(&self, head: &[u8], client: &Client) -> Option<Prepared> {
        let site = self.site.load();
        if !site.may_ask_batch(head) {
            return None;
        }
        let request = read(head)?;
        framing::check(&request, head).ok()?;
        let mut ctx = RequestContext::new(Arc::clone(&site), &self.in_flight);
        let trusted = &site.config.server.trusted_proxies;
        ctx.peer = Peer::new(client.address.ip(), client.scheme, trusted);
        ctx.correlate(&request);
        let reply = site.at_hand(&request, &mut ctx)?;
        panics!(&request, "at hand");
        let author = reply.author;
        let Reply {
            mut header, body, ..
        } = reply;
        ctx.tell_id(&mut header, author).ok()?;
        let head = written(&mut header)?;
        Some(Prepared {
            request,
            ctx,
            status: header.status,
            head,
            body,
        })
    }
}

impl Answer for Prepared {
    fn head(&self) -> &[u8] {
        &self.head
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn patience(&self) -> Duration {
        self.ctx.site.config.upstream.idle_timeout
    }

    fn sent(mut self, sent: io::Result<()>) {
        let took = self.ctx.started.elapsed();
        // What is at hand takes no time but that of the client.
        self.ctx.times.write = took;
        let error = sent.err().map(|error| {
            let kind = match error.kind() {
                io::ErrorKind::TimedOut => ErrorType::WriteTimedout,
                _ => ErrorType::WriteError,
            };
            Error::because(kind, "the client took no answer", error).into_down()
        });
        let ended = Ended {
            request: &self.request,
            status: Some(self.status),
            body_bytes: if error.is_none() { self.body.len() } else { 0 },
            error: error.as_deref(),
            took,
        };
        access::record(&ended, &self.ctx);
    }
}

/// Reads a header in the plainest form there is: HTTP/1.1, no body, no more to be said of the connection than that it is
/// kept. `None` for all others, right or wrong.
fn read(head: &[u8]) -> Option<RequestHeader> {
    // One copy, of which all values are parts.
    let head = Bytes::copy_from_slice(head);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = parsed.parse(&head).ok()?;
    if length != httparse::Status::Complete(head.len()) || parsed.version != Some(1) {
        return None;
    }
    let target = parsed.path?.as_bytes();
    let count = parsed.headers.len();
    let mut request = RequestHeader::build_no_case(Method::GET, target, Some(count)).ok()?;
    request.set_version(Version::HTTP_11);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).ok()?;
        request.append_header(name, value).ok()?;
    }
    is_plain(&request).then_some(request)
}

/// Whether nothing in a header is about its message or its connection, and it is for one host.
fn is_plain(request: &RequestHeader) -> bool {
    const OTHERS: [HeaderName; 4] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::EXPECT,
    ];
    let headers = &request.headers;
    let is_kept = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    OTHERS.iter().all(|name| !headers.contains_key(name))
        && headers.get_all(header::CONNECTION).iter().all(is_kept)
        && !headers.contains_key("keep-alive")
        && host.is_some_and(|host| !host.is_empty() && host.iter().all(is_of_host))
        && hosts.next().is_none()
}

/// The header as Pingora would send it; `None` if it has no such form.
fn written(header: &mut ResponseHeader) -> Option<Vec<u8>> {
    header.insert_header(header::DATE, get_cached_date()).ok()?;
    header
        .insert_header(header::CONNECTION, HeaderValue::from_static("keep-alive"))
        .ok()?;
    let mut head = Vec::with_capacity(OWN_FIELDS_BYTES + 64 * header.headers.len());
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(header.status.as_str().as_bytes());
    head.push(b' ');
    let reason = header.get_reason_phrase().unwrap_or_default();
    head.extend_from_slice(reason.as_bytes());
    head.extend_from_slice(b"\r\n");
    header.header_to_h1_wire(&mut head);
    head.extend_from_slice(b"\r\n");
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read(first_line: &str, fields: &str) -> bool {
        read(format!("{first_line}\r\n{fields}\r\n").as_bytes()).is_some()
    }

    #[test]
    fn a_plain_get_is_read_as_it_was_sent() {
        let head = b"GET /shows?ids%5B%5D=1 HTTP/1.1\r\nHost: vms.local:8080\r\nX-UUID:  d \r\nhl: ru\r\nHl: en\r\n\r\n";
        let request = read(head).unwrap();
        assert_eq!(request.method, Method::GET);
        assert_eq!(request.version, Version::HTTP_11);
        assert_eq!(request.raw_path(), b"/shows?ids%5B%5D=1");
        assert_eq!(request.headers["x-uuid"], "d");
        let languages: Vec<_> = request.headers.get_all("hl").iter().collect();
        assert_eq!(languages, ["ru", "en"]);
    }

    #[test]
    fn whatever_is_to_be_said_of_message_or_connection_is_left_to_pingora() {
        const GET: &str = "GET /shows?ids[]=1 HTTP/1.1";
        const HOST: &str = "Host: vms.local\r\n";
        assert!(is_read(GET, HOST));
        assert!(is_read(GET, &format!("{HOST}Connection: Keep-Alive\r\n")));
        for field in [
            "Connection: close",
            "Connection: keep-alive, X-UUID",
            "Keep-Alive: timeout=5",
            "Content-Length: 0",
            "Content-Length: 2",
            "Transfer-Encoding: chunked",
            "Upgrade: websocket",
            "Expect: 100-continue",
            "Host: other.local",
        ] {
            assert!(!is_read(GET, &format!("{HOST}{field}\r\n")), "{field}");
        }
        for fields in [
            "",
            "Host: \r\n",
            "Host: a@b\r\n",
            "Host: a, b\r\n",
            "Host: a/b\r\n",
        ] {
            assert!(!is_read(GET, fields), "{fields}");
        }
        for first_line in [
            "GET /shows?ids[]=1 HTTP/1.0",
            "GET /shows?ids[]=1",
            "GET /shows?ids[]=1 a HTTP/1.1",
            "GET /shows?ids[]=1  HTTP/1.1",
            "GET  /shows?ids[]=1 HTTP/1.1",
        ] {
            assert!(!is_read(first_line, HOST), "{first_line}");
        }
    }

    #[test]
    fn what_is_no_header_is_left_to_pingora() {
        for head in [
            &b""[..],
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX UUID: d\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        ] {
            assert!(read(head).is_none(), "{}", head.escape_ascii());
        }
        let many = "X: y\r\n".repeat(MAX_FIELDS);
        assert!(!is_read("GET / HTTP/1.1", &format!("Host: a\r\n{many}")));
    }
}
