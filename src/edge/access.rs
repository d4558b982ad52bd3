//! The end of a request: its time is counted, and its access line written.

use std::time::Duration;

use http::StatusCode;
use pingora_core::{Error, ErrorSource};
use pingora_http::RequestHeader;

use super::rate::Limited;
use super::shown::{microseconds, shown_method, shown_path};
use super::{RequestContext, slow, span};
use crate::ops::log::ACCESS;
use crate::ops::metrics::{Label, RequestKind, StatusClass};
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;

/// A request at its end.
pub(super) struct Ended<'a> {
    /// Its header.
    pub(super) request: &'a RequestHeader,
    /// Status of the answer that was begun, if one was.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the answer's body that were sent.
    pub(super) body_bytes: usize,
    /// What went wrong.
    pub(super) error: Option<&'a Error>,
    /// How long it took in all.
    pub(super) took: Duration,
}

/// Counts and tells a request that has come to its end.
pub(super) fn record(ended: &Ended<'_>, ctx: &RequestContext) {
    let kind = match (ctx.batch, ctx.bypass) {
        (Some(_), None) => RequestKind::Batch,
        _ => RequestKind::Pass,
    };
    let class = StatusClass::of(ended.status);
    ctx.site.filler.metrics.request(kind, class, ended.took);
    if let Some(error) = ended.error {
        tell_failure(error, ctx);
    }
    slow::tell(ended, ctx);
    span::record(ended, ctx);
    if !ctx.site.config.log.access || !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
        return;
    }
    let header = ended.request;
    tracing::info!(
        target: ACCESS,
        method = shown_method(header),
        path = &*shown_path(header),
        status = ended.status.map_or(0, |status| status.as_u16()),
        bytes = ended.body_bytes,
        time_us = microseconds(ended.took),
        cache = ctx.batch.map(BatchResult::name),
        bypass = ctx.bypass.map(Bypass::name),
        limited = ctx.limited.map(|limited: Limited| limited.by.name()),
        upstream_us = ctx.times.upstream().map(microseconds),
        request_id = %ctx.correlation.id,
        "request"
    );
}

/// Tells why a request failed. What the client has done, by going away or by what it sent, is nothing to warn of, and would
/// let everybody fill the disk: a client can take back a hundred thousand requests a second.
fn tell_failure(error: &Error, ctx: &RequestContext) {
    let (kind, source) = (error.etype(), error.esource());
    let server = || ctx.attempts.server().map(|server| server.to_string());
    let request_id = &ctx.correlation.id;
    match source {
        ErrorSource::Downstream => {
            tracing::debug!(?kind, ?source, server = server(), %request_id, "request failed");
        }
        ErrorSource::Upstream | ErrorSource::Internal | ErrorSource::Unset => {
            tracing::warn!(?kind, ?source, server = server(), %request_id, "request failed");
        }
    }
}
