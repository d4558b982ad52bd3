//! What operators purge: by item, by user, everything. And all that is no purge, after which everything is as before.

mod soft;

use http::Method;
use vms_edge::demo::vms::StandIn;

use crate::support::client::{Client, Framing};
use crate::support::operator::{TOKEN, ask, bearer, purge, token};
use crate::support::reach::{ALL, ANNS, BOTH_180, Reach, shipped};
use crate::support::scrape::Scrape;
use crate::support::service::Service;
use crate::support::world::World;

/// With the shipped rules, and a token for operators.
async fn reach() -> Reach {
    let (_file, token) = token();
    Reach::with(&format!("{token}{}", shipped())).await
}

/// Without jitter, so that ages are exact: fresh 30 s, stale 60 s more, instead of an error 5 m; absences 10 s.
async fn world() -> World {
    let (_file, token) = token();
    let windows = "jitter = 0.0\nfresh = \"30s\"\nabsent = \"10s\"\nstale_while_revalidate = \"60s\"\nstale_if_error = \"5m\"\n";
    World::with(&format!(
        "{token}\n[[batch]]\npath = \"/api/v1/intercom/shows\"\n{windows}"
    ))
    .await
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
                purge(reach.edge.admin, body).await.status(200).body_is(&format!("{done}\n"));
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

const JSON: (&str, &str) = ("content-type", "application/json");

const EVERYTHING: &str = r#"{"everything":true}"#;

/// Sends each of these, of which none is a purge: each is refused with this status and says why, and nothing is purged.
async fn are_refused<'a>(
    requests: impl IntoIterator<Item = (Method, &'a [(&'a str, &'a str)], String)>,
    status: u16,
) {
    let reach = reach().await;
    let refused = async {
        for (method, fields, body) in requests {
            let what = format!("{method} {fields:?} {body:.60}");
            let fields = [fields, &[("host", "localhost")]].concat();
            let answer = ask(reach.edge.admin, method, "/purge", &fields, body).await;
            let what = format!("{what}: {}", answer.text());
            assert_eq!(answer.status, status, "{what}");
            let message: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(message["message"].is_string(), "{what}");
            for (name, value) in [
                ("content-type", Some(JSON.1)),
                ("www-authenticate", (status == 401).then_some("Bearer")),
                ("allow", (status == 405).then_some("POST")),
            ] {
                assert_eq!(answer.header(name), value, "{what}");
            }
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
async fn without_the_token_nothing_is_purged() {
    let bearer = bearer();
    let right = ("authorization", bearer.as_str());
    let wrong = ("authorization", "Bearer ann");
    for fields in [&[JSON][..], &[JSON, wrong], &[JSON, right, right]] {
        are_refused([(Method::POST, fields, EVERYTHING.to_owned())], 401).await;
    }
}

#[tokio::test]
async fn pages_of_others_purge_nothing() {
    let bearer = bearer();
    let right = ("authorization", bearer.as_str());
    let evil = ("origin", "http://evil.example:9090");
    for fields in [&[JSON, right, evil][..], &[JSON, ("origin", "null")]] {
        are_refused([(Method::POST, fields, EVERYTHING.to_owned())], 403).await;
    }
}

#[tokio::test]
async fn other_methods_types_and_lengths_purge_nothing() {
    let bearer = bearer();
    let right = ("authorization", bearer.as_str());
    let (text, gzip) = (("content-type", "text/plain"), ("content-encoding", "gzip"));
    let all = || EVERYTHING.to_owned();
    let methods = [
        (Method::GET, &[JSON, right][..], all()),
        (Method::PUT, &[JSON, right], all()),
        (Method::DELETE, &[JSON, right], String::new()),
        (Method::OPTIONS, &[right], String::new()),
    ];
    are_refused(methods, 405).await;
    let types = [
        &[right][..],
        &[right, text],
        &[right, JSON, JSON],
        &[right, JSON, gzip],
    ];
    are_refused(types.map(|fields| (Method::POST, fields, all())), 415).await;
    let padded = format!("{EVERYTHING}{}", " ".repeat(64 << 10));
    are_refused([(Method::POST, &[right, JSON][..], padded)], 413).await;
}

#[tokio::test]
async fn a_body_that_is_no_purge_purges_nothing() {
    let bearer = bearer();
    let fields = [("authorization", bearer.as_str()), JSON];
    let bodies = [
        "a body that is no purge at all",
        "",
        "{}",
        r#"{"everything":true,"evrything":true}"#,
        r#"{"everything":true,"everything":true}"#,
        r#"{"everything":true,"items":[180,-1]}"#,
        r#"{"user":"ann","items":[]}"#,
        r#"{"user":"ann","mode":"gentle"}"#,
        r#"{"items":[180],"batch":"/api/v1/doors/shows"}"#,
        r#"{"items":[180],"user":"Bearer ann"}"#,
    ];
    are_refused(
        bodies.map(|body| (Method::POST, &fields[..], body.to_owned())),
        422,
    )
    .await;
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
        purge(world.edge.admin, r#"{"items":[1]}"#)
            .await
            .status(200);
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
    let (_file, token) = token();
    let vms = StandIn::new();
    let serving = vms.start().await.unwrap();
    let settings = format!("{token}log.level = \"debug\"");
    let edge = Service::before(serving.address(), &settings).await;
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
        let answer = purge(edge.admin, body).await;
        shown += &format!("{:?} {}", answer.headers, answer.text());
    }
    shown += &Scrape::of(edge.admin)
        .await
        .series
        .keys()
        .cloned()
        .collect::<String>();
    let log = edge.stops().await;
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
