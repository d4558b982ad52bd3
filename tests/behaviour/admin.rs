//! The admin listener: what it tells, what can be asked of it, and whom it lets in.

mod explain;
mod guard;
mod level;
mod open;
mod page;
mod reload;
mod status;

use http::Method;
use serde_json::Value;

use crate::support::operator::{self, operate, token};
use crate::support::scrape::Scrape;
use crate::support::world::{Answer, World};

/// An edge with a token for its operators, and `settings`.
async fn world(settings: &str) -> World {
    let (_file, token) = token();
    World::with(&format!("{token}{settings}")).await
}

/// What `GET /status` tells, once all that was asked is counted.
async fn status(world: &World) -> Value {
    Scrape::settled(world.edge.admin).await;
    let answer = operate(world.edge.admin, Method::GET, "/status", "").await;
    json(&answer.status(200))
}

async fn purge(world: &World, body: &str) {
    let answer = operator::purge(world.edge.admin, body).await;
    answer.status(200);
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}
