//! What the README says of the admin listener, tried out.

use std::collections::BTreeSet;

use http::Request;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use vms_edge::demo::vms::StandIn;

use super::{TOKEN, operate, token};
use crate::support::binary::Binary;
use crate::support::soon;
use crate::support::world::send;

/// The README's section of this name.
fn section(name: &str) -> &'static str {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme
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
    let header = format!("Authorization: Bearer {TOKEN}\n");
    std::fs::write(directory.path().join("admin.header"), header).unwrap();
    let request = blocks(section, "json").remove(0);
    std::fs::write(directory.path().join("request.json"), request).unwrap();
    directory
}

async fn run(command: &str, directory: &TempDir) -> String {
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
    let edge = Binary::before(serving.address(), &format!("{token}{order}"));
    let files = files(section);
    let request = Request::get("/api/v1/intercom/shows?ids[]=1")
        .header("host", "vms.local")
        .header("authorization", "Bearer tok-1-ios")
        .header("x-client", "ios")
        .header("x-uuid", "my-phone");
    let asked = send(edge.address, request.body(Full::default()).unwrap()).await;
    asked.gets([1]);
    let purge = r#"{"items":[1]}"#;
    operate(edge.admin, http::Method::POST, "/purge", purge)
        .await
        .status(200);

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
            let spelled = spelled.replace("127.0.0.1:9090", &edge.admin.to_string());
            let printed: Value = serde_json::from_str(&run(&spelled, &files).await).unwrap();
            if let Some(prints) = lines.next() {
                let prints: Value = serde_json::from_str(prints).unwrap();
                assert_eq!(timeless(printed), timeless(prints), "{spelled}");
            } else {
                let fields: BTreeSet<&str> = printed
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str)
                    .collect();
                assert_eq!(fields, documented(section), "{spelled}");
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
    let edge = Binary::before(serving.address(), &format!("{token}log.level = \"info\""));
    edge.reconfigure("log.level = \"info\"", "log.level = \"warn\"");
    let files = files(section("Looking inside"));
    let block = blocks(section("Changing and replacing it"), "console").remove(1);
    let (spelled, prints) = block.split_once('\n').expect("it prints something");
    let spelled = spelled.trim_start_matches("$ ");
    let spelled = spelled.replace("127.0.0.1:9090", &edge.admin.to_string());
    let printed: Value = serde_json::from_str(&run(&spelled, &files).await).unwrap();
    let prints: Value = serde_json::from_str(prints).unwrap();
    assert_eq!(timeless(printed), timeless(prints));
}

/// The fields of the table of `/status`.
fn documented(section: &str) -> BTreeSet<&str> {
    let (_, table) = section
        .split_once("<!-- status -->")
        .expect("there is a table");
    let (table, _) = table.split_once("<!-- /status -->").expect("it ends");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').expect("a name").0)
        .collect()
}
