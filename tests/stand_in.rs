//! The stand-in VMS through a real socket: it answers as Laravel did, and its faults and barriers do what they say.

#[path = "stand_in/asking.rs"]
mod asking;
#[expect(dead_code, reason = "edges are asked for more than the stand-in is")]
#[path = "behaviour/support/client.rs"]
mod client;
#[path = "stand_in/faults.rs"]
mod faults;
#[path = "behaviour/support/patience.rs"]
mod patience;
#[path = "stand_in/streams.rs"]
mod streams;
#[expect(dead_code, reason = "edges are asked for more than the stand-in is")]
#[path = "behaviour/support/wire.rs"]
mod wire;

use client::{Client, Response};
use http::{HeaderMap, HeaderValue};
use patience::soon;
use serde::Deserialize;
use vms_edge::demo::vms::{Endpoint, Order, Running, StandIn};

const SHOWS: &str = "/api/v1/intercom/shows?ids[]=1&ids[]=2";
const TOKEN: (&str, &str) = ("Authorization", "Bearer tok-1-ios");

#[derive(Deserialize)]
struct Transcript {
    name: String,
    request: RecordedRequest,
    response: RecordedResponse,
}

#[derive(Deserialize)]
struct RecordedRequest {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct RecordedResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

async fn started() -> (StandIn, Running, Client) {
    let vms = StandIn::new();
    let running = vms.start().await.expect("a free port");
    let client = Client::connect(running.address()).await;
    (vms, running, client)
}

async fn shows(client: &mut Client) -> Response {
    client.request("GET", SHOWS, &[TOKEN], b"").await
}

#[tokio::test]
async fn every_transcript_is_answered_as_laravel_did() {
    let transcripts = include_str!("data/transcripts.json");
    let transcripts: Vec<Transcript> = serde_json::from_str(transcripts).unwrap();
    assert_eq!(transcripts.len(), 49);
    let (vms, _running, mut client) = started().await;
    for chunked in [false, true] {
        vms.set_chunked(chunked);
        for transcript in &transcripts {
            let Transcript {
                name,
                request,
                response,
            } = transcript;
            let fields = request.headers.iter();
            let fields: Vec<_> = fields.map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let body = request.body.as_bytes();
            let reply = client
                .request(&request.method, &request.target, &fields, body)
                .await;
            assert_eq!(reply.status, response.status, "{name}");
            assert_eq!(reply.text(), response.body, "{name}");
            let framing = ["Date", "Content-Length", "Transfer-Encoding"];
            let mut end_to_end = reply.fields();
            end_to_end.retain(|(name, _)| !framing.contains(&name.as_str()));
            end_to_end.sort();
            assert_eq!(end_to_end, response.headers, "{name}");
        }
    }
    assert_eq!(vms.connections(), 1);
    vms.assert_healthy();
}

#[tokio::test]
async fn other_ways_to_the_route_are_answered_alike() {
    let (vms, _running, mut client) = started().await;
    let plain = shows(&mut client).await;
    for target in [
        "/api/v1/intercom/shows/?ids[]=1&ids[]=2",
        "/api/v1/intercom/%73hows?ids[]=1&ids[]=2",
        "/index.php/api/v1/intercom/shows?ids[]=1&ids[]=2",
        "http://vms.local/api/v1/intercom/shows?ids[]=1&ids[]=2",
    ] {
        let reply = client.request("GET", target, &[TOKEN], b"").await;
        assert_eq!(reply.text(), plain.text(), "{target}");
    }
    let headers = [
        TOKEN,
        ("X-HTTP-Method-Override", "GET"),
        ("Content-Length", "0"),
    ];
    let reply = client.request("POST", SHOWS, &headers, b"").await;
    assert_eq!(reply.text(), plain.text());
    let reply = client.request("HEAD", SHOWS, &[TOKEN], b"").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.head.one("content-length"),
        plain.head.one("content-length")
    );
    let reply = client.request("OPTIONS", SHOWS, &[], b"").await;
    assert_eq!(
        (reply.status, reply.head.one("allow")),
        (200, Some("GET,HEAD,PUT,DELETE"))
    );
    let cameras = "/api/v1/cameras/shows?ids[]=655&ids[]=654&ids[]=657&ids[]=1";
    let reply = client.request("GET", cameras, &[TOKEN], b"").await;
    assert_eq!(reply.ids(), ["654", "655"]);
    vms.assert_healthy();
}

#[tokio::test]
async fn the_last_of_two_authorizations_wins() {
    let (_vms, _running, mut client) = started().await;
    let other = ("Authorization", "Bearer tok-2-ios");
    let reply = client
        .request("GET", "/api/v1/user", &[TOKEN, other], b"")
        .await;
    assert_eq!(reply.text(), r#"{"id":2,"login":"user2"}"#);
    let none = ("Authorization", "bearer tok-2-ios");
    let reply = client
        .request("GET", "/api/v1/user", &[TOKEN, none], b"")
        .await;
    assert_eq!(reply.status, 401);
    let reply = client
        .request("GET", "/api/v1/static/basic", &[], b"")
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn writes_show_where_they_reach() {
    let (_vms, _running, mut client) = started().await;
    let phone = [
        TOKEN,
        ("X-UUID", "phone"),
        ("Content-Type", "application/json"),
    ];
    let before = client
        .request("GET", "/api/v1/intercom/1", &phone, b"")
        .await;
    let change = r#"{"title":"\u0414ом/1","is_enabled":false,"timetable":{"days":[]}}"#.as_bytes();
    let length = change.len().to_string();
    let headers = [&phone[..], &[("Content-Length", &length)]].concat();
    let written = client
        .request("PATCH", "/api/v1/intercom/1", &headers, change)
        .await;
    let expected = before
        .text()
        .replace(
            r#"\u041f\u043e\u0434\u044a\u0435\u0437\u0434 \u21161 \/ \"A\""#,
            r"\u0414\u043e\u043c\/1",
        )
        .replace(r#""is_enabled":true"#, r#""is_enabled":false"#)
        .replace("12:34:32.000000Z", "12:34:34.000000Z");
    let timetable = written
        .text()
        .find(r#""timetable":{"days":[]}"#)
        .expect("it was written");
    assert_eq!(written.text()[..timetable], expected[..timetable]);
    assert!(written.text().ends_with(&expected[expected.len() - 40..]));
    let again = client
        .request("GET", "/api/v1/intercom/1", &phone, b"")
        .await;
    assert_eq!(again.text(), written.text());
    let tablet = [TOKEN, ("X-UUID", "tablet")];
    let elsewhere = client
        .request("GET", "/api/v1/intercom/1", &tablet, b"")
        .await;
    assert!(elsewhere.text().contains(r#""is_enabled":true"#));
    assert!(elsewhere.text().contains(r"\u0414\u043e\u043c\/1"));
    let reply = client
        .request("PATCH", "/api/v1/intercom/4", &phone, b"")
        .await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn favourites_and_tokens_come_and_go() {
    let (vms, _running, mut client) = started().await;
    let favourites = "/api/v1/cameras/654/favorites";
    let empty = [TOKEN, ("Content-Length", "0")];
    let reply = client.request("POST", favourites, &empty, b"").await;
    assert!(reply.status == 200 && reply.text().contains(r#""is_favorite":true"#));
    assert!(
        shows(&mut client)
            .await
            .text()
            .contains(r#""is_favorite":true"#)
    );
    assert_eq!(
        client
            .request("DELETE", favourites, &[TOKEN], b"")
            .await
            .status,
        204
    );
    let first = client
        .request("GET", "/api/v1/intercom/1", &[TOKEN], b"")
        .await;
    assert!(first.text().contains(r#""is_favorite":false"#));
    assert_eq!(
        client
            .request("DELETE", "/api/v1/intercom/2", &[TOKEN], b"")
            .await
            .status,
        204
    );
    assert_eq!(shows(&mut client).await.ids(), ["1"]);
    assert_eq!(
        client
            .request("POST", "/api/v1/logout", &empty, b"")
            .await
            .status,
        204
    );
    assert_eq!(shows(&mut client).await.status, 401);
    vms.assert_healthy();
}

#[tokio::test]
async fn the_language_changes_titles_that_no_transcript_pins_down() {
    let (_vms, _running, mut client) = started().await;
    let plain = shows(&mut client).await;
    for (target, hl, differs) in [
        (SHOWS.to_owned(), Some("en"), false),
        (format!("{SHOWS}&hl=en"), None, false),
        (SHOWS.to_owned(), Some("de"), true),
        (format!("{SHOWS}&hl=de"), None, true),
    ] {
        let mut headers = vec![TOKEN, ("Accept-Language", "fr")];
        headers.extend(hl.map(|hl| ("hl", hl)));
        let reply = client.request("GET", &target, &headers, b"").await;
        assert_eq!(reply.text() != plain.text(), differs, "{target} {hl:?}");
    }
}

#[tokio::test]
async fn what_was_asked_is_kept_as_it_came() {
    let (vms, _running, mut client) = started().await;
    let body = br#"{"ids":[3,1,3,-1],"x":"GET / HTTP/1.1\r\n"}"#;
    let length = body.len().to_string();
    let headers = [
        ("x-UUID", "phone"),
        TOKEN,
        ("Content-Type", "application/json"),
        ("content-LENGTH", &length),
        ("X-Twice", "a"),
        ("x-twice", "b"),
    ];
    for _ in 0..2 {
        client
            .request("GET", "/api/v1/intercom/shows?x=%41", &headers, body)
            .await;
    }
    let requests = vms.requests();
    assert_eq!(requests.len(), 2);
    for seen in &requests {
        assert_eq!(seen.target, "/api/v1/intercom/shows?x=%41");
        assert_eq!((seen.user, seen.connection), (Some(1), 1));
        assert_eq!(seen.body, &body[..]);
        let fields = seen.headers.iter().skip(1);
        let fields: Vec<_> = fields.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(fields, headers);
        assert_eq!(seen.values("X-TWICE"), ["a", "b"]);
    }
    let batch = &vms.batches()[0];
    assert_eq!((batch.user, batch.device.as_str()), (1, "phone"));
    assert_eq!(
        (batch.endpoint, &batch.ids[..]),
        (Endpoint::Intercoms, &[3, 1][..])
    );
    assert_eq!(
        (vms.ids_asked(1), vms.requests_of(1), vms.batches_total()),
        (4, 2, 2)
    );
    vms.forget_requests();
    assert!(vms.requests().is_empty() && vms.batches().is_empty());
    assert_eq!(
        (vms.ids_asked(1), vms.requests_total(), vms.ids_total()),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn without_a_record_requests_are_only_counted() {
    let vms = StandIn::without_record();
    let running = vms.start().await.unwrap();
    let mut client = Client::connect(running.address()).await;
    shows(&mut client).await;
    assert!(vms.requests().is_empty() && vms.batches().is_empty());
    assert_eq!((vms.requests_of(1), vms.ids_asked(1)), (1, 2));
}

#[tokio::test]
async fn order_and_added_headers_are_as_set() {
    let (vms, _running, mut client) = started().await;
    let target = "/api/v1/intercom/shows?ids[]=2&ids[]=3&ids[]=1";
    for (order, expected) in [
        (Order::AsAsked, ["2", "3", "1"]),
        (Order::Descending, ["3", "2", "1"]),
        (Order::Ascending, ["1", "2", "3"]),
    ] {
        vms.set_order(order);
        let reply = client.request("GET", target, &[TOKEN], b"").await;
        assert_eq!(reply.ids(), expected);
    }
    vms.add_response_header("set-cookie", "a=1");
    vms.add_response_header("Set-Cookie", "b=2");
    vms.add_response_header("cache-control", "max-age=60");
    let reply = client.request("GET", "/api/v1/nothing", &[], b"").await;
    assert_eq!(reply.head.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.head.one("Cache-Control"), Some("max-age=60"));
    vms.clear_response_headers();
    let reply = shows(&mut client).await;
    assert_eq!(reply.head.one("Cache-Control"), Some("no-cache, private"));
    assert_eq!(reply.head.one("Set-Cookie"), None);
}

#[tokio::test]
async fn the_oracle_says_what_the_socket_says() {
    let (vms, _running, mut client) = started().await;
    vms.rename(2, "gate");
    let mut headers = HeaderMap::new();
    headers.insert("x-uuid", HeaderValue::from_static("phone"));
    for ids in [vec![1, 2], vec![2, 1, 4, 2], vec![4], vec![], vec![1; 26]] {
        let query: String = ids.iter().map(|id| format!("ids[]={id}&")).collect();
        let target = format!("/api/v1/intercom/shows?{query}");
        let reply = client
            .request("GET", &target, &[TOKEN, ("X-UUID", "phone")], b"")
            .await;
        let told = vms.batch_answer(Endpoint::Intercoms, Some("tok-1-ios"), &headers, &ids);
        assert_eq!(
            (told.status.as_u16(), &told.body[..]),
            (reply.status, &reply.body[..])
        );
        let mut headers = headers.clone();
        headers.insert(
            "authorization",
            HeaderValue::from_static("Bearer tok-1-ios"),
        );
        let told = vms.answer(&http::Method::GET, &target, &headers, b"");
        assert_eq!(
            (told.status.as_u16(), &told.body[..]),
            (reply.status, &reply.body[..])
        );
    }
    let told = vms.batch_answer(Endpoint::Cameras, None, &headers, &[1]);
    assert_eq!(told.status.as_u16(), 401);
}
