//! Slow requests: one line each that says where the time went.

use std::time::Duration;

use serde_json::Value;
use tokio::task::yield_now;
use vms_edge::demo::vms::StandIn;

use crate::support::client::Client;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::world::SHOWS;

const LATENCY: Duration = Duration::from_millis(20);

/// Anything that waits at all is slow.
const SETTINGS: &str = "log.slow = \"1ms\"\nlog.format = \"json\"\n";

fn batch(user: u64, query: &str, fields: &str) -> String {
    format!(
        "GET {SHOWS}{query} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-{user}-ios\r\n\
         Accept: application/json\r\nX-Client: ios\r\nX-UUID: a\r\n{fields}\r\n"
    )
}

async fn answered(client: &mut Client, status: u16) {
    let answer = client.response().await;
    assert_eq!(answer.status, status, "{answer:?}");
}

/// The lines of slow requests.
fn slow(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["message"] == "slow request")
        .collect()
}

fn number(line: &Value, field: &str) -> u64 {
    line[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} of {line}"))
}

/// A list of numbers, which a log shows as text.
fn numbers(line: &Value, field: &str) -> Vec<u64> {
    let text = line[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {line}"));
    serde_json::from_str(text).unwrap()
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

#[tokio::test]
async fn the_time_in_the_vms_is_told_for_each_fetch_and_of_what_passes_through() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    vms.set_latency(LATENCY);
    let service = Service::before(serving.address(), SETTINGS).await;
    let mut client = Client::connect(service.address).await;
    client.send(batch(1, "?ids[]=1", "")).await;
    answered(&mut client, 200).await;
    client
        .send("GET /api/v1/static/basic HTTP/1.1\r\nHost: vms.local\r\n\r\n")
        .await;
    answered(&mut client, 200).await;
    let lines = slow(&service.stops().await);
    let [fetched, passed] = &lines[..] else {
        panic!("{lines:?}");
    };
    let vms_us = numbers(fetched, "vms_us");
    assert!(
        vms_us.len() == 1 && vms_us[0] >= microseconds(LATENCY),
        "{fetched}"
    );
    assert_eq!(numbers(fetched, "queue_us"), [0]);
    assert_eq!(numbers(fetched, "tries"), [1]);
    assert!(
        fetched["servers"]
            .as_str()
            .unwrap()
            .contains(&serving.address().to_string())
    );
    assert!(
        number(passed, "vms_us") >= microseconds(LATENCY),
        "{passed}"
    );
    assert_eq!(passed["path"], "/api/v1/static/basic");
    for line in [fetched, passed] {
        assert_eq!(
            (&line["level"], number(line, "body_us")),
            (&"WARN".into(), 0)
        );
        assert_eq!(line["request_id"].as_str().unwrap().len(), 16);
    }
}

#[tokio::test]
async fn waiting_for_a_turn_and_for_others_is_told_apart() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let settings =
        format!("upstream.max_fetches = 1\nupstream.connect_timeout = \"5s\"\n{SETTINGS}");
    let service = Service::before(serving.address(), &settings).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(service.address).await);
    }
    let hold = vms.hold();
    clients[0].send(batch(1, "?ids[]=1&ids[]=2", "")).await;
    while hold.waiting() == 0 {
        yield_now().await;
    }
    // One waits for the first one's fetch, the other for its place.
    clients[1].send(batch(1, "?ids[]=2", "")).await;
    clients[2].send(batch(2, "?ids[]=1", "")).await;
    let metrics = async || {
        let mut admin = Client::connect(service.admin).await;
        admin.get("/metrics").await.text().to_owned()
    };
    while !metrics().await.contains("vms_edge_requests_in_flight 3") {
        yield_now().await;
    }
    for _ in 0..5 {
        // Each takes its time, which the three wait.
        metrics().await;
    }
    hold.release();
    for client in &mut clients {
        answered(client, 200).await;
    }
    assert!(
        metrics()
            .await
            .contains("vms_edge_fetch_queue_seconds_count 2\n")
    );
    let lines = slow(&service.stops().await);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let with = |field: &str| {
        let found: Vec<_> = lines
            .iter()
            .filter(|line| number(line, field) > 0)
            .collect();
        assert_eq!(found.len(), 1, "{field} in {lines:?}");
        found[0].clone()
    };
    let waited = with("others_us");
    assert!(numbers(&waited, "queue_us").is_empty(), "{waited}");
    let queued: Vec<_> = lines
        .iter()
        .filter(|line| numbers(line, "queue_us").iter().any(|&time| time > 0))
        .collect();
    assert_eq!(queued.len(), 1, "{lines:?}");
    assert_eq!(number(queued[0], "others_us"), 0);
}

#[tokio::test]
async fn waiting_for_a_clients_body_is_told() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    vms.set_latency(LATENCY);
    let service = Service::before(serving.address(), SETTINGS).await;
    let (mut slow_one, mut other) = (
        Client::connect(service.address).await,
        Client::connect(service.address).await,
    );
    let body = "{\"ids\":[1]}";
    let fields = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    slow_one.send(batch(1, "", &fields)).await;
    // Takes as long as the VMS does.
    other.get("/api/v1/static/basic").await;
    slow_one.send(body).await;
    answered(&mut slow_one, 200).await;
    let lines = slow(&service.stops().await);
    let line = lines.iter().find(|line| line["path"] == SHOWS);
    let line = line.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(
        number(line, "body_us") >= microseconds(LATENCY) / 2,
        "{line}"
    );
}

#[tokio::test]
async fn a_hit_that_is_slow_waited_for_its_client() {
    // Four of them are more than all buffers on the way hold, and fit on one shelf.
    const ITEM_BYTES: usize = 7 << 19;
    let vms = Scripted::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let line = request.line();
            let Some((_, id)) = line.split_once("ids%5B%5D=").or(line.split_once("ids[]=")) else {
                return connection.answer("[]").await;
            };
            let id = id.split(' ').next().unwrap();
            let item = format!("[{{\"id\":{id},\"x\":\"{}\"}}]", "x".repeat(ITEM_BYTES));
            let length = item.len();
            let header = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            );
            connection.wire.send(header + &item).await;
        }
    })
    .await;
    let settings = format!("{SETTINGS}[[batch]]\npath = \"{SHOWS}\"\norder = \"id\"\n");
    let service = Service::before(vms.address, &settings).await;
    let mut client = Client::connect(service.address).await;
    for id in 1..=4 {
        client.send(batch(1, &format!("?ids[]={id}"), "")).await;
        answered(&mut client, 200).await;
    }
    client
        .send(batch(1, "?ids[]=1&ids[]=2&ids[]=3&ids[]=4", ""))
        .await;
    let mut answer = client.begin("GET").await;
    assert!(answer.head.one("cache-status").unwrap().contains("; hit"));
    // Nothing more of it is read while others are answered.
    let mut other = Client::connect(service.address).await;
    for _ in 0..20 {
        assert_eq!(other.get("/api/v1/static/basic").await.status, 200);
    }
    while client.more(&mut answer).await.is_some() {}
    let lines = slow(&service.stops().await);
    let hit = lines
        .iter()
        .find(|line| numbers_or_none(line).is_some_and(|n| n.is_empty()));
    let hit = hit.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(number(hit, "write_us") > 0, "{hit}");
    assert_eq!(number(hit, "others_us") + number(hit, "body_us"), 0);
}

fn numbers_or_none(line: &Value) -> Option<Vec<u64>> {
    serde_json::from_str(line["vms_us"].as_str()?).ok()
}

#[tokio::test]
async fn nothing_is_slow_below_the_limit_without_one_or_for_being_a_websocket() {
    let vms = Scripted::start(|mut connection| async move {
        let request = connection.head().await.expect("a request");
        if request.head.one("upgrade").is_none() {
            return connection.answer("{}").await;
        }
        connection
            .wire
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .await;
        let sent = connection.wire.some(usize::MAX).await.unwrap();
        connection.wire.send(sent).await;
    })
    .await;
    for (limit, is_websocket) in [("1h", false), ("0s", false), ("1ms", true)] {
        let settings = format!("log.slow = \"{limit}\"\nlog.format = \"json\"\n");
        let service = Service::before(vms.address, &settings).await;
        let mut client = Client::connect(service.address).await;
        if is_websocket {
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                           Sec-WebSocket-Version: 13\r\n";
            client
                .send(format!(
                    "GET /ws HTTP/1.1\r\nHost: vms.local\r\n{upgrade}\r\n"
                ))
                .await;
            assert_eq!(client.begin("GET").await.status, 101);
            // It lasts, since others are answered meanwhile.
            for _ in 0..20 {
                let mut admin = Client::connect(service.admin).await;
                admin.get("/metrics").await;
            }
            client.send("hello").await;
            assert_eq!(client.wire.exactly(5).await.unwrap(), b"hello");
        } else {
            answered_get(&mut client).await;
        }
        drop(client);
        let log = service.stops().await;
        assert_eq!(slow(&log), Vec::<Value>::new());
    }
}

async fn answered_get(client: &mut Client) {
    client
        .send("GET /a HTTP/1.1\r\nHost: vms.local\r\n\r\n")
        .await;
    answered(client, 200).await;
}
