//! One connection, request after request: whoever answers each of them, memory at once or Pingora's proxying, nobody can
//! tell, and every request has its own answer.

use crate::support::client::{Client, Response};
use crate::support::scrape::Scrape;
use crate::support::soon;
use crate::support::world::{SHOWS, World};

/// A batch of user 1's phone, with more fields and a body.
fn batch(ids: &str, fields: &str, body: &str) -> String {
    format!(
        "GET {SHOWS}?{ids} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-1-ios\r\n\
         Accept: application/json\r\nX-Client: ios\r\nX-UUID: b7f0c0de-1\r\n{fields}\r\n{body}"
    )
}

/// The field for which a request is left to Pingora, and which means nothing to it.
const LEFT_TO_PINGORA: &str = "Keep-Alive: timeout=5\r\n";

const HIT: &str = "ids[]=1&ids[]=2&ids[]=3";

async fn filled() -> World {
    let world = World::new().await;
    let mut client = Client::connect(world.edge.address).await;
    client.send(batch(HIT, "", "")).await;
    assert!(cache_status(&client.response().await).contains("fwd=miss"));
    world
}

fn cache_status(response: &Response) -> &str {
    response.head.one("cache-status").unwrap_or_default()
}

fn assert_is_hit(response: &Response) {
    assert_eq!(response.status, 200);
    assert!(cache_status(response).contains("; hit;"), "{response:?}");
    assert!(response.text().starts_with("[{\"id\":1,"), "{response:?}");
}

#[tokio::test]
async fn what_is_at_hand_is_answered_and_counted_as_pingora_would() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    let mut answers = Vec::new();
    for fields in ["", LEFT_TO_PINGORA, "Connection: keep-alive\r\n"] {
        let before = Scrape::settled(world.edge.admin).await;
        client.send(batch(HIT, fields, "")).await;
        let mut response = client.response().await;
        assert_is_hit(&response);
        let after = Scrape::settled(world.edge.admin).await;
        let mut moved = after.moved_since(&before);
        // How long it took, and what the process did meanwhile, differ from one to the next.
        moved.retain(|series, _| {
            let is_count = ["_total", "_count"].iter().any(|end| series.contains(end));
            series.starts_with("vms_edge_") && is_count && !series.contains("admin")
        });
        let moved: Vec<(String, f64)> = moved
            .into_iter()
            .map(|(series, by)| (series.to_owned(), by))
            .collect();
        response.head.fields.retain(|(name, _)| name != "Date");
        answers.push((
            response.head.first_line,
            response.head.fields,
            response.body,
            moved,
        ));
    }
    assert!(
        answers[0]
            .3
            .iter()
            .any(|(series, _)| series.contains("hit"))
    );
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn a_connection_goes_back_and_forth_between_what_is_at_hand_and_what_is_not() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    for round in 0..3 {
        client.send(batch(HIT, "", "")).await;
        assert_is_hit(&client.response().await);
        assert_eq!(client.get("/api/v1/nothing").await.status, 404);
        client.send(batch(HIT, LEFT_TO_PINGORA, "")).await;
        assert_is_hit(&client.response().await);
        let miss = format!("ids[]={}", 16 + round);
        client.send(batch(&miss, "", "")).await;
        assert!(cache_status(&client.response().await).contains("fwd=miss"));
        client
            .send("POST /api/v1/nothing HTTP/1.1\r\nHost: vms.local\r\nContent-Length: 5\r\n\r\nwrite")
            .await;
        assert_eq!(client.response().await.status, 404);
    }
    client.send(batch(HIT, "", "")).await;
    assert_is_hit(&client.response().await);
    assert_eq!(world.vms.requests().len(), 1 + 3 * 3);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_their_order_whoever_answers_them() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    let body = "x".repeat(20_000);
    let post = format!(
        "POST /api/v1/nothing HTTP/1.1\r\nHost: vms.local\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let chunked = "POST /api/v1/nothing HTTP/1.1\r\nHost: vms.local\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nwrite\r\n0\r\n\r\n";
    let nothing = "GET /api/v1/nothing HTTP/1.1\r\nHost: vms.local\r\n\r\n".to_owned();
    let hit = batch(HIT, "", "");
    let ahead = [
        &hit, &nothing, &hit, &post, &hit, &nothing, &nothing, &hit, chunked, &hit, &nothing, &hit,
    ];
    client.send(ahead.concat()).await;
    for request in ahead {
        let response = client.response().await;
        match *request == *hit {
            true => assert_is_hit(&response),
            false => assert_eq!(response.status, 404, "{response:?}"),
        }
    }
    // With a line more than its body has.
    client.send(format!("{post}\r\n")).await;
    assert_eq!(client.response().await.status, 404);
    client.send(&hit).await;
    assert_is_hit(&client.response().await);
    // The fill, and what is not there.
    assert_eq!(world.vms.requests().len(), 1 + 7);
}

#[tokio::test]
async fn however_many_requests_are_sent_ahead_each_is_answered() {
    const REQUESTS: usize = 2_000;
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    // Together many times as large as one header may be, and cut anywhere by what is received at once.
    for _ in 0..4 {
        client.send(batch(HIT, "", "").repeat(REQUESTS / 4)).await;
        for _ in 0..REQUESTS / 4 {
            assert_is_hit(&client.response().await);
        }
    }
}

#[tokio::test]
async fn what_is_sent_ahead_of_an_upgrade_that_none_is_loses_no_request_and_makes_none() {
    let old = "GET /api/v1/nothing HTTP/1.0\r\nHost: vms.local\r\nConnection: keep-alive\r\nUpgrade: x\r\n\r\n";
    let smuggled = "GET /api/v1/smuggled HTTP/1.1\r\nHost: vms.local\r\n\r\n";
    let post = format!(
        "POST /api/v1/nothing HTTP/1.1\r\nHost: vms.local\r\nContent-Length: {}\r\n\r\n",
        smuggled.len()
    );
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    client.send(format!("{old}{post}")).await;
    assert_eq!(client.response().await.status, 404);
    // Its body comes later, and is no request.
    client
        .send(format!("{smuggled}{}", batch(HIT, "", "")))
        .await;
    assert_eq!(client.response().await.status, 404);
    assert_is_hit(&client.response().await);
    let requests = world.vms.requests();
    let methods: Vec<&str> = requests.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET", "POST"], "{requests:?}");
}

#[tokio::test]
async fn a_header_may_come_in_any_pieces() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    for request in [batch(HIT, "", ""), batch(HIT, LEFT_TO_PINGORA, "")] {
        let request = format!("\r\n{request}");
        for piece in request.as_bytes().chunks(7) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_is_hit(&client.response().await);
    }
    // The end of one in a piece with the beginning of the next.
    let two = batch(HIT, "", "").repeat(2);
    let (one, other) = two.split_at(two.len() - 9);
    client.send(one).await;
    assert_is_hit(&client.response().await);
    client.send(other).await;
    assert_is_hit(&client.response().await);
}

#[tokio::test]
async fn a_batch_whose_ids_stand_in_its_body_is_one_request() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    let body = "{\"ids\":[1,2,3]}";
    let fields = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    for expected in ["fwd=miss", "; hit;"] {
        client
            .send(batch("", &fields, body).replace("?", "") + &batch(HIT, "", ""))
            .await;
        assert!(cache_status(&client.response().await).contains(expected));
        assert_is_hit(&client.response().await);
    }
}

#[tokio::test]
async fn a_client_that_wants_the_connection_closed_has_it_closed() {
    let world = filled().await;
    let mut client = Client::connect(world.edge.address).await;
    client.send(batch(HIT, "Connection: close\r\n", "")).await;
    let response = client.response().await;
    assert_is_hit(&response);
    assert_eq!(response.head.one("connection"), Some("close"));
    client.wire.closed().await;

    // HTTP/1.0 keeps nothing open.
    let mut client = Client::connect(world.edge.address).await;
    client
        .send(batch(HIT, "", "").replace("HTTP/1.1", "HTTP/1.0"))
        .await;
    assert_is_hit(&client.response().await);
    client.wire.closed().await;
}

#[tokio::test]
async fn a_client_that_takes_none_of_its_answers_is_given_up() {
    let world = World::with("upstream.idle_timeout = \"100ms\"").await;
    let mut client = Client::connect(world.edge.address).await;
    client.send(batch(HIT, "", "")).await;
    client.response().await;
    let open = "vms_edge_connections{listener=\"plain\"}";
    Scrape::once(world.edge.admin, open, 1.0).await;
    // Their answers are more than all buffers on the way hold.
    let many = batch(HIT, "", "").repeat(20_000);
    let sent = client.wire.try_send(many.as_bytes());
    let given_up = Scrape::once(world.edge.admin, open, 0.0);
    let both = async { tokio::join!(sent, given_up) };
    let (_whether_buffers_took_them, _) = soon("the end of the connection", both).await;
}
