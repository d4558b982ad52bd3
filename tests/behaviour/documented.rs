//! What the README says, held against what there is: its tables name everything and nothing else, and its commands do and
//! print what stands below them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use vms_edge::demo::vms::StandIn;

use crate::support::certificate::SelfSigned;
use crate::support::operator::{self, bearer, token};
use crate::support::reach::{ALL, ANNS, BOTH_180, Reach, shipped};
use crate::support::scrape::Scrape;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::world::{World, send};

const README: &str = include_str!("../../README.md");

/// The first cells of the table between two markers in the README, each without its backquotes.
fn documented(markers: &str) -> BTreeSet<String> {
    let (start, end) = (
        format!("<!-- {markers} -->"),
        format!("<!-- /{markers} -->"),
    );
    let table = README
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

/// The README's section of this name.
fn section(name: &str) -> &'static str {
    let (_, section) = README
        .split_once(&format!("## {name}\n"))
        .expect("there is one");
    section.split_once("\n## ").expect("it ends").0
}

/// The blocks of a language in a section.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = section.split(&begin).skip(1);
    let text = |block: &str| block.split_once("```").expect("a block ends").0.to_owned();
    blocks.map(text).collect()
}

/// A directory with the files that the README speaks of.
fn files(section: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let header = format!("Authorization: {}\n", bearer());
    std::fs::write(directory.path().join("admin.header"), header).unwrap();
    if let Some(request) = blocks(section, "json").first() {
        std::fs::write(directory.path().join("request.json"), request).unwrap();
    }
    directory
}

/// What a command prints that goes to the admin listener.
async fn run(command: &str, directory: &TempDir, admin: SocketAddr) -> String {
    let command = command.replace("127.0.0.1:9090", &admin.to_string());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(directory.path());
    let output = soon("the end of the command", shell.output()).await;
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The same with all times taken for one.
fn timeless(mut told: Value) -> Value {
    match &mut told {
        Value::Object(members) => {
            for (name, value) in members {
                *value = match (name.as_str(), value.take()) {
                    ("at" | "seconds_ago" | "age", Value::Null) => panic!("there is a time"),
                    ("at" | "seconds_ago" | "age", _) => Value::Null,
                    (_, value) => timeless(value),
                };
            }
        }
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| *value = timeless(value.take())),
        _ => {}
    }
    told
}

#[tokio::test]
async fn the_commands_of_the_readme_print_what_it_says() {
    let section = section("Looking inside");
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let order = "[[batch]]\npath = \"/api/v1/intercom/shows\"\norder = \"id\"";
    let edge = Service::before(serving.address(), &format!("{token}{order}")).await;
    let files = files(section);
    let request = Request::get("/api/v1/intercom/shows?ids[]=1")
        .header("host", "vms.local")
        .header("authorization", "Bearer tok-1-ios")
        .header("x-client", "ios")
        .header("x-uuid", "my-phone");
    let asked = send(edge.address, request.body(Full::default()).unwrap()).await;
    asked.gets([1]);
    let purge = r#"{"items":[1]}"#;
    operator::purge(edge.admin, purge).await.status(200);

    let mut ran = 0;
    for block in blocks(section, "console") {
        for command in block.split("$ ").skip(1) {
            // A command goes on in the next line after a backslash.
            let mut lines = command.lines();
            let mut spelled = String::new();
            for line in lines.by_ref() {
                spelled += &format!("{line}\n");
                if !line.ends_with('\\') {
                    break;
                }
            }
            let printed: Value =
                serde_json::from_str(&run(&spelled, &files, edge.admin).await).unwrap();
            if let Some(prints) = lines.next() {
                let prints: Value = serde_json::from_str(prints).unwrap();
                assert_eq!(timeless(printed), timeless(prints), "{spelled}");
            } else {
                let fields = printed.as_object().expect("an object").keys();
                assert_documented("status", &fields.cloned().collect());
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 4);
}

#[tokio::test]
async fn the_reload_of_the_readme_prints_what_it_says() {
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let edge = Service::before(serving.address(), &format!("{token}log.level = \"info\"")).await;
    edge.reconfigure("log.level = \"info\"", "log.level = \"warn\"");
    let files = files(section("Looking inside"));
    let block = blocks(section("Changing and replacing it"), "console").remove(1);
    let (spelled, prints) = block.split_once('\n').expect("it prints something");
    let spelled = spelled.trim_start_matches("$ ");
    let printed: Value = serde_json::from_str(&run(spelled, &files, edge.admin).await).unwrap();
    let prints: Value = serde_json::from_str(prints).unwrap();
    assert_eq!(timeless(printed), timeless(prints));
}

#[tokio::test]
async fn the_purges_of_the_readme_do_what_it_says() {
    let section = section("Purging");
    let (_file, token) = token();
    let reach = Reach::with(&format!("{token}{}", shipped())).await;
    let files = files(section);
    std::fs::write(files.path().join("user.json"), r#"{"user":"ann"}"#).unwrap();
    let block = blocks(section, "console").remove(0);
    let mut commands = block.split("$ ").skip(1);
    // The first is soft: all is answered still.
    for ended in [&[][..], &BOTH_180, &ANNS, &ALL] {
        let command = commands.next().expect("there are as many");
        let (spelled, prints) = command
            .trim_end()
            .rsplit_once('\n')
            .expect("and what it prints");
        let done = async {
            let printed = run(spelled, &files, reach.edge.admin).await;
            assert_eq!(printed.trim_end(), prints, "{spelled}");
        };
        assert_eq!(reach.ended_after(done).await, ended, "{spelled}");
    }
    assert_eq!(commands.next(), None);
}
