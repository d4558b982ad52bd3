//! The admin listener: health, readiness and metrics, for probes and Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tracing_appender::non_blocking::ErrorCounter;

use super::metrics::Metrics;
use crate::cache::store::Usage;
use crate::config::Token;

/// What the admin listener tells of.
pub struct Admin {
    /// Counted so far.
    pub metrics: Arc<Metrics>,
    /// Tells how full the store is.
    pub usage: Box<dyn Fn() -> Usage + Send + Sync>,
    /// Whether new requests are welcome; false from the beginning of a shutdown.
    pub ready: Arc<AtomicBool>,
    /// Lines that the log dropped.
    pub log_dropped: Option<ErrorCounter>,
    /// Opens every path but `/healthz`, `/readyz` and `/metrics`.
    pub token: Option<Token>,
}

/// The admin listener's routes.
pub fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let open = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    Router::new()
        .fallback(async || StatusCode::NOT_FOUND)
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

async fn require_token(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|field| field.as_bytes().strip_prefix(b"Bearer "));
    match (&admin.token, presented) {
        (Some(token), Some(presented)) if token.matches(presented) => next.run(request).await,
        _ => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
    }
}
