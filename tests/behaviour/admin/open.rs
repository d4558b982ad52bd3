//! What of the admin listener is open to whom: some of it to everybody, the rest with the token, none of it to clients.

use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use vms_edge::demo::vms::StandIn;

use super::world;
use crate::support::edge::TestEdge;
use crate::support::operator::{TOKEN, ask, bearer};
use crate::support::scrape::Scrape;
use crate::support::world::{Answer, World, send};

/// Asks with `authorization` if it is not empty.
async fn come(world: &World, method: Method, path: &str, authorization: &str) -> Answer {
    let fields = [("host", "localhost"), ("authorization", authorization)];
    let fields = match authorization.is_empty() {
        true => &fields[..1],
        false => &fields,
    };
    ask(world.edge.admin, method, path, fields, "").await
}

#[tokio::test]
async fn health_readiness_and_metrics_are_open() {
    let world = world("").await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        for authorization in ["", "Bearer wrong", &bearer()] {
            let answer = come(&world, Method::GET, path, authorization).await;
            assert_eq!(answer.status, 200, "{path} {authorization}");
        }
        let head = come(&world, Method::HEAD, path, "").await;
        assert!(head.status(200).body.is_empty());
    }
}

#[tokio::test]
async fn any_other_path_is_401_without_the_token_and_404_with_it() {
    let world = world("").await;
    for path in [
        "/index.html",
        "/page/",
        "/page/../status",
        "/metrics/",
        "/metrics/x",
        "//healthz",
        "/Healthz",
        "/purge/",
        "/purge/everything",
        "//purge",
    ] {
        for method in [Method::GET, Method::POST] {
            for wrong in [
                "",
                "Bearer wrong",
                "Bearer ",
                TOKEN,
                &format!("bearer {TOKEN}"),
                &format!("Bearer  {TOKEN}"),
                &format!("Bearer {TOKEN}x"),
                &format!("Bearer {}", &TOKEN[1..]),
                &format!("Basic {TOKEN}"),
            ] {
                let refused = come(&world, method.clone(), path, wrong).await;
                assert_eq!(refused.status, 401, "{path} {wrong}");
                assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
                assert_eq!(refused.header("content-type"), Some("application/json"));
            }
            let unknown = come(&world, method.clone(), path, &bearer()).await;
            assert_eq!(unknown.status, 404, "{path}");
        }
    }
}

#[tokio::test]
async fn without_a_token_file_no_token_opens_anything() {
    let world = World::new().await;
    for authorization in ["", "Bearer ", "Bearer x"] {
        for (method, path) in [
            (Method::POST, "/purge"),
            (Method::GET, "/purge"),
            (Method::GET, "/status"),
            (Method::GET, "/history"),
            (Method::POST, "/explain"),
        ] {
            let refused = come(&world, method, path, authorization).await;
            assert!(refused.status(403).text().contains("admin.token_file"));
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405() {
    let world = world("").await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let refused = come(&world, method, path, "").await.status(405);
            assert_eq!(refused.header("allow"), Some("GET,HEAD"));
            assert!(
                refused.text().starts_with("{\"message\":"),
                "{}",
                refused.text()
            );
        }
    }
}

#[tokio::test]
async fn nothing_of_the_admin_listener_is_reachable_through_the_public_port() {
    let world = world("").await;
    let operator = world.user(1).with("authorization", &bearer());
    for path in ["/healthz", "/readyz", "/metrics", "/purge", "/"] {
        let before = world.vms.requests_total();
        let through_edge = operator.gets(path).await;
        assert_eq!(
            world.vms.requests_total(),
            before + 1,
            "{path} goes to the VMS"
        );
        let straight = operator.straight(path).await;
        assert_eq!(through_edge.status, straight.status, "{path}");
        assert_eq!(through_edge.body, straight.body, "{path}");
    }
    let addressed = operator.clone().with("host", &world.edge.admin.to_string());
    assert!(
        !addressed
            .gets("/metrics")
            .await
            .text()
            .contains("vms_edge_")
    );
}

#[tokio::test]
async fn an_edge_that_shuts_down_is_not_ready_but_healthy_until_its_last_request_is_done() {
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = TestEdge::before(serving.address());
    let hold = vms.hold();
    let (address, admin) = (edge.address, edge.admin);
    let request = Request::get("/api/v1/intercom/shows?ids[]=1")
        .header("host", "vms.local")
        .header("authorization", "Bearer tok-1-ios")
        .header("x-client", "ios")
        .header("x-uuid", "device");
    let asked = tokio::spawn(send(address, request.body(Full::default()).unwrap()));
    hold.arrived(1).await;
    let probe = async |path: &str| {
        let request = Request::get(path).header("host", "edge");
        send(admin, request.body(Full::default()).unwrap()).await
    };
    probe("/readyz").await.status(200).body_is("ready\n");
    assert_eq!(Scrape::of(admin).await.value("vms_edge_ready"), 1.0);

    let stopping = edge.stop();
    let turns = async {
        while probe("/readyz").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    let turned = tokio::time::timeout(Duration::from_secs(5), turns).await;
    turned.expect("readiness turns");
    probe("/readyz")
        .await
        .status(503)
        .body_is("shutting down\n");
    probe("/healthz").await.status(200);
    let metrics = Scrape::of(admin).await;
    assert_eq!(metrics.value("vms_edge_requests_in_flight"), 1.0);
    assert_eq!(metrics.value("vms_edge_ready"), 0.0);
    assert!(!stopping.is_finished());

    drop(hold);
    asked.await.unwrap().gets([1]);
    tokio::task::spawn_blocking(move || stopping.join().unwrap())
        .await
        .unwrap();
}
