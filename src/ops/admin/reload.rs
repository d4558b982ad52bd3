//! `POST /reload`: the configuration file is read again. `ops::reload` says what came of it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Office;
use super::answer::{error, json};
use crate::ops::reload::Outcome;

pub(super) async fn reload(State(office): State<Arc<Office>>) -> Response {
    // Goes on to its end, and is told by the log, whether or not whoever asked for it waits.
    match tokio::spawn((office.admin.reload)()).await {
        Ok(reload) => {
            let status = match reload.outcome {
                Outcome::Applied { .. } => StatusCode::OK,
                Outcome::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            };
            json(status, &reload)
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "The reload panicked."),
    }
}
