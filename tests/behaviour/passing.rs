//! What is not a batch passes through as it is: methods, targets, header fields.

use crate::support::client::{Client, Framing};
use crate::support::edge::TestEdge;
use crate::support::scripted::Scripted;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the VMS received of a request with these lines after the first two.
async fn received(lines: &str, settings: &str) -> crate::support::scripted::Request {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let mut client = Client::connect(edge.address).await;
    let request = format!("GET / HTTP/1.1\r\nHost: vms.local\r\n{lines}\r\n");
    client.send(request).await;
    assert_eq!(client.response().await.status, 200);
    vms.only_request()
}

#[tokio::test]
async fn every_method_reaches_the_vms_as_it_is() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "x-Own",
    ];
    for method in methods {
        let request =
            format!("{method} /a HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 0\r\n\r\n");
        client.send(request).await;
        assert_eq!(client.response_to(method).await.status, 200, "{method}");
    }
    let lines: Vec<String> = vms
        .requests()
        .iter()
        .map(|request| request.line())
        .collect();
    assert_eq!(lines, methods.map(|method| format!("{method} /a HTTP/1.1")));
}

#[tokio::test]
async fn a_target_reaches_the_vms_byte_for_byte() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let targets: [&[u8]; 10] = [
        b"/",
        b"//a//b/",
        b"/a/../b/./c",
        b"/%61%2F%c3%A9?%5B%5d=%20+",
        b"/a?",
        b"/a?b?c&&d=e=",
        b"/a;x=1",
        "/café?é".as_bytes(),
        b"/a{}|\\^\"'?[]|\\^`",
        b"/index.php/api/v1/intercom/shows?ids[]=1",
    ];
    for target in targets {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: vms.local\r\n\r\n"].concat();
        client.send(&request).await;
        let response = client.response().await;
        let request = String::from_utf8_lossy(&request);
        assert_eq!(response.status, 200, "{request}");
    }
    client
        .send("OPTIONS * HTTP/1.1\r\nHost: vms.local\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    let received: Vec<_> = vms
        .requests()
        .into_iter()
        .map(|r| r.head.first_line)
        .collect();
    let mut expected: Vec<_> = targets
        .iter()
        .map(|target| [b"GET ", *target, b" HTTP/1.1"].concat())
        .collect();
    expected.push(b"OPTIONS * HTTP/1.1".to_vec());
    assert_eq!(received, expected);
}

#[tokio::test]
async fn a_fragment_is_no_part_of_a_target() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    Client::connect(edge.address).await.get("/a?b#c?d").await;
    assert_eq!(vms.only_request().line(), "GET /a?b HTTP/1.1");
}

#[tokio::test]
async fn names_keep_their_case_and_repeated_fields_their_order() {
    let lines = "X-UUID: 1\r\nx-lower: a\r\nX-uuid: 2\r\nAccept: b\r\nX-UUID: 3\r\nX-Bytes: \u{e9}\r\nX-Empty:\r\n";
    let request = received(lines, "").await;
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    for name in [
        field("x-lower", "a"),
        field("Accept", "b"),
        field("X-Bytes", "\u{e9}"),
        field("X-Empty", ""),
        field("Host", "vms.local"),
    ] {
        assert!(request.head.fields.contains(&name), "{name:?}");
    }
    let repeated: Vec<_> = request
        .head
        .fields
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-uuid"))
        .cloned()
        .collect();
    assert_eq!(
        repeated,
        [
            field("X-UUID", "1"),
            field("X-uuid", "2"),
            field("X-UUID", "3")
        ]
    );
}

#[tokio::test]
async fn an_answers_end_to_end_fields_reach_the_client_as_they_are() {
    let vms = Scripted::answering(
        "HTTP/1.1 207 Fairly Good\r\nserver: nginx\r\nSet-Cookie: a=1\r\nX-Two: 1\r\nSET-COOKIE: b=2\r\n\
         x-two: 2\r\nETag: \"1\"\r\nVary: Accept\r\nCache-Control: no-cache, private\r\nContent-Encoding: br\r\n\
         Via: 1.1 inner\r\nAge: 7\r\nCache-Status: inner; hit\r\nX-Bytes: \u{e9}\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let response = client.get("/").await;
    assert_eq!(
        (response.status, response.reason.as_str()),
        (207, "Fairly Good")
    );
    let mut fields: Vec<(String, String)> = response
        .head
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .filter(|(name, _)| name != "Date" && name != "Connection")
        .collect();
    fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        fields,
        [
            ("Age", "7"),
            ("Cache-Control", "no-cache, private"),
            ("Cache-Status", "inner; hit"),
            ("Content-Encoding", "br"),
            ("Content-Length", "2"),
            ("ETag", "\"1\""),
            ("server", "nginx"),
            ("Set-Cookie", "a=1"),
            ("SET-COOKIE", "b=2"),
            ("Vary", "Accept"),
            ("Via", "1.1 inner"),
            ("X-Bytes", "\u{e9}"),
            ("X-Two", "1"),
            ("x-two", "2"),
        ]
    );
}

#[tokio::test]
async fn nothing_in_an_answer_tells_of_the_edge_or_of_what_it_is_made_of() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let response = Client::connect(edge.address).await.get("/").await;
    let mut names: Vec<&str> = response.head.fields.iter().map(|f| f.0.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Connection", "Content-Length", "Date"]);
}

#[tokio::test]
async fn an_answer_has_one_date() {
    let vms = Scripted::answering(
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let edge = TestEdge::before(vms.address);
    let response = Client::connect(edge.address).await.get("/").await;
    assert_eq!(response.head.all("date").len(), 1);
}

#[tokio::test]
async fn fields_of_the_clients_connection_stay_on_it() {
    let request = received(
        "Connection: keep-alive, X-Hop\r\nConnection: x-other\r\nX-Hop: 1\r\nX-Other: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-End: 1\r\n",
        "",
    )
    .await;
    let mut names: Vec<&str> = request.head.fields.iter().map(|f| f.0.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "Host",
            "X-End",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "X-Request-Id"
        ]
    );
}

#[tokio::test]
async fn fields_of_the_vmss_connection_stay_on_it() {
    let vms = Scripted::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2,h2c\r\nTrailer: X-Sum\r\n\
         WWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    let response = client.get("/").await;
    let mut names: Vec<&str> = response.head.fields.iter().map(|f| f.0.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Connection", "Content-Length", "Date", "WWW-Authenticate"]
    );
    assert_eq!(response.head.one("connection"), Some("keep-alive"));
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(vms.connections(), 1);
}

#[tokio::test]
async fn the_connection_cannot_nominate_what_the_edge_says_of_it() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    for name in [
        "Host",
        "x-forwarded-for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
    ] {
        let mut client = Client::connect(edge.address).await;
        let request = format!("GET / HTTP/1.1\r\nHost: vms.local\r\nConnection: {name}\r\n\r\n");
        client.send(request).await;
        client
            .response()
            .await
            .assert_edge_error(400, "Bad Request");
    }
    assert_eq!(vms.requests().len(), 0);
}

const SAID: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: door.example\r\nX-Forwarded-Prefix: /app\r\nForwarded: for=192.0.2.1\r\n";

#[tokio::test]
async fn what_a_stranger_says_of_earlier_hops_is_replaced() {
    let request = received(SAID, "server.trusted_proxies = [\"10.0.0.0/8\"]").await;
    assert_eq!(request.head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.head.all("x-forwarded-host"), ["vms.local"]);
    assert_eq!(request.head.one("x-forwarded-prefix"), None);
    assert_eq!(request.head.one("forwarded"), None);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_of_earlier_hops_is_passed_on() {
    let request = received(SAID, "server.trusted_proxies = [\"127.0.0.0/8\"]").await;
    assert_eq!(
        request.head.all("x-forwarded-for"),
        ["192.0.2.1, 192.0.2.2, 127.0.0.1"]
    );
    assert_eq!(request.head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.head.all("x-forwarded-host"), ["door.example"]);
    assert_eq!(request.head.all("x-forwarded-prefix"), ["/app"]);
    assert_eq!(request.head.all("forwarded"), ["for=192.0.2.1"]);
}

#[tokio::test]
async fn the_clients_host_is_kept_unless_another_is_configured() {
    let request = received("", "").await;
    assert_eq!(request.head.all("host"), ["vms.local"]);
    let request = received("", "upstream.host = \"inner.example:81\"").await;
    assert_eq!(request.head.all("host"), ["inner.example:81"]);
    assert_eq!(request.head.all("x-forwarded-host"), ["vms.local"]);
}

#[tokio::test]
async fn no_via_is_added() {
    assert_eq!(received("", "").await.head.one("via"), None);
}

#[tokio::test]
async fn a_request_body_passes_with_its_length() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::before(vms.address);
    let mut client = Client::connect(edge.address).await;
    client
        .send("PATCH /a HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(client.response().await.framing, Framing::Length(0));
    let request = vms.only_request();
    assert_eq!(request.body, b"hello");
    assert_eq!(request.head.length(), Some(5));
    assert_eq!(request.head.one("transfer-encoding"), None);
}
