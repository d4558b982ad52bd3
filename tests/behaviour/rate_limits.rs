//! Rate limits: who asks too often is told so, and nobody else.

use std::time::Duration;

use http::Method;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::world::{SHOWS, World};

const OVER: &str = r#"{"message":"Too Many Attempts."}"#;

#[tokio::test]
async fn a_user_who_asks_too_often_is_told_when_to_come_back() {
    let world = World::with("[limits]\nuser_rate = 1\nuser_burst = 3\n").await;
    let ann = world.user(1);
    ann.asks([1]).await.is("fwd=miss");
    ann.asks([1]).await.hit();
    ann.gets("/api/v1/static/basic").await.status(200);
    // A hit costs as much as anything: what is limited is how often somebody asks.
    let limited = ann.asks([1]).await.status(429).body_is(OVER).untold();
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.header("content-type"), Some("application/json"));
    assert!(limited.header("x-request-id").is_some());
    ann.sends(Method::PATCH, "/api/v1/intercom/1", "{}")
        .await
        .status(429)
        .untold();
    // Another phone is the same user; another user is not.
    let phone = ann.clone().with("x-uuid", "another");
    phone.asks([1]).await.status(429);
    world.user(2).asks([1]).await.is("fwd=miss");

    world.advance(1);
    ann.asks([1]).await.hit();
    ann.asks([1]).await.status(429);
    let counted = Scrape::settled(world.edge.admin).await;
    assert_eq!(
        counted.value("vms_edge_rate_limited_total{by=\"user\"}"),
        4.0
    );
    assert_eq!(
        counted.value("vms_edge_rate_limited_total{by=\"address\"}"),
        0.0
    );
    assert_eq!(
        counted.value("vms_edge_batch_requests_total{result=\"rejected\"}"),
        3.0
    );
}

#[tokio::test]
async fn a_hit_that_is_refused_costs_its_address_one_request_and_no_more() {
    let limits = "[limits]\nuser_rate = 1\naddress_rate = 1\naddress_burst = 10\n";
    let world = World::with(limits).await;
    let ann = world.user(1);
    ann.asks([1]).await.is("fwd=miss");
    for _ in 0..8 {
        ann.asks([1]).await.status(429);
    }
    world.user(2).asks([1]).await.is("fwd=miss");
    world.user(3).asks([1]).await.status(429);
    let counted = Scrape::settled(world.edge.admin).await;
    let by = |limit| counted.value(&format!("vms_edge_rate_limited_total{{by=\"{limit}\"}}"));
    assert_eq!((by("user"), by("address")), (8.0, 1.0));
}

#[tokio::test]
async fn writing_a_token_in_another_way_makes_no_other_user() {
    let world = World::with("[limits]\nuser_rate = 1\n").await;
    let ann = world.user(1);
    ann.asks([1]).await.is("fwd=miss");
    for odd in [
        "bearer tok-1-ios",
        "Bearer  tok-1-ios",
        "Basic a, Bearer tok-1-ios",
    ] {
        ann.clone()
            .with("authorization", odd)
            .asks([1])
            .await
            .status(429);
    }
    let in_query = ann.clone().without("authorization");
    in_query
        .gets("/api/v1/static/basic?api_token=tok-1-ios")
        .await
        .status(429);
    in_query.gets("/api/v1/static/basic").await.status(200);
    // A made-up token beside the real one is no way out either.
    let made_up = ann.with("authorization", "Bearer made-up");
    made_up
        .gets("/api/v1/static/basic?api_token=tok-1-ios")
        .await
        .status(429);
}

#[tokio::test]
async fn an_address_is_the_last_that_no_trusted_proxy_has() {
    let limits = "[limits]\naddress_rate = 1\naddress_burst = 2\n";
    let world = World::with(&format!(
        "server.trusted_proxies = [\"127.0.0.1\"]\n{limits}"
    ))
    .await;
    let from = |hops: &str| world.user(1).with("x-forwarded-for", hops);
    for forged in ["192.0.2.1", "6.6.6.6, 192.0.2.1"] {
        from(forged).gets("/api/v1/static/basic").await.status(200);
    }
    let limited = from("7.7.7.7, 192.0.2.1").asks([1]).await.status(429);
    limited.body_is(OVER).untold();
    from("192.0.2.2").asks([1]).await.is("fwd=miss");
    for address in ["2001:db8::1", "2001:db8::2"] {
        from(address).asks([1]).await.hit();
    }
    from("2001:db8::3").asks([1]).await.status(429);
    let counted = Scrape::settled(world.edge.admin).await;
    assert_eq!(
        counted.value("vms_edge_rate_limited_total{by=\"address\"}"),
        2.0
    );

    // Without trusted proxies it is the peer, whatever it says.
    let world = World::with(limits).await;
    let from = |hops: &str| world.user(1).with("x-forwarded-for", hops);
    from("192.0.2.1").asks([1]).await.is("fwd=miss");
    from("192.0.2.2").asks([1]).await.hit();
    from("192.0.2.3").asks([1]).await.status(429);
    world.advance(1);
    from("192.0.2.4").asks([1]).await.hit();
}

#[tokio::test]
async fn the_connection_outlives_a_refusal() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let settings = "[limits]\naddress_rate = 1\n";
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let mut client = Client::connect(edge.address).await;
    assert_eq!(client.get("/a").await.status, 200);
    client
        .send("POST /a HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    client
        .response()
        .await
        .assert_edge_error(429, "Too Many Attempts.");
    assert_eq!(client.get("/a").await.status, 429);
    edge.advance(Duration::from_secs(1));
    assert_eq!(client.get("/a").await.status, 200);
    assert_eq!(vms.requests().len(), 2);
}

#[tokio::test]
async fn a_websocket_is_one_request() {
    let vms = Scripted::start(|mut connection| async move {
        connection.head().await.expect("a request");
        connection
            .wire
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await;
        while let Ok(sent) = connection.wire.some(usize::MAX).await
            && !sent.is_empty()
        {
            connection.wire.send(sent).await;
        }
    })
    .await;
    let edge = TestEdge::with(&[vms.address.to_string()], "[limits]\naddress_rate = 1\n");
    let handshake = "GET /ws HTTP/1.1\r\nHost: vms.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut client = Client::connect(edge.address).await;
    client.send(handshake).await;
    assert_eq!(client.begin("GET").await.status, 101);
    for _ in 0..10 {
        client.send("hello").await;
        assert_eq!(client.wire.exactly(5).await.unwrap(), b"hello");
    }
    let mut another = Client::connect(edge.address).await;
    another.send(handshake).await;
    another
        .response()
        .await
        .assert_edge_error(429, "Too Many Attempts.");
}

#[tokio::test]
async fn the_access_line_says_which_limit_it_was() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let settings =
        "log.format = \"json\"\n[limits]\naddress_rate = 1\naddress_burst = 2\nuser_rate = 1\n";
    let service = Service::before(vms.address, settings).await;
    let mut client = Client::connect(service.address).await;
    let request = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer a-token\r\n\r\n")
    };
    let mut limited = 0;
    // The machine's clock goes on, and lets one through now and then.
    while limited < 4 {
        for target in ["/a", SHOWS] {
            client.send(request(target)).await;
            limited += u32::from(client.response().await.status == 429);
        }
    }
    let log = service.stops().await;
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    for line in lines.filter(|line| line["status"] == 429) {
        assert!(
            ["user", "address"].contains(&line["limited"].as_str().unwrap()),
            "{line}"
        );
        assert_eq!(line["cache"] == "rejected", line["path"] == SHOWS);
    }
    assert!(!log.contains("a-token"));
}
