//! What operators have: the admin listener, and a README that tells the truth.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use vms_edge::demo::vms::StandIn;

use crate::support::certificate::SelfSigned;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::world::{Answer, World, send};

const TOKEN: &str = "a-token-of-the-operators";

/// Sends a request to the admin listener, with `authorization` if it is not empty.
async fn operate(edge: &TestEdge, method: Method, path: &str, authorization: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("host", "localhost");
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    send(edge.admin, request.body(Full::default()).unwrap()).await
}

/// An edge with a token for its operators.
async fn guarded() -> World {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    World::with(&format!("admin.token_file = {:?}", file.path())).await
}

#[tokio::test]
async fn health_readiness_and_metrics_are_open() {
    let world = guarded().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        for authorization in ["", "Bearer wrong", &format!("Bearer {TOKEN}")] {
            let answer = operate(&world.edge, Method::GET, path, authorization).await;
            assert_eq!(answer.status, 200, "{path} {authorization}");
        }
        let head = operate(&world.edge, Method::HEAD, path, "").await;
        assert!(head.status(200).body.is_empty());
    }
}

#[tokio::test]
async fn any_other_path_is_401_without_the_token_and_404_with_it() {
    let world = guarded().await;
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
                let refused = operate(&world.edge, method.clone(), path, wrong).await;
                assert_eq!(refused.status, 401, "{path} {wrong}");
                assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
                assert_eq!(refused.header("content-type"), Some("application/json"));
            }
            let right = format!("Bearer {TOKEN}");
            let unknown = operate(&world.edge, method.clone(), path, &right).await;
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
            let refused = operate(&world.edge, method, path, authorization).await;
            assert!(refused.status(403).text().contains("admin.token_file"));
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405() {
    let world = guarded().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let refused = operate(&world.edge, method, path, "").await.status(405);
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
    let world = guarded().await;
    let operator = world
        .user(1)
        .with("authorization", &format!("Bearer {TOKEN}"));
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

/// The first cells of the table between two markers in the README, each without its backquotes.
fn documented(markers: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("there is a README.md");
    let (start, end) = (
        format!("<!-- {markers} -->"),
        format!("<!-- /{markers} -->"),
    );
    let table = readme
        .split_once(&start)
        .and_then(|(_, rest)| rest.split_once(&end));
    let table = table
        .unwrap_or_else(|| panic!("the README has {start} and {end}"))
        .0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| {
        let (name, _) = row.split_once("` |").expect("a name in a cell of its own");
        // A metric is shown with its label.
        name.split('{').next().unwrap_or(name)
    });
    cells.map(str::to_owned).collect()
}

/// Fails with what is missing and what is there in vain.
#[track_caller]
fn assert_documented(markers: &str, there: &BTreeSet<String>) {
    let documented = documented(markers);
    let missing: Vec<_> = there.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(there).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "the README's table of {markers} lacks {missing:?} and invents {unknown:?}"
    );
}

#[tokio::test]
async fn the_readme_names_every_metric_and_no_other() {
    // Of certificates there is something to tell where there is one.
    let certificate = SelfSigned::new();
    let world = World::with(&certificate.listener()).await;
    let scrape = Scrape::of(world.edge.admin).await;
    assert_documented("metrics", &scrape.families.keys().cloned().collect());
}

#[test]
fn the_readme_names_every_key_of_the_configuration_and_no_other() {
    let reference = include_str!("../../conf/edge.toml");
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in reference.lines() {
        // A key that is refused beside the defaults is shown commented out.
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line
            .strip_prefix('[')
            .filter(|header| header.ends_with(']'))
        {
            section = header.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            keys.insert(format!("{section}.{key}"));
        }
    }
    assert!(keys.len() > 30, "{keys:?}");
    assert_documented("configuration", &keys);
}
