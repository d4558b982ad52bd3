//! What is strange but legal: said straight to a VMS and through the edge, it is received alike and answered alike, but for
//! the fields that the edge adds or replaces.

use std::net::SocketAddr;

use crate::support::client::{Client, Response};
use crate::support::edge::TestEdge;
use crate::support::scripted::{Connection, Request, Scripted};

/// Fields of a request that the edge adds, and those of a connection, which are each hop's own.
const OF_A_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Answers of a VMS, by the last part of the path that is asked for.
const ANSWERS: [(&str, &str); 18] = [
    ("plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "reason",
        "HTTP/1.1 299 As It Were\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "created",
        "HTTP/1.1 201 Created\r\nLocation: /a?b#c\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "none",
        "HTTP/1.1 204 No Content\r\nX-A: 1\r\nETag: \"a\"\r\nAllow: GET\r\n\r\n",
    ),
    (
        "reset",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "part",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "moved",
        "HTTP/1.1 308 Permanent Redirect\r\nLocation: //a.example/%2e%2E\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "same",
        "HTTP/1.1 304 Not Modified\r\nETag: W/\"a\"\r\nVary: *\r\nX-A: 1\r\n\r\n",
    ),
    (
        "range",
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */9\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "teapot",
        "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "login",
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\", Bearer\r\nWWW-Authenticate: X\r\nContent-Length: 0\r\n\r\n",
    ),
    ("odd", "HTTP/1.1 599 \r\nContent-Length: 1\r\n\r\nx"),
    (
        "chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    ),
    (
        "early",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "cookies",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2; Path=/\r\nSET-COOKIE: a=1\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "bytes",
        "HTTP/1.1 200 OK\r\nX-Bytes: \u{e9}\u{fc}\r\nX-Empty:\r\nX-Blank:   a  b\t \r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "old",
        "HTTP/1.1 200 OK\r\nExpires: 0\r\nPragma: no-cache\r\nWarning: 110 - \"a\"\r\nAge: 9\r\nContent-Length: 0\r\n\r\n",
    ),
];

/// Requests but for their first line's path, `PATH`, and `Host`, as method, fields, body.
const REQUESTS: [(&str, &str, &str); 22] = [
    ("GET", "", ""),
    ("HEAD", "", ""),
    (
        "OPTIONS",
        "Origin: https://a.example\r\nAccess-Control-Request-Method: PATCH\r\n",
        "",
    ),
    ("PROPFIND", "Depth: 1\r\nContent-Length: 4\r\n", "<a/>"),
    ("DELETE", "Content-Length: 2\r\n", "{}"),
    ("GET", "Content-Length: 5\r\n", "hello"),
    ("POST", "Content-Length: 0\r\n", ""),
    (
        "POST",
        "Transfer-Encoding: chunked\r\n",
        "5;name=\"a\\\"b\"\r\nhello\r\n0001\r\n!\r\n0\r\n\r\n",
    ),
    (
        "PUT",
        "transfer-encoding: chunked\r\n",
        "A\r\n0123456789\r\n00\r\nX-Sum: 1\r\n\r\n",
    ),
    ("GET", "Range: bytes=0-1,5-,-3\r\nIf-Range: \"a\"\r\n", ""),
    (
        "GET",
        "If-None-Match: W/\"a\", \"b,c\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "",
    ),
    (
        "PUT",
        "If-Match: *\r\nIf-Unmodified-Since: x\r\nContent-Length: 1\r\n",
        "a",
    ),
    (
        "GET",
        "ACCEPT: text/*;q=0.3, text/html;level=1, */*;q=0\r\naccept: a/b\r\nAccept-Encoding: gzip;q=0, *;q=0.1\r\n",
        "",
    ),
    (
        "GET",
        "Accept-Language: de-CH-1996, *;q=0.5\r\nAccept-Charset: a\r\n",
        "",
    ),
    ("GET", "Cookie: a=1; b=2\r\ncookie: c=\"3\"\r\n", ""),
    (
        "GET",
        "X-Bytes: \u{e9}\u{fc}\r\nX-Empty:\r\nX-Blank:   a  b\t \r\nx-empty: \r\n",
        "",
    ),
    (
        "GET",
        "User-Agent: a (b; \"c\") d/1\r\nReferer: http://a/?b#c\r\nFrom: a@b\r\nMax-Forwards: 0\r\n",
        "",
    ),
    (
        "GET",
        "Authorization: Digest a=\"b\", c=d\r\nCache-Control: max-stale=9, x=\"y, z\"\r\nPragma: a\r\n",
        "",
    ),
    ("GET", "X!#$%&'*+-.^_`|~9: a\r\n", ""),
    (
        "GET",
        "Connection: X-Own, keep-alive\r\nKeep-Alive: timeout=5\r\n",
        "",
    ),
    (
        "GET",
        "Via: 1.1 a, 1.0 b (c)\r\nPriority: u=1, i\r\nDNT: 1\r\n",
        "",
    ),
    (
        "PATCH",
        "Content-Type: a/b; c=\"d;e\"\r\nContent-Encoding: x\r\nContent-MD5: a\r\nContent-Length: 3\r\n",
        "\0\r\n",
    ),
];

/// What follows a path, byte for byte.
const QUERIES: [&str; 8] = [
    "",
    "?",
    "?a=b&a=b&=&&c",
    "?%00%ff%2f%2F+%20",
    "?a[]=1&a%5B%5D=2",
    "?http://a/b?c=d",
    "?{}|^`'",
    "?;/:@!$'()*,",
];

async fn vms() -> Scripted {
    Scripted::start(|mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            let line = request.line();
            let path = line.split([' ', '?']).nth(1).expect("a target").to_owned();
            let name = path.rsplit('/').next().expect("a last part");
            let answer = ANSWERS
                .iter()
                .find(|answer| answer.0 == name)
                .expect("an answer")
                .1;
            let is_head = line.starts_with("HEAD ");
            let end = answer
                .rfind("\r\n\r\n")
                .filter(|_| is_head && name != "chunked");
            let answer = match (is_head, name) {
                (true, "chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => end.map_or(answer, |end| &answer[..end + 4]),
            };
            // Of a Latin text each character is a byte.
            let bytes: Vec<u8> = answer
                .chars()
                .map(|letter| u8::try_from(letter).expect("Latin"))
                .collect();
            connection.wire.send(bytes).await;
        }
    })
    .await
}

async fn asked(to: SocketAddr, path: &str, query: &str, request: (&str, &str, &str)) -> Response {
    let (method, fields, body) = request;
    let mut client = Client::connect(to).await;
    let text = format!(
        "{method} /a//b/../{path}{query} HTTP/1.1\r\nhOST: vms.local\r\n{fields}\r\n{body}"
    );
    let bytes: Vec<u8> = text
        .chars()
        .map(|letter| u8::try_from(letter).expect("Latin"))
        .collect();
    client.send(bytes).await;
    client.response_to(method).await
}

fn end_to_end(fields: &[(String, Vec<u8>)], without: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<_> = fields
        .iter()
        .filter(|(name, _)| !without.iter().any(|other| name.eq_ignore_ascii_case(other)))
        .cloned()
        .collect();
    // The order of fields of different names means nothing (RFC 9110, 5.3); that of the same name does.
    kept.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    kept
}

/// Everything that matters in what the VMS received.
fn received(request: &Request) -> impl PartialEq + std::fmt::Debug + use<> {
    let own = [&OF_A_HOP[..], &["x-request-id"]].concat();
    (
        request.line(),
        end_to_end(&request.head.fields, &own),
        request.body.escape_ascii().to_string(),
    )
}

/// Everything that matters in what the client was answered.
fn answered(response: &Response) -> impl PartialEq + std::fmt::Debug + use<> {
    let own = [
        "connection",
        "date",
        "x-request-id",
        "content-length",
        "transfer-encoding",
    ];
    (
        (
            response.status,
            response.reason.clone(),
            response.interim.clone(),
        ),
        end_to_end(&response.head.fields, &own),
        response.head.length(),
        response.body.clone(),
        response.complete,
    )
}

async fn assert_alike(path: &str, query: &str, request: (&str, &str, &str)) -> Option<String> {
    let vms = vms().await;
    let edge = TestEdge::before(vms.address);
    let straight = asked(vms.address, path, query, request).await;
    let through = asked(edge.address, path, query, request).await;
    let requests = vms.requests();
    let what = format!("{request:?} {path}{query}");
    let [there, here] = requests.as_slice() else {
        return Some(format!("{what}: the edge answers {}", through.status));
    };
    let told = [there, here].map(received);
    let (through, straight) = (answered(&through), answered(&straight));
    match (told[0] == told[1], straight == through) {
        (true, true) => None,
        (false, _) => Some(format!(
            "{what}: the VMS received\n{:?}\n{:?}",
            told[0], told[1]
        )),
        (_, false) => Some(format!(
            "{what}: the client received\n{straight:?}\n{through:?}"
        )),
    }
}

#[tokio::test]
async fn strange_requests_reach_the_vms_alike_straight_and_through_the_edge() {
    let mut differing = Vec::new();
    for request in REQUESTS {
        differing.extend(assert_alike("plain", "?a=%62", request).await);
    }
    for query in QUERIES {
        differing.extend(assert_alike("plain", query, REQUESTS[0]).await);
    }
    let long = format!("?{}", "%61".repeat(2000));
    differing.extend(assert_alike("plain", &long, REQUESTS[0]).await);
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

#[tokio::test]
async fn strange_answers_reach_the_client_alike_straight_and_through_the_edge() {
    let mut differing = Vec::new();
    for (name, _) in ANSWERS {
        for request in [REQUESTS[0], REQUESTS[1], REQUESTS[6]] {
            differing.extend(assert_alike(name, "", request).await);
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}
