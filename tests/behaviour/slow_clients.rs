//! Slow clients as slowhttptest has them: their connections are given up within the deadlines, somebody else is served all
//! the while, and the VMS sees no more of them than it must.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Request, Scripted};
use crate::support::soon;
use crate::support::tools::tool;

/// Slow clients of each kind, and how many of them connect in a second.
const CLIENTS: &str = "40";

/// How long slowhttptest goes on, in seconds, if the edge sends nobody away: longer than a test waits for that.
const LASTING: &str = "60";

/// Requests by which slowhttptest looks whether the edge is still there: one a second, and some to spare.
const PROBES: usize = 10;

/// Deadlines that are over within that time.
const SETTINGS: &str = "limits.header_timeout = \"1s\"\nlimits.body_timeout = \"1s\"\n\
                        upstream.idle_timeout = \"2s\"\nlog.access = false\n";

/// More than all buffers on the way hold.
const LARGE: &[u8] = &[b'x'; 8 << 20];

/// Connections of which most are attackers', and of which none may be one: two are somebody else's, and one is a probe.
const MANY: f64 = 20.0;
const FEW: f64 = 3.0;

const CONNECTIONS: &str = "vms_edge_connections{listener=\"plain\"}";

/// What is asked slowly, and by somebody who is not slow.
const SLOW: &str = "/slow";
const BESIDE: &str = "/beside";

/// Attacks with these options, until the edge holds none of the attackers any more. Returns what the VMS was asked by them;
/// `None` if slowhttptest is not installed.
async fn attacked(options: &[&str]) -> Option<Vec<Request>> {
    let slowhttptest = tool("slowhttptest")?;
    let vms = Scripted::start(answer_all).await;
    let edge = TestEdge::with(&[vms.address.to_string()], SETTINGS);
    let mut attack = Command::new(slowhttptest);
    attack
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .args(["-c", CLIENTS, "-r", CLIENTS, "-l", LASTING, "-i", "1"])
        .args(["-u", &format!("http://{}{SLOW}", edge.address)])
        .args(options);
    let mut kept = Client::connect(edge.address).await;
    is_served(&mut kept).await;
    let mut attack = attack.spawn().expect("slowhttptest can be run");
    let given_up = async {
        let mut have_come = false;
        loop {
            is_served(&mut kept).await;
            is_served(&mut Client::connect(edge.address).await).await;
            // It ends when it has no connection any more, which those whose answers wait to be read do not notice.
            if attack.try_wait().expect("it is ours").is_some() {
                break;
            }
            let open = Scrape::of(edge.admin).await.value(CONNECTIONS);
            have_come |= open > MANY;
            if have_come && open <= FEW {
                break;
            }
        }
    };
    soon("the end of the edge's patience", given_up).await;
    let _ = attack.kill().await;
    // The one that was kept is left, which the attackers have not.
    Scrape::once(edge.admin, CONNECTIONS, 1.0).await;
    is_served(&mut kept).await;
    let requests = vms.requests();
    let of_attackers = |request: &Request| request.line().contains(SLOW);
    Some(requests.into_iter().filter(of_attackers).collect())
}

async fn is_served(client: &mut Client) {
    let answer = soon("an answer", client.get(BESIDE)).await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
}

async fn answer_all(mut connection: Connection) {
    while let Some(request) = connection.request().await {
        let line = request.line();
        // A slow reader has much to read.
        let body = match line.starts_with("GET") && line.contains(SLOW) {
            true => LARGE,
            false => b"ok",
        };
        let length = body.len();
        let header = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let body = if line.starts_with("HEAD") { b"" } else { body };
        for part in [header.as_bytes(), body] {
            // A slow reader's connection is cut off.
            if connection.wire.try_send(part).await.is_err() {
                return;
            }
        }
    }
}

fn clients() -> usize {
    CLIENTS.parse().expect("it is a number")
}

#[tokio::test]
async fn headers_that_drip_never_reach_the_vms() {
    let Some(requests) = attacked(&["-H"]).await else {
        return;
    };
    assert!(requests.len() <= PROBES, "{} requests", requests.len());
}

#[tokio::test]
async fn bodies_that_drip_are_never_whole_at_the_vms() {
    let Some(requests) = attacked(&["-B", "-s", "8192"]).await else {
        return;
    };
    let posts = requests.iter().filter(|it| it.line().starts_with("POST"));
    let posts: Vec<_> = posts.collect();
    assert!(posts.len() <= clients(), "{} bodies", posts.len());
    assert!(posts.iter().all(|post| post.body.is_empty()));
}

#[tokio::test]
async fn many_ranges_at_once_are_the_vmss_to_judge_and_asked_once_each() {
    let Some(requests) = attacked(&["-R"]).await else {
        return;
    };
    let has_ranges = |request: &&Request| request.head.one("range").is_some();
    let ranges = requests.iter().filter(has_ranges).count();
    assert_eq!(ranges, clients());
    assert!(requests.len() - ranges <= PROBES);
}

#[tokio::test]
async fn answers_that_are_hardly_read_are_given_up_and_asked_once_each() {
    // Of three requests on a connection the first one's answer is never taken.
    let Some(requests) = attacked(&["-X", "-k", "3", "-z", "5", "-n", "1"]).await else {
        return;
    };
    let asked = requests.len();
    assert!((clients()..=clients() + PROBES).contains(&asked), "{asked}");
}
