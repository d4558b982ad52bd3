//! Another configuration in place of the one in effect: all of it or nothing, and no request notices.

use vms_edge::config::Change;
use vms_edge::demo::vms::StandIn;
use vms_edge::ops::reload::Outcome;

use crate::support::client::Client;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::soon;
use crate::support::world::{SHOWS, World};

const RELOADS: &str = "vms_edge_reloads_total";
const SUCCESS: &str = "vms_edge_config_last_reload_success";

/// What changed, and what waits for the next start.
#[track_caller]
fn applied(outcome: Outcome) -> (Vec<String>, Vec<String>) {
    let told = |changes: Vec<Change>| changes.iter().map(Change::to_string).collect();
    match outcome {
        Outcome::Applied { changes, waiting } => (told(changes), told(waiting)),
        Outcome::Refused { reasons } => panic!("{reasons:?}"),
    }
}

#[track_caller]
fn refused(outcome: Outcome) -> Vec<String> {
    match outcome {
        Outcome::Refused { reasons } => reasons,
        Outcome::Applied { changes, .. } => panic!("{changes:?}"),
    }
}

fn named(path: &str, settings: &str) -> String {
    format!("[[batch]]\npath = \"{path}\"\n{settings}\n")
}

#[tokio::test]
async fn what_is_remembered_stays_and_is_judged_by_the_new_windows() {
    let world = World::with(&named(SHOWS, "jitter = 0.0")).await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.gets([1, 2]).is("fwd=miss");
    world.advance(10);
    let (changes, waiting) = applied(
        world
            .edge
            .reload(&named(SHOWS, "jitter = 0.0\nfresh = \"5s\"")),
    );
    let change = format!("batch[{SHOWS}].fresh: \"30s\" -> \"5s\"");
    assert_eq!((changes, waiting), (vec![change], vec![]));
    ann.asks([1, 2]).await.gets([1, 2]).is("hit").is("ttl=-5");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_all_that_is_wrong_with_it() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    let bad = "headers.chek = \"forward\"\ncache.max_bytes = \"1\"";
    let reasons = refused(world.edge.reload(bad));
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("headers.chek") && reasons[1].contains("cache.max_bytes"));
    ann.asks([1]).await.gets([1]).hit();
    let scrape = Scrape::of(world.edge.admin).await;
    assert_eq!(
        scrape.value(&format!("{RELOADS}{{result=\"refused\"}}")),
        1.0
    );
    assert_eq!(scrape.value(SUCCESS), 0.0);

    applied(world.edge.reload(""));
    let scrape = Scrape::of(world.edge.admin).await;
    assert_eq!(
        scrape.value(&format!("{RELOADS}{{result=\"applied\"}}")),
        1.0
    );
    assert_eq!(scrape.value(SUCCESS), 1.0);
}

#[tokio::test]
async fn a_server_that_does_not_resolve_is_refused_and_the_old_one_asked_on() {
    let world = World::new().await;
    let servers = ["no-such-host.invalid:80".to_owned()];
    let reasons = refused(world.edge.reload_before(&servers, ""));
    assert!(reasons[0].starts_with("upstream.servers: no-such-host.invalid:80 does not resolve"));
    world.user(1).asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn another_server_is_asked_from_then_on_and_what_is_remembered_stays() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    let other = StandIn::new();
    let serving = other.start().await.unwrap();
    applied(
        world
            .edge
            .reload_before(&[serving.address().to_string()], ""),
    );
    ann.asks([1, 2])
        .await
        .gets([1, 2])
        .is("fwd=partial")
        .untold();
    ann.gets("/api/v1/static/basic").await.status(200).untold();
    let batches: Vec<_> = other.batches().into_iter().map(|batch| batch.ids).collect();
    assert_eq!((batches, other.requests().len()), (vec![vec![2]], 2));
    other.assert_healthy();
}

#[tokio::test]
async fn a_server_that_was_left_alone_is_left_alone_after_a_reload_too() {
    let vms = Scripted::answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    let breaker = "upstream.breaker = { failures = 1, pause = \"1m\" }\n";
    let world = World::with("").await;
    let servers = [vms.address.to_string()];
    applied(world.edge.reload_before(&servers, breaker));
    let ann = world.user(1);
    ann.asks([1]).await.status(503);
    // Something else about the upstream, so that it is built anew.
    applied(world.edge.reload_before(
        &servers,
        &format!("{breaker}upstream.fetch_timeout = \"6s\""),
    ));
    let open = "vms_edge_upstream_servers{state=\"open\"}";
    assert_eq!(Scrape::of(world.edge.admin).await.value(open), 1.0);
}

#[tokio::test]
async fn what_a_request_must_carry_changes_for_the_next_request_on_a_kept_connection() {
    let world = World::new().await;
    let mut client = Client::connect(world.edge.address).await;
    let request = format!(
        "GET {SHOWS}?ids[]=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer tok-1-ios\r\n\r\n"
    );
    client.send(&request).await;
    assert_eq!(client.response().await.status, 422);
    applied(world.edge.reload("headers.check = \"forward\""));
    client.send(&request).await;
    let answer = client.response().await;
    assert_eq!(
        answer.head.one("cache-status"),
        Some("vms-edge; fwd=bypass; detail=headers")
    );
}

#[tokio::test]
async fn endpoints_come_and_go() {
    let cameras = "/api/v1/cameras/shows";
    let world = World::new().await;
    let ann = world.user(1);
    let target = format!("{cameras}?ids[]=1");
    assert_eq!(ann.gets(&target).await.header("cache-status"), None);
    ann.asks([1]).await.gets([1]);

    applied(
        world
            .edge
            .reload(&format!("{}{}", named(cameras, ""), named(SHOWS, ""))),
    );
    ann.asks([1]).await.gets([1]).hit();
    ann.gets(&target).await.is("fwd=miss");
    ann.gets(&target).await.is("hit");

    applied(world.edge.reload(&named(cameras, "")));
    assert_eq!(ann.asks([1]).await.header("cache-status"), None);
    ann.gets(&target).await.is("hit");
}

#[tokio::test]
async fn an_endpoint_that_comes_back_knows_nothing_of_before_since_nobody_marked_it_meanwhile() {
    let cameras = named("/api/v1/cameras/shows", "");
    let rule = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"item\"]\n";
    let both = format!("{cameras}{}{rule}", named(SHOWS, ""));
    let world = World::with(&both).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    ann.asks([1]).await.gets([1]).hit();
    applied(world.edge.reload(&format!("{cameras}{rule}")));
    let write = ann.sends(http::Method::PATCH, "/api/v1/intercom/1", "{}");
    write.await.status(200);
    applied(world.edge.reload(&both));
    ann.asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn a_write_that_a_reload_overtakes_is_judged_by_the_new_rules_as_well() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    let mut client = Client::connect(world.edge.address).await;
    let head = "PATCH /api/v1/intercom/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer tok-1-ios\r\n\
                Content-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    client.send(head).await;
    Scrape::once(world.edge.admin, "vms_edge_requests_in_flight", 1.0).await;
    let rule = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"item\"]";
    applied(world.edge.reload(rule));
    client.send("{}").await;
    assert_eq!(client.response().await.status, 200);
    world.edge.advance(std::time::Duration::from_nanos(1));
    ann.asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn nothing_is_answered_that_was_stored_under_another_key() {
    let world = World::with("headers.vary = [\"Hl\"]").await;
    let ann = world.user(1).with("hl", "x").without("x-version");
    ann.asks([1]).await.gets([1]).is("fwd=miss");
    applied(world.edge.reload("headers.vary = [\"X-Version\"]"));
    // The same value, but of another header.
    let ann = ann.without("hl").with("x-version", "x");
    ann.asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn what_was_learnt_of_the_vms_stays_learnt() {
    let world = World::new().await;
    world.vms.add_response_header("Vary", "X-Flavour");
    let ann = world.user(1);
    ann.asks([3, 1]).await.gets([1, 3]);
    ann.asks([3, 1]).await.gets([1, 3]).is("stored");
    applied(world.edge.reload("cache.max_bytes = \"10MiB\""));
    ann.asks([1, 3]).await.gets([1, 3]).hit();
    // Ascending, and X-Flavour is in the key.
    ann.asks([3, 1]).await.gets([1, 3]).hit();
    let sweet = ann.with("x-flavour", "sweet");
    sweet.asks([1]).await.gets([1]).is("fwd=miss").is("stored");
}

#[tokio::test]
async fn a_new_rule_ends_what_it_reaches() {
    let world = World::new().await;
    let ann = world.user(1);
    let write = || ann.sends(http::Method::PATCH, "/api/v1/intercom/1", "{}");
    ann.asks([1]).await.gets([1]);
    write().await.status(200);
    world.edge.advance(std::time::Duration::from_nanos(1));
    ann.asks([1]).await.gets([1]).hit();
    let rule = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"item\"]";
    applied(world.edge.reload(rule));
    ann.asks([1]).await.gets([1]).hit();
    write().await.status(200);
    world.edge.advance(std::time::Duration::from_nanos(1));
    ann.asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn a_smaller_memory_lets_go_what_does_not_fit() {
    let world = World::new().await;
    world.vms.add_response_header("X-Large", &"x".repeat(2_000));
    for user in ["1", "2"] {
        for device in 0..150 {
            let device = format!("device-{device}");
            let widget = world.user(user.parse().unwrap()).with("x-uuid", &device);
            widget.asks(1..=25).await.status(200);
        }
    }
    let bytes = async || {
        Scrape::of(world.edge.admin)
            .await
            .value("vms_edge_cache_bytes")
    };
    assert!(bytes().await > 1_048_576.0);
    applied(world.edge.reload("cache.max_bytes = \"1MiB\""));
    assert!((1.0..=1_048_576.0).contains(&bytes().await));
}

#[tokio::test]
async fn a_request_in_flight_ends_as_it_began() {
    let world = World::new().await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let (batch, passing) = (ann.asks_apart([1]), bob.asks_apart([1]));
    let (batch, passing) = (tokio::spawn(batch), tokio::spawn(passing));
    hold.arrived(2).await;
    let serving = StandIn::new();
    let other = serving.start().await.unwrap();
    let forward = "headers.check = \"forward\"";
    applied(
        world
            .edge
            .reload_before(&[other.address().to_string()], forward),
    );
    drop(hold);
    for answer in [batch, passing] {
        let answer = soon("the answer", answer).await.unwrap();
        answer.gets([1]).is("stored");
    }
    ann.asks([1]).await.gets([1]).is("hit");
    assert_eq!(serving.requests().len(), 0);
}

#[tokio::test]
async fn listeners_threads_and_the_admin_address_wait_for_the_next_start() {
    let world = World::new().await;
    let text = format!(
        "server.listen = [\"127.0.0.1:1\"]\nserver.threads = 7\nserver.grace = \"9s\"\n\
         admin.listen = \"127.0.0.1:2\"\nupstream.servers = [\"{}\"]",
        world.vms_address
    );
    let (changes, waiting) = applied(world.edge.reload_text(&text));
    assert_eq!(changes, ["server.grace: \"5s\" -> \"9s\""]);
    let waiting: Vec<_> = waiting
        .iter()
        .filter_map(|change| change.split(':').next())
        .collect();
    assert_eq!(waiting, ["admin.listen", "server.listen", "server.threads"]);
    world.user(1).asks([1]).await.gets([1]);
}

#[tokio::test]
async fn another_admin_token_is_required_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "an-admin-token-of-old").unwrap();
    let settings = format!("admin.token_file = {file:?}");
    let world = World::with(&settings).await;
    let purge = async |token: &str| {
        let mut client = Client::connect(world.edge.admin).await;
        let body = "{\"everything\":true}";
        client
            .send(format!(
                "POST /purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        client.response().await.status
    };
    assert_eq!(purge("an-admin-token-of-old").await, 200);
    std::fs::write(&file, "the-next-admin-token").unwrap();
    applied(world.edge.reload(&settings));
    assert_eq!(purge("an-admin-token-of-old").await, 401);
    assert_eq!(purge("the-next-admin-token").await, 200);
}

#[tokio::test]
async fn limits_and_the_telling_of_ids_and_slow_requests_follow() {
    let world = World::new().await;
    let ann = world.user(1);
    let before = ann.asks([1]).await.is("fwd=miss");
    assert_eq!(before.header("x-request-id"), None);
    let limited = "log.request_id = true\nlimits.user_rate = 1\nlimits.user_burst = 2\n";
    applied(world.edge.reload(limited));
    let told = ann.asks([1]).await.hit();
    assert!(told.header("x-request-id").is_some());
    ann.asks([1]).await.hit();
    ann.asks([1]).await.status(429);
    // A bucket is as empty as it was, unless its limit is another one.
    applied(
        world
            .edge
            .reload(&format!("{limited}limits.body_timeout = \"1m\"\n")),
    );
    ann.asks([1]).await.status(429);
    applied(world.edge.reload(""));
    ann.asks([1]).await.hit();
}
