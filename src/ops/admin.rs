//! The admin listener: health, readiness and metrics for probes and Prometheus, open to whoever reaches it; purging, for
//! whoever has the token.
//!
//! A browser that was led here by a page (DNS rebinding) has no token, and is not even let try one: every page that
//! asks for more than to read says in `Origin` that it is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::LengthLimitError;
use serde::Serialize;
use serde_json::json;
use tracing_appender::non_blocking::ErrorCounter;

use super::metrics::Metrics;
use super::purge::{self, Purge};
use crate::cache::store::Usage;
use crate::config::{Batch, Config};
use crate::request::fields;

/// Longest wait for the body of a purge.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What the admin listener tells of, and what it can do.
pub struct Admin {
    /// Counted so far.
    pub metrics: Arc<Metrics>,
    /// Tells how full the store is.
    pub usage: Box<dyn Fn() -> Usage + Send + Sync>,
    /// Whether new requests are welcome; false from the beginning of a shutdown.
    pub ready: Arc<AtomicBool>,
    /// Lines that the log dropped.
    pub log_dropped: Option<ErrorCounter>,
    /// The configuration in effect.
    pub config: Box<dyn Fn() -> Arc<Config> + Send + Sync>,
    /// Purges; nothing that was fetched before is used any more when it returns.
    pub purge: Box<dyn Fn(&Purge) + Send + Sync>,
}

/// The admin listener's routes.
pub fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_method);
    Router::new()
        .route("/purge", post(purge))
        .fallback(async || error(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            require_token,
        ))
        .merge(open)
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    if admin.ready.load(Ordering::SeqCst) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let dropped = admin.log_dropped.as_ref();
    let dropped = dropped.map_or(0, ErrorCounter::dropped_lines);
    let text = admin.metrics.render((admin.usage)(), dropped);
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
}

async fn purge(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        let message = "The body must be of Content-Type application/json, uncoded.";
        return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let config = (admin.config)();
    let purge = match Purge::read(&body, &config.batches) {
        Ok(purge) => purge,
        Err(fault) => return error(StatusCode::UNPROCESSABLE_ENTITY, &fault.to_string()),
    };
    (admin.purge)(&purge);
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

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return false;
    };
    fields::essence(media_type.as_bytes()) == b"application/json"
        && !headers.contains_key(header::CONTENT_ENCODING)
}

async fn read(body: Body) -> Result<Bytes, Response> {
    let read = axum::body::to_bytes(body, purge::MAX_BODY_BYTES);
    match tokio::time::timeout(BODY_DEADLINE, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(fault)) => {
            let source = std::error::Error::source(&fault);
            let too_large = source.is_some_and(|source| source.is::<LengthLimitError>());
            Err(match too_large {
                true => {
                    let message =
                        format!("The body is larger than {} bytes.", purge::MAX_BODY_BYTES);
                    error(StatusCode::PAYLOAD_TOO_LARGE, &message)
                }
                false => error(StatusCode::BAD_REQUEST, "The body broke off."),
            })
        }
        Err(_) => Err(error(
            StatusCode::REQUEST_TIMEOUT,
            "The body took too long.",
        )),
    }
}

async fn require_token(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let message = "Nothing is done for the pages of a browser.";
        return error(StatusCode::FORBIDDEN, message);
    }
    let config = (admin.config)();
    let Some(token) = &config.admin.token else {
        let message =
            "No admin.token_file is configured: only /healthz, /readyz and /metrics are answered.";
        return error(StatusCode::FORBIDDEN, message);
    };
    if presented(request.headers()).is_some_and(|presented| token.matches(presented)) {
        return next.run(request).await;
    }
    let message = "The token of admin.token_file is required, as Authorization: Bearer TOKEN.";
    let mut refusal = error(StatusCode::UNAUTHORIZED, message);
    let challenge = header::HeaderValue::from_static("Bearer");
    refusal
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    refusal
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    field.as_bytes().strip_prefix(b"Bearer ")
}

async fn wrong_method() -> Response {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "That method is not for this path.",
    )
}

fn error(status: StatusCode, message: &str) -> Response {
    json(status, &json!({ "message": message }))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).expect("numbers, strings and lists are valid JSON");
    let fields = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, fields, format!("{body}\n")).into_response()
}
