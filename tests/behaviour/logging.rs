//! The log: what it tells of each request, and what it never tells, whatever a client or the VMS sends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vms_edge::demo::vms::StandIn;

use crate::support::log::{Line, assert_has_lines};
use crate::support::service::Service;
use crate::support::world::SHOWS;

/// Stands in every place where a secret could; the first is a token that the VMS knows.
const CANARY: &str = "tok-1-canary";

const PASSED: &str = "/api/v1/static/basic";

/// Sends raw requests, and remembers which lines the log must have of them.
struct Client {
    address: SocketAddr,
    lines: Vec<Line>,
}

/// A request of a widget, ready to be changed.
fn batch(query: &str) -> String {
    format!(
        "GET {SHOWS}?{query} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer {CANARY}\r\nAccept: */*\r\n\
         X-Client: ios\r\nX-UUID: {CANARY}\r\nUser-Agent: {CANARY}\r\nX-Socket-ID: {CANARY}\r\nConnection: close\r\n\r\n"
    )
}

/// Adds header fields to a request.
fn with(request: &str, fields: &str) -> String {
    request.replacen(
        "Connection: close",
        &format!("{fields}\r\nConnection: close"),
        1,
    )
}

fn get(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer {CANARY}\r\nConnection: close\r\n\r\n"
    )
}

/// A GET of a path that need not be text.
fn raw_get(path: &[u8]) -> Vec<u8> {
    let request = get("/");
    [&b"GET "[..], path, &request.as_bytes()["GET /".len()..]].concat()
}

impl Client {
    fn of(service: &Service) -> Self {
        Self {
            address: service.address,
            lines: Vec::new(),
        }
    }

    /// Sends bytes, and returns all that comes back.
    async fn sends(&self, request: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            // Some of these requests are answered by closing the connection.
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await;
        answer.unwrap_or_else(|_| panic!("not closed: {}", String::from_utf8_lossy(request)))
    }

    /// Sends a request of which the log must say this; status and length are those of the answer.
    async fn asks(
        &mut self,
        request: impl AsRef<[u8]>,
        path: &str,
        cache: &str,
        bypass: &str,
    ) -> u64 {
        let answer = self.sends(request.as_ref()).await;
        self.expects(request.as_ref(), &answer, path, cache, bypass)
    }

    /// The log must have a line of this request.
    fn expects(
        &mut self,
        request: &[u8],
        answer: &[u8],
        path: &str,
        cache: &str,
        bypass: &str,
    ) -> u64 {
        let text = String::from_utf8_lossy(answer);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head[9..12].parse().expect("a status");
        let method = String::from_utf8_lossy(request);
        let method = method.split(' ').next().expect("a method").to_owned();
        self.lines.push(Line {
            method,
            path: path.to_owned(),
            status,
            bytes: body.len() as u64,
            cache: cache.to_owned(),
            bypass: bypass.to_owned(),
            upstream: status != 400 && !matches!(cache, "hit" | "rejected" | "error"),
        });
        status
    }

    async fn batches(&mut self) {
        let one = "ids%5B%5D=1&ids%5B%5D=2";
        assert_eq!(self.asks(batch(one), SHOWS, "miss", "").await, 200);
        assert_eq!(self.asks(batch(one), SHOWS, "hit", "").await, 200);
        let more = format!("{one}&ids%5B%5D=3");
        assert_eq!(self.asks(batch(&more), SHOWS, "partial", "").await, 200);
        let anonymous = batch(one).replace("Authorization", "X-Nothing");
        assert_eq!(self.asks(anonymous, SHOWS, "rejected", "").await, 401);
        let toaster = batch(one).replace("ios", CANARY);
        assert_eq!(self.asks(toaster, SHOWS, "rejected", "").await, 422);
        let bad = format!("ids%5B%5D={CANARY}");
        assert_eq!(self.asks(batch(&bad), SHOWS, "bypass", "ids").await, 422);
    }

    /// A secret in every place where a credential may stand.
    async fn credentials(&mut self) {
        let one = batch("ids[]=1");
        let authorization = format!("Bearer {CANARY}");
        for odd in [
            format!("bearer {CANARY}"),
            format!("Bearer  {CANARY}"),
            format!("Bearer {CANARY},{CANARY}"),
            format!("Basic {CANARY}"),
            format!("Basic a, Bearer {CANARY}"),
            CANARY.to_owned(),
            format!("Bearer {CANARY}\r\nAuthorization: Bearer {CANARY}"),
            format!("Bearer {CANARY}\t\u{2028}\u{e9}"),
        ] {
            let request = one.replace(&authorization, &odd);
            self.asks(request, SHOWS, "bypass", "authorization").await;
        }
        let cookie = with(&one, &format!("Cookie: session={CANARY}"));
        self.asks(cookie, SHOWS, "bypass", "cookie").await;
        let proxy = with(&one, &format!("Proxy-Authorization: Basic {CANARY}"));
        self.asks(proxy, SHOWS, "bypass", "credential").await;
        let query = batch(&format!("ids[]=1&api_token={CANARY}"));
        self.asks(query, SHOWS, "bypass", "credential").await;
        let body = format!("{{\"ids\":[1],\"api_token\":\"{CANARY}\"}}");
        let fields = format!(
            "Content-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        let in_body = with(&batch("a=b"), &fields) + &body;
        self.asks(in_body, SHOWS, "bypass", "credential").await;

        let query = get(&format!("{PASSED}?secret={CANARY}&a=?{CANARY}"));
        assert_eq!(self.asks(query, PASSED, "", "").await, 200);
        let fields =
            format!("Cookie: {CANARY}\r\nProxy-Authorization: {CANARY}\r\nX-Api-Key: {CANARY}");
        self.asks(with(&get(PASSED), &fields), PASSED, "", "").await;
        let address = get(&format!("http://vms.local{PASSED}?{CANARY}"));
        self.asks(address, PASSED, "", "").await;
    }

    /// Paths that would like to be lines of the log.
    async fn forgeries(&mut self) {
        let encoded = "/a%0aFORGED%0d%1b%E2%80%A8";
        self.asks(get(encoded), encoded, "", "").await;
        for (raw, shown) in [
            (&b"/b\xe2\x80\xa8FORGED"[..], "/b%E2%80%A8FORGED"),
            (b"/c\xc2\x85FORGED\xe2\x80\xae", "/c%C2%85FORGED%E2%80%AE"),
            (b"/e\"FORGED\\n", "/e%22FORGED%5Cn"),
        ] {
            self.asks(raw_get(raw), shown, "", "").await;
        }
        // A parser may refuse some of these, and some not: where it does, there is no line.
        for (raw, shown) in [
            (&b"/f\x1b[2KFORGED"[..], "/f%1B[2KFORGED"),
            (b"/g\x08\x08FORGED", "/g%08%08FORGED"),
            (b"/d\xff\xfeFORGED", "/d%FF%FEFORGED"),
            (b"/h\x7fFORGED", "/h%7FFORGED"),
            (b"/i\x0bFORGED", "/i%0BFORGED"),
        ] {
            let request = raw_get(raw);
            let answer = self.sends(&request).await;
            if !answer.starts_with(b"HTTP/1.1 400 ") {
                self.expects(&request, &answer, shown, "", "");
            }
        }
    }

    /// What is not HTTP is no request: it is answered 400, or not at all, and has no access line.
    async fn malformed(&self) {
        for request in [
            get(&format!("http://user:{CANARY}@vms.local{PASSED}")),
            format!(
                "GET {PASSED} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {CANARY}\r\nno field {CANARY}\r\n\r\n"
            ),
            format!("GET {PASSED} HTTP/1.1\r\nHost: a\r\nAuthorization: {CANARY}\0\r\n\r\n"),
            format!("GET {PASSED} HTTP/1.1\r\nHost: a\r\nX {CANARY}: a\r\n\r\n"),
            format!("GET {PASSED}\nFORGED {CANARY} HTTP/1.1\r\n\r\n"),
            format!("{CANARY} {CANARY} {CANARY} {CANARY}\r\n\r\n"),
            format!("POST {PASSED} HTTP/1.1\r\nHost: a\r\nContent-Length: {CANARY}\r\n\r\n"),
            format!(
                "POST {PASSED} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: {CANARY}\r\n\r\n"
            ),
            format!("GET {PASSED} HTTP/9.9\r\nAuthorization: {CANARY}\r\n\r\n"),
        ] {
            let answer = self.sends(request.as_bytes()).await;
            let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 ");
            assert!(refused, "{request}{}", String::from_utf8_lossy(&answer));
        }
    }
}

/// No secret, no control character, no line that somebody else wrote.
#[track_caller]
fn assert_tells_no_secret(log: &str) {
    for line in log.lines() {
        assert!(!line.to_ascii_lowercase().contains("canary"), "{line}");
        let visible = line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        assert!(visible, "{line:?}");
    }
}

fn settings(format: &str) -> String {
    format!("log.level = \"trace\"\nlog.format = \"{format}\"\n")
}

#[tokio::test]
async fn each_request_has_a_line_and_no_line_has_a_secret() {
    for format in ["json", "text"] {
        let vms = StandIn::new();
        let serving = vms.start().await.unwrap();
        let service = Service::before(serving.address(), &settings(format)).await;
        let mut client = Client::of(&service);
        client.batches().await;
        client.credentials().await;
        client.forgeries().await;
        client.malformed().await;
        let log = service.stops().await;
        assert_tells_no_secret(&log);
        assert_has_lines(format, &log, client.lines);
        for said in ["serving", "shutting down"] {
            assert!(log.contains(said), "{log}");
        }
    }
}

/// A VMS that answers with what it should not, according to the path.
async fn serve_nonsense(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let request = String::from_utf8_lossy(&request);
        let cookie = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {CANARY}\r\n");
        let answer = match request.split(' ').nth(1) {
            Some("/length") => format!("{cookie}Content-Length: {CANARY}\r\n\r\n"),
            Some("/more") => format!("{cookie}Content-Length: 2\r\n\r\nok{CANARY}"),
            Some("/chunks") => format!("{cookie}Transfer-Encoding: chunked\r\n\r\n{CANARY}\r\n"),
            Some("/short") => format!("{cookie}Content-Length: 100\r\n\r\n{CANARY}"),
            _ => format!("{cookie}no field {CANARY}\r\n\r\n"),
        };
        // The edge may have had enough.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn what_a_broken_vms_sends_is_not_told_and_yet_that_it_is_broken() {
    for format in ["json", "text"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let vms = tokio::spawn(serve_nonsense(listener));
        let service = Service::before(address, &settings(format)).await;
        let mut client = Client::of(&service);
        assert_eq!(client.asks(batch("ids[]=1"), SHOWS, "error", "").await, 502);
        for path in ["/header", "/length", "/more", "/chunks", "/short"] {
            client.sends(get(path).as_bytes()).await;
        }
        let log = service.stops().await;
        assert_tells_no_secret(&log);
        assert!(log.contains("fetch failed"), "{log}");
        assert!(log.contains("InvalidHTTPHeader"), "{log}");
        assert!(log.contains("request failed"), "{log}");
        // A library's own warning, which arrives by way of the `log` crate.
        assert!(log.contains("Peer sent more data than expected"), "{log}");
        assert!(log.contains("pingora_core"), "{log}");
        vms.abort();
    }
}

#[tokio::test]
async fn whoever_breaks_off_or_sends_nonsense_fills_no_log() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    for (level, is_told) in [("info", false), ("debug", true)] {
        let settings = format!("log.access = false\nlog.level = \"{level}\"\n");
        let service = Service::before(serving.address(), &settings).await;
        let client = Client::of(&service);
        let half = "POST /api/v1/echo HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 9\r\n\r\nhalf";
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let chunks = "POST /api/v1/echo HTTP/1.1\r\nHost: vms.local\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n";
        client.sends(chunks.as_bytes()).await;
        let log = service.stops().await;
        assert_eq!(log.contains("request failed"), is_told, "{log}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[tokio::test]
async fn whoever_does_not_wait_for_an_answer_fills_no_log() {
    for (level, is_told) in [("info", false), ("debug", true)] {
        let vms = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = format!("log.access = false\nlog.level = \"{level}\"\n");
        let service = Service::before(vms.local_addr().unwrap(), &settings).await;
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(batch("ids[]=1").as_bytes()).await.unwrap();
        let (mut fetch, _) = vms.accept().await.unwrap();
        assert!(fetch.read(&mut [0; 4096]).await.unwrap() > 0);
        // Reset, so that nothing can be sent any more.
        client.set_zero_linger().unwrap();
        drop(client);
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
        fetch.write_all(answer.as_bytes()).await.unwrap();
        let log = service.stops().await;
        assert_eq!(log.contains("request failed"), is_told, "{log}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[tokio::test]
async fn a_vms_that_is_down_is_told_with_its_address() {
    // Bound, but nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    for format in ["json", "text"] {
        let service = Service::before(address, &settings(format)).await;
        let mut client = Client::of(&service);
        assert_eq!(client.asks(batch("ids[]=1"), SHOWS, "error", "").await, 502);
        assert_eq!(client.asks(get(PASSED), PASSED, "", "").await, 502);
        client.lines[1].upstream = false;
        let log = service.stops().await;
        assert_tells_no_secret(&log);
        assert_has_lines(format, &log, client.lines);
        let failed = log.lines().find(|line| line.contains("fetch failed"));
        let failed = failed.unwrap_or_else(|| panic!("{log}"));
        assert!(failed.contains("WARN") && failed.contains(&address.to_string()));
    }
}

#[tokio::test]
async fn access_lines_are_left_out_on_demand_and_below_their_level() {
    for (settings, tells_the_start) in [
        ("log.access = false", true),
        ("log.level = \"warn\"", false),
    ] {
        let vms = StandIn::new();
        let serving = vms.start().await.unwrap();
        let service = Service::silent_before(serving.address(), settings);
        let mut client = Client::of(&service);
        client.batches().await;
        let log = service.stops().await;
        assert!(
            !log.contains("vms_edge::access") && !log.contains(SHOWS),
            "{log}"
        );
        assert_eq!(log.contains("serving"), tells_the_start, "{log}");
    }
}
