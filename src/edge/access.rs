//! The end of a request: its time is counted, and its access line written.
//!
//! The line names the path without its query, whose values could be secret, and escapes whatever could break a line.

use std::borrow::Cow;
use std::time::Duration;

use pingora_core::Error;
use pingora_proxy::Session;

use super::{EdgeProxy, RequestContext};
use crate::ops::log::ACCESS;
use crate::ops::metrics::RequestKind;
use crate::reply::cache_status::BatchResult;
use crate::request;
use crate::request::decline::Bypass;

pub(super) fn record(
    edge: &EdgeProxy,
    session: &Session,
    error: Option<&Error>,
    ctx: &RequestContext,
) {
    let took = ctx.started.elapsed();
    let kind = match (ctx.batch, ctx.bypass) {
        (Some(_), None) => RequestKind::Batch,
        _ => RequestKind::Pass,
    };
    edge.filler.metrics.request(kind, took);
    if let Some(error) = error {
        tracing::warn!(kind = ?error.etype(), source = ?error.esource(), "request failed");
    }
    if !edge.log_access || !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
        return;
    }
    let header = session.req_header();
    let path: Cow<'_, str> = String::from_utf8_lossy(request::path(header));
    let status = session
        .response_written()
        .map_or(0, |response| response.status.as_u16());
    tracing::info!(
        target: ACCESS,
        method = ?header.method,
        ?path,
        status,
        bytes = session.body_bytes_sent(),
        time_us = microseconds(took),
        cache = ctx.batch.map(BatchResult::name),
        bypass = ctx.bypass.map(Bypass::name),
        upstream_us = ctx.upstream.map(microseconds),
        "request"
    );
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
