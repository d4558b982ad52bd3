//! What httplint, which knows the specifications of HTTP, has to say of the edge's answers: nothing, but for what the VMS's
//! own answers bring with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use vms_edge::demo::vms::{Fault, Times};

use crate::support::client::{Client, Response};
use crate::support::edge::TestEdge;
use crate::support::operator::{self, bearer, token};
use crate::support::scripted::Scripted;
use crate::support::soon;
use crate::support::tools::{present, tool};
use crate::support::world::{SHOWS, World};

const WIDGET: &str =
    "Authorization: Bearer tok-1-ios\r\nAccept: application/json\r\nX-Client: ios\r\nX-UUID: d\r\n";

/// A request and its answer, as the linter reads them.
struct Exchange {
    name: String,
    told: Value,
}

/// Sends one request on a connection of its own.
async fn exchange(
    name: &str,
    to: SocketAddr,
    method: &str,
    target: &str,
    fields: &str,
) -> Exchange {
    let mut client = Client::connect(to).await;
    client
        .send(format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .await;
    let answer = client.response_to(method).await;
    told(name, method, target, fields, &answer)
}

fn told(name: &str, method: &str, target: &str, fields: &str, answer: &Response) -> Exchange {
    let asked = fields.lines().filter_map(|line| line.split_once(": "));
    let given = answer.head.fields.iter();
    let given = given.map(|(name, value)| (name, String::from_utf8_lossy(value)));
    Exchange {
        name: format!("{name}: {}", answer.status),
        told: json!({
            "asked": {
                "method": method,
                "target": format!("http://localhost{target}"),
                "fields": asked.chain([("Host", "localhost")]).collect::<Vec<_>>(),
            },
            "given": {
                "status": answer.status,
                "reason": answer.reason,
                "fields": given.collect::<Vec<_>>(),
                "body": answer.body,
            },
        }),
    }
}

/// What the linter says of each, by its name; `None` where it is not installed.
async fn linted(exchanges: Vec<Exchange>) -> Option<BTreeMap<String, Vec<String>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join("target/tools/lint");
    let is_there = packages.join("httplint").is_dir();
    let packages = present("httplint", is_there.then_some(packages))?;
    let mut linter = Command::new(tool("python3")?)
        .arg(root.join("tests/wire/lint/lint.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python can be run");
    let lines: String = exchanges
        .iter()
        .map(|exchange| format!("{}\n", exchange.told))
        .collect();
    let mut input = linter.stdin.take().expect("it is piped");
    let written = async move {
        input
            .write_all(lines.as_bytes())
            .await
            .expect("it reads all")
    };
    let (output, ()) = soon("the linter", async {
        tokio::join!(linter.wait_with_output(), written)
    })
    .await;
    let output = String::from_utf8(output.expect("it ends").stdout).expect("it is text");
    let said: Vec<Vec<(String, String)>> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is as it is told to be"))
        .collect();
    assert_eq!(said.len(), exchanges.len(), "the linter fails, see above");
    let said = said.into_iter().map(|notes| {
        notes
            .into_iter()
            .map(|(name, sentence)| format!("{name}: {sentence}"))
            .collect()
    });
    Some(
        exchanges
            .into_iter()
            .map(|exchange| exchange.name)
            .zip(said)
            .collect(),
    )
}

/// Answers that the edge makes, or makes of what it remembers.
async fn own_answers() -> Vec<Exchange> {
    let world = World::with("limits.user_rate = 4\nlimits.user_burst = 8").await;
    let edge = world.edge.address;
    let batch = format!("{SHOWS}?ids[]=1&ids[]=2");
    exchange("miss", edge, "GET", &batch, WIDGET).await;
    let mut all = vec![
        exchange("hit", edge, "GET", &batch, WIDGET).await,
        exchange(
            "held",
            edge,
            "GET",
            &batch,
            &format!("{WIDGET}If-None-Match: *\r\n"),
        )
        .await,
        exchange("no token", edge, "GET", &batch, "").await,
        exchange(
            "no device",
            edge,
            "GET",
            &batch,
            "Authorization: Bearer a\r\n",
        )
        .await,
        exchange(
            "large body",
            edge,
            "GET",
            &batch,
            &format!("{WIDGET}Content-Type: application/json\r\nContent-Length: 9999999\r\n"),
        )
        .await,
        exchange(
            "large header",
            edge,
            "GET",
            "/",
            &format!("X: {}\r\n", "x".repeat(90_000)),
        )
        .await,
        exchange(
            "bad coding",
            edge,
            "GET",
            "/",
            "Transfer-Encoding: gzip\r\n",
        )
        .await,
        exchange("two hosts", edge, "GET", "/", "Host: a\r\n").await,
        exchange("a tunnel", edge, "CONNECT", "a:443", "").await,
    ];
    let coded = format!("{WIDGET}Accept-Encoding: br\r\n");
    for round in ["once", "twice", "coded"] {
        all.push(exchange(round, edge, "GET", &batch, &coded).await);
    }
    world.vms.fault(Fault::Status(503), Times::Always);
    world.advance(40);
    all.push(exchange("instead of an error", edge, "GET", &batch, WIDGET).await);
    for _ in 0..8 {
        all.push(exchange("too often", edge, "GET", &batch, WIDGET).await);
    }
    all
}

/// Errors of a VMS that cannot be asked.
async fn failures() -> Vec<Exchange> {
    let batch = format!("{SHOWS}?ids[]=1");
    let silent = Scripted::start(|mut connection| async move {
        connection.request().await;
        connection.wire.closed().await;
    })
    .await;
    let settings = "upstream.fetch_timeout = \"150ms\"\nupstream.connect_timeout = \"100ms\"\nupstream.idle_timeout = \"150ms\"\n\
                    limits.connections = 1\nlimits.header_timeout = \"150ms\"";
    let edge = TestEdge::with(&[silent.address.to_string()], settings);
    let mut all = vec![
        exchange("no answer to a fetch", edge.address, "GET", &batch, WIDGET).await,
        exchange("no answer", edge.address, "GET", "/", "").await,
    ];
    let mut slow = Client::connect(edge.address).await;
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    let mut beyond = Client::connect(edge.address).await;
    beyond.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for (name, client) in [("beyond the limit", &mut beyond), ("slow", &mut slow)] {
        let answer = client.response().await;
        all.push(told(name, "GET", "/", "", &answer));
    }
    let gone = TestEdge::before(Scripted::answering("").await.address);
    all.push(
        exchange(
            "nobody there for a fetch",
            gone.address,
            "GET",
            &batch,
            WIDGET,
        )
        .await,
    );
    all.push(exchange("nobody there", gone.address, "HEAD", "/", "").await);
    all
}

/// What operators are answered.
async fn of_operators() -> Vec<Exchange> {
    let (_file, setting) = token();
    let world = World::with(&setting).await;
    let with_token = format!("Authorization: {}\r\n", bearer());
    let mut all = Vec::new();
    for (method, path, fields) in [
        ("GET", "/healthz", ""),
        ("GET", "/readyz", ""),
        ("GET", "/metrics", ""),
        ("GET", "/", ""),
        ("GET", "/status", ""),
        ("GET", "/status", &*with_token),
        ("GET", "/nothing", &*with_token),
        ("DELETE", "/status", &*with_token),
        ("HEAD", "/metrics", ""),
    ] {
        all.push(
            exchange(
                &format!("{method} {path}"),
                world.edge.admin,
                method,
                path,
                fields,
            )
            .await,
        );
    }
    let admin = world.edge.admin;
    let tag = operator::ask(admin, Method::GET, "/", &[("host", "localhost")], "").await;
    let held = format!("If-None-Match: {}\r\n", tag.header("etag").expect("a tag"));
    all.push(exchange("a page held already", admin, "GET", "/", &held).await);
    for (path, body) in [
        ("/purge", "{\"items\":[1]}"),
        ("/purge", "{}"),
        ("/explain", "{\"url\":\"/\"}"),
    ] {
        let length = body.len();
        let fields =
            format!("{with_token}Content-Type: application/json\r\nContent-Length: {length}\r\n");
        let mut client = Client::connect(admin).await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}"
            ))
            .await;
        let answer = client.response().await;
        all.push(told(
            &format!("{path} {body}"),
            "POST",
            path,
            &fields,
            &answer,
        ));
    }
    all
}

#[tokio::test]
async fn httplint_finds_nothing_in_the_answers_that_the_edge_makes() {
    let mut all = own_answers().await;
    all.extend(failures().await);
    all.extend(of_operators().await);
    let statuses: Vec<&str> = all
        .iter()
        .map(|exchange| exchange.name.rsplit(' ').next().unwrap())
        .collect();
    for status in [
        "200", "304", "400", "401", "404", "405", "408", "413", "422", "429", "431", "502", "503",
        "504",
    ] {
        assert!(statuses.contains(&status), "no {status} among {statuses:?}");
    }
    let Some(said) = linted(all).await else {
        return;
    };
    let concerns: Vec<_> = said.iter().filter(|(_, said)| !said.is_empty()).collect();
    assert!(concerns.is_empty(), "{concerns:#?}");
}

#[tokio::test]
async fn httplint_finds_nothing_in_what_passes_through_that_is_not_the_vmss_own() {
    let world = World::new().await;
    let mut all = Vec::new();
    for (method, target, fields) in [
        ("GET", "/api/v1/static/basic", WIDGET),
        ("HEAD", "/api/v1/static/basic", WIDGET),
        ("OPTIONS", "/api/v1/static/basic", WIDGET),
        ("GET", "/api/v1/nothing", WIDGET),
        ("GET", "/api/v1/intercom/shows?ids[]=1", WIDGET),
        ("GET", "/api/v1/intercom/shows?ids[]=x", WIDGET),
    ] {
        for (through, at) in [("edge", world.edge.address), ("vms", world.vms_address)] {
            let name = format!("{through} {method} {target}");
            all.push(exchange(&name, at, method, target, fields).await);
        }
    }
    let Some(said) = linted(all).await else {
        return;
    };
    for (name, notes) in &said {
        let Some(exchange) = name.strip_prefix("edge ") else {
            continue;
        };
        let of_vms = &said[&format!("vms {exchange}")];
        let own: Vec<_> = notes.iter().filter(|note| !of_vms.contains(note)).collect();
        assert!(own.is_empty(), "{name}: {own:?}");
    }
}
