//! Overlapping batches in flight together: each id is fetched once, and nobody is left without an answer.

use http::Method;
use vms_edge::demo::vms::{Fault, Times};

use crate::support::client::Client;
use crate::support::soon;
use crate::support::world::{Answer, Widget, World};

/// Whoever waits may be served by another thread than the one who fetches.
const THREADS: &str = "server.threads = 4\n";

const RULE: &str = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"user\"]\n";

/// Waits until so many ids have been left to others' fetches.
async fn collapsed(world: &World, ids: u64) {
    let line = format!("vms_edge_collapsed_ids_total {ids}\n");
    let counted = async {
        while !world.metrics().await.contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    soon("a batch that waits", counted).await;
}

/// Each batch that the VMS was asked for.
fn asked(world: &World) -> Vec<Vec<u64>> {
    world.vms.batches().into_iter().map(|b| b.ids).collect()
}

/// Ann asks for `first`, then for `second`, of which so many are in flight; what happens before the VMS answers is up to
/// `meanwhile`.
async fn two(
    world: &World,
    first: &[u64],
    second: &[u64],
    shared: u64,
    meanwhile: impl AsyncFnOnce(),
) -> (Answer, Answer) {
    let ann = world.user(1);
    let hold = world.vms.hold();
    let later = async {
        hold.arrived(1).await;
        let release = async {
            collapsed(world, shared).await;
            meanwhile().await;
            drop(hold);
        };
        tokio::join!(ann.asks(second.to_vec()), release).0
    };
    let (first, second) = tokio::join!(ann.asks(first.to_vec()), later);
    (first, second)
}

#[tokio::test]
async fn overlapping_batches_fetch_each_id_once() {
    let world = World::with(THREADS).await;
    let (first, second) = two(&world, &[1, 2], &[2, 3], 1, async || {}).await;
    first.gets([1, 2]).is("fwd=miss").is("stored");
    let second = second.gets([2, 3]).is("fwd=miss").is("collapsed");
    assert_eq!(second.header("age"), Some("0"));
    assert_eq!(asked(&world), [vec![1, 2], vec![3]]);
}

#[tokio::test]
async fn a_batch_that_is_in_flight_already_asks_nothing() {
    let world = World::with(THREADS).await;
    let (first, second) = two(&world, &[1, 2, 4], &[4, 1], 2, async || {}).await;
    let first = first.gets([1, 2]);
    assert!(!first.header("cache-status").unwrap().contains("collapsed"));
    second.gets([1]).is("collapsed").is("stored");
    assert_eq!(asked(&world), [[1, 2, 4]]);
}

#[tokio::test]
async fn what_is_at_hand_is_joined_by_what_is_in_flight() {
    let world = World::with(THREADS).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    let (_, second) = two(&world, &[2], &[1, 2, 3], 1, async || {}).await;
    second
        .gets([1, 2, 3])
        .is("fwd=partial")
        .is("collapsed")
        .is("detail=\"hit=1 miss=2\"");
    assert_eq!(asked(&world), [[1], [2], [3]]);
}

#[tokio::test]
async fn nobody_waits_for_the_fetch_of_another_key() {
    let world = World::with(THREADS).await;
    let phones = [
        world.user(1),
        world.user(2),
        world.user(1).with("x-uuid", "tablet"),
        world.user(1).with("hl", "de"),
    ];
    let hold = world.vms.hold();
    let release = async {
        hold.arrived(phones.len()).await;
        drop(hold);
    };
    let [a, b, c, d] = &phones;
    let answers = tokio::join!(a.asks([1]), b.asks([1]), c.asks([1]), d.asks([1]), release);
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        answer.gets([1]).is("fwd=miss");
    }
    assert!(
        !world
            .metrics()
            .await
            .contains("vms_edge_collapsed_ids_total")
    );
}

#[tokio::test]
async fn whoever_waits_is_answered_although_the_one_who_asked_first_has_left() {
    let world = World::with(THREADS).await;
    let hold = world.vms.hold();
    let mut leaver = Client::connect(world.edge.address).await;
    let fields = "Host: vms.local\r\nAuthorization: Bearer tok-1-ios\r\nAccept: application/json\r\n\
                  X-Client: ios\r\nX-UUID: b7f0c0de-1\r\nX-Version: 24.03.0.0\r\n";
    leaver
        .send(format!(
            "GET /api/v1/intercom/shows?ids[]=1&ids[]=2 HTTP/1.1\r\n{fields}\r\n"
        ))
        .await;
    hold.arrived(1).await;
    drop(leaver);
    let release = async {
        collapsed(&world, 2).await;
        drop(hold);
    };
    let ann = world.user(1);
    let (answer, ()) = tokio::join!(ann.asks([1, 2]), release);
    answer.gets([1, 2]).is("collapsed");
    assert_eq!(asked(&world), [[1, 2]]);
}

#[tokio::test]
async fn what_the_vms_says_of_the_requester_or_of_itself_is_said_to_all_who_waited() {
    for status in [401, 403, 429, 500, 503] {
        let world = World::with(THREADS).await;
        world.vms.add_response_header("Set-Cookie", "session=1");
        world.vms.fault(Fault::Status(status), Times::Once);
        let (first, second) = two(&world, &[1, 2], &[2], 1, async || {}).await;
        let (first, second) = (first.status(status), second.status(status));
        assert_eq!(first.body, second.body);
        // A cookie is for the one who asked.
        assert_eq!(first.header("set-cookie"), Some("session=1"));
        assert_eq!(second.header("set-cookie"), None);
        assert_eq!(asked(&world), [[1, 2]], "{status}");
    }
}

#[tokio::test]
async fn what_the_vms_finds_wrong_with_anothers_ids_is_not_said_to_who_waited() {
    let world = World::with(THREADS).await;
    world.vms.fault(Fault::Status(422), Times::Once);
    let (first, second) = two(&world, &[1, 2], &[2], 1, async || {}).await;
    first.status(422);
    second.gets([2]).is("fwd=miss");
    assert_eq!(asked(&world), [vec![1, 2], vec![2]]);
}

#[tokio::test]
async fn whoever_waited_for_an_answer_that_broke_off_asks_by_himself() {
    let world = World::with(THREADS).await;
    world.vms.fault(Fault::CutBody, Times::Once);
    let (first, second) = two(&world, &[1, 2], &[2], 1, async || {}).await;
    first.status(502);
    second.gets([2]);
    assert_eq!(asked(&world), [vec![1, 2], vec![2]]);
}

#[tokio::test]
async fn whoever_waited_for_an_answer_that_is_no_part_of_his_passes_through() {
    for fault in [Fault::Unasked, Fault::NoStore] {
        let world = World::with(THREADS).await;
        world.vms.fault(fault.clone(), Times::Once);
        let (first, second) = two(&world, &[1, 2], &[2], 1, async || {}).await;
        assert_eq!(first.status, 200, "{fault:?}");
        second.gets([2]).is("fwd=bypass").is("detail=unfit");
    }
}

#[tokio::test]
async fn whoever_waited_for_an_answer_that_may_differ_by_what_no_key_covers_asks_by_himself() {
    let world = World::with(THREADS).await;
    let fault = Fault::VaryOn("X-Odd".into());
    world.vms.fault(fault, Times::Once);
    let (first, second) = two(&world, &[1, 2], &[2], 1, async || {}).await;
    first.status(200);
    second.gets([2]).is("fwd=miss").is("stored");
    assert_eq!(asked(&world), [vec![1, 2], vec![2]]);
}

#[tokio::test]
async fn nobody_waits_for_a_fetch_that_began_before_a_mark() {
    let world = World::with(&format!("{THREADS}{RULE}")).await;
    let ann = world.user(1);
    let hold = world.vms.hold();
    let meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        let write = ann.clone().with("content-type", "application/json");
        let written = write.sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#);
        written.await.status(200);
        world.advance(1);
        let reader = ann.asks([1]);
        let release = async {
            hold.arrived(2).await;
            drop(hold);
        };
        tokio::join!(reader, release).0
    };
    let (before, after) = tokio::join!(ann.asks([1]), meanwhile);
    assert!(!before.text().contains("Ours"));
    assert!(after.gets([1]).is("fwd=miss").text().contains("Ours"));
    ann.asks([1]).await.gets([1]).hit();
}

#[tokio::test]
async fn what_a_mark_ended_while_it_was_waited_for_is_fetched_again() {
    let world = World::with(&format!("{THREADS}{RULE}")).await;
    let ann = world.user(1);
    let (first, second) = two(&world, &[1], &[1, 2], 1, async || {
        world.advance(1);
        let write = ann.clone().with("content-type", "application/json");
        let written = write.sends(Method::PATCH, "/api/v1/intercom/1", r#"{"title":"Ours"}"#);
        written.await.status(200);
        world.advance(1);
    })
    .await;
    assert!(!first.text().contains("Ours"));
    assert!(second.gets([1, 2]).text().contains("Ours"));
    assert_eq!(asked(&world), [vec![1], vec![2], vec![1, 2]]);
}

#[tokio::test]
async fn a_request_for_the_newest_waits_for_no_earlier_fetch() {
    let world = World::with(THREADS).await;
    let ann = world.user(1);
    let hold = world.vms.hold();
    let newest = async {
        hold.arrived(1).await;
        let widget = ann.clone().with("cache-control", "no-cache");
        let release = async {
            hold.arrived(2).await;
            drop(hold);
        };
        tokio::join!(widget.asks([1]), release).0
    };
    let (first, second) = tokio::join!(ann.asks([1]), newest);
    first.gets([1]).is("fwd=miss");
    second.gets([1]).is("fwd=miss");
}

#[tokio::test]
async fn a_batch_of_unknown_order_waits_for_what_may_teach_it() {
    let world = World::with(THREADS).await;
    let (first, second) = two(&world, &[3, 1], &[2, 1], 1, async || {}).await;
    first.gets([1, 3]);
    second.gets([1, 2]).is("collapsed");
    assert_eq!(asked(&world), [vec![3, 1], vec![2]]);
}

#[tokio::test]
async fn a_batch_whose_order_nothing_taught_is_asked_for_as_a_whole() {
    let world = World::with(THREADS).await;
    let (first, second) = two(&world, &[1], &[2, 1], 1, async || {}).await;
    first.gets([1]);
    second.gets([1, 2]).is("fwd=miss");
    assert_eq!(asked(&world), [vec![1], vec![2], vec![2, 1]]);
}

#[tokio::test]
async fn a_refresh_is_waited_for_once_its_item_is_too_old_to_answer() {
    let windows = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\njitter = 0.0\n\
                   stale_while_revalidate = \"60s\"\n";
    let world = World::with(&format!("{THREADS}{windows}")).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(60);
    let hold = world.vms.hold();
    ann.asks([1]).await.gets([1]).is("hit");
    hold.arrived(1).await;
    world.advance(60);
    let release = async {
        collapsed(&world, 1).await;
        drop(hold);
    };
    let (answer, ()) = tokio::join!(ann.asks([1]), release);
    answer.gets([1]).is("collapsed");
    assert_eq!(asked(&world), [[1], [1]]);
}

#[tokio::test]
async fn stale_items_are_refreshed_while_others_fetch_what_is_missing() {
    let windows = "[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"30s\"\njitter = 0.0\n";
    let world = World::with(&format!("{THREADS}{windows}")).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(31);
    let (_, second) = two(&world, &[2], &[1, 2], 1, async || {}).await;
    second.gets([1, 2]).is("detail=\"hit=1 miss=1\"");
    assert_eq!(asked(&world)[..2], [[1], [2]]);
    let refreshed = async {
        while asked(&world).len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon("the refresh", refreshed).await;
    assert_eq!(asked(&world)[2], [1]);
}

#[tokio::test]
async fn nobody_waits_for_a_fetch_that_began_before_a_mark_however_short_the_windows_are() {
    let none = "fresh = \"0s\"\nabsent = \"0s\"\nstale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\n";
    let batch = format!("[[batch]]\npath = \"/api/v1/intercom/shows\"\n{none}");
    let world = World::with(&format!("{THREADS}{batch}{RULE}")).await;
    let (ann, bob) = (world.user(1), world.user(2));
    let hold = world.vms.hold();
    let write = async |widget: &Widget<'_>, id: u64| {
        let write = widget.clone().with("content-type", "application/json");
        let target = format!("/api/v1/intercom/{id}");
        let written = write.sends(Method::PATCH, &target, r#"{"title":"Ours"}"#);
        written.await.status(200);
        world.advance(1);
    };
    let meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        write(&ann, 1).await;
        // Another mark, in whose course those that nobody needs any more are forgotten.
        write(&bob, 3).await;
        let release = async {
            hold.arrived(2).await;
            drop(hold);
        };
        tokio::join!(ann.asks([1]), release).0
    };
    let (before, after) = tokio::join!(ann.asks([1]), meanwhile);
    assert!(!before.text().contains("Ours"));
    assert!(after.gets([1]).is("fwd=miss").text().contains("Ours"));
}
