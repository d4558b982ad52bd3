//! The end of a request: its time is counted, and its access line written.

use pingora_core::Error;
use pingora_proxy::Session;

use super::rate::Limited;
use super::shown::{microseconds, shown_method, shown_path};
use super::{RequestContext, slow, span};
use crate::ops::log::ACCESS;
use crate::ops::metrics::{Label, RequestKind, StatusClass};
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;

/// Counts and tells a request that has come to its end.
pub(super) fn record(session: &Session, error: Option<&Error>, ctx: &RequestContext) {
    let took = ctx.started.elapsed();
    let kind = match (ctx.batch, ctx.bypass) {
        (Some(_), None) => RequestKind::Batch,
        _ => RequestKind::Pass,
    };
    let status = session.response_written().map(|response| response.status);
    let class = StatusClass::of(status);
    ctx.site.filler.metrics.request(kind, class, took);
    if let Some(error) = error {
        let server = ctx.attempts.server().map(|server| server.to_string());
        tracing::warn!(
            kind = ?error.etype(),
            source = ?error.esource(),
            server,
            request_id = %ctx.correlation.id,
            "request failed"
        );
    }
    slow::tell(session, ctx, took);
    span::record(session, error, ctx, took);
    if !ctx.site.config.log.access || !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
        return;
    }
    let header = session.req_header();
    let status = status.map_or(0, |status| status.as_u16());
    tracing::info!(
        target: ACCESS,
        method = shown_method(header),
        path = &*shown_path(header),
        status,
        bytes = session.body_bytes_sent(),
        time_us = microseconds(took),
        cache = ctx.batch.map(BatchResult::name),
        bypass = ctx.bypass.map(Bypass::name),
        limited = ctx.limited.map(|limited: Limited| limited.by.name()),
        upstream_us = ctx.times.upstream().map(microseconds),
        request_id = %ctx.correlation.id,
        "request"
    );
}
