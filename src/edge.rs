//! Pingora's phases. The only file that implements `ProxyHttp`.
//!
//! A request on a batch path is answered in `request_filter`, unless it was plain and its answer at hand, so that Pingora
//! never saw it ([`at_hand`]); every other one, and each batch that the edge declines, goes through Pingora's own
//! proxying, streamed both ways. Whatever phase ends a request, `logging` counts it and writes its access line.

mod access;
pub mod at_hand;
mod attempts;
mod client;
mod correlate;
pub mod rate;
mod shown;
pub mod site;
mod slow;
mod span;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use prometheus::IntGauge;

use self::access::Ended;
pub use self::attempts::MAX_TRIES;
use self::attempts::{Attempts, is_read};
use self::rate::Limited;
use self::site::{Site, Verdict};
use self::slow::Times;
use crate::batch::{Author, BatchEndpoint};
use crate::listen;
use crate::origin::forward;
use crate::reply::cache_status::{BatchResult, CacheStatus};
use crate::reply::error::EdgeError;
use crate::request::checks::Refusal;
use crate::request::correlation::Correlation;
use crate::request::decline::Bypass;
use crate::request::peer::Peer;
use crate::request::{Scheme, framing};
use crate::waited::waited;

/// The proxy: batches answered, all else passed through.
pub struct EdgeProxy {
    site: Arc<ArcSwap<Site>>,
    in_flight: IntGauge,
}

/// What is known of one request, from phase to phase.
pub struct RequestContext {
    /// What answers it.
    site: Arc<Site>,
    started: Instant,
    peer: Peer,
    correlation: Correlation,
    limited: Option<Limited>,
    /// What became of a request on a batch path; `None` on any other.
    batch: Option<BatchResult>,
    bypass: Option<Bypass>,
    /// How many ids a batch asks, if it is one.
    ids: Option<usize>,
    attempts: Attempts,
    times: Times,
    /// Whether the VMS was connected to, so that it may have the request.
    sent: bool,
    /// Whether its final header came.
    answered: bool,
    _in_flight: InFlight,
}

impl RequestContext {
    /// Of a request that has just come, and is counted by `in_flight` from now on.
    fn new(site: Arc<Site>, in_flight: &IntGauge) -> Self {
        Self {
            site,
            started: Instant::now(),
            peer: Peer::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Scheme::Http, &[]),
            correlation: Correlation::drawn(),
            limited: None,
            batch: None,
            bypass: None,
            ids: None,
            attempts: Attempts::default(),
            times: Times::default(),
            sent: false,
            answered: false,
            _in_flight: InFlight::new(in_flight),
        }
    }

    /// Notes that the request comes too soon, and tells what is to be answered.
    fn limited(&mut self, endpoint: Option<&Arc<BatchEndpoint>>, limited: Limited) -> EdgeError {
        let metrics = &self.site.filler.metrics;
        metrics.rate_limited(limited.by);
        if let Some(endpoint) = endpoint {
            metrics.batch(&endpoint.counters, BatchResult::Rejected);
            self.batch = Some(BatchResult::Rejected);
        }
        self.limited = Some(limited);
        limited.into()
    }

    /// When the whole body of the request must have come.
    fn body_deadline(&self) -> Option<Instant> {
        let limit = self.site.config.limits.body_timeout;
        limit.map(|limit| self.started + limit)
    }
}

/// Counts a request for as long as it lives.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EdgeProxy {
    /// The proxy of whatever `site` holds when a request begins; `in_flight` counts requests.
    pub fn new(site: Arc<ArcSwap<Site>>, in_flight: IntGauge) -> Self {
        Self { site, in_flight }
    }

    /// Whose rules judge what a request did: the site that it began with, and the one that a reload has put in its place
    /// since, which may have other rules and endpoints.
    fn sites(&self, ctx: &RequestContext) -> impl Iterator<Item = Arc<Site>> {
        let now = self.site.load_full();
        let is_another = !Arc::ptr_eq(&now, &ctx.site);
        std::iter::once(Arc::clone(&ctx.site)).chain(is_another.then_some(now))
    }

    /// Answers a request that comes too soon; the connection is kept.
    async fn limited(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        endpoint: Option<&Arc<BatchEndpoint>>,
        limited: Limited,
    ) -> Result<()> {
        let error = ctx.limited(endpoint, limited);
        client::drain_small_body(session);
        client::write_error(session, &error, &ctx.correlation.id).await
    }
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.site.load_full(), &self.in_flight)
    }

    fn init_downstream_modules(&self, _: &mut pingora_core::modules::http::HttpModules) {
        // None: the compression module, Pingora's only default, would change what passes through.
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        listen::header_came(session);
        listen::as_http1(session)?;
        // Pingora keeps an idle connection for ever; one that the client wants closed stays so.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(listen::IDLE_TIMEOUT.as_secs()));
        }
        let idle_timeout = ctx.site.config.upstream.idle_timeout;
        // Of a body; later pieces have what is left of the time for all of it.
        let body_timeout = ctx.site.config.limits.body_timeout;
        let first_piece = body_timeout.map_or(idle_timeout, |limit| limit.min(idle_timeout));
        session.set_read_timeout(Some(first_piece));
        session.set_write_timeout(Some(idle_timeout));
        let request = session.req_header();
        // HTTP/1.0 has no interim responses (RFC 9110, 15.2).
        let is_old = request.version == Version::HTTP_10;
        // Requests sent ahead are answered one after the other; before a WebSocket is open, nothing may be sent ahead.
        let may_pipeline = !framing::is_websocket(request);
        session.set_ignore_info_resp(is_old);
        session.set_pipelining_enabled(may_pipeline);
        if let Some(address) = session.client_addr().and_then(|address| address.as_inet()) {
            let scheme = match session.digest().is_some_and(|d| d.ssl_digest.is_some()) {
                true => Scheme::Https,
                false => Scheme::Http,
            };
            let trusted = &ctx.site.config.server.trusted_proxies;
            ctx.peer = Peer::new(address.ip(), scheme, trusted);
        }
        ctx.correlate(session.req_header());
        let received = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
        framing::check(session.req_header(), &received.unwrap_or_default())
            .map_err(|fault| Error::explain(ErrorType::InvalidHTTPHeader, fault).into_down())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        let site = Arc::clone(&ctx.site);
        panics!(session.req_header(), "asked");
        let endpoint = site.endpoint(session.req_header());
        if let Err(limited) = site.admit(session.req_header(), ctx.peer) {
            self.limited(session, ctx, endpoint, limited).await?;
            return Ok(true);
        }
        let Some(endpoint) = endpoint else {
            return Ok(false);
        };
        let metrics = &site.filler.metrics;
        match site.judge(session, endpoint, ctx).await? {
            Verdict::PassThrough(reason) => {
                metrics.bypass(&endpoint.counters, reason);
                ctx.batch = Some(BatchResult::Bypass);
                ctx.bypass = Some(reason);
                Ok(false)
            }
            Verdict::Refuse(refusal) => {
                metrics.batch(&endpoint.counters, BatchResult::Rejected);
                ctx.batch = Some(BatchResult::Rejected);
                let too_large = refusal == Refusal::BodyTooLarge;
                let error = EdgeError::Refused(refusal);
                let id = &ctx.correlation.id;
                if too_large {
                    client::write_last_error(session, &error, id).await?;
                } else {
                    client::drain_small_body(session);
                    client::write_error(session, &error, id).await?;
                }
                Ok(true)
            }
            Verdict::Reply(mut reply) => {
                metrics.batch(&endpoint.counters, reply.result);
                ctx.batch = Some(reply.result);
                ctx.times.fetched = reply.upstream;
                let author = reply.author;
                ctx.tell_id(&mut reply.header, author)?;
                let written = waited(client::write(session, reply.header, reply.body)).await;
                ctx.times.write = written.1;
                written.0?;
                Ok(true)
            }
        }
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        // What goes through a WebSocket is no body.
        if !end_of_stream && !session.was_upgraded() {
            let idle_timeout = ctx.site.config.upstream.idle_timeout;
            client::keep_to(session, ctx.body_deadline(), idle_timeout)?;
        }
        if end_of_stream && framing::length(session.req_header()) != Some(0) {
            ctx.times.body_came();
        }
        Ok(())
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        if listen::is_taken_back(session) {
            let left = Error::explain(ErrorType::H2Error, "the client took it back");
            return Err(left.into_down());
        }
        ctx.times.vms_asked();
        let request = session.req_header();
        let idle_timeout = ctx.site.config.upstream.idle_timeout;
        let peer = ctx
            .attempts
            .next(&ctx.site.servers, request, idle_timeout)?;
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.sent = true;
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        forward::describe_hop(request, ctx.peer, ctx.site.filler.host.as_ref())?;
        ctx.correlation.stamp(request)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.attempts.heard(response.status);
        panics!(session.req_header(), "answered");
        if !response.status.is_informational() {
            // Before anything can go wrong with the rest of the answer: the VMS has said what it did.
            for site in self.sites(ctx) {
                site.mark(session.req_header(), response.status);
            }
            ctx.answered = true;
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            let is_modern = response.version == Version::HTTP_11;
            if !is_modern || !framing::is_websocket(session.req_header()) {
                let fault = "a change of protocol that nobody asked for";
                return Error::e_explain(ErrorType::InvalidHTTPHeader, fault)
                    .map_err(Error::into_up);
            }
            session.set_read_timeout(None);
        } else if response.status.is_informational() {
            return Ok(());
        } else {
            let client = session.req_header().version;
            forward::describe_answer(response, client)?;
            if client == Version::HTTP_10 && !response.headers.contains_key(header::CONTENT_LENGTH)
            {
                session.set_keepalive(None);
            }
        }
        ctx.times.header_came();
        if let Some(reason) = ctx.bypass {
            response.append_header("Cache-Status", CacheStatus::Bypass(reason).to_field())?;
        }
        ctx.tell_id(response, Author::Vms)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(ctx.attempts.unreached(&ctx.site.servers, &error));
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let harmless = is_read(&session.req_header().method)
            && session.response_written().is_none()
            && !session.retry_buffer_truncated();
        error.set_retry(ctx.attempts.ended(&error, client_reused, harmless));
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let answer = edge_error(error);
        let begun = session
            .response_written()
            .is_some_and(|header| !header.status.is_informational());
        let error_code = match answer {
            Some(answer) if !begun => {
                // The client may be gone; the access line tells.
                let _ = client::write_last_error(session, &answer, &ctx.correlation.id).await;
                answer.status()
            }
            _ => 0,
        };
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        if ctx.sent && !ctx.answered {
            for site in self.sites(ctx) {
                site.invalidator.perhaps_written(session.req_header());
            }
        }
        let ended = Ended {
            request: session.req_header(),
            status: session.response_written().map(|answer| answer.status),
            body_bytes: session.body_bytes_sent(),
            error,
            took: ctx.started.elapsed(),
        };
        access::record(&ended, ctx);
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        true
    }
}

/// What a client is told of a failure; `None` if there is nobody to tell.
fn edge_error(error: &Error) -> Option<EdgeError> {
    let timed_out = matches!(
        error.etype(),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout
    );
    match error.esource() {
        ErrorSource::Upstream if timed_out => Some(EdgeError::GatewayTimeout),
        ErrorSource::Upstream => Some(EdgeError::BadGateway),
        ErrorSource::Downstream if timed_out => Some(EdgeError::RequestTimeout),
        ErrorSource::Downstream => match error.etype() {
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed => None,
            _ => Some(EdgeError::BadRequest),
        },
        ErrorSource::Internal | ErrorSource::Unset => Some(EdgeError::Internal),
    }
}
