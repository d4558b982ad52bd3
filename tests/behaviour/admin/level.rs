//! `GET` and `PUT /log`: the level of the log while the edge runs.

use http::{Method, Request};
use http_body_util::Full;
use vms_edge::demo::vms::StandIn;

use crate::support::operator::{operate, token};
use crate::support::scrape::Scrape;
use crate::support::service::Service;
use crate::support::world::send;

#[tokio::test]
async fn the_level_changes_what_is_logged_from_then_on() {
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = Service::silent_before(serving.address(), &format!("{token}log.level = \"error\""));
    let ask = async |path: &str| {
        let request = Request::get(path).header("host", "vms.local");
        send(edge.address, request.body(Full::default()).unwrap()).await;
        // Its access line was written, or not.
        Scrape::settled(edge.admin).await;
    };
    let level = async |body: &str, status: u16, told: &str| {
        let method = if body.is_empty() {
            Method::GET
        } else {
            Method::PUT
        };
        let answer = operate(edge.admin, method, "/log", body).await;
        answer.status(status).body_is(&format!("{told}\n"));
    };
    level("", 200, r#"{"level":"error","configured":"error"}"#).await;
    ask("/before").await;
    level(
        r#"{"level":"info"}"#,
        200,
        r#"{"level":"info","configured":"error"}"#,
    )
    .await;
    ask("/during").await;
    let wrong =
        r#"{"message":"level: is none of the choices; allowed: trace, debug, info, warn, error"}"#;
    level(r#"{"level":"INFO"}"#, 422, wrong).await;
    let twice = r#"{"message":"level: is given twice; allowed: each field once"}"#;
    level(r#"{"level":"warn","level":"warn"}"#, 422, twice).await;
    let unknown = r#"{"message":"a field: is unknown; allowed: level"}"#;
    level(r#"{"Level":"warn"}"#, 422, unknown).await;
    let nothing = r#"{"message":"level: is missing; allowed: trace, debug, info, warn, error"}"#;
    level("{}", 422, nothing).await;
    level("", 200, r#"{"level":"info","configured":"error"}"#).await;
    level(
        r#"{"level":"error"}"#,
        200,
        r#"{"level":"error","configured":"error"}"#,
    )
    .await;
    ask("/after").await;

    let log = edge.stops().await;
    assert!(
        log.contains("log level from=\"error\" to=\"info\""),
        "{log}"
    );
    assert!(log.contains("/during"), "{log}");
    assert!(!log.contains("/before") && !log.contains("/after"), "{log}");
}

#[tokio::test]
async fn where_no_log_was_started_there_is_none_to_change() {
    let world = super::world("").await;
    operate(world.edge.admin, Method::GET, "/log", "")
        .await
        .status(404);
}
