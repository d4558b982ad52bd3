//! What a request that passes through ends: told by an edge that remembers two intercoms and two cameras of two users,
//! before a VMS that takes any path for what it could mean.

use std::time::Duration;

use super::client::Client;
use super::edge::TestEdge;
use super::scripted::{Connection, Request, Scripted};

/// The settings of `conf/edge.toml` that decide what a write reaches.
pub(crate) fn shipped() -> &'static str {
    let text = include_str!("../../../conf/edge.toml");
    let begin = text.find("\n[[batch]]").expect("there are batches");
    let end = text.find("\n[cache]").expect("the cache comes after");
    &text[begin..end]
}

/// An edge, and everything it remembers.
pub(crate) struct Reach {
    pub(crate) edge: TestEdge,
    _vms: Scripted,
}

/// All that is remembered.
pub(crate) const ALL: [&str; 8] = [
    "ann's intercom 180",
    "ann's intercom 181",
    "ann's camera 180",
    "ann's camera 181",
    "bob's intercom 180",
    "bob's intercom 181",
    "bob's camera 180",
    "bob's camera 181",
];

/// All that is remembered of ann.
pub(crate) const ANNS: [&str; 4] = [ALL[0], ALL[1], ALL[2], ALL[3]];

/// Item 180 of both endpoints, of everyone.
pub(crate) const BOTH_180: [&str; 4] = [ALL[0], ALL[2], ALL[4], ALL[6]];

impl Reach {
    pub(crate) async fn with(settings: &str) -> Self {
        let vms = Scripted::start(answer_all).await;
        Self {
            edge: TestEdge::with(&[vms.address.to_string()], settings),
            _vms: vms,
        }
    }

    /// What is not answered from memory any more after `request`, which is sent as it is.
    pub(crate) async fn ended_by(&self, request: &str) -> Vec<&'static str> {
        self.ended_by_all(&[request]).await
    }

    /// The same after several requests.
    pub(crate) async fn ended_by_all(&self, requests: &[&str]) -> Vec<&'static str> {
        let sent = async {
            let mut client = Client::connect(self.edge.address).await;
            for request in requests {
                client.send(request).await;
                let answer = client.response().await;
                let expected = status_of(request);
                assert_eq!(answer.status, expected, "{request}");
            }
        };
        self.ended_after(sent).await
    }

    /// The same after whatever else is done.
    pub(crate) async fn ended_after(&self, done: impl Future<Output = ()>) -> Vec<&'static str> {
        for what in ALL {
            self.is_remembered(what).await;
            assert!(self.is_remembered(what).await, "{what}");
        }
        done.await;
        // What is fetched from now on is fetched later than any mark.
        self.edge.advance(Duration::from_nanos(1));
        let mut ended = Vec::new();
        for what in ALL {
            if !self.is_remembered(what).await {
                ended.push(what);
            }
        }
        ended
    }

    /// Asks for one thing, and says whether it came from memory; if not, it is remembered from now on.
    async fn is_remembered(&self, what: &str) -> bool {
        let (user, what) = what.split_once("'s ").expect("whose it is");
        let (kind, id) = what.split_once(' ').expect("which one it is");
        let endpoint = if kind == "camera" { "cameras" } else { kind };
        let mut client = Client::connect(self.edge.address).await;
        let fields = "Accept: application/json\r\nX-Client: ios\r\nX-UUID: phone";
        client
            .send(format!(
                "GET /api/v1/{endpoint}/shows?ids[]={id} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user}\r\n{fields}\r\n\r\n"
            ))
            .await;
        let answer = client.response().await;
        assert_eq!(answer.text(), format!("[{{\"id\":{id}}}]"));
        let status = answer.head.one("cache-status").expect("it says so");
        status.contains("; hit")
    }
}

/// A request by ann, with more fields if there are any.
pub(crate) fn by_ann(method: &str, target: &str, fields: &str) -> String {
    request(
        method,
        target,
        &format!("Authorization: Bearer ann\r\n{fields}"),
    )
}

/// A request with these fields, each ended by a line break.
pub(crate) fn request(method: &str, target: &str, fields: &str) -> String {
    let length = if fields.contains("Content-Length") {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n")
}

/// The status with which the VMS is told to answer, if it is not 200.
fn status_of(request: &str) -> u16 {
    let status = request.split("X-Status: ").nth(1);
    status.map_or(200, |status| status[..3].parse().expect("a status"))
}

/// Batches have all that is asked; everything else is answered as `X-Status` says.
async fn answer_all(mut connection: Connection) {
    while let Some(request) = connection.request().await {
        let answer = answer(&request);
        connection.wire.send(answer).await;
    }
}

fn answer(request: &Request) -> String {
    let line = request.line();
    let mut words = line.split(' ');
    let (method, target) = (words.next(), words.next().expect("a target"));
    let batch = target
        .split_once("/shows?ids[]=")
        .filter(|_| method == Some("GET"));
    let (status, body) = match batch {
        Some((_, id)) => ("200", format!("[{{\"id\":{id}}}]")),
        None => (
            request.head.one("x-status").unwrap_or("200"),
            "{}".to_owned(),
        ),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Done\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
