//! The asking of the VMS for one request that passes through: whom, how often, and what that says of the servers.
//!
//! A request goes to the next server as long as none could be connected to. Once connected it is said again at most once,
//! and only if that is harmless and nothing was heard: a write never is. A timeout is nobody's fault that another try
//! could mend.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::RequestHeader;

use crate::origin::exchange::{Unquoted, is_cut_off};
use crate::origin::server::Turn;
use crate::origin::servers::{Servers, Tried};
use crate::request::framing;

/// Servers and connections that one request tries at the most.
pub const MAX_TRIES: usize = 16;

/// What was tried for one request so far.
#[derive(Default)]
pub(super) struct Attempts {
    tried: Tried,
    turn: Option<Turn>,
    server: Option<SocketAddr>,
    /// Whether anything of an answer came, be it an interim one.
    heard: bool,
}

impl Attempts {
    /// The server that was asked last.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// The way to the next server in turn.
    pub(super) fn next(
        &mut self,
        servers: &Servers,
        request: &RequestHeader,
        idle_timeout: Duration,
    ) -> Result<HttpPeer> {
        // A WebSocket may be silent for as long as both ends like, and would hold a probe's place that long.
        let is_websocket = framing::is_websocket(request);
        let idle_timeout = (!is_websocket).then_some(idle_timeout);
        let may_probe = is_read(&request.method) && !is_websocket;
        let Some(turn) = servers.next_for_pass(&self.tried, may_probe) else {
            // Those that were left have meanwhile gone from their name.
            return Error::e_explain(ErrorType::ConnectError, "no server is left to try")
                .map_err(Error::into_up);
        };
        let peer = servers.peer(&turn, &self.tried, idle_timeout);
        self.server = Some(turn.address());
        self.turn = Some(turn);
        Ok(peer)
    }

    /// There is no connection; whether another server may be tried. Nothing was sent yet, so any request may go there.
    pub(super) fn unreached(&mut self, servers: &Servers, error: &Error) -> bool {
        if let Some(mut turn) = self.turn.take() {
            self.tried.unreached.push(turn.address());
            turn.unreached(&Unquoted(error));
        }
        servers.has_more(&self.tried)
    }

    /// A header came.
    ///
    /// A 5xx says nothing of the server as a whole: one endpoint may be broken, and clients can ask for any.
    pub(super) fn heard(&mut self, status: StatusCode) {
        self.heard = true;
        let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_final
            && let Some(mut turn) = self.turn.take()
            && !status.is_server_error()
        {
            turn.succeeded();
        }
    }

    /// The connection, a pooled one if `is_reused`, is of no more use; whether the request is to be said once more, which
    /// only what is `harmless` ever is.
    pub(super) fn ended(&mut self, error: &Error, is_reused: bool, harmless: bool) -> bool {
        let is_cut_off = *error.esource() == ErrorSource::Upstream && is_cut_off(error);
        let unheard = is_cut_off && !self.heard;
        let repeats = unheard && harmless && !self.tried.repeated;
        self.tried.repeated |= repeats;
        if let Some(mut turn) = self.turn.take() {
            if repeats {
                self.tried.unheard = Some(turn.address());
            }
            // A pooled connection may have been closed for its age.
            if is_cut_off && !(unheard && is_reused) {
                turn.failed(&Unquoted(error));
            }
        }
        repeats
    }
}

/// Whether saying it twice changes nothing (RFC 9110, 9.2.1), for the methods of which that is sure.
pub(super) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
