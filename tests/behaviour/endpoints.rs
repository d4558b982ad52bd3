//! Two batch endpoints at once: the same numbers mean different things, and nothing of one is ever the other's.

use std::collections::BTreeMap;

use http::Method;
use vms_edge::demo::vms::Endpoint;

use crate::support::reach::{ALL, Reach, by_ann, shipped};
use crate::support::scrape::Scrape;
use crate::support::world::{SHOWS, World};

const CAMERAS: &str = "/api/v1/cameras/shows";

/// Cameras are numbered like their intercoms, this much higher.
const CAMERA_OFFSET: u64 = 653;

/// A user, and a number that is an intercom of theirs and a camera of theirs, though not of each other.
fn somebody(world: &World) -> (u64, u64) {
    let both =
        |user: u64, id: u64| world.vms.owns(user, id) && world.vms.owns(user, id - CAMERA_OFFSET);
    let mut users = (3..100).flat_map(|user| (700..1_000).map(move |id| (user, id)));
    users
        .find(|(user, id)| both(*user, *id))
        .expect("there is one")
}

fn target(path: &str, id: u64) -> String {
    format!("{path}?ids%5B%5D={id}")
}

#[tokio::test]
async fn one_number_is_an_intercom_and_a_camera_and_each_is_answered_as_the_vms_does() {
    let world = World::with(shipped()).await;
    let (user, id) = somebody(&world);
    let widget = world.user(user);
    for (path, endpoint, asked) in [
        (SHOWS, Endpoint::Intercoms, 1),
        (CAMERAS, Endpoint::Cameras, 2),
    ] {
        let target = target(path, id);
        let straight = widget.straight(&target).await;
        let first = widget
            .gets(&target)
            .await
            .gets([id])
            .is("fwd=miss")
            .fetched([&[id]]);
        let batches = world.vms.batches();
        assert_eq!(batches.last().expect("it was fetched").endpoint, endpoint);
        assert_eq!(batches.len(), 2 * asked, "one straight, one by the edge");
        let again = widget.gets(&target).await.hit();
        assert!(
            again.body == straight.body && first.body == straight.body,
            "{path}"
        );
    }
    assert_ne!(
        widget.gets(&target(SHOWS, id)).await.hit().body,
        widget.gets(&target(CAMERAS, id)).await.hit().body
    );
}

#[tokio::test]
async fn what_is_absent_of_one_endpoint_may_be_there_of_the_other() {
    let world = World::with(shipped()).await;
    let ann = world.user(1);
    ann.gets(&target(CAMERAS, 1)).await.gets([]);
    ann.gets(&target(SHOWS, 1)).await.gets([1]).is("fwd=miss");
    ann.gets(&target(CAMERAS, 1)).await.gets([]).hit();
    ann.gets(&target(SHOWS, 1)).await.gets([1]).hit();
}

#[tokio::test]
async fn a_write_to_an_intercom_ends_it_for_everyone_and_no_camera_of_its_number() {
    let reach = Reach::with(shipped()).await;
    let write = by_ann("PATCH", "/api/admin/v1/intercoms/180", "");
    assert_eq!(reach.ended_by(&write).await, [ALL[0], ALL[4]]);
}

#[tokio::test]
async fn a_new_star_on_a_camera_is_seen_in_the_camera_and_in_the_intercom_that_holds_it() {
    let world = World::with(shipped()).await;
    let ann = world.user(1);
    let (intercom, camera) = (target(SHOWS, 3), target(CAMERAS, 3 + CAMERA_OFFSET));
    for target in [&intercom, &camera] {
        let answer = ann.gets(target).await.is("fwd=miss");
        assert!(answer.text().contains("\"is_favorite\":false"), "{target}");
    }
    world.advance(1);
    let star = format!("/api/v1/cameras/{}/favorites", 3 + CAMERA_OFFSET);
    ann.sends(Method::POST, &star, "").await.status(200);
    world.advance(1);
    for target in [&intercom, &camera] {
        let answer = ann.gets(target).await.is("fwd=miss");
        assert!(answer.text().contains("\"is_favorite\":true"), "{target}");
    }
}

#[tokio::test]
async fn each_endpoint_is_counted_under_its_name() {
    let renamed = format!(
        "{}\n",
        shipped().replace(
            "path = \"/api/v1/cameras/shows\"",
            "path = \"/api/v1/cameras/shows\"\nname = \"cams_2\"",
        )
    );
    let world = World::with(&renamed).await;
    let before = Scrape::settled(world.edge.admin).await;
    let ann = world.user(1);
    ann.asks([1, 2, 4]).await.is("fwd=miss");
    ann.asks([1, 2, 4]).await.hit();
    ann.gets(&target(CAMERAS, 1 + CAMERA_OFFSET))
        .await
        .is("fwd=miss");
    ann.gets(&format!("{CAMERAS}?ids=1")).await.bypassed("ids");
    ann.clone()
        .without("x-uuid")
        .gets(&target(CAMERAS, 1))
        .await
        .status(422);
    let after = Scrape::settled(world.edge.admin).await;
    let moved: BTreeMap<String, f64> = after
        .series
        .iter()
        .filter(|(series, _)| series.starts_with("vms_edge_endpoint_"))
        .map(|(series, value)| {
            (
                series.replace("vms_edge_endpoint_", ""),
                value - before.value(series),
            )
        })
        .filter(|(_, by)| *by != 0.0)
        .collect();
    let expected = [
        ("fetch_ids_total{batch=\"cams_2\"}", 1.0),
        ("fetch_ids_total{batch=\"intercom_shows\"}", 3.0),
        ("items_total{batch=\"cams_2\",result=\"missing\"}", 1.0),
        (
            "items_total{batch=\"intercom_shows\",result=\"absent\"}",
            1.0,
        ),
        (
            "items_total{batch=\"intercom_shows\",result=\"fresh\"}",
            2.0,
        ),
        (
            "items_total{batch=\"intercom_shows\",result=\"missing\"}",
            3.0,
        ),
        ("requests_total{batch=\"cams_2\",result=\"bypass\"}", 1.0),
        ("requests_total{batch=\"cams_2\",result=\"miss\"}", 1.0),
        ("requests_total{batch=\"cams_2\",result=\"rejected\"}", 1.0),
        (
            "requests_total{batch=\"intercom_shows\",result=\"hit\"}",
            1.0,
        ),
        (
            "requests_total{batch=\"intercom_shows\",result=\"miss\"}",
            1.0,
        ),
    ];
    let expected = expected.map(|(series, by)| (series.to_owned(), by));
    assert_eq!(moved, BTreeMap::from(expected));
}
