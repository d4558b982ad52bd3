//! The stand-in's connections: HTTP/1.1 in, the routes' answers out, with everything between that makes them late,
//! broken or streamed.
//!
//! A batch is answered from the world as it is when the request arrives; faults, the gate and the latency only delay
//! or spoil that answer. So a held answer is an old one, as one from a slow VMS is.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::SemaphorePermit;
use tokio::task::JoinSet;

use super::answer::Answer;
use super::body::{self, Body};
use super::faults::{self, Reply};
use super::record::Seen;
use super::routes::{self, Call, Outcome, Route};
use super::wire::{Heard, Tap};
use super::{Inner, Settings, StandIn, input};

/// The longest request body that is kept in memory.
const MAX_BODY: usize = 1 << 20;
/// What RFC 6455 §1.3 appends to a key before hashing it.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the stand-in was told to close the connection")]
struct Closed;

/// One connection's own things.
struct Connection {
    number: u64,
    heard: Option<Heard>,
    /// The upgrade that this connection goes on with once its HTTP is over.
    upgrade: Mutex<Option<OnUpgrade>>,
}

/// Serves until dropped, and all connections with it.
pub(crate) async fn serve(stand_in: StandIn, listener: TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // The client was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            },
            Some(_) = connections.join_next() => continue,
        };
        let inner = Arc::clone(&stand_in.inner);
        connections.spawn(async move {
            let _watch = inner.health.watch();
            connection(&inner, stream).await;
        });
    }
}

async fn connection(inner: &Arc<Inner>, stream: TcpStream) {
    // Without it small answers on kept connections would wait for acknowledgements.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the stand-in could not set TCP_NODELAY");
    }
    let own = Arc::new(Connection {
        number: inner.next_connection(),
        heard: inner.record.keeps_requests().then(Heard::default),
        upgrade: Mutex::new(None),
    });
    let heard = own.heard.clone();
    let service = service_fn(|request| handle(inner, &own, request));
    let served = http1::Builder::new()
        .title_case_headers(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Tap { stream, heard }), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the stand-in ended early");
    }
    let upgrade = own
        .upgrade
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(upgrade) = upgrade
        && let Ok(upgraded) = upgrade.await
    {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        // The client ends it as it pleases; however it does, the echo is over.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    }
}

async fn handle(
    inner: &Arc<Inner>,
    own: &Connection,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Closed> {
    let settings = inner.settings();
    let upgrade =
        routes::wants_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (parts, incoming) = request.into_parts();
    let fields = own.heard.as_ref().map(|heard| heard.fields_of(&parts));
    let see = |body: Bytes| seen(inner, own, &parts, fields, body);
    let route = routes::resolve(parts.uri.path(), &parts.method);
    let _present = matches!(route, Ok(Route::Batch(_))).then(|| inner.crowd.enter());
    match route {
        Ok(Route::WebSocket) => {
            see(Bytes::new());
            return Ok(settings.dress(websocket(own, &parts.headers, upgrade)));
        }
        Ok(Route::Echo) => {
            see(Bytes::new());
            if user_of(inner, &parts.headers).is_some() {
                return Ok(settings.dress(echo(&parts.headers, incoming)));
            }
            return Ok(settings.send(Answer::unauthenticated()));
        }
        _ => {}
    }
    let body = match Limited::new(incoming, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(settings.send(Answer::exception(status, "")));
        }
        Err(_) => return Err(Closed),
    };
    see(body.clone());
    let _worker = settings.worker().await;
    let call = Call {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
        body: &body,
    };
    let outcome = routes::answer(&inner.world, call, settings.order);
    let reply = finish(inner, outcome).await;
    if !settings.latency.is_zero() {
        tokio::time::sleep(settings.latency).await;
    }
    match reply {
        Reply::Answer(answer) => Ok(settings.send(answer)),
        Reply::Response(response) => Ok(settings.dress(response)),
        Reply::Close => Err(Closed),
        Reply::Hang => std::future::pending().await,
    }
}

/// Counts a batch, spoils it if a fault is due, and waits at the gate.
async fn finish(inner: &Arc<Inner>, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Answer(answer) => Reply::Answer(answer),
        Outcome::Stream(chunks) => {
            let pieces = (1..=chunks).map(|chunk| Bytes::from(format!("chunk {chunk}\n")));
            let steps = Arc::clone(&inner.steps);
            let answer = Answer::new(StatusCode::OK, "text/plain; charset=UTF-8", "");
            let mut response = Response::new(body::stepwise(&inner.health, steps, pieces));
            *response.headers_mut() = answer.headers;
            Reply::Response(response)
        }
        Outcome::Batch(answer, batch) => {
            if let Some(batch) = batch {
                inner.record.batch(batch);
            }
            let fault = inner.faults.take();
            inner.gate.pass().await;
            match fault {
                Some(fault) => faults::apply(&fault, answer, &inner.health, &inner.steps),
                None => Reply::Answer(answer),
            }
        }
    }
}

fn seen(
    inner: &Inner,
    own: &Connection,
    parts: &Parts,
    fields: Option<Vec<(String, String)>>,
    body: Bytes,
) {
    let user = user_of(inner, &parts.headers);
    inner.record.request(user, || Seen {
        connection: own.number,
        method: parts.method.clone(),
        target: parts.uri.to_string(),
        headers: fields.unwrap_or_default(),
        body,
        user,
    });
}

fn user_of(inner: &Inner, headers: &HeaderMap) -> Option<u64> {
    inner.world.user_of(&input::bearer_token(headers)?)
}

/// The request's body as the answer's, frame by frame as it arrives.
fn echo(headers: &HeaderMap, incoming: Incoming) -> Response<Body> {
    let mut response = Response::new(incoming.map_err(io::Error::other).boxed_unsync());
    let bare = Answer::bare(StatusCode::OK);
    *response.headers_mut() = bare.headers;
    let fallback = HeaderValue::from_static("application/octet-stream");
    let content_type = headers.get(header::CONTENT_TYPE).cloned();
    let content_type = content_type.unwrap_or(fallback);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// The opening handshake of RFC 6455 §4.2.2.
fn websocket(own: &Connection, headers: &HeaderMap, upgrade: Option<OnUpgrade>) -> Response<Body> {
    let (Some(upgrade), Some(key)) = (upgrade, headers.get(header::SEC_WEBSOCKET_KEY)) else {
        let status = StatusCode::BAD_REQUEST;
        let answer = Answer::exception(status, "A WebSocket handshake was expected.");
        return Settings::default().send(answer);
    };
    *own.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
    let accept = BASE64.encode(
        Sha1::new()
            .chain_update(key.as_bytes())
            .chain_update(WEBSOCKET_GUID)
            .finalize(),
    );
    let mut response = Response::new(body::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&accept).expect("base64 is printable");
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

impl Settings {
    /// Waits for someone to attend to a request; where workers are not limited, nobody need be waited for.
    async fn worker(&self) -> Option<SemaphorePermit<'_>> {
        let workers = self.workers.as_ref()?;
        // It is never closed.
        workers.acquire().await.ok()
    }

    /// An answer with the framing and the headers that were asked for.
    fn send(&self, answer: Answer) -> Response<Body> {
        let has_body = !matches!(
            answer.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let body = if self.chunked && has_body {
            body::chunked(answer.body)
        } else {
            body::full(answer.body)
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        self.dress(response)
    }

    /// Adds the extra headers; one that the answer has already is replaced.
    fn dress(&self, mut response: Response<Body>) -> Response<Body> {
        let fields = response.headers_mut();
        for (name, _) in self.extra_headers.iter() {
            fields.remove(name);
        }
        for (name, value) in self.extra_headers.iter() {
            fields.append(name.clone(), value.clone());
        }
        response
    }
}
