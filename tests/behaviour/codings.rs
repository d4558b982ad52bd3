//! Content codings of answers from memory: who gets which, and what else such answers say.

use std::io::{Read, Write};
use std::process::Stdio;

use http::Method;
use serde::Deserialize;
use tokio::process::Command;
use vms_edge::config::Coding;
use vms_edge::reply::encode::encode;

use crate::support::scrape::Scrape;
use crate::support::soon;
use crate::support::tools::{in_ci, tool};
use crate::support::world::{Answer, SHOWS, Widget, World};

const IDS: [u64; 4] = [1, 2, 3, 9];

/// The body of an answer without its coding.
fn decoded(answer: &Answer) -> Vec<u8> {
    let mut body = Vec::new();
    match answer.header("content-encoding") {
        None => body.extend_from_slice(&answer.body),
        Some("gzip") => {
            let mut decoder = flate2::read::GzDecoder::new(&answer.body[..]);
            decoder.read_to_end(&mut body).unwrap();
        }
        Some("br") => brotli::BrotliDecompress(&mut &answer.body[..], &mut body).unwrap(),
        Some("zstd") => body = zstd::decode_all(&answer.body[..]).unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    }
    body
}

/// Asks until the answer comes in a coding.
async fn until_coded(widget: &Widget<'_>, coding: &str) -> Answer {
    let asking = async {
        loop {
            let answer = widget.asks(IDS).await.hit();
            if answer.header("content-encoding") == Some(coding) {
                return answer;
            }
            // Whoever codes has the lowest priority, and waits for a core that is given up.
            std::thread::yield_now();
        }
    };
    soon("a coded answer", asking).await
}

/// The lines of `Vary`, as one.
fn vary(answer: &Answer) -> String {
    let lines = answer.headers.get_all("vary").iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap()).collect();
    lines.join(", ").to_lowercase()
}

#[tokio::test]
async fn an_answer_from_memory_comes_in_the_coding_that_the_client_takes() {
    let world = World::new().await;
    let plain = world.user(1);
    let miss = plain.asks(IDS).await.gets(IDS);
    let hit = plain.asks(IDS).await.hit();
    assert!(hit.body.len() > 1024 && hit.header("content-encoding").is_none());
    let mut tags = vec![hit.header("etag").unwrap().to_owned()];
    for coding in ["gzip", "br", "zstd"] {
        let widget = plain.clone().with("accept-encoding", coding);
        let answer = until_coded(&widget, coding).await;
        assert_eq!(decoded(&answer), miss.body);
        assert!(answer.body.len() * 2 < miss.body.len());
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.header("content-type"), miss.header("content-type"));
        let tag = answer.header("etag").unwrap().to_owned();
        assert!(tag.ends_with(&format!("-{coding}\"")), "{tag}");
        // The same tag is enough from then on, and that of the plain answer is no worse.
        for held in [&tag, &tags[0]] {
            let held_by = widget.clone().with("if-none-match", held);
            let told = held_by.asks(IDS).await.status(304).hit();
            assert_eq!(told.header("etag"), Some(held.as_str()));
            assert_eq!(told.header("content-encoding"), None);
        }
        // To whom does not take that coding, it is another answer.
        let other = plain.clone().with("if-none-match", &tag);
        other.asks(IDS).await.gets(IDS).hit();
        tags.push(tag);
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    let scrape = Scrape::settled(world.edge.admin).await;
    assert_eq!(
        scrape.value("vms_edge_compressions_total{result=\"made\"}"),
        3.0
    );
    assert_eq!(scrape.value("vms_edge_encoded_total{coding=\"br\"}"), 1.0);
    assert!(scrape.value("vms_edge_compressed_bytes") > 0.0);
}

#[tokio::test]
async fn the_weights_of_the_client_decide() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks(IDS).await;
    let takes = |line: &str| ann.clone().with("accept-encoding", line);
    for coding in ["gzip", "br", "zstd"] {
        until_coded(&takes(coding), coding).await;
    }
    for (line, coding) in [
        ("gzip, deflate, br, zstd", Some("br")),
        ("gzip, br;q=0.9", Some("gzip")),
        ("gzip;q=0.5, zstd;q=0.8", Some("zstd")),
        ("br;q=0, *", Some("zstd")),
        ("x-gzip", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("gzip;q=0", None),
        ("deflate", None),
        ("identity", None),
        ("gzip;q=0.5, identity;q=0.6", None),
        ("", None),
    ] {
        let answer = takes(line).asks(IDS).await.hit();
        let sent = answer.header("content-encoding").map(str::to_owned);
        match (coding, sent.as_deref()) {
            // Whichever is smaller.
            (Some("zstd"), Some("zstd" | "gzip")) if line.contains('*') => {}
            _ => assert_eq!(sent.as_deref(), coding, "{line}"),
        }
        assert_eq!(vary(&answer).matches("accept-encoding").count(), 1);
    }
    let several = ann.clone().with("accept-encoding", "br;q=0.1");
    let several = several.adding("accept-encoding", "gzip;q=0.2");
    let answer = several.asks(IDS).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    takes("gzip, identity;q=0")
        .asks(IDS)
        .await
        .bypassed("coding");
}

#[tokio::test]
async fn every_answer_from_memory_says_that_it_varies_and_says_it_once() {
    let world = World::new().await;
    let ann = world.user(1);
    ann.asks([1]).await;
    let small = ann
        .clone()
        .with("accept-encoding", "gzip")
        .asks([1])
        .await
        .hit();
    assert_eq!(small.header("content-encoding"), None);
    assert!(vary(&small).contains("accept-encoding"));
    world.vms.clear_response_headers();
    world
        .vms
        .add_response_header("Vary", "Origin, Accept-Encoding");
    ann.asks([2]).await;
    let named = ann.asks([2]).await.hit();
    assert_eq!(vary(&named).matches("accept-encoding").count(), 1);
}

#[tokio::test]
async fn what_is_small_and_what_is_asked_once_is_not_coded() {
    let world = World::new().await;
    let ann = world.user(1).with("accept-encoding", "gzip");
    ann.asks(IDS).await;
    ann.asks(IDS).await.hit();
    for _ in 0..5 {
        ann.asks([1]).await.hit();
    }
    let scrape = Scrape::settled(world.edge.admin).await;
    for result in ["made", "useless", "dropped"] {
        let series = format!("vms_edge_compressions_total{{result=\"{result}\"}}");
        assert_eq!(scrape.value(&series), 0.0);
    }
}

#[tokio::test]
async fn what_a_refresh_brings_unchanged_is_not_coded_again_and_what_it_brings_anew_is() {
    let world = World::new().await;
    let ann = world.user(1).with("accept-encoding", "gzip");
    ann.asks(IDS).await;
    let before = until_coded(&ann, "gzip").await;
    let fetch_again = ann.clone().with("cache-control", "no-cache");
    fetch_again.asks(IDS).await.is("fwd=miss");
    let after = ann.asks(IDS).await.hit();
    assert_eq!(
        (after.header("etag"), &after.body),
        (before.header("etag"), &before.body)
    );

    world.vms.rename(1, "Another title");
    fetch_again.asks(IDS).await.is("fwd=miss");
    let plain = ann.asks(IDS).await.hit();
    assert_eq!(
        plain.header("content-encoding"),
        None,
        "nobody asked for it before"
    );
    assert!(plain.text().contains("Another title"));
    let coded = until_coded(&ann, "gzip").await;
    assert_eq!(decoded(&coded), plain.body);
}

#[tokio::test]
async fn after_a_mark_no_coded_answer_is_sent_before_it_was_fetched_again() {
    let rule = "[[invalidate]]\npath = \"/api/v1/intercom/{id}\"\nscope = [\"user\", \"item\"]";
    let world = World::with(rule).await;
    let ann = world.user(1).with("accept-encoding", "br");
    ann.asks(IDS).await;
    until_coded(&ann, "br").await;
    let write = ann.clone().with("content-type", "application/json");
    let write = write.sends(Method::PUT, "/api/v1/intercom/1", r#"{"title":"New"}"#);
    write.await.status(200);
    world.advance(1);
    let answer = ann.asks(IDS).await.gets(IDS);
    assert!(answer.text().contains("New"));
    let coded = until_coded(&ann, "br").await;
    assert_eq!(decoded(&coded), answer.body);
    // Nor when it is too old.
    world.advance(100_000);
    ann.asks(IDS).await.gets(IDS).is("fwd=miss");
}

#[tokio::test]
async fn another_set_of_codings_is_in_effect_at_once() {
    let world = World::new().await;
    let ann = world.user(1).with("accept-encoding", "gzip, br");
    ann.asks(IDS).await;
    until_coded(&ann, "br").await;
    world.edge.reload("compression.codings = [\"gzip\"]");
    until_coded(&ann, "gzip").await;
    world.edge.reload("compression.codings = []");
    let answer = ann.asks(IDS).await.gets(IDS).hit();
    assert_eq!(answer.header("content-encoding"), None);
    let bob = world.user(2);
    bob.asks([1]).await;
    assert!(!vary(&bob.asks([1]).await.hit()).contains("accept-encoding"));
    world.edge.reload("compression.min_bytes = \"1MiB\"");
    for answer in [ann.asks(IDS).await, bob.asks([1]).await] {
        assert_eq!(vary(&answer.hit()).matches("accept-encoding").count(), 1);
    }
}

#[tokio::test]
async fn a_head_and_whatever_else_passes_through_come_as_the_vms_sends_them() {
    let world = World::new().await;
    let ann = world.user(1).with("accept-encoding", "gzip");
    ann.asks(IDS).await;
    until_coded(&ann, "gzip").await;
    let target = format!("{SHOWS}?ids[]=1&ids[]=2&ids[]=3&ids[]=9");
    let head = ann
        .sends(Method::HEAD, &target, "")
        .await
        .bypassed("method");
    assert_eq!(
        (head.header("etag"), head.header("content-encoding")),
        (None, None)
    );
}

#[tokio::test]
async fn curl_understands_every_coding() {
    let Some(curl_program) = tool("curl") else {
        return;
    };
    let world = World::new().await;
    let ann = world.user(1);
    let plain = ann.asks(IDS).await.gets(IDS);
    for coding in ["gzip", "br", "zstd"] {
        until_coded(&ann.clone().with("accept-encoding", coding), coding).await;
        let url = format!(
            "http://{}{SHOWS}?ids[]=1&ids[]=2&ids[]=3&ids[]=9",
            world.edge.address
        );
        let mut curl = Command::new(&curl_program);
        curl.args([
            "--silent",
            "--show-error",
            "--globoff",
            "--compressed",
            &url,
        ]);
        for (name, value) in &ann.headers {
            curl.args(["--header", &format!("{name}: {}", value.to_str().unwrap())]);
        }
        curl.args(["--header", "Host: vms.local"]);
        curl.args(["--header", &format!("Accept-Encoding: {coding}")]);
        curl.args(["--write-out", "%header{content-encoding}"]);
        let output = soon("the end of curl", curl.stdin(Stdio::null()).output()).await;
        let output = output.expect("it is installed");
        let features = Command::new(&curl_program)
            .arg("--version")
            .output()
            .await
            .unwrap();
        let features = String::from_utf8(features.stdout).unwrap();
        let name = match coding {
            "br" => "brotli",
            "gzip" => "libz",
            other => other,
        };
        if !features.contains(name) {
            assert!(!in_ci(), "this curl does not know {coding}");
            eprintln!("skipped: this curl does not know {coding}");
            continue;
        }
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).expect("it was decoded");
        assert_eq!(printed, format!("{}{coding}", plain.text()));
    }
}

#[derive(Deserialize)]
struct Transcript {
    response: Recorded,
}

#[derive(Deserialize)]
struct Recorded {
    body: String,
}

#[test]
fn every_coding_of_the_vmss_own_answers_is_at_least_as_small_as_gzips() {
    let Some(gzip) = tool("gzip") else { return };
    let transcripts: Vec<Transcript> =
        serde_json::from_str(include_str!("../data/transcripts.json")).unwrap();
    let bodies = transcripts
        .iter()
        .map(|transcript| &transcript.response.body);
    let mut compared = 0;
    for body in bodies.filter(|body| body.len() >= 1024) {
        let mut child = std::process::Command::new(&gzip);
        let child = child.args(["-6", "-n", "-c"]).stdin(Stdio::piped());
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(body.as_bytes())
            .unwrap();
        let gzipped = child.wait_with_output().unwrap().stdout.len();
        for coding in Coding::ALL {
            let coded = encode(coding, body.as_bytes()).unwrap().len();
            assert!(
                coded <= gzipped,
                "{coding}: {coded}, gzip -6: {gzipped}, of {}",
                body.len()
            );
        }
        compared += 1;
    }
    assert!(compared > 5);
}
