//! "Answer": order, Cache-Status, Age, and what else a widget sees.

use vms_edge::demo::vms::Order;

use crate::support::world::World;

#[tokio::test]
async fn until_an_answer_told_the_order_a_batch_for_which_it_matters_is_fetched_whole_and_teaches()
{
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await;
    ann.asks([2]).await;
    ann.asks([2, 1])
        .await
        .gets([1, 2])
        .is("fwd=miss")
        .fetched([&[2, 1]]);
    ann.asks([2, 1]).await.gets([1, 2]).hit();
    ann.asks([9, 2, 1]).await.gets([1, 2, 9]).fetched([&[9]]);
}

#[tokio::test]
async fn a_vms_that_answers_as_asked_is_followed() {
    let world = World::new().await;
    world.vms.set_order(Order::AsAsked);
    let ann = world.user(1);
    ann.asks([3, 1]).await.gets([3, 1]);
    ann.asks([1, 3]).await.gets([1, 3]).hit();
    ann.asks([3, 2, 1]).await.gets([3, 2, 1]).fetched([&[2]]);
}

#[tokio::test]
async fn a_vms_with_an_order_of_its_own_is_asked_for_each_whole_batch() {
    let world = World::new().await;
    world.vms.set_order(Order::Descending);
    let ann = world.user(1);
    for _ in 0..2 {
        ann.asks([1, 2]).await.gets([2, 1]).is("fwd=miss");
    }
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn after_a_contradiction_of_the_order_learnt_the_vms_puts_batches_together() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([3, 1]).await.gets([1, 3]);
    world.vms.set_order(Order::AsAsked);
    ann.clone()
        .with("cache-control", "no-cache")
        .asks([3, 1])
        .await
        .gets([3, 1]);
    ann.asks([3, 1]).await.gets([3, 1]).is("fwd=miss");
    ann.asks([1]).await.gets([1]).hit();
    assert!(
        world
            .metrics()
            .await
            .contains("vms_edge_order_contradictions_total 1")
    );
}

#[tokio::test]
async fn a_configured_order_is_taken_at_its_word() {
    for (order, answered) in [("id", [1, 2]), ("request", [2, 1])] {
        let settings = format!("[[batch]]\npath = \"/api/v1/intercom/shows\"\norder = \"{order}\"");
        let world = World::with(&settings).await;
        let ann = world.user(1);
        ann.asks([1]).await;
        ann.asks([2]).await;
        ann.asks([2, 1]).await.gets(answered).hit();
    }
}

#[tokio::test]
async fn a_fill_of_the_whole_request_keeps_the_vmss_own_bytes_and_target() {
    let world = World::new().await;
    let ann = world.user(1);
    let target = "/api/v1/intercom/shows?ids[1]=3&hl=en&ids[0]=1&&x";
    let straight = ann.straight(target).await;
    let miss = ann.gets(target).await.is("fwd=miss");
    assert_eq!(miss.body, straight.body);
    assert_eq!(world.vms.requests().pop().unwrap().target, target);
}

#[tokio::test]
async fn a_hit_says_its_age_and_a_miss_does_not() {
    let world = World::new().await;
    let ann = world.user(1);
    assert_eq!(ann.asks([1]).await.header("age"), None);
    world.advance(7);
    assert_eq!(
        ann.asks([1, 2]).await.is("fwd=partial").header("age"),
        Some("7")
    );
    world.advance(3);
    assert_eq!(ann.asks([1, 2]).await.hit().header("age"), Some("10"));
    assert_eq!(ann.asks([2]).await.hit().header("age"), Some("3"));
}

#[tokio::test]
async fn a_chunked_answer_of_the_vms_is_stored_like_any_other() {
    let world = World::new().await;
    world.vms.set_chunked(true);
    let ann = world.user(1);
    let miss = ann.asks([1, 2]).await.gets([1, 2]).is("stored");
    assert_eq!(
        miss.header("content-length"),
        Some(miss.body.len().to_string().as_str())
    );
    assert_eq!(ann.asks([1, 2]).await.hit().body, miss.body);
}

#[tokio::test]
async fn a_fetch_carries_the_clients_headers_and_asks_for_the_identity_coding() {
    let world = World::new().await;
    let ann = world
        .user(1)
        .with("accept-encoding", "gzip, br")
        .with("hl", "en")
        .with("x-socket-id", "1.2");
    ann.asks([1]).await;
    let fetch = world.vms.requests().pop().unwrap();
    assert_eq!(fetch.values("accept-encoding"), ["identity"]);
    assert_eq!(fetch.values("host"), ["vms.local"]);
    assert_eq!(fetch.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(fetch.values("x-forwarded-proto"), ["http"]);
    assert_eq!(fetch.values("x-forwarded-host"), ["vms.local"]);
    for (name, value) in [
        ("authorization", "Bearer tok-1-ios"),
        ("hl", "en"),
        ("x-socket-id", "1.2"),
        ("x-uuid", "b7f0c0de-1"),
    ] {
        assert_eq!(fetch.values(name), [value], "{name}");
    }
    assert!(fetch.values("via").is_empty());
}

#[tokio::test]
async fn more_fetches_than_max_fetches_wait_and_then_are_told_503() {
    let world = World::with("upstream.max_fetches = 1\nupstream.connect_timeout = \"100ms\"").await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let refused_while_ann_waits = async {
        hold.arrived(1).await;
        let refused = bob.asks([1]).await.status(503);
        assert_eq!(refused.header("retry-after"), Some("1"));
        refused.body_is(r#"{"message":"Service Unavailable"}"#);
        drop(hold);
    };
    let (first, ()) = tokio::join!(ann.asks([1]), refused_while_ann_waits);
    first.gets([1]);
    bob.asks([1]).await.gets([1]);
}
