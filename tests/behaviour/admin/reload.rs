//! `POST /reload`: another configuration at an operator's word.

use http::Method;
use serde_json::{Value, json};
use vms_edge::demo::vms::StandIn;

use super::json as read;
use crate::support::operator::{operate, token};
use crate::support::scrape::Scrape;
use crate::support::service::Service;

#[tokio::test]
async fn a_reload_says_what_changed_or_why_nothing_did() {
    let (file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let settings = format!("{token}log.level = \"info\"\nlog.access = true\n");
    let edge = Service::before(serving.address(), &settings).await;
    let ask = async |method: Method, path: &str, body: &str| {
        operate(edge.admin, method, path, body).await
    };
    let level = async || read(&ask(Method::GET, "/log", "").await.status(200));
    ask(Method::PUT, "/log", r#"{"level":"debug"}"#)
        .await
        .status(200);

    edge.reconfigure("log.level = \"info\"", "log.level = \"warn\"");
    edge.reconfigure("server.threads = 1", "server.threads = 2");
    let applied = read(&ask(Method::POST, "/reload", "").await.status(200));
    let change = |key: &str, before: &str, after: &str| json!({"key": key, "before": before, "after": after});
    assert_eq!(
        (&applied["by"], &applied["result"]),
        (&json!("admin"), &json!("applied"))
    );
    assert_eq!(
        applied["changes"],
        json!([change("log.level", "\"info\"", "\"warn\"")])
    );
    assert_eq!(
        applied["waiting"],
        json!([change("server.threads", "1", "2")])
    );
    assert_eq!(
        level().await,
        json!({"level": "warn", "configured": "warn"})
    );

    edge.reconfigure("log.access = true", "log.access = 1");
    let refused = read(&ask(Method::POST, "/reload", "").await.status(422));
    assert_eq!(refused["result"], "refused");
    let reason = refused["reasons"][0].as_str().unwrap();
    assert!(reason.contains("log.access: 1 is an integer"), "{reason}");
    assert_eq!(level().await["level"], "warn");

    let told = read(&ask(Method::GET, "/status", "").await);
    let results = |told: &Value| {
        let reloads = told["reloads"].as_array().unwrap().iter();
        let result = |reload: &Value| reload["result"].as_str().unwrap().to_owned();
        reloads.map(result).collect::<Vec<_>>()
    };
    assert_eq!(results(&told), ["refused", "applied"], "the latest first");
    let metrics = Scrape::of(edge.admin).await;
    assert_eq!(metrics.value("vms_edge_config_last_reload_success"), 0.0);

    // Another token takes the place of the one before, and is not told.
    edge.reconfigure("log.access = 1", "log.access = true");
    std::fs::write(file.path(), "another-token-of-operators").unwrap();
    let applied = ask(Method::POST, "/reload", "").await.status(200);
    assert!(
        !applied.text().contains("another-token"),
        "{}",
        applied.text()
    );
    ask(Method::GET, "/status", "").await.status(401);
}
