//! HTTP/2 with clients: the same answers as over HTTP/1.1, the same user, and limits.

use std::process::Command;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::support::authority::Authority;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::program::{run, said};
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};
use crate::support::soon;
use crate::support::tools::tool;
use crate::support::world::{SHOWS, World};

type Sender = h2::client::SendRequest<Bytes>;

/// What a widget sends, for the same user and phone as [`World::user`] of 1.
fn widget(authority: &str) -> http::request::Builder {
    Request::get(format!("https://{authority}{SHOWS}?ids%5B%5D=1"))
        .header("authorization", "Bearer tok-1-ios")
        .header("accept", "application/json")
        .header("x-client", "ios")
        .header("x-uuid", "b7f0c0de-1")
        .header("x-version", "24.03.0.0")
}

/// Sends a request whose body is `body`, in one piece after its header.
async fn ask(
    client: &mut Sender,
    request: http::request::Builder,
    body: &str,
) -> Response<h2::RecvStream> {
    let request = request.body(()).expect("a valid request");
    let mut ready = soon("room for a stream", client.clone().ready())
        .await
        .expect("the edge is there");
    let (answer, mut stream) = ready
        .send_request(request, body.is_empty())
        .expect("it can be sent");
    if !body.is_empty() {
        let body = Bytes::copy_from_slice(body.as_bytes());
        stream.send_data(body, true).expect("it can be sent");
    }
    soon("an answer", answer).await.expect("an answer")
}

async fn text(mut answer: Response<h2::RecvStream>) -> String {
    let mut text = Vec::new();
    while let Some(data) = soon("data", answer.body_mut().data()).await {
        let data = data.expect("a whole answer");
        text.extend_from_slice(&data);
        let flow = answer.body_mut().flow_control();
        flow.release_capacity(data.len()).expect("it was received");
    }
    String::from_utf8(text).expect("text")
}

fn cache_status(answer: &Response<h2::RecvStream>) -> &str {
    let status = &answer.headers()["cache-status"];
    status.to_str().expect("it is text")
}

/// An edge with TLS before a VMS that answers `answer`.
async fn edge(authority: &Authority, answer: &str, settings: &str) -> (Scripted, TestEdge) {
    let vms = Scripted::answering(answer).await;
    let settings = format!("{settings}{}", authority.table("a.example"));
    let edge = TestEdge::with(&[vms.address.to_string()], &settings);
    (vms, edge)
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn curl_gets_over_http_2_what_it_gets_over_http_1() {
    let authority = Authority::new();
    let world = World::with(&authority.table("localhost")).await;
    let curl = |version: &str| -> Option<Command> {
        let mut curl = Command::new(tool("curl")?);
        curl.args([
            "--silent",
            "--show-error",
            "--globoff",
            "--include",
            version,
        ])
        .arg("--cacert")
        .arg(authority.ca())
        .args([
            "-H",
            "Authorization: Bearer tok-1-ios",
            "-H",
            "Accept: application/json",
        ])
        .args(["-H", "X-Client: ios", "-H", "X-UUID: phone"])
        .arg(format!(
            "https://localhost:{}{SHOWS}?ids[]=1&ids[]=2",
            world.edge.tls[0].port()
        ));
        Some(curl)
    };
    let mut bodies = Vec::new();
    for (version, line, result) in [
        ("--http2", "HTTP/2 200", "fwd=miss"),
        ("--http2", "HTTP/2 200", "; hit; "),
        ("--http1.1", "HTTP/1.1 200 OK", "; hit; "),
    ] {
        let Some(curl) = curl(version) else {
            return;
        };
        let said = said(&run(curl).await);
        assert!(said.starts_with(line) && said.contains(result), "{said}");
        bodies.push(said.split("\r\n\r\n").nth(1).map(str::to_owned));
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[1], bodies[2]);
    assert_eq!(world.vms.batches().len(), 1);
}

#[tokio::test]
async fn the_authority_is_the_host_for_the_key_and_for_the_vms() {
    let authority = Authority::new();
    let world = World::with(&authority.table("a.example")).await;
    let mut client = authority.h2_client(world.edge.tls[0], "a.example").await;
    for (host, result) in [
        ("vms.local", "fwd=miss"),
        ("vms.local", "hit"),
        ("other.local", "fwd=miss"),
    ] {
        let answer = ask(&mut client, widget(host), "").await;
        assert!(
            cache_status(&answer).contains(result),
            "{}",
            cache_status(&answer)
        );
    }

    for (settings, host) in [
        ("", "vms.local"),
        ("upstream.host = \"inner.local\"\n", "inner.local"),
    ] {
        let (vms, edge) = edge(&authority, EMPTY, settings).await;
        let mut client = authority.h2_client(edge.tls[0], "a.example").await;
        ask(&mut client, Request::get("https://vms.local/x?y=1"), "").await;
        let request = vms.only_request();
        assert_eq!(request.line(), "GET /x?y=1 HTTP/1.1");
        assert_eq!(request.head.one("host"), Some(host));
        assert_eq!(request.head.one("x-forwarded-host"), Some("vms.local"));
        assert_eq!(request.head.one("x-forwarded-proto"), Some("https"));
    }
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_reach_the_vms_as_one_and_make_a_batch_pass_through() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority, EMPTY, "").await;
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let request = widget("vms.local")
        .header("cookie", "a=b")
        .header("cookie", "c=d");
    let answer = ask(&mut client, request, "").await;
    assert!(cache_status(&answer).contains("detail=cookie"));
    assert_eq!(vms.only_request().head.one("cookie"), Some("a=b; c=d"));
}

#[tokio::test]
async fn what_is_of_the_vms_connection_is_not_passed_on() {
    let authority = Authority::new();
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
                  Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-End: 1\r\n\r\n\
                  5\r\nhello\r\n0\r\n\r\n";
    let (_vms, edge) = edge(&authority, answer, "").await;
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let answer = ask(&mut client, Request::get("https://vms.local/"), "").await;
    let mut names: Vec<_> = answer
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "x-end"]);
    assert_eq!(text(answer).await, "hello");
}

#[tokio::test]
async fn a_body_of_unknown_length_reaches_the_vms_and_is_no_plain_batch() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority, EMPTY, "").await;
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let post = Request::post("https://vms.local/upload");
    ask(&mut client, post, "hello").await;
    // Ids in the query and a body that nobody announced: the VMS has to say what that means.
    let answer = ask(&mut client, widget("vms.local"), "hello").await;
    assert!(
        cache_status(&answer).contains("detail=body"),
        "{}",
        cache_status(&answer)
    );
    for request in vms.requests() {
        assert!(request.head.is_chunked());
        assert_eq!(request.body, b"hello");
    }
    assert_eq!(vms.requests().len(), 2);
}

#[tokio::test]
async fn ids_in_a_body_are_answered_from_memory_too() {
    let authority = Authority::new();
    let world = World::with(&authority.table("a.example")).await;
    let mut client = authority.h2_client(world.edge.tls[0], "a.example").await;
    for result in ["fwd=miss", "hit"] {
        let request = widget("vms.local").header("content-type", "application/json");
        let request = request.uri(format!("https://vms.local{SHOWS}"));
        let answer = ask(&mut client, request, "{\"ids\":[1,2]}").await;
        assert!(
            cache_status(&answer).contains(result),
            "{}",
            cache_status(&answer)
        );
    }
    assert_eq!(world.vms.batches().len(), 1);
}

#[tokio::test]
async fn many_streams_on_few_connections_are_all_answered() {
    let authority = Authority::new();
    let settings = format!("server.threads = 2\n{}", authority.table("a.example"));
    let world = World::with(&settings).await;
    let Some(h2load) = tool("h2load") else {
        return;
    };
    let mut h2load = Command::new(h2load);
    h2load
        .args(["-n", "1000", "-c", "4", "-m", "50"])
        .args([
            "-H",
            "authorization: Bearer tok-1-ios",
            "-H",
            "accept: application/json",
        ])
        .args(["-H", "x-client: ios", "-H", "x-uuid: phone"])
        .arg(format!("https://{}{SHOWS}?ids%5B%5D=1", world.edge.tls[0]));
    let said = said(&run(h2load).await);
    assert!(
        said.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{said}"
    );
    assert!(said.contains("status codes: 1000 2xx"), "{said}");
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("it is short")
        .to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header of a GET for `/`, from the static table of HPACK.
const GET: &[u8] = b"\x82\x87\x84\x41\x09vms.local";

/// The kind of the next frame, and its payload.
async fn next_frame(input: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    soon("a frame", input.read_exact(&mut head))
        .await
        .expect("a GOAWAY comes first");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    input.read_exact(&mut payload).await.expect("a whole frame");
    (head[3], payload)
}

/// Why a GOAWAY ends its connection.
fn reason(payload: &[u8]) -> u32 {
    let code = payload[4..8].try_into().expect("a GOAWAY has a reason");
    u32::from_be_bytes(code)
}

/// What a client begins with, and its SETTINGS.
fn greeting() -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    [&preface[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Greets, sends these frames, and returns why the edge ends the connection.
async fn sent_away(authority: &Authority, edge: &TestEdge, frames: Vec<u8>) -> u32 {
    let stream = authority.connect(edge.tls[0], "a.example", &["h2"]).await;
    let (mut input, mut output) = tokio::io::split(stream);
    let bytes = [greeting(), frames].concat();
    // It need not be read to the end.
    let flood = tokio::spawn(async move { output.write_all(&bytes).await });
    loop {
        if let (GOAWAY, payload) = next_frame(&mut input).await {
            flood.abort();
            return reason(&payload);
        }
    }
}

const ENHANCE_YOUR_CALM: u32 = 0xb;

#[tokio::test]
async fn floods_of_frames_end_their_connection_and_nobody_elses() {
    let authority = Authority::new();
    let (_vms, edge) = edge(&authority, EMPTY, "").await;
    let mut unharmed = authority.h2_client(edge.tls[0], "a.example").await;
    let request = |stream: u32| frame(1, 5, stream, GET);
    let streams = || (0..20_000).map(|number| 2 * number + 1);
    // CVE-2023-44487: each request is taken back at once.
    let resets =
        streams().flat_map(|id| [request(id), frame(3, 0, id, &8u32.to_be_bytes())].concat());
    // CVE-2019-9518: data without data.
    let begun = frame(1, 4, 1, GET);
    let empty = (0..100_000).flat_map(|_| frame(0, 0, 1, &[]));
    // CVE-2024-27316: a header without an end.
    let endless = (0..100_000).flat_map(|_| frame(9, 0, 1, b"\x00\x01a\x01b"));
    for (flood, frames) in [
        ("resets", resets.collect()),
        ("empty data", [begun, empty.collect()].concat()),
        (
            "continuation",
            [frame(1, 1, 1, GET), endless.collect()].concat(),
        ),
    ] {
        let reason = sent_away(&authority, &edge, frames).await;
        assert_eq!(reason, ENHANCE_YOUR_CALM, "{flood}");
    }
    let answer = ask(&mut unharmed, Request::get("https://vms.local/"), "").await;
    assert_eq!(answer.status(), 200);
}

/// Takes requests back one after the other, each when the edge has seen the one before; why it ends that, if it does.
async fn takes_back(count: u32, authority: &Authority, edge: &TestEdge) -> Option<u32> {
    let mut stream = authority.connect(edge.tls[0], "a.example", &["h2"]).await;
    stream.write_all(&greeting()).await.expect("it is read");
    for id in (0..count).map(|number| 2 * number + 1) {
        let taken_back = [
            frame(1, 5, id, GET),
            frame(3, 0, id, &8u32.to_be_bytes()),
            frame(PING, 0, 0, b"12345678"),
        ];
        let sent = stream.write_all(&taken_back.concat()).await;
        sent.expect("it is read");
        loop {
            match next_frame(&mut stream).await {
                (PING, _) => break,
                (GOAWAY, payload) => return Some(reason(&payload)),
                _ => {}
            }
        }
    }
    None
}

#[tokio::test]
async fn whoever_takes_back_more_than_is_left_is_counted_and_sent_away_but_for_a_proxy_of_many() {
    const ENDED: &str = "vms_edge_connections_ended_total";
    let authority = Authority::new();
    let (vms, strict) = edge(&authority, EMPTY, "").await;
    assert_eq!(takes_back(20, &authority, &strict).await, None);
    let reason = takes_back(30, &authority, &strict).await;
    assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
    let scrape = Scrape::of(strict.admin).await;
    assert_eq!(scrape.value("vms_edge_requests_taken_back_total"), 41.0);
    assert_eq!(scrape.value(ENDED), 1.0);
    assert_eq!(vms.requests().len(), 0);

    let trusting = "server.trusted_proxies = [\"127.0.0.0/8\"]\n";
    let (_vms, trusting) = edge(&authority, EMPTY, trusting).await;
    assert_eq!(takes_back(100, &authority, &trusting).await, None);
    assert_eq!(Scrape::of(trusting.admin).await.value(ENDED), 0.0);
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused_on_its_stream() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority, EMPTY, "").await;
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let large = Request::get("https://vms.local/").header("x-large", "x".repeat(70_000));
    assert_eq!(ask(&mut client, large, "").await.status(), 431);
    let token = Request::get("https://vms.local/").header("authorization", "x".repeat(8_192));
    assert_eq!(ask(&mut client, token, "").await.status(), 200);
    assert_eq!(vms.requests().len(), 1);
}

#[tokio::test]
async fn there_is_no_tunnel_through_a_stream() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority, EMPTY, "").await;
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("vms.local:80");
    assert_eq!(ask(&mut client, connect, "").await.status(), 405);
    assert!(!client.is_extended_connect_protocol_enabled());
    assert!(vms.requests().is_empty());
}

#[tokio::test]
async fn a_stream_in_flight_is_answered_before_its_connection_ends() {
    let authority = Authority::new();
    let (go, told) = tokio::sync::watch::channel(false);
    let vms = Scripted::start(move |mut connection: Connection| {
        let mut told = told.clone();
        async move {
            while connection.request().await.is_some() {
                told.wait_for(|go| *go).await.expect("the test lasts");
                connection.answer(&"x".repeat(300_000)).await;
            }
        }
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], &authority.table("a.example"));
    let mut client = authority.h2_client(edge.tls[0], "a.example").await;
    let admin = edge.admin;
    let request = Request::get("https://vms.local/").body(()).expect("valid");
    let (answer, _) = client.send_request(request, true).expect("it can be sent");
    soon("the request", async {
        while vms.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stopping = edge.stop();
    soon("the turn of readiness", async {
        while Client::connect(admin).await.get("/readyz").await.status == 200 {}
    })
    .await;
    go.send_replace(true);
    let answer = soon("an answer", answer).await.expect("an answer");
    assert_eq!(text(answer).await.len(), 300_000);
    soon("the end", tokio::task::spawn_blocking(|| stopping.join()))
        .await
        .expect("no abort")
        .expect("no panic");
    assert!(client.ready().await.is_err(), "the connection has ended");
}
