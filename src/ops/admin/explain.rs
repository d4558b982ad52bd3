//! `POST /explain`: what would become of a request. `ops::explain` reads the request, and says what an answer is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Office;
use super::answer::{error, json, json_body};
use crate::ops::explain::{MAX_BODY_BYTES, Supposed};

pub(super) async fn explain(State(office): State<Arc<Office>>, request: Request) -> Response {
    let body = match json_body(request, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    match Supposed::read(&body) {
        Ok(supposed) => json(StatusCode::OK, &(office.admin.explain)(&supposed)),
        Err(fault) => error(StatusCode::UNPROCESSABLE_ENTITY, &fault.to_string()),
    }
}
