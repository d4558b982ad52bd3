//! Soft purges: what they cover is stale, and otherwise as old as it is.

use vms_edge::demo::vms::{Fault, Times};

use super::world;
use crate::support::operator::purge;
use crate::support::scrape::Scrape;
use crate::support::soon;

#[tokio::test]
async fn what_is_purged_softly_is_answered_once_more_while_it_is_refreshed() {
    let world = world().await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.gets([1, 2]);
    world.advance(5);
    for (body, fetched) in [
        (r#"{"items":[1],"mode":"soft"}"#, &[1][..]),
        (r#"{"user":"tok-1-ios","mode":"soft"}"#, &[1, 2]),
        (r#"{"everything":true,"mode":"soft"}"#, &[1, 2]),
    ] {
        ann.asks([1, 2]).await.hit();
        let before = world.vms.batches_total();
        let (hold, stored) = (world.vms.hold(), Scrape::of(world.edge.admin).await);
        purge(world.edge.admin, body).await.status(200);
        world.advance(1);
        ann.asks([1, 2]).await.gets([1, 2]).is("hit").is("ttl=0");
        soon("the refresh", hold.arrived(1)).await;
        assert_eq!(world.vms.batches_total(), before + 1, "{body}");
        assert_eq!(world.vms.batches().last().unwrap().ids, fetched, "{body}");
        drop(hold);
        let outcome = "vms_edge_fetches_total{outcome=\"stored\"}";
        Scrape::once(world.edge.admin, outcome, stored.value(outcome) + 1.0).await;
        let ttl = ann.asks([1, 2]).await.hit();
        assert!(
            !ttl.header("cache-status").unwrap().contains("ttl=0"),
            "{body}"
        );
    }
    assert!(
        world
            .metrics()
            .await
            .contains("vms_edge_marks_total{scope=\"item\"} 1\n")
    );
}

#[tokio::test]
async fn a_soft_purge_lets_nothing_answer_longer_than_it_would_without() {
    let world = world().await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(85);
    purge(world.edge.admin, r#"{"everything":true,"mode":"soft"}"#)
        .await
        .status(200);
    world.vms.fault(Fault::Status(500), Times::Next(1));
    ann.asks([1]).await.is("hit").is("ttl=-55");
    let failed = "vms_edge_fetches_total{outcome=\"status\"}";
    Scrape::once(world.edge.admin, failed, 1.0).await;
    world.advance(4);
    world.vms.fault(Fault::Status(500), Times::Next(1));
    ann.asks([1]).await.is("hit").is("ttl=-59");
    Scrape::once(world.edge.admin, failed, 2.0).await;
    world.advance(1);
    ann.asks([1]).await.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn a_softly_purged_absence_is_good_only_instead_of_an_error() {
    let world = world().await;
    let ann = world.user(1);
    ann.asks([1, 4]).await.gets([1]);
    ann.asks([1, 4]).await.gets([1]).hit();
    purge(world.edge.admin, r#"{"items":[4],"mode":"soft"}"#)
        .await
        .status(200);
    world.vms.fault(Fault::Status(503), Times::Next(1));
    ann.asks([1, 4]).await.gets([1]).is("fwd-status=503");
    world.advance(1);
    ann.asks([1, 4]).await.gets([1]).fetched([&[4]]);
    ann.asks([1, 4]).await.gets([1]).hit();
}

#[tokio::test]
async fn a_hard_purge_is_not_undone_by_an_error_of_the_vms_but_a_soft_one_may_be() {
    for (mode, status) in [("soft", 200), ("hard", 503)] {
        let world = world().await;
        let ann = world.user(1);
        ann.asks([1]).await.gets([1]);
        world.advance(40);
        purge(
            world.edge.admin,
            format!(r#"{{"user":"tok-1-ios","mode":"{mode}"}}"#),
        )
        .await
        .status(200);
        world.advance(60);
        world.vms.fault(Fault::Status(503), Times::Next(2));
        ann.asks([1]).await.status(status);
    }
}
