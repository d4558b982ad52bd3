//! What operators purge: by item, by user, everything. And all that is no purge, after which everything is as before.

mod soft;

use std::io::Write;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use tempfile::NamedTempFile;
use tokio::process::Command;
use vms_edge::demo::vms::StandIn;

use crate::support::binary::Binary;
use crate::support::client::{Client, Framing};
use crate::support::edge::TestEdge;
use crate::support::reach::{ALL, ANNS, Reach, shipped};
use crate::support::scrape::Scrape;
use crate::support::soon;
use crate::support::world::{Answer, World, send};

const TOKEN: &str = "a-token-of-the-operators";

const REFUSALS: &str = "a body that is no purge at all";

/// Item 180 of both endpoints, of everyone.
const BOTH_180: [&str; 4] = [ALL[0], ALL[2], ALL[4], ALL[6]];

/// The shipped rules, and a token for operators; the file must outlive the start.
fn settings() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let settings = format!("admin.token_file = {:?}\n{}", file.path(), shipped());
    (file, settings)
}

async fn reach() -> Reach {
    let (_file, settings) = settings();
    Reach::with(&settings).await
}

/// Without jitter, so that ages are exact: fresh 30 s, stale 60 s more, instead of an error 5 m; absences 10 s.
async fn world() -> World {
    let (_file, settings) = settings();
    let windows = "jitter = 0.0\nfresh = \"30s\"\nabsent = \"10s\"\nstale_while_revalidate = \"60s\"\nstale_if_error = \"5m\"\n";
    let (token, _) = settings.split_once('\n').unwrap();
    World::with(&format!(
        "{token}\n[[batch]]\npath = \"/api/v1/intercom/shows\"\n{windows}"
    ))
    .await
}

async fn ask(
    edge: &TestEdge,
    method: Method,
    fields: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri("/purge")
        .header("host", "localhost");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(edge.admin, request.body(Full::new(body.into())).unwrap()).await
}

async fn purge(edge: &TestEdge, body: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let fields = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let answer = ask(edge, Method::POST, &fields, body.to_owned()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer
}

#[tokio::test]
async fn what_is_purged_is_gone_at_once_and_the_answer_says_what_it_was() {
    let reach = reach().await;
    let both = r#"["/api/v1/intercom/shows","/api/v1/cameras/shows"]"#;
    for (body, ended, done) in [
        (
            r#"{"items":[180]}"#,
            &BOTH_180[..],
            format!(r#"{{"mode":"hard","items":[180],"batches":{both},"user":false,"everything":false}}"#),
        ),
        (
            r#"{"items":[999,180,180],"batch":"/api/v1/cameras/shows","mode":"hard"}"#,
            &[ALL[2], ALL[6]],
            r#"{"mode":"hard","items":[180,999],"batches":["/api/v1/cameras/shows"],"user":false,"everything":false}"#.to_owned(),
        ),
        (
            r#"{"user":"ann"}"#,
            &ANNS,
            r#"{"mode":"hard","items":[],"batches":[],"user":true,"everything":false}"#.to_owned(),
        ),
        (
            r#"{"user":"nobody"}"#,
            &[],
            r#"{"mode":"hard","items":[],"batches":[],"user":true,"everything":false}"#.to_owned(),
        ),
        (
            r#"{"items":[181],"batch":"/api/v1/intercom/shows","user":"ann"}"#,
            &[ALL[0], ALL[1], ALL[2], ALL[3], ALL[5]],
            r#"{"mode":"hard","items":[181],"batches":["/api/v1/intercom/shows"],"user":true,"everything":false}"#.to_owned(),
        ),
        (
            r#"{"everything":true}"#,
            &ALL,
            r#"{"mode":"hard","items":[],"batches":[],"user":false,"everything":true}"#.to_owned(),
        ),
    ] {
        // Said twice, it is the same.
        let purged = async {
            for _ in 0..2 {
                purge(&reach.edge, body).await.status(200).body_is(&format!("{done}\n"));
            }
        };
        assert_eq!(reach.ended_after(purged).await, ended, "{body}");
    }
    let metrics = Scrape::settled(reach.edge.admin).await;
    for (scope, marks) in [("item", 2 * (2 + 2 + 1)), ("user", 2 * 3), ("all", 2)] {
        let series = format!("vms_edge_marks_total{{scope=\"{scope}\"}}");
        assert_eq!(metrics.value(&series), f64::from(marks), "{scope}");
    }
}

#[tokio::test]
async fn what_is_no_purge_is_refused_and_purges_nothing() {
    let reach = reach().await;
    let (json, bearer) = (
        ("content-type", "application/json"),
        format!("Bearer {TOKEN}"),
    );
    let right = ("authorization", bearer.as_str());
    let all = r#"{"everything":true}"#.to_owned();
    let refused = async {
        for (method, fields, body, status) in [
            (Method::POST, &[json][..], all.clone(), 401),
            (
                Method::POST,
                &[json, ("authorization", "Bearer ann")],
                all.clone(),
                401,
            ),
            (Method::POST, &[json, right, right], all.clone(), 401),
            (
                Method::POST,
                &[json, right, ("origin", "http://evil.example:9090")],
                all.clone(),
                403,
            ),
            (Method::POST, &[json, ("origin", "null")], all.clone(), 403),
            (Method::GET, &[json, right], all.clone(), 405),
            (Method::PUT, &[json, right], all.clone(), 405),
            (Method::DELETE, &[json, right], String::new(), 405),
            (Method::OPTIONS, &[right], String::new(), 405),
            (Method::POST, &[right], all.clone(), 415),
            (
                Method::POST,
                &[right, ("content-type", "text/plain")],
                all.clone(),
                415,
            ),
            (Method::POST, &[right, json, json], all.clone(), 415),
            (
                Method::POST,
                &[right, json, ("content-encoding", "gzip")],
                all.clone(),
                415,
            ),
            (
                Method::POST,
                &[right, json],
                format!("{all}{}", " ".repeat(64 << 10)),
                413,
            ),
            (Method::POST, &[right, json], REFUSALS.to_owned(), 422),
            (Method::POST, &[right, json], String::new(), 422),
            (Method::POST, &[right, json], "{}".to_owned(), 422),
            (
                Method::POST,
                &[right, json],
                r#"{"everything":true,"evrything":true}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"everything":true,"everything":true}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"everything":true,"items":[180,-1]}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"user":"ann","items":[]}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"user":"ann","mode":"gentle"}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"items":[180],"batch":"/api/v1/doors/shows"}"#.to_owned(),
                422,
            ),
            (
                Method::POST,
                &[right, json],
                r#"{"items":[180],"user":"Bearer ann"}"#.to_owned(),
                422,
            ),
        ] {
            let answer = ask(&reach.edge, method.clone(), fields, body.clone()).await;
            let what = format!("{method} {fields:?} {body:.60}: {}", answer.text());
            assert_eq!(answer.status, status, "{what}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{what}"
            );
            let message: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(message["message"].is_string(), "{what}");
            assert_eq!(
                answer.header("www-authenticate"),
                (status == 401).then_some("Bearer"),
                "{what}"
            );
            assert_eq!(
                answer.header("allow"),
                (status == 405).then_some("POST"),
                "{what}"
            );
        }
    };
    assert!(reach.ended_after(refused).await.is_empty());
    let metrics = Scrape::settled(reach.edge.admin).await;
    let marks = metrics
        .series
        .iter()
        .filter(|(series, _)| series.contains("_marks_total"));
    assert!(marks.map(|(_, value)| *value).eq([0.0, 0.0, 0.0]));
}

#[tokio::test]
async fn a_body_that_breaks_off_or_never_ends_purges_nothing() {
    let reach = reach().await;
    let head = format!(
        "POST /purge HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    );
    let sent = async {
        let mut cut = Client::connect(reach.edge.admin).await;
        cut.send(format!(
            "{head}Content-Length: 30\r\n\r\n{{\"everything\":true}}"
        ))
        .await;
        cut.wire.end().await;
        assert_eq!(cut.response().await.status, 400);

        let mut endless = Client::connect(reach.edge.admin).await;
        endless
            .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"))
            .await;
        for _ in 0..9 {
            let chunk = " ".repeat(8 << 10);
            endless.send(format!("2000\r\n{chunk}\r\n")).await;
        }
        let refused = endless.response().await;
        assert_eq!(refused.status, 413);
        assert!(matches!(refused.framing, Framing::Length(_)));

        let mut rebound = Client::connect(reach.edge.admin).await;
        let all = "{\"everything\":true}";
        let fields = format!(
            "Content-Type: application/json\r\nContent-Length: {}",
            all.len()
        );
        for (origin, status) in [("Origin: http://evil.example\r\n", 403), ("", 403)] {
            let request = format!(
                "POST /purge HTTP/1.1\r\nHost: evil.example\r\n{origin}{fields}\r\n\r\n{all}"
            );
            rebound.send(request).await;
            assert_eq!(rebound.response().await.status, status);
        }
    };
    assert!(reach.ended_after(sent).await.is_empty());
}

#[tokio::test]
async fn what_was_asked_for_before_a_purge_and_comes_after_it_is_not_used() {
    let world = world().await;
    let ann = world.user(1);
    let hold = world.vms.hold();
    let purged_meanwhile = async {
        hold.arrived(1).await;
        world.advance(1);
        purge(&world.edge, r#"{"items":[1]}"#).await.status(200);
        world.advance(1);
        drop(hold);
    };
    let (before, ()) = tokio::join!(ann.asks([1, 2]), purged_meanwhile);
    before.gets([1, 2]);
    ann.asks([1, 2])
        .await
        .is("detail=\"hit=1 miss=1\"")
        .fetched([&[1]]);
}

#[tokio::test]
async fn a_purged_token_is_shown_nowhere() {
    const CANARY: &str = "tok-1-canary";
    let (file, _) = settings();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let log = "log.level = \"debug\"";
    let token = format!("admin.token_file = {:?}\n{log}", file.path());
    let edge = Binary::before(serving.address(), &token);
    let mut shown = String::new();
    for body in [
        format!(r#"{{"user":"{CANARY}","items":[7,5],"mode":"soft"}}"#),
        format!(r#"{{"user":"{CANARY}"}}"#),
        format!(r#"{{"user":"Bearer {CANARY}"}}"#),
        format!(r#"{{"user":["{CANARY}"]}}"#),
        format!(r#"{{"{CANARY}":1}}"#),
        format!(r#"{{"items":["{CANARY}"],"batch":"{CANARY}","mode":"{CANARY}"}}"#),
        format!(r#""{CANARY}""#),
        format!("{CANARY}{}", "x".repeat(70_000)),
    ] {
        let request = Request::post("/purge")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json");
        let answer = send(edge.admin, request.body(Full::from(body)).unwrap()).await;
        shown += &format!("{:?} {}", answer.headers, answer.text());
    }
    shown += &Scrape::of(edge.admin)
        .await
        .series
        .keys()
        .cloned()
        .collect::<String>();
    let log = tokio::task::spawn_blocking(|| edge.ends()).await.unwrap();
    assert!(
        log.contains("purged") && shown.contains("\"items\":[5,7]"),
        "{log}"
    );
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("purged")).collect();
    assert_eq!(lines.len(), 2, "one for each purge");
    let said = "purged mode=\"soft\" items=[5, 7] batches=[\"/api/v1/intercom/shows\"] user=true everything=false";
    assert!(lines[0].ends_with(said), "{}", lines[0]);
    for secret in [CANARY, TOKEN] {
        assert!(
            !shown.contains(secret) && !log.contains(secret),
            "{shown} {log}"
        );
    }
}

#[tokio::test]
async fn the_commands_in_the_readme_do_what_it_says() {
    let reach = reach().await;
    let readme = include_str!("../../README.md");
    let (_, section) = readme
        .split_once("## Purging")
        .expect("it tells of purging");
    let (_, block) = section
        .split_once("```console\n")
        .expect("it shows commands");
    let (block, _) = block.split_once("```").expect("the block ends");
    let directory = tempfile::tempdir().unwrap();
    let header = format!("Authorization: Bearer {TOKEN}\n");
    std::fs::write(directory.path().join("admin.header"), header).unwrap();
    std::fs::write(directory.path().join("user.json"), r#"{"user":"ann"}"#).unwrap();
    let mut commands = block.split("$ ").skip(1);
    // The first is soft: all is answered still.
    for ended in [&[][..], &BOTH_180, &ANNS, &ALL] {
        let command = commands.next().expect("there are as many");
        let (spelled, prints) = command
            .trim_end()
            .rsplit_once('\n')
            .expect("and what it prints");
        let spelled = spelled.replace("127.0.0.1:9090", &reach.edge.admin.to_string());
        let done = async {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(&spelled).current_dir(directory.path());
            let output = soon("the end of the command", shell.output())
                .await
                .unwrap();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim_end(),
                prints,
                "{spelled}"
            );
        };
        assert_eq!(reach.ended_after(done).await, ended, "{spelled}");
    }
    assert_eq!(commands.next(), None);
}
