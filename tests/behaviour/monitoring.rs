//! "Metrics, alerts, a dashboard": what `conf/` has for Prometheus and Grafana, tried with a real Prometheus that asks a
//! real edge.

mod dashboard;
mod prometheus;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Request;
use http_body_util::Full;
use serde_json::Value;
use vms_edge::demo::vms::{Fault, Times};

use self::dashboard::Dashboard;
use self::prometheus::{Prometheus, conf};
use crate::support::certificate::SelfSigned;
use crate::support::deployment::Deployment;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::tools::tool;
use crate::support::world::{World, send};

/// Queries that find something only while something is wrong. `tests/prometheus` has series for which they do.
const ONLY_WHEN_WRONG: [&str; 2] = [
    "count by (alertname) (ALERTS{alertname=~\"VmsEdge.*\", alertstate=\"firing\"})",
    "changes(process_start_time_seconds{job=~\"vms-edge\", instance=~\".*\"}[1m]) > 0",
];

/// Runs promtool, which is to find nothing wrong.
#[track_caller]
fn promtool(program: &Path, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// Everything that can happen to a request.
async fn everything_happens(world: &World) {
    for user in 1..=4 {
        let user = world.user(user);
        tokio::join!(user.asks([1, 2, 4]), user.asks([2, 3, 4]));
        for _ in 0..20 {
            user.asks([1, 2, 4]).await.is("hit");
        }
        user.asks([1, 4, 5]).await;
        user.clone().with("cookie", "a=b").asks([1]).await;
        user.clone().without("x-uuid").asks([1]).await.status(422);
        user.gets("/api/v1/static/basic").await;
    }
    world.vms.fault(Fault::Status(500), Times::Once);
    world.user(8).asks([1]).await.status(500);
    // Twice, since a connection that was open already gets a second chance.
    world.vms.fault(Fault::CloseBeforeAnswer, Times::Next(2));
    world.user(9).asks([1]).await.status(502);
    // Last, since a refresh goes on in the background.
    world.advance(40);
    world.user(1).asks([1, 2]).await.is("hit");
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(program) = tool("promtool") else {
        return;
    };
    let world = World::new().await;
    everything_happens(&world).await;
    let request = Request::get("/metrics").header("host", "edge");
    let metrics = send(world.edge.admin, request.body(Full::default()).unwrap()).await;
    promtool(&program, &["check", "metrics"], &metrics.text());
}

#[test]
fn the_rules_are_right_and_each_does_what_its_test_says() {
    let Some(program) = tool("promtool") else {
        return;
    };
    // The rules that it names are checked with it.
    promtool(
        &program,
        &["check", "config", "conf/prometheus/scrape.yml"],
        "",
    );
    for tests in [
        "tests/prometheus/recording.yml",
        "tests/prometheus/alerts.yml",
    ] {
        promtool(&program, &["test", "rules", tests], "");
    }
}

/// What stands after `key` in a file of rules, line by line.
fn named(file: &str, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(conf().join(file)).expect("a file");
    let lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    let names: Vec<String> = lines
        .filter_map(|line| line.strip_prefix(key))
        .map(|name| name.trim().to_owned())
        .collect();
    assert!(names.len() >= 10, "{names:?}");
    names
}

#[test]
fn every_alert_is_tested_with_what_fires_it_and_what_does_not_and_every_recording_is_computed() {
    let tests = include_str!("../prometheus/alerts.yml");
    for alert in named("alerts.yml", "alert:") {
        let expr = format!("(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})");
        let looks: Vec<&str> = tests.split(&expr).skip(1).collect();
        let fires = |after: &&str| after.lines().take(3).any(|line| line.contains("value: 1"));
        assert_eq!(
            looks.iter().copied().filter(|look| fires(look)).count(),
            1,
            "{alert} is seen to fire"
        );
        assert!(looks.len() > 1, "{alert} is seen not to fire");
    }
    let tests = include_str!("../prometheus/recording.yml");
    for series in named("recording.yml", "record:") {
        assert!(tests.contains(&series), "{series} is computed");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_and_of_the_rules_finds_what_a_real_edge_tells_a_real_prometheus()
 {
    let Some(program) = tool("prometheus") else {
        return;
    };
    let certificate = SelfSigned::new();
    let world = World::with(&certificate.listener()).await;
    let prometheus = Prometheus::watching(world.edge.admin, program).await;
    // What is counted from now on is seen to grow.
    prometheus.finds("vms_edge_ready == 1").await;
    everything_happens(&world).await;
    let error = "vms_edge_batch_requests_total{result=\"error\"}";
    prometheus.finds(&format!("{error} == 1")).await;
    agrees(&prometheus, &Scrape::settled(world.edge.admin).await).await;

    let names = there_are(&prometheus).await;
    for query in Dashboard::read().queries() {
        let (of, text) = (query.of, query.text);
        asks_for_what_there_is(&prometheus, &names, &of, &text).await;
        if ONLY_WHEN_WRONG.contains(&text.as_str()) {
            prometheus.asks(&text).await.expect(&of);
        } else {
            prometheus.finds(&text).await;
        }
    }
    let rules = prometheus.rules().await;
    assert!(rules.len() > 30, "{} rules", rules.len());
    for rule in rules {
        asks_for_what_there_is(&prometheus, &names, &rule.name, &rule.query).await;
        if rule.is_alert() {
            assert_helps(&rule.told);
            prometheus.asks(&rule.query).await.expect(&rule.name);
        } else {
            prometheus.finds(&rule.name).await;
        }
    }
}

/// What Prometheus has been told is what the edge tells.
async fn agrees(prometheus: &Prometheus, scrape: &Scrape) {
    let counted = scrape.series.iter();
    let counted = counted.filter(|(series, _)| series.starts_with("vms_edge_batch_"));
    let mut count = 0;
    for (series, value) in counted {
        prometheus.finds(&format!("{series} == {value}")).await;
        count += 1;
    }
    assert_eq!(count, 7 + 4);
}

/// The names of all series.
async fn there_are(prometheus: &Prometheus) -> BTreeSet<String> {
    let series = prometheus
        .finds("count by (__name__) ({job=\"vms-edge\"})")
        .await;
    let name = |series: &Value| series["metric"]["__name__"].as_str().unwrap().to_owned();
    series.iter().map(name).collect()
}

/// Each series that a query speaks of is there, with such labels, whether or not the query finds anything: a comparison
/// that is never true hides a name that is wrong.
async fn asks_for_what_there_is(
    prometheus: &Prometheus,
    names: &BTreeSet<String>,
    of: &str,
    query: &str,
) {
    let selectors = selectors(query);
    assert!(!selectors.is_empty(), "{of} asks for something: {query}");
    for selector in selectors {
        let name = name_of(selector);
        if name == "ALERTS" {
            continue;
        }
        if !name.starts_with("instance:") {
            assert!(names.contains(name), "{of} asks for {name}");
        }
        prometheus.finds(&format!("count({selector})")).await;
    }
}

/// The selectors of a query: names of series, each with its labels if it has any.
fn selectors(query: &str) -> Vec<&str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    let mut selectors = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.bytes().position(is_name) {
        rest = &rest[start..];
        let name = rest.bytes().position(|byte| !is_name(byte));
        let name = name.unwrap_or(rest.len());
        let labels = match rest[name..].starts_with('{') {
            true => rest[name..].find('}').expect("a brace is closed") + 1,
            false => 0,
        };
        let (selector, after) = rest.split_at(name + labels);
        let prefixes = ["vms_edge_", "process_", "instance:", "up{", "ALERTS{"];
        if prefixes.iter().any(|prefix| selector.starts_with(prefix)) {
            selectors.push(selector);
        }
        rest = after;
    }
    selectors
}

fn name_of(selector: &str) -> &str {
    selector.split_once('{').map_or(selector, |(name, _)| name)
}

/// Alerts of what may never happen, not even for a moment, and is not told again once the process has ended.
const AT_ONCE: [&str; 1] = ["VmsEdgeCanaryLeak"];

/// An alert says how urgent it is, what is wrong, what to do, and where more is written; and waits before it does, unless it
/// must not.
#[track_caller]
fn assert_helps(alert: &Value) {
    let name = alert["name"].as_str().expect("a name");
    let severity = alert["labels"]["severity"].as_str();
    assert!(
        matches!(severity, Some("critical" | "warning")),
        "{name}: {severity:?}"
    );
    let waits = alert["duration"].as_f64() >= Some(60.0);
    assert_eq!(waits, !AT_ONCE.contains(&name), "{name} waits");
    for annotation in ["summary", "description"] {
        let text = alert["annotations"][annotation].as_str().unwrap_or("");
        assert!(text.ends_with('.') && text.len() > 20, "{name}: {text}");
    }
    let runbook = format!("Operator's guide, Alerts, {name}");
    assert_eq!(alert["annotations"]["runbook"], runbook);
}

#[tokio::test]
async fn a_vms_that_goes_down_raises_the_alert_that_says_so() {
    let Some(program) = tool("prometheus") else {
        return;
    };
    let mut deployment = Deployment::new();
    let world = World::before(&deployment, "upstream.breaker.failures = 1");
    let prometheus = Prometheus::watching(world.edge.admin, program).await;
    prometheus.finds("vms_edge_ready == 1").await;
    let down = "ALERTS{alertname=\"VmsEdgeUpstreamDown\"}";
    assert_eq!(prometheus.asks(down).await, Ok(Vec::new()));

    deployment.goes_down().await;
    world.user(1).asks([1]).await.status(502);
    prometheus.finds(down).await;
    let alerts = prometheus.alerts().await;
    let alert = alerts
        .iter()
        .find(|alert| alert["labels"]["alertname"] == "VmsEdgeUpstreamDown");
    let annotations = &alert.expect("it waits to fire")["annotations"];
    let summary = format!("vms-edge on {} cannot reach the VMS.", world.edge.admin);
    assert_eq!(annotations["summary"], summary);
}

#[test]
fn every_panel_of_the_dashboard_says_what_it_shows_and_stands_in_its_own_place() {
    let dashboard = Dashboard::read();
    let (mut ids, mut titles, mut places) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in dashboard.panels() {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        assert!(titles.insert(title), "{title} is there once");
        let [x, y, width, height] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
        assert!(x + width <= 24, "{title} is within the page");
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(places.insert(place), "{title} covers another");
        }
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().expect("a description");
        assert!(description.ends_with('.'), "{title}: {description}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{title}");
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty(), "{title}");
        for source in std::iter::once(panel).chain(targets) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
        let refs: BTreeSet<_> = targets.iter().map(|it| it["refId"].as_str()).collect();
        assert_eq!(refs.len(), targets.len(), "{title}");
    }
}

#[tokio::test]
async fn every_metric_is_on_the_dashboard() {
    let certificate = SelfSigned::new();
    let edge = TestEdge::with(&["127.0.0.1:9".to_owned()], &certificate.listener());
    let queries = Dashboard::read().queries();
    let shown: BTreeSet<&str> = queries
        .iter()
        .flat_map(|query| selectors(&query.text))
        .map(name_of)
        .flat_map(|name| {
            [
                name,
                name.trim_end_matches("_bucket"),
                name.trim_end_matches("_count"),
            ]
        })
        .collect();
    let scrape = Scrape::of(edge.admin).await;
    let families = scrape.families.keys();
    let hidden: Vec<_> = families
        .filter(|family| !shown.contains(family.as_str()))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}
