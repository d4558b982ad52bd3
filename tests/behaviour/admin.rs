//! The admin listener: what it tells, what can be asked of it, and whom it lets in.

mod explain;
mod guard;
mod level;
mod page;
mod readme;
mod reload;
mod status;

use std::io::Write;
use std::net::SocketAddr;

use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::scrape::Scrape;
use crate::support::world::{Answer, World, send};

pub(crate) const TOKEN: &str = "a-token-of-the-operators";

/// A file with the operators' token, and the setting that names it; the file must outlive the start.
pub(crate) fn token() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let setting = format!("admin.token_file = {:?}\n", file.path());
    (file, setting)
}

/// An edge with a token for its operators, and `settings`.
async fn world(settings: &str) -> World {
    let (_file, token) = token();
    World::with(&format!("{token}{settings}")).await
}

/// Sends a request with the token, and with `body` as JSON if it is not empty.
pub(crate) async fn operate(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: impl Into<String>,
) -> Answer {
    let body = body.into();
    let mut request = Request::builder().method(method).uri(path);
    request = request
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    let answer = send(admin, request.body(Full::from(body)).unwrap()).await;
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{path}");
    }
    answer
}

/// What `GET /status` tells, once all that was asked is counted.
async fn status(world: &World) -> Value {
    Scrape::settled(world.edge.admin).await;
    let answer = operate(world.edge.admin, Method::GET, "/status", "").await;
    json(&answer.status(200))
}

async fn purge(world: &World, body: &str) {
    let answer = operate(world.edge.admin, Method::POST, "/purge", body).await;
    answer.status(200);
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}
