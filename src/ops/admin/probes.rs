//! What probes and Prometheus ask, without a token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::Office;
use crate::ops::log::Control;

pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(office): State<Arc<Office>>) -> impl IntoResponse {
    if office.admin.ready.load(Ordering::SeqCst) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    }
}

pub(super) async fn metrics(State(office): State<Arc<Office>>) -> impl IntoResponse {
    let admin = &office.admin;
    let dropped = admin.log.as_ref().map_or(0, Control::dropped);
    let text = admin.metrics.render((admin.usage)(), dropped);
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
}
