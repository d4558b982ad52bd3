//! `POST /purge`: what is stored ends at an operator's word. `ops::purge` reads what is wanted.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Office;
use super::answer::{error, json, json_body};
use crate::config::Batch;
use crate::ops::purge::{self, Purge};

pub(super) async fn purge(State(office): State<Arc<Office>>, request: Request) -> Response {
    let body = match json_body(request, purge::MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let config = (office.admin.config)();
    let purge = match Purge::read(&body, &config.batches) {
        Ok(purge) => purge,
        Err(fault) => return error(StatusCode::UNPROCESSABLE_ENTITY, &fault.to_string()),
    };
    (office.admin.purge)(&purge);
    let done = Done::of(&purge, &config.batches);
    tracing::info!(
        mode = done.mode,
        items = ?done.items,
        batches = ?done.batches,
        user = done.user,
        everything = done.everything,
        "purged"
    );
    json(StatusCode::OK, &done)
}

/// What was purged, as the operator and the log are told: never the token.
#[derive(Serialize)]
struct Done<'a> {
    mode: &'static str,
    items: &'a [u64],
    /// Paths of the endpoints whose items they are.
    batches: Vec<&'a str>,
    user: bool,
    everything: bool,
}

impl<'a> Done<'a> {
    fn of(purge: &'a Purge, batches: &'a [Batch]) -> Self {
        let batches = batches.iter();
        let batches = batches.filter(|batch| purge.endpoints.contains(&batch.endpoint));
        Self {
            mode: purge.strength.name(),
            items: &purge.items,
            batches: batches.map(|batch| batch.path.as_str()).collect(),
            user: purge.user.is_some(),
            everything: purge.everything,
        }
    }
}
