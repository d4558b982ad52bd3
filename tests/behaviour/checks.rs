//! "Header checks": what is refused by the edge itself, and in which words.

use crate::support::world::{SHOWS, World};

#[tokio::test]
async fn no_or_empty_authorization_is_answered_401_and_not_asked_of_the_vms() {
    let world = World::new().await;
    for widget in [
        world.user(1).without("authorization"),
        world.user(1).with("authorization", ""),
        world.user(1).without("authorization").without("x-client"),
    ] {
        let refused = widget.asks([1]).await.status(401).untold();
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(refused.header("content-type"), Some("application/json"));
        refused.body_is(r#"{"message":"Unauthenticated."}"#);
    }
}

#[tokio::test]
async fn every_wrong_header_is_named_at_once_in_a_422() {
    let world = World::new().await;
    let widget = world
        .user(1)
        .without("x-uuid")
        .with("x-client", "toaster")
        .with("accept", "text/html");
    let refused = widget.asks([1]).await.status(422).untold();
    assert_eq!(refused.header("content-type"), Some("application/json"));
    refused.body_is(
        "{\"message\":\"The given data was invalid.\",\"errors\":{\
         \"X-Client\":[\"The selected X-Client header is invalid.\"],\
         \"X-UUID\":[\"The X-UUID header is required.\"],\
         \"Accept\":[\"The Accept header must admit application/json.\"]}}",
    );
}

#[tokio::test]
async fn x_client_must_be_there_and_listed() {
    let world = World::new().await;
    for client in [
        "ios-cctv",
        "android-cctv",
        "thick-legal",
        "web",
        "ios",
        "android",
    ] {
        world
            .user(1)
            .with("x-client", client)
            .asks([1])
            .await
            .gets([1]);
    }
    for client in ["IOS", "ios ios", "toaster", ""] {
        world
            .user(1)
            .with("x-client", client)
            .asks([1])
            .await
            .status(422)
            .untold();
    }
    world
        .user(1)
        .without("x-client")
        .asks([1])
        .await
        .status(422)
        .untold();
}

#[tokio::test]
async fn x_uuid_must_have_1_to_128_visible_characters() {
    let world = World::new().await;
    world
        .user(1)
        .with("x-uuid", &"u".repeat(128))
        .asks([1])
        .await
        .gets([1]);
    for uuid in ["", "a b", &"u".repeat(129)] {
        world
            .user(1)
            .with("x-uuid", uuid)
            .asks([1])
            .await
            .status(422)
            .untold();
    }
    world
        .user(1)
        .without("x-uuid")
        .asks([1])
        .await
        .status(422)
        .untold();
}

#[tokio::test]
async fn accept_must_admit_json() {
    let world = World::new().await;
    for admits in [
        "*/*",
        "application/*;q=0.1",
        "application/json, text/plain;q=0.9, */*;q=0.1",
    ] {
        world
            .user(1)
            .with("accept", admits)
            .asks([1])
            .await
            .gets([1]);
    }
    world.user(1).without("accept").asks([1]).await.gets([1]);
    for refuses in ["text/html", "application/json;q=0"] {
        world
            .user(1)
            .with("accept", refuses)
            .asks([1])
            .await
            .status(422)
            .untold();
    }
}

#[tokio::test]
async fn with_forward_a_faulty_request_passes_through_uncached_and_is_counted() {
    let world = World::with("headers.check = \"forward\"").await;
    for _ in 0..2 {
        world
            .user(1)
            .without("x-uuid")
            .asks([1])
            .await
            .gets([1])
            .bypassed("headers");
    }
    world
        .user(1)
        .without("authorization")
        .asks([1])
        .await
        .status(401)
        .bypassed("headers");
    let metrics = world.metrics().await;
    assert!(
        metrics.contains("vms_edge_bypass_total{reason=\"headers\"} 3"),
        "{metrics}"
    );
    world.user(1).asks([1]).await.is("fwd=miss");
}

#[tokio::test]
async fn other_paths_and_methods_are_not_checked() {
    let world = World::new().await;
    let bare = world
        .user(1)
        .without("x-client")
        .without("x-uuid")
        .with("accept", "text/html");
    bare.gets("/api/v1/user").await.status(200);
    bare.sends(http::Method::OPTIONS, SHOWS, "")
        .await
        .bypassed("method");
}
