//! Request ids: whose word counts, where they go, and that no answer tells another request's.

use vms_edge::demo::vms::{Fault, StandIn, Times};

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::world::{World, send};
use http::Request;
use http_body_util::Full;

const TRUSTED: &str = "server.trusted_proxies = [\"127.0.0.1\"]\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The ids that the VMS was told for requests that said these of theirs.
async fn told(settings: &str, ids: &[&str]) -> Vec<String> {
    let vms = Scripted::answering(EMPTY).await;
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let mut client = Client::connect(edge.address).await;
    for id in ids {
        let field = match *id {
            "" => String::new(),
            id => format!("X-Request-Id: {id}\r\n"),
        };
        client
            .send(format!("GET /a HTTP/1.1\r\nHost: vms.local\r\n{field}\r\n"))
            .await;
        assert_eq!(client.response().await.head.one("x-request-id"), None);
    }
    let requests = vms.requests();
    let ids = requests
        .iter()
        .map(|request| request.head.one("x-request-id"));
    ids.map(|id| id.expect("an id").to_owned()).collect()
}

fn is_drawn(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[tokio::test]
async fn a_trusted_proxys_id_is_taken_over_and_all_others_are_drawn() {
    let said = ["", "", "abc-1", "a b", &"x".repeat(129)];
    let ids = told(TRUSTED, &said).await;
    assert_eq!(ids[2], "abc-1");
    let drawn: Vec<_> = ids.iter().filter(|id| *id != "abc-1").collect();
    assert!(
        drawn.len() == 4 && drawn.iter().all(|id| is_drawn(id)),
        "{ids:?}"
    );
    let ids = told("", &said).await;
    assert!(ids.iter().all(|id| is_drawn(id)), "{ids:?}");
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[tokio::test]
async fn each_fetch_of_a_batch_has_its_id() {
    let world = World::with(TRUSTED).await;
    let ann = world.user(1);
    ann.clone()
        .with("x-request-id", "first")
        .asks([1, 2])
        .await
        .is("fwd=miss");
    ann.clone()
        .with("x-request-id", "hit")
        .asks([1, 2])
        .await
        .hit();
    ann.clone()
        .with("x-request-id", "more")
        .asks([1, 3])
        .await
        .fetched([&[3]]);
    let fetches = world.vms.requests();
    let ids = fetches.iter().map(|fetch| fetch.values("x-request-id"));
    assert_eq!(ids.collect::<Vec<_>>(), [["first"], ["more"]]);
}

#[tokio::test]
async fn only_errors_of_the_edges_own_tell_an_id_unless_all_are_to() {
    for tells in [false, true] {
        let world = World::with(&format!("{TRUSTED}log.request_id = {tells}")).await;
        let ann = world.user(1).with("x-request-id", "hers");
        let expected = tells.then_some("hers");
        for _ in ["miss", "hit"] {
            assert_eq!(ann.asks([1]).await.header("x-request-id"), expected);
        }
        let passed = ann.gets("/api/v1/static/basic").await;
        assert_eq!(passed.header("x-request-id"), expected);
        let bypassed = ann.clone().with("cookie", "a=b").asks([1]).await;
        assert_eq!(bypassed.bypassed("cookie").header("x-request-id"), expected);
        let refused = ann
            .clone()
            .without("authorization")
            .asks([1])
            .await
            .status(401);
        assert_eq!(refused.header("x-request-id"), Some("hers"));
    }
}

#[tokio::test]
async fn an_id_of_the_vmss_own_reaches_whom_it_is_for_and_nobody_else() {
    for tells in [false, true] {
        let world = World::with(&format!("{TRUSTED}log.request_id = {tells}")).await;
        world.vms.add_response_header("X-Request-Id", "the-vmss");
        world.vms.add_response_header("traceparent", "00-1-2-01");
        let ann = world.user(1).with("x-request-id", "hers");
        let passed = ann.gets("/api/v1/static/basic").await;
        assert_eq!(passed.header("x-request-id"), Some("the-vmss"));
        let fetched = ann.asks([1]).await.is("fwd=miss");
        assert_eq!(fetched.header("x-request-id"), Some("the-vmss"));
        let hit = ann.asks([1]).await.hit();
        assert_eq!(hit.header("x-request-id"), tells.then_some("hers"));
        assert_eq!(hit.header("traceparent"), None);

        // Two wait for one fetch, which the VMS refuses.
        world.vms.fault(Fault::Status(429), Times::Always);
        let hold = world.vms.hold();
        let first = tokio::spawn(ann.asks_apart([2]));
        while hold.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn(
            ann.clone()
                .with("x-request-id", "second")
                .asks_apart([1, 2]),
        );
        while world
            .metrics()
            .await
            .lines()
            .all(|line| line != "vms_edge_collapsed_ids_total 1")
        {
            tokio::task::yield_now().await;
        }
        hold.release();
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert_eq!(first.status(429).header("x-request-id"), Some("the-vmss"));
        let told = second.status(429);
        assert_eq!(told.header("x-request-id"), tells.then_some("second"));
        assert_eq!(told.header("traceparent"), None);
    }
}

#[tokio::test]
async fn what_is_logged_of_a_request_has_its_id() {
    // Bound, but nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap();
    let service = Service::before(nobody, &format!("{TRUSTED}log.format = \"json\"\n")).await;
    let request = |id: &str, target: &str| {
        let request = Request::get(target).header("host", "vms.local");
        let request = request.header("authorization", "Bearer tok-1-ios");
        let request = request.header("x-client", "ios").header("x-uuid", "a");
        request
            .header("x-request-id", id)
            .body(Full::default())
            .unwrap()
    };
    let batch = send(
        service.address,
        request("batch-1", "/api/v1/intercom/shows?ids[]=1"),
    )
    .await;
    assert_eq!(batch.status(502).header("x-request-id"), Some("batch-1"));
    let passed = send(service.address, request("pass-1", "/other")).await;
    assert_eq!(passed.status(502).header("x-request-id"), Some("pass-1"));
    let log = service.stops().await;
    let messages = |id: &str| {
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let lines = lines.filter(|line| line["request_id"] == id);
        lines
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(messages("batch-1"), ["fetch failed", "request"]);
    assert_eq!(messages("pass-1"), ["request failed", "request"]);
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_an_id_too() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = TestEdge::before(serving.address());
    let mut client = Client::connect(edge.address).await;
    client
        .send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n")
        .await;
    let answer = client.response().await;
    answer.assert_edge_error(400, "Bad Request");
    assert!(is_drawn(answer.head.one("x-request-id").expect("an id")));
}
