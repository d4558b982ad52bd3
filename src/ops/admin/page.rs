//! The page for people who would rather look: open, since there is nothing on it until it was given the token.
//!
//! All of it is in the binary, and a browser that shows it asks nobody else: the policy says so. Its chart library is
//! uPlot (MIT), as its authors publish it.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answer::wrong_method;

/// What a browser may load for it: what comes from here, and nothing written into the page itself.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// One file of the page.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

macro_rules! asset {
    ($path:literal, $media_type:literal, $file:literal) => {
        Asset {
            path: $path,
            media_type: $media_type,
            content: include_bytes!(concat!("page/", $file)),
        }
    };
}

const ASSETS: [Asset; 6] = [
    asset!("/", "text/html; charset=utf-8", "index.html"),
    asset!("/page/page.css", "text/css; charset=utf-8", "page.css"),
    asset!("/page/page.js", "text/javascript; charset=utf-8", "page.js"),
    asset!("/page/icon.svg", "image/svg+xml", "icon.svg"),
    asset!(
        "/page/uplot.css",
        "text/css; charset=utf-8",
        "uPlot.min.css"
    ),
    asset!(
        "/page/uplot.js",
        "text/javascript; charset=utf-8",
        "uPlot.iife.min.js"
    ),
];

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut routes = Router::new();
    for asset in ASSETS {
        let tag = format!("\"{}\"", &blake3::hash(asset.content).to_hex()[..16]);
        let show = move |request: Request| {
            let shown = show(&asset, &tag, request.headers());
            async { shown }
        };
        routes = routes.route(asset.path, get(show));
    }
    routes.method_not_allowed_fallback(wrong_method)
}

fn show(asset: &Asset, tag: &str, headers: &HeaderMap) -> Response {
    let kind = [(header::CONTENT_TYPE, asset.media_type)];
    let fields = [
        (header::ETAG, tag),
        // Kept, but asked for anew each time: another version of the edge has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let has_it = |known: &header::HeaderValue| known.as_bytes() == tag.as_bytes();
    match headers.get_all(header::IF_NONE_MATCH).iter().any(has_it) {
        // It speaks of a body, and there is none (RFC 9110, 15.4.5).
        true => (StatusCode::NOT_MODIFIED, fields).into_response(),
        false => (kind, fields, asset.content).into_response(),
    }
}
