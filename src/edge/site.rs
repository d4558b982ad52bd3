//! What requests are answered by under one configuration. Immutable: a reload puts another one in its place, and each
//! request goes on to its end with the one that it began with.

use std::sync::Arc;

use http::StatusCode;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::rate::{Limited, RateLimits};
use super::{RequestContext, client};
use crate::batch::explain::Explainer;
use crate::batch::fill::Filler;
use crate::batch::invalidate::Invalidator;
use crate::batch::{Asked, AskedBy, BatchEndpoint, Outcome, Reply};
use crate::config::Config;
use crate::ops::explain::{Explanation, Supposed};
use crate::origin::fetch::Queue;
use crate::origin::servers::Servers;
use crate::request::checks::Refusal;
use crate::request::decline::Bypass;
use crate::request::key::KeyMaker;
use crate::request::peer::Peer;
use crate::request::{self, Declined};
use crate::waited::waited;

/// One configuration at work.
pub struct Site {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its batch endpoints, in its order.
    pub endpoints: Vec<Arc<BatchEndpoint>>,
    /// Fills what is missing from its upstream.
    pub filler: Arc<Filler>,
    /// Its upstream.
    pub servers: Arc<Servers>,
    /// Where fetches from it wait for their turn.
    pub queue: Arc<Queue>,
    /// Its rules for what passes through.
    pub invalidator: Arc<Invalidator>,
    /// How often clients may ask.
    pub limits: Arc<RateLimits>,
    /// The secret of the process, whatever the configuration is.
    pub keys: Arc<KeyMaker>,
}

/// What the edge does with a request on a batch path.
pub(super) enum Verdict {
    Reply(Reply),
    Refuse(Refusal),
    PassThrough(Bypass),
}

impl Site {
    /// The endpoint whose path is, byte for byte, that of the request.
    pub(super) fn endpoint(&self, request: &RequestHeader) -> Option<&Arc<BatchEndpoint>> {
        BatchEndpoint::of(&self.endpoints, request)
    }

    /// Whether the request with this header may be a batch: only what begins like one is looked at more closely.
    pub(super) fn may_ask_batch(&self, head: &[u8]) -> bool {
        let target = head.strip_prefix(b"GET ").unwrap_or_default();
        let asks = |endpoint: &Arc<BatchEndpoint>| {
            let rest = target.strip_prefix(endpoint.config.path.as_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"?"))
        };
        self.endpoints.iter().any(asks)
    }

    /// The answer to a request without a body, if it is a batch that memory answers with nothing but what is fresh: an
    /// error, if it comes too soon. What has such an answer is counted; of all else nothing is noted.
    pub(super) fn at_hand(
        &self,
        request: &RequestHeader,
        ctx: &mut RequestContext,
    ) -> Option<Reply> {
        let endpoint = self.endpoint(request)?;
        let checked = request::examine(request, &self.config.headers).ok()?;
        let keyed = endpoint.vary();
        let batch = endpoint.understand(request, b"", checked, &keyed, ctx.peer, &self.keys);
        let batch = batch.ok()?;
        let hit = endpoint.at_hand(&self.filler, &batch)?;
        // Asked once and for all: a limit counts whoever asks it.
        if let Err(limited) = self.admit(request, ctx.peer) {
            return Some(Reply::error(&ctx.limited(Some(endpoint), limited)));
        }
        let reply = hit.reply(endpoint, &self.filler, &batch)?;
        self.filler.metrics.batch(&endpoint.counters, reply.result);
        ctx.batch = Some(reply.result);
        ctx.ids = Some(batch.ids.len());
        Some(reply)
    }

    /// Says what would become of a request.
    pub fn explain(&self, supposed: &Supposed) -> Explanation {
        let explainer = Explainer {
            endpoints: &self.endpoints,
            filler: &self.filler,
            keys: &self.keys,
            headers: &self.config.headers,
            trusted_proxies: &self.config.server.trusted_proxies,
        };
        explainer.explain(supposed)
    }

    /// Marks what a request made wrong, by what the VMS says of it.
    pub(super) fn mark(&self, request: &RequestHeader, status: StatusCode) {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.invalidator.refused(request),
            // Whoever stands before the VMS may have lost its answer to what it did.
            status if status.is_server_error() => self.invalidator.perhaps_written(request),
            status if status.is_success() => self.invalidator.written(request),
            _ => {}
        }
    }

    /// Whether a request does not come too soon.
    pub(super) fn admit(&self, request: &RequestHeader, peer: Peer) -> Result<(), Limited> {
        let trusted = &self.config.server.trusted_proxies;
        self.limits.admit(request, &self.keys, peer, trusted)
    }

    /// Decides about a request on the path of `endpoint`, and answers it if it is a batch.
    pub(super) async fn judge(
        &self,
        session: &mut Session,
        endpoint: &Arc<BatchEndpoint>,
        ctx: &mut RequestContext,
    ) -> Result<Verdict> {
        let checked = match request::examine(session.req_header(), &self.config.headers) {
            Ok(checked) => checked,
            Err(Declined::Refused(refusal)) => return Ok(Verdict::Refuse(refusal)),
            Err(Declined::Bypass(reason)) => return Ok(Verdict::PassThrough(reason)),
        };
        let idle = self.config.upstream.idle_timeout;
        let (body, time) = waited(client::read_body(
            session,
            &checked,
            ctx.body_deadline(),
            idle,
        ))
        .await;
        ctx.times.body = time;
        let Some(body) = body? else {
            return Ok(Verdict::Refuse(Refusal::BodyTooLarge));
        };
        let keyed = endpoint.vary();
        let request = session.req_header();
        let batch = endpoint.understand(request, &body, checked, &keyed, ctx.peer, &self.keys);
        let batch = match batch {
            Ok(batch) => batch,
            Err(reason) => return Ok(Verdict::PassThrough(reason)),
        };
        ctx.ids = Some(batch.ids.len());
        let asked = Asked {
            batch,
            keyed,
            request,
            body,
            peer: ctx.peer,
            correlation: &ctx.correlation,
            by: AskedBy::Client,
        };
        let waits = &mut ctx.times.waits;
        Ok(match endpoint.answer(&self.filler, asked, waits).await {
            Outcome::Reply(reply) => Verdict::Reply(reply),
            Outcome::PassThrough(reason) => Verdict::PassThrough(reason),
        })
    }
}
