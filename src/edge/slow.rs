//! Requests that take longer than `log.slow`: one line each that says where the time went.
//!
//! A wait is measured only where there is something to wait for, so a request that is answered at once pays nothing. What
//! passes through counts up to the header of the VMS's answer: how long the rest takes is up to its size, the client's
//! network, and whoever likes to stream. A WebSocket does not count at all.

use std::time::{Duration, Instant};

use http::StatusCode;

use super::RequestContext;
use super::access::Ended;
use super::shown::{microseconds, shown_method, shown_path};
use crate::batch::waits::Waits;
use crate::origin::fetch::Course;

/// Where the time of one request went.
#[derive(Default)]
pub(super) struct Times {
    /// Waiting for the body of a batch.
    pub(super) body: Duration,
    /// Waiting for fetches.
    pub(super) waits: Waits,
    /// How long the longest took of the fetches that an answer is made of, if any.
    pub(super) fetched: Option<Duration>,
    /// Waiting until the client took the answer.
    pub(super) write: Duration,
    /// When the VMS was first asked for a request that passes through, when all of its body had come, and when the header
    /// of its answer.
    asked: Option<Instant>,
    body_came: Option<Instant>,
    header_came: Option<Instant>,
}

impl Times {
    /// The VMS is asked, for the first time or once more.
    pub(super) fn vms_asked(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
    }

    /// The whole body has come, if there is one.
    pub(super) fn body_came(&mut self) {
        self.body_came = Some(Instant::now());
    }

    /// The final header of the VMS's answer has come.
    pub(super) fn header_came(&mut self) {
        self.header_came = Some(Instant::now());
    }

    /// How long the VMS was waited for in all, turns and the client's body included; `None` if it gave no answer.
    pub(super) fn upstream(&self) -> Option<Duration> {
        let passed = self.header_came.zip(self.asked);
        let passed = passed.map(|(header_came, asked)| header_came - asked);
        passed.or(self.fetched)
    }
}

/// Tells of a request, if it took long in all.
pub(super) fn tell(ended: &Ended<'_>, ctx: &RequestContext) {
    let limit = ctx.site.config.log.slow;
    if limit.is_zero() || ended.took <= limit {
        return;
    }
    if ended.status == Some(StatusCode::SWITCHING_PROTOCOLS) {
        return;
    }
    match ctx.times.asked {
        Some(asked) => tell_passed(ended, ctx, asked, limit),
        None => tell_answered(ended, ctx),
    }
}

/// Of a request that passed through, for which the VMS was first asked at this time.
fn tell_passed(ended: &Ended<'_>, ctx: &RequestContext, asked: Instant, limit: Duration) {
    let times = &ctx.times;
    let header_came = times.header_came.unwrap_or(ctx.started + ended.took);
    let counts = header_came - ctx.started;
    if counts <= limit {
        return;
    }
    // Some servers answer before they have all of it.
    let body_came = times.body_came.unwrap_or(asked);
    let body_came = body_came.clamp(asked, header_came.max(asked));
    let header = ended.request;
    tracing::warn!(
        request_id = %ctx.correlation.id,
        method = shown_method(header),
        path = &*shown_path(header),
        time_us = microseconds(counts),
        // An earlier part of the same request may have been fetched, and been of no use.
        fetches_us = microseconds(fetched(times)),
        body_us = microseconds(times.body + (body_came - asked)),
        vms_us = microseconds(header_came - body_came),
        server = ctx.attempts.server().map(|server| server.to_string()),
        "slow request"
    );
}

/// Of one that the edge answered.
fn tell_answered(ended: &Ended<'_>, ctx: &RequestContext) {
    let times = &ctx.times;
    let each = |time: fn(&Course) -> Duration| -> Vec<u64> {
        let fetches = times.waits.fetches();
        fetches.map(|course| microseconds(time(course))).collect()
    };
    let waited = times.body + fetched(times) + times.write;
    let servers = times.waits.fetches().filter_map(|course| course.server);
    let header = ended.request;
    tracing::warn!(
        request_id = %ctx.correlation.id,
        method = shown_method(header),
        path = &*shown_path(header),
        time_us = microseconds(ended.took),
        body_us = microseconds(times.body),
        // One number for each fetch of its own.
        queue_us = ?each(|course| course.queued),
        vms_us = ?each(|course| course.took.saturating_sub(course.queued)),
        tries = ?times.waits.fetches().map(|course| course.tries).collect::<Vec<_>>(),
        servers = ?servers.collect::<Vec<_>>(),
        others_us = microseconds(times.waits.others),
        vain_us = microseconds(times.waits.vain),
        compose_us = microseconds(ended.took.saturating_sub(waited)),
        write_us = microseconds(times.write),
        "slow request"
    );
}

/// Time spent waiting for fetches, whosever they were.
fn fetched(times: &Times) -> Duration {
    let own: Duration = times.waits.fetches().map(|course| course.took).sum();
    own + times.waits.others + times.waits.vain
}
