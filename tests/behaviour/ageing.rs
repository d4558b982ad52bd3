//! What becomes of stored items as they age, as the VMS fails, and as writes make them wrong.

use std::time::Duration;

use http::Method;
use vms_edge::demo::vms::{Fault, Times};

use crate::support::client::Client;
use crate::support::deaf::Refusing;
use crate::support::edge::TestEdge;
use crate::support::soon;
use crate::support::world::{Answer, World, metrics};

/// Fresh 30 s, stale 60 s more, instead of an error 300 s more; no jitter.
const WINDOWS: &str = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\nabsent = \"10s\"\njitter = 0.0\n\
                       stale_while_revalidate = \"60s\"\nstale_if_error = \"5m\"\n";

/// Waits until so many fetches have been stored, however long that takes.
async fn stored(world: &World, fetches: u64) {
    fetched(world, "stored", fetches).await;
}

/// Waits until so many fetches have come to this.
async fn fetched(world: &World, outcome: &str, fetches: u64) {
    let line = format!("vms_edge_fetches_total{{outcome=\"{outcome}\"}} {fetches}\n");
    let counted = async {
        while !world.metrics().await.contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    soon(&line, counted).await;
}

fn says(answer: &Answer, text: &str) -> bool {
    answer.text().contains(text)
}

#[tokio::test]
async fn a_stale_item_is_answered_at_once_and_refreshed_once_in_the_background() {
    let world = World::with(WINDOWS).await;
    let ann = world.user(1);
    ann.asks([1, 2]).await.is("fwd=miss");
    world.advance(31);
    world.vms.rename(1, "Renamed");
    let hold = world.vms.hold();
    let stale = ann.asks([1, 2]).await.is("ttl=-1");
    assert!(!says(&stale, "Renamed"));
    hold.arrived(1).await;
    // While that refresh runs, nobody begins another.
    ann.asks([1]).await.is("ttl=-1").untold();
    drop(hold);
    stored(&world, 2).await;
    assert_eq!(world.vms.batches().last().unwrap().ids, [1, 2]);
    assert!(says(&ann.asks([1, 2]).await.hit(), "Renamed"));
    assert!(
        world
            .metrics()
            .await
            .contains("vms_edge_batch_requests_total{result=\"stale\"} 2")
    );
}

#[tokio::test]
async fn what_could_not_be_refreshed_is_left_so_for_a_moment_or_as_long_as_the_vms_asks() {
    let world = World::with(WINDOWS).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(31);
    for (failures, (retry_after, pause)) in [(None, 1), (Some("5"), 5)].into_iter().enumerate() {
        if let Some(seconds) = retry_after {
            world.vms.add_response_header("Retry-After", seconds);
        }
        world.vms.fault(Fault::Status(500), Times::Once);
        ann.asks([1]).await.gets([1]).is("hit");
        fetched(&world, "status", failures as u64 + 1).await;
        for _ in 1..pause {
            ann.asks([1]).await.gets([1]).is("hit").untold();
            world.advance(1);
        }
        ann.asks([1]).await.gets([1]).is("hit").untold();
        world.advance(1);
    }
    ann.asks([1]).await.gets([1]).is("hit");
    stored(&world, 2).await;
}

#[tokio::test]
async fn a_fetch_for_missing_ids_takes_the_stale_ones_along() {
    let world = World::with(WINDOWS).await;
    let ann = world.user(1);
    ann.asks([1]).await;
    world.advance(20);
    ann.asks([2]).await;
    world.advance(15);
    let answer = ann.asks([1, 2, 3]).await.gets([1, 2, 3]);
    answer.is("detail=\"hit=1 miss=2\"").fetched([&[1, 3]]);
}

#[tokio::test]
async fn when_the_vms_fails_a_whole_batch_within_stale_if_error_is_answered_from_memory() {
    for fault in [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::CloseBeforeAnswer,
        Fault::CutBody,
        Fault::CutJson,
        Fault::Html,
        Fault::Unasked,
        Fault::Twice,
        Fault::IdsAsStrings,
        Fault::Gzipped,
        Fault::Hang,
    ] {
        let timeouts = "upstream.connect_timeout = \"100ms\"\nupstream.fetch_timeout = \"200ms\"";
        let world = World::with(&format!("{timeouts}\n{WINDOWS}")).await;
        let ann = world.user(1);
        ann.asks([1, 2, 4]).await;
        world.advance(100);
        world.vms.fault(fault.clone(), Times::Always);
        ann.asks([1, 2, 4]).await.gets([1, 2]).is("ttl=-90");
        // Never with a hole, and never beyond the bound.
        assert_ne!(
            ann.asks([1, 2, 3]).await.is("fwd=miss").text(),
            "[]",
            "{fault:?}"
        );
        world.advance(230);
        assert_eq!(ann.asks([1, 2]).await.header("age"), None, "{fault:?}");
    }
}

#[tokio::test]
async fn where_nothing_taught_the_order_memory_is_still_better_than_an_error() {
    let world = World::with(WINDOWS).await;
    let ann = world.user(1);
    // One item each tells nothing of the order.
    ann.asks([1]).await.gets([1]);
    ann.asks([2]).await.gets([2]);
    world.advance(100);
    world.vms.fault(Fault::Status(503), Times::Once);
    let answer = ann.asks([2, 1]).await.gets([1, 2]);
    answer.is("detail=stale_if_error");
}

#[tokio::test]
async fn a_refused_token_is_never_covered_and_ends_what_was_stored_for_its_user() {
    for status in [401, 403] {
        let world = World::with(WINDOWS).await;
        let ann = world.user(1);
        ann.asks([1]).await;
        ann.asks([2]).await;
        world.advance(100);
        world.vms.fault(Fault::Status(status), Times::Once);
        ann.asks([1]).await.status(status);
        ann.clone()
            .asks([2])
            .await
            .gets([2])
            .is("fwd=miss")
            .fetched([&[2]]);
    }
}

#[tokio::test]
async fn a_write_by_the_rules_makes_the_writers_items_wrong_before_its_answer_is_seen() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"user\"]\n"
    );
    let world = World::with(&rules).await;
    let (ann, bob) = (world.user(1), world.user(2));
    let other_phone = world.user(1).with("x-uuid", "another");
    for widget in [&ann, &bob, &other_phone] {
        widget.asks([1, 3]).await.is("fwd=miss");
    }
    world.advance(1);
    let write = ann.clone().with("content-type", "application/json");
    write
        .sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#)
        .await
        .status(200);
    world.advance(1);
    assert!(says(&ann.asks([1, 3]).await.is("fwd=miss"), "Ours"));
    other_phone.asks([3]).await.is("fwd=miss");
    bob.asks([1, 3]).await.hit();
    assert!(
        world
            .metrics()
            .await
            .contains("vms_edge_marks_total{scope=\"user\"} 1")
    );
}

#[tokio::test]
async fn a_write_may_reach_an_item_for_everyone_or_everything() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"item\"]\n\
         [[invalidate]]\npath = \"/api/v1/logout\"\nscope = [\"all\"]\n"
    );
    let world = World::with(&rules).await;
    let (ann, bob) = (world.user(1), world.user(2));
    bob.asks([1, 3]).await;
    world.advance(1);
    let write = ann.clone().with("content-type", "application/json");
    write
        .sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#)
        .await
        .status(200);
    world.advance(1);
    bob.asks([1, 3])
        .await
        .is("detail=\"hit=1 miss=1\"")
        .fetched([&[1]]);
    ann.sends(Method::POST, "/api/v1/logout", "").await;
    world.advance(1);
    bob.asks([1, 3]).await.is("fwd=miss");
}

#[tokio::test]
async fn a_write_that_failed_or_that_no_rule_names_changes_nothing() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"user\"]\n"
    );
    let world = World::with(&rules).await;
    let ann = world.user(1);
    ann.asks([1]).await;
    world.advance(1);
    ann.sends(Method::PATCH, "/api/v1/intercom/4", "{}")
        .await
        .status(404);
    ann.sends(Method::POST, "/api/v1/echo", "x")
        .await
        .status(200);
    ann.gets("/api/v1/intercom/1").await.status(200);
    ann.asks([1]).await.hit();
}

#[tokio::test]
async fn a_fill_that_began_before_a_write_is_not_used_after_it() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"user\"]\n"
    );
    let world = World::with(&rules).await;
    let ann = world.user(1);
    let hold = world.vms.hold();
    let write_meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        let write = ann.clone().with("content-type", "application/json");
        write
            .sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#)
            .await
            .status(200);
        world.advance(1);
        drop(hold);
    };
    let (before, ()) = tokio::join!(ann.asks([1]), write_meanwhile);
    assert!(!says(&before, "Ours"));
    assert!(says(&ann.asks([1]).await.is("fwd=miss"), "Ours"));
}

#[tokio::test]
async fn a_write_whose_client_left_before_the_answer_counts_as_done_for_its_writer() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"item\"]\n"
    );
    let world = World::with(&rules).await;
    let (ann, bob) = (world.user(1), world.user(2));
    ann.asks([1]).await.gets([1]);
    bob.asks([1]).await.gets([1]);
    world.advance(1);
    world.vms.set_latency(Duration::from_secs(60));
    let mut leaver = Client::connect(world.edge.address).await;
    let fields = "Host: a\r\nAuthorization: Bearer tok-1-ios\r\nContent-Length: 0";
    leaver
        .send(format!(
            "PATCH /api/v1/intercom/1 HTTP/1.1\r\n{fields}\r\n\r\n"
        ))
        .await;
    drop(leaver);
    let marked = async {
        while !world
            .metrics()
            .await
            .contains("vms_edge_marks_total{scope=\"user\"} 1")
        {
            tokio::task::yield_now().await;
        }
    };
    soon("the mark", marked).await;
    world.vms.set_latency(Duration::ZERO);
    world.advance(1);
    ann.asks([1]).await.is("fwd=miss");
    bob.asks([1]).await.hit();
}

#[tokio::test]
async fn a_write_that_nobody_understands_or_that_never_left_marks_nothing() {
    let vms = Refusing::new();
    let rule = "[[invalidate]]\npath = \"/a/**\"\nscope = [\"all\"]";
    let edge = TestEdge::with(&[vms.address.to_string()], rule);
    let mut client = Client::connect(edge.address).await;
    client
        .send(
            "POST /a/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await.expect("an answer").0, 502);
    assert!(!metrics(&edge).await.contains("vms_edge_marks_total"));
}

#[tokio::test]
async fn a_token_that_is_refused_for_one_phone_ends_what_its_other_phone_stored() {
    let world = World::with(WINDOWS).await;
    let (phone, tablet) = (world.user(1), world.user(1).with("x-uuid", "tablet"));
    phone.asks([1]).await.gets([1]);
    world.advance(1);
    world.vms.revoke("tok-1-ios");
    tablet.asks([1]).await.status(401);
    world.advance(1);
    phone.asks([1]).await.status(401);
}

#[tokio::test]
async fn what_a_write_ended_while_the_rest_was_fetched_is_not_answered() {
    let rules = format!(
        "{WINDOWS}[[invalidate]]\npath = \"/api/v1/intercom/{{id}}\"\nscope = [\"user\"]\n"
    );
    let world = World::with(&rules).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    let hold = world.vms.hold();
    let write_meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        let write = ann.clone().with("content-type", "application/json");
        let written = write.sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#);
        written.await.status(200);
        drop(hold);
    };
    let (answer, ()) = tokio::join!(ann.asks([1, 2]), write_meanwhile);
    assert!(says(&answer.gets([1, 2]).is("fwd=miss"), "Ours"));
}
