//! What is left of secrets in the memory of the process once their requests are over, and what is shown of those that stay.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

use http::Method;
use vms_edge::demo::vms::StandIn;

use crate::support::client::Client;
use crate::support::operator::{ask, bearer, token};
use crate::support::scrape::Scrape;
use crate::support::service::Service;
use crate::support::soon;
use crate::support::world::SHOWS;

/// Begins every secret of this test, so that one search finds them all. It is put together here, and so stands in no
/// program as it is.
fn secret(place: &str) -> String {
    format!("tok-1-{}{}-{place}", "se", "cret")
}

/// Memory that is looked at in one piece, in bytes.
const PART_BYTES: usize = 1 << 20;

/// What the stack of a thread takes, in bytes.
const STACK_BYTES: u64 = 2 << 20;

/// Where in a process's memory some bytes stand, and what stands around them. Stacks are left out: what was hashed or
/// compared last may stand there, some ten bytes of it, until a later call takes its place.
fn found(process: u32, bytes: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("a process that runs");
    let memory = File::open(format!("/proc/{process}/mem")).expect("a process of ours");
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        if line.ends_with("[stack]") || to - from == STACK_BYTES {
            continue;
        }
        let mut part = vec![0; PART_BYTES];
        for at in (from..to).step_by(PART_BYTES - bytes.len()) {
            let length = PART_BYTES.min(usize::try_from(to - at).unwrap());
            // What is reserved and not there yet cannot be read.
            if memory.read_exact_at(&mut part[..length], at).is_err() {
                continue;
            }
            let part = &part[..length];
            for at in memchr::memmem::find_iter(part, bytes) {
                let around = &part[at.saturating_sub(60)..length.min(at + 60)];
                found.push(format!("{line}: {}", around.escape_ascii()));
            }
        }
    }
    found
}

/// A request with a secret in one place, and a body if it needs one.
fn requests() -> Vec<String> {
    let widget = |authorization: &str, fields: &str| {
        format!(
            "GET {SHOWS}?ids[]=1&ids[]=2 HTTP/1.1\r\nHost: vms.local\r\nAuthorization: {authorization}\r\n\
             Accept: application/json\r\nX-Client: ios\r\nX-UUID: d\r\n{fields}\r\n"
        )
    };
    let bearer = format!("Bearer {}", secret("bearer"));
    let to = |target: &str, fields: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {target} HTTP/1.1\r\nHost: vms.local\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        )
    };
    let field = |name: &str| format!("{name}: {}\r\n", secret(name));
    let json = format!("{{\"api_token\":\"{}\"}}", secret("body"));
    vec![
        widget(&bearer, ""),
        widget(&bearer, ""),
        widget(&bearer, &field("Cookie")),
        widget(&bearer, &field("Proxy-Authorization")),
        widget(&format!("Basic {}", secret("basic")), ""),
        widget(&format!("Bearer {}, Bearer b", secret("list")), ""),
        widget(
            &format!("Bearer {}", "unknown-".to_owned() + &secret("unknown")),
            "",
        ),
        to("/api/v1/nothing", &field("X-Auth-Token"), ""),
        to(
            "/api/v1/nothing",
            "Content-Type: application/json\r\n",
            &json,
        ),
        to(
            &format!("/api/v1/nothing?api_token={}", secret("query")),
            "",
            "",
        ),
        format!(
            "GET /api/v1/nothing HTTP/1.1\r\nHost: a\r\nHost: b\r\n{}\r\n",
            field("X-Bad")
        ),
    ]
}

#[tokio::test]
async fn once_requests_are_over_no_secret_of_theirs_is_left_in_the_memory_of_the_process() {
    let vms = StandIn::new().start().await.unwrap();
    let (_file, admin) = token();
    let edge = Service::before(vms.address(), &admin).await;
    for request in requests() {
        let mut client = Client::connect(edge.address).await;
        client.send(&request).await;
        client.response().await;
    }
    for (path, body) in [
        ("/purge", format!("{{\"user\":\"{}\"}}", secret("purge"))),
        (
            "/explain",
            format!(
                "{{\"url\":\"{SHOWS}?ids[]=1\",\"headers\":{{\"Authorization\":\"Bearer {}\"}}}}",
                secret("explain")
            ),
        ),
    ] {
        let mut operator = Client::connect(edge.admin).await;
        let length = body.len();
        operator
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nX-Also: {}\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
                bearer(),
                secret("admin"),
            ))
            .await;
        assert_eq!(operator.response().await.status, 200, "{path}");
    }
    Scrape::once(edge.admin, "vms_edge_connections{listener=\"plain\"}", 0.0).await;
    let left = found(edge.process(), secret("").as_bytes());
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn what_a_canary_sends_is_shown_nowhere() {
    let vms = StandIn::new().start().await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|user| files.path().join(format!("user-{user}")));
    fs::write(&first, "tok-1-zebra").unwrap();
    fs::write(&second, "tok-2-zebra").unwrap();
    let (_file, admin) = token();
    let settings = format!(
        "{admin}log.level = \"trace\"\n[canary]\ntoken_files = [{first:?}, {second:?}]\nids = [1, 2, 6]\n\
         interval = \"100ms\"\n"
    );
    let edge = Service::before(vms.address(), &settings).await;
    let mut shown = Vec::new();
    let asked = "vms_edge_canary_runs_total{result=\"ok\"} ";
    let metrics = || operate_plainly(edge.admin, Method::GET, "/metrics", String::new());
    let has_asked = async {
        loop {
            let metrics = metrics().await;
            let rounds = metrics.lines().find_map(|line| line.strip_prefix(asked));
            if rounds.is_some_and(|rounds| rounds.parse::<u64>().unwrap() >= 3) {
                return metrics;
            }
        }
    };
    shown.push(soon("rounds", has_asked).await);
    let explain = format!(
        "{{\"url\":\"{SHOWS}?ids[]=1\",\"headers\":{{\"Authorization\":\"Bearer tok-1-zebra\"}}}}"
    );
    let reload = |says: &'static str| {
        let answer = operate_plainly(edge.admin, Method::POST, "/reload", String::new());
        async move {
            let answer = answer.await;
            assert!(answer.contains(says), "{answer}");
            answer
        }
    };
    shown.push(operate_plainly(edge.admin, Method::GET, "/status", String::new()).await);
    shown.push(operate_plainly(edge.admin, Method::POST, "/explain", explain).await);
    // Another, the other's, and some that are none.
    for (token, says) in [
        ("tok-3-zebra", "other tokens in the same files"),
        ("tok-2-zebra", "holds the same token twice"),
        ("tok-1-zebra, b", "holds a token with a comma"),
        ("a\ntok-1-zebra", "holds more than one line"),
    ] {
        fs::write(&first, token).unwrap();
        shown.push(reload(says).await);
    }
    shown.push(edge.stops().await);
    assert!(
        shown
            .iter()
            .any(|shown| shown.contains("canary.token_files"))
    );
    for shown in shown {
        assert!(!shown.contains("zebra"), "{shown}");
    }
}

/// What the admin listener says to an operator.
async fn operate_plainly(admin: SocketAddr, method: Method, path: &str, body: String) -> String {
    let bearer = bearer();
    let fields = [
        ("host", "localhost"),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    ask(admin, method, path, &fields, body).await.text()
}
