//! The span of a request, by OpenTelemetry's conventions for HTTP servers.

use std::time::SystemTime;

use http::{Method, Version};

use super::RequestContext;
use super::access::Ended;
use super::shown::shown_path;
use crate::ops::metrics::Label;
use crate::ops::spans::{Kind, Span};
use crate::request::trace::Place;

/// Tells of a request, if its trace is sampled.
pub(super) fn record(ended: &Ended<'_>, ctx: &RequestContext) {
    let Some(place) = ctx.correlation.place.filter(Place::is_sampled) else {
        return;
    };
    let header = ended.request;
    let method = known(&header.method);
    let endpoint = ctx.site.endpoint(header);
    let status = ended.status;
    let has_failed = ended.error.is_some() || status.is_none_or(|status| status.is_server_error());
    let mut attributes = vec![
        ("http.request.method", method.unwrap_or("_OTHER").into()),
        ("url.path", shown_path(header).into_owned().into()),
        ("url.scheme", ctx.peer.scheme.name().into()),
        ("network.protocol.version", version(header.version).into()),
        ("vms_edge.request_id", ctx.correlation.id.to_string().into()),
    ];
    if let Some(status) = status {
        attributes.push(("http.response.status_code", status.as_u16().into()));
    }
    if let Some(endpoint) = endpoint {
        attributes.push(("http.route", endpoint.config.path.clone().into()));
    }
    if let Some(result) = ctx.batch {
        attributes.push(("vms_edge.cache", result.name().into()));
    }
    if let Some(reason) = ctx.bypass {
        attributes.push(("vms_edge.bypass", reason.name().into()));
    }
    if let Some(ids) = ctx.ids {
        attributes.push(("vms_edge.ids", ids.into()));
    }
    if let Some(limited) = ctx.limited {
        attributes.push(("vms_edge.limited", limited.by.name().into()));
    }
    if let Some(server) = ctx.attempts.server() {
        attributes.push(("vms_edge.server", server.to_string().into()));
    }
    if let Some(upstream) = ctx.times.upstream() {
        attributes.push(("vms_edge.upstream_seconds", upstream.into()));
    }
    if has_failed {
        let kind = ended.error.map(|error| error.etype().as_str().to_owned());
        let status = || status.map_or_else(|| "_OTHER".to_owned(), |s| s.as_u16().to_string());
        attributes.push(("error.type", kind.unwrap_or_else(status).into()));
    }
    let name = method.unwrap_or("HTTP");
    ctx.site.filler.spans.record(Span {
        place,
        kind: Kind::Server,
        name: match endpoint {
            Some(endpoint) => format!("{name} {}", endpoint.config.path),
            None => name.to_owned(),
        },
        ended: SystemTime::now(),
        took: ended.took,
        has_failed,
        attributes,
    });
}

/// A method's name, if it is one of those that the conventions list: others are whatever somebody made up.
fn known(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    KNOWN.into_iter().find(|known| method.as_str() == *known)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
