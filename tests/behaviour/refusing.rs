//! A token that the VMS refuses, on whatever path: what is stored under it goes, and nothing else does.

use http::Method;

use crate::support::reach::{ANNS, Reach, by_ann, request, shipped};
use crate::support::scrape::Scrape;
use crate::support::world::World;

const USER_MARKS: &str = "vms_edge_marks_total{scope=\"user\"}";
const MARKS_OF_ALL: &str = "vms_edge_marks_total{scope=\"all\"}";

#[tokio::test]
async fn a_refusal_on_any_path_ends_what_its_token_has_stored() {
    let reach = Reach::with(shipped()).await;
    for status in [401, 403] {
        for (method, target) in [
            ("GET", "/api/v1/user"),
            ("GET", "/"),
            ("POST", "/broadcasting/auth"),
            ("PATCH", "/api/v1/intercom/180"),
            ("GET", "/api/v1/intercom/shows?ids=1"),
        ] {
            let widget = "X-Client: ios\r\nX-UUID: phone\r\n";
            let refused = by_ann(method, target, &format!("{widget}X-Status: {status}\r\n"));
            assert_eq!(
                reach.ended_by(&refused).await,
                ANNS,
                "{status} {method} {target}"
            );
        }
    }
    for status in [400, 404, 407, 419, 422, 429, 500] {
        let failed = by_ann("GET", "/api/v1/user", &format!("X-Status: {status}\r\n"));
        assert!(reach.ended_by(&failed).await.is_empty(), "{status}");
    }
}

#[tokio::test]
async fn a_refused_token_is_found_however_it_was_written() {
    let reach = Reach::with(shipped()).await;
    for fields in [
        "Authorization: bearer ann\r\n",
        "Authorization: Bearer   ann\r\n",
        "Authorization: Bearer ann,bob2\r\n",
        "Authorization: Basic x, Bearer ann\r\n",
        "Authorization: Bearer other\r\nAuthorization: Bearer ann\r\n",
        "Authorization: Bearer ann\r\nAuthorization: Basic x\r\n",
    ] {
        let refused = request("GET", "/api/v1/user", &format!("X-Status: 401\r\n{fields}"));
        assert_eq!(reach.ended_by(&refused).await, ANNS, "{fields}");
    }
    for target in [
        "/x?token=ann",
        "/x?a&api_token=ann",
        "/x?access_token=%61nn",
        "/x?api.token=ann",
        "/x?api+token=ann",
        "/x?api%20token=ann",
        "/x?api[token=ann",
        "/x?+api.token[]=ann",
        "/x?token%00x=ann",
    ] {
        let refused = request("GET", target, "X-Status: 403\r\n");
        assert_eq!(reach.ended_by(&refused).await, ANNS, "{target}");
    }
}

#[tokio::test]
async fn whoever_guesses_tokens_ends_nothing_and_leaves_no_marks() {
    let reach = Reach::with(shipped()).await;
    let guesses: Vec<String> = (0..50)
        .map(|guess| {
            request(
                "GET",
                "/x",
                &format!("X-Status: 401\r\nAuthorization: Bearer {guess}\r\n"),
            )
        })
        .chain([
            request("GET", "/x", "X-Status: 401\r\n"),
            request(
                "POST",
                "/api/v1/billing/x",
                "X-Status: 403\r\nCookie: a=b\r\n",
            ),
            request("GET", "/x", "X-Status: 403\r\nAuthorization: Bearer\r\n"),
        ])
        .collect();
    let guesses: Vec<&str> = guesses.iter().map(String::as_str).collect();
    assert!(reach.ended_by_all(&guesses).await.is_empty());
    let metrics = Scrape::settled(reach.edge.admin).await;
    assert_eq!(
        (metrics.value(USER_MARKS), metrics.value(MARKS_OF_ALL)),
        (0.0, 0.0)
    );
}

#[tokio::test]
async fn a_guessed_token_that_a_batch_is_asked_with_leaves_no_mark() {
    let world = World::new().await;
    for user in ["zzz", "tok-0-ios", "tok-1-"] {
        let guess = world
            .user(1)
            .with("authorization", &format!("Bearer {user}"));
        guess.asks([1]).await.status(401);
    }
    assert!(!world.metrics().await.contains("vms_edge_marks_total"));
}

#[tokio::test]
async fn a_token_refused_while_its_first_fetch_is_under_way_has_nothing_answered_from_that() {
    let world = World::new().await;
    let ann = world.user(1);
    let hold = world.vms.hold();
    let refused_meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        world.vms.revoke("tok-1-ios");
        ann.sends(Method::GET, "/api/v1/user", "").await.status(401);
        world.advance(1);
        drop(hold);
    };
    let (before, ()) = tokio::join!(ann.asks([1]), refused_meanwhile);
    before.gets([1]);
    ann.asks([1]).await.status(401);
}

#[tokio::test]
async fn a_token_refused_in_one_batch_has_nothing_answered_from_another_under_way() {
    let world = World::new().await;
    let (phone, tablet) = (world.user(1), world.user(1).with("x-uuid", "tablet"));
    let hold = world.vms.hold();
    let refused_meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        world.vms.revoke("tok-1-ios");
        // The phone's batch goes on waiting; the tablet's need not.
        drop(world.vms.hold());
        tablet.asks([1]).await.status(401);
        world.advance(1);
        drop(hold);
    };
    let (before, ()) = tokio::join!(phone.asks([1]), refused_meanwhile);
    before.gets([1]);
    phone.asks([1]).await.status(401);
}

#[tokio::test]
async fn a_logout_ends_what_its_token_has_stored() {
    let world = World::with(shipped()).await;
    let ann = world.user(1);
    ann.asks([1]).await.gets([1]);
    world.advance(1);
    ann.sends(Method::POST, "/api/v1/logout", "")
        .await
        .status(204);
    world.advance(1);
    ann.asks([1]).await.status(401);
}
