//! Writes that pass through: what each of them ends, by the rules that are shipped, however it is spelled.

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::reach::{ALL, ANNS, Reach, by_ann, request, shipped};
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::world::metrics;

/// The intercom 180, of everyone.
const THE_INTERCOM: [&str; 2] = [ALL[0], ALL[4]];

/// All of ann's, and the intercom 180 of bob too.
const ANNS_AND_THE_INTERCOM: [&str; 5] = [ALL[0], ALL[1], ALL[2], ALL[3], ALL[4]];

#[tokio::test]
async fn the_shipped_rules_know_every_write_that_makes_an_item_stale_and_no_other() {
    let reach = Reach::with(shipped()).await;
    for (method, path, ended) in [
        ("PATCH", "/api/v1/intercom/180", &ANNS_AND_THE_INTERCOM[..]),
        ("POST", "/api/v1/intercom/180/flat", &ANNS),
        ("DELETE", "/api/v1/intercom", &ANNS),
        ("POST", "/api/v1/cameras/180/favorites", &ANNS),
        ("DELETE", "/api/v1/cameras/180/favorites", &ANNS),
        ("POST", "/api/v1/cameras/180/rename", &ANNS),
        ("PATCH", "/api/v1/cameras/180", &ANNS),
        ("POST", "/api/v1/logout", &ANNS),
        ("POST", "/api/v1/sessions/7", &ANNS),
        ("PUT", "/api/v1/users/self", &ANNS),
        ("PATCH", "/api/admin/v1/intercoms/180", &THE_INTERCOM),
        ("PUT", "/api/admin/v1/intercoms/180/lines/3", &THE_INTERCOM),
        ("POST", "/api/v1/billing/accounts/7", &ALL),
        ("DELETE", "/api/v1/billing", &ALL),
        ("POST", "/api/v1/intercom/180/open-door", &[]),
        ("POST", "/api/v1/intercom/180/calls", &[]),
        ("POST", "/api/v1/intercom/180/codes", &[]),
        ("POST", "/api/v1/files", &[]),
        ("POST", "/api/v1/cameras/180/marks", &[]),
        ("PUT", "/api/v1/devices/7", &[]),
        ("GET", "/api/v1/intercom/180", &[]),
        ("OPTIONS", "/api/v1/logout", &[]),
    ] {
        let write = by_ann(method, path, "");
        assert_eq!(reach.ended_by(&write).await, ended, "{method} {path}");
    }
}

#[tokio::test]
async fn a_write_that_the_vms_did_not_do_ends_nothing() {
    let reach = Reach::with(shipped()).await;
    for status in [302, 400, 404, 405, 409, 419, 422, 429] {
        let write = by_ann(
            "PATCH",
            "/api/v1/intercom/180",
            &format!("X-Status: {status}\r\n"),
        );
        assert!(reach.ended_by(&write).await.is_empty(), "{status}");
    }
    for status in [200, 201, 202, 206] {
        let write = by_ann(
            "PATCH",
            "/api/v1/intercom/180",
            &format!("X-Status: {status}\r\n"),
        );
        assert_eq!(
            reach.ended_by(&write).await,
            ANNS_AND_THE_INTERCOM,
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_before_the_vms_may_have_been_done_for_its_writer() {
    let reach = Reach::with(shipped()).await;
    for status in [500, 502, 503, 504] {
        let write = by_ann(
            "PATCH",
            "/api/v1/intercom/180",
            &format!("X-Status: {status}\r\n"),
        );
        assert_eq!(reach.ended_by(&write).await, ANNS, "{status}");
    }
}

#[tokio::test]
async fn odd_spellings_of_a_write_end_the_same() {
    let reach = Reach::with(shipped()).await;
    for target in [
        "//api/v1/intercom/180",
        "/api/v1//intercom///180",
        "/api/v1/intercom/180/",
        "/api/v1/%69ntercom/180",
        "/api/v1/intercom/%31%38%30",
        "/api%2Fv1%2Fintercom%2F180",
        "/index.php/api/v1/intercom/180",
        "/Index.PHP//api/v1/intercom/180",
        "/API/V1/InterCom/180",
        "/api/./v1/x/../intercom/180",
        "/api/v1/intercom/180?title=x",
    ] {
        let write = by_ann("PATCH", target, "");
        assert_eq!(
            reach.ended_by(&write).await,
            ANNS_AND_THE_INTERCOM,
            "{target}"
        );
    }
    // What the edge cannot read as one item may be any.
    for target in [
        "/api/v1/intercom/180;x",
        "/api/v1/intercom/%20180",
        "/api/v1/intercom/0180",
    ] {
        let write = by_ann("PATCH", target, "");
        assert_eq!(reach.ended_by(&write).await, ALL, "{target}");
    }
}

#[tokio::test]
async fn a_post_that_stands_for_another_method_ends_what_that_would() {
    let reach = Reach::with(shipped()).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\n";
    for (method, fields, body) in [
        ("POST", "X-HTTP-Method-Override: PATCH\r\n", ""),
        ("POST", "X-HTTP-Method-Override: patch\r\n", ""),
        ("POST", form, "_method=PATCH"),
        ("POST", "", ""),
        ("post", "", ""),
        ("patch", "", ""),
    ] {
        let write = by_ann(method, "/api/v1/cameras/180", fields) + body;
        assert_eq!(reach.ended_by(&write).await, ANNS, "{write}");
    }
    let by_query = by_ann("POST", "/api/v1/users/self?_method=PUT", "");
    assert_eq!(reach.ended_by(&by_query).await, ANNS);
}

#[tokio::test]
async fn a_batch_that_is_asked_for_with_a_post_ends_its_askers_and_nobody_elses() {
    let reach = Reach::with(shipped()).await;
    let read = by_ann(
        "POST",
        "/api/v1/intercom/shows?ids[]=180",
        "X-HTTP-Method-Override: GET\r\n",
    );
    assert_eq!(reach.ended_by(&read).await, ANNS);
}

#[tokio::test]
async fn a_write_under_a_credential_that_nobody_can_read_for_sure_may_be_anyones() {
    let reach = Reach::with(shipped()).await;
    for fields in [
        "",
        "Cookie: session=x\r\n",
        "Authorization: Bearer bob, x\r\n",
    ] {
        let write = request("PUT", "/api/v1/users/self", fields);
        assert_eq!(reach.ended_by(&write).await, ALL, "{fields}");
        // Whose it would have been is nobody's word to end others' items on.
        let lost = format!("X-Status: 502\r\n{fields}");
        let ended = reach
            .ended_by(&request("PUT", "/api/v1/users/self", &lost))
            .await;
        let expected = match fields.contains("Bearer bob") {
            true => &ALL[4..],
            false => &[],
        };
        assert_eq!(ended, expected, "{lost}");
    }
}

#[tokio::test]
async fn without_the_name_of_a_batch_an_id_is_one_of_each() {
    let settings = shipped().replace("batch = \"/api/v1/intercom/shows\"\n", "");
    let reach = Reach::with(&settings).await;
    let write = by_ann("PATCH", "/api/admin/v1/intercoms/180", "");
    let everyones_180 = [ALL[0], ALL[2], ALL[4], ALL[6]];
    assert_eq!(reach.ended_by(&write).await, everyones_180);
    let marks = Scrape::settled(reach.edge.admin).await;
    assert_eq!(marks.value("vms_edge_marks_total{scope=\"item\"}"), 2.0);
}

#[tokio::test]
async fn a_write_that_the_vms_did_counts_although_its_answer_cannot_be_relayed() {
    let vms =
        Scripted::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
            .await;
    let rule = "[[invalidate]]\npath = \"/a/{id}\"\nscope = [\"item\"]";
    let edge = TestEdge::with(&[vms.address.to_string()], rule);
    let mut client = Client::connect(edge.address).await;
    client
        .send("PATCH /a/180 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 502);
    let marks = metrics(&edge).await;
    assert!(
        marks.contains("vms_edge_marks_total{scope=\"item\"} 1\n"),
        "{marks}"
    );
}

#[tokio::test]
async fn a_write_under_two_tokens_is_of_whoever_holds_either() {
    let reach = Reach::with(shipped()).await;
    for name in [
        "api_token",
        "api.token",
        "api+token",
        "api[token",
        "token%00",
    ] {
        let write = by_ann("PUT", &format!("/api/v1/users/self?{name}=bob"), "");
        assert_eq!(reach.ended_by(&write).await, ALL, "{name}");
    }
}
