//! What tells a request from all others, found out when it comes and told when it is answered.

use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::RequestContext;
use crate::batch::Author;
use crate::ops::spans;
use crate::request::correlation::{RequestId, SENT_REQUEST_ID, X_REQUEST_ID};

impl RequestContext {
    /// Takes over what a trusted proxy calls the request, and finds its place in its trace.
    pub(super) fn correlate(&mut self, request: &RequestHeader) {
        let is_trusted = self.peer.is_trusted;
        if is_trusted && let Some(id) = RequestId::given(&request.headers) {
            self.correlation.id = id;
        }
        let tracing = &self.site.config.tracing;
        self.correlation.place = spans::begin(tracing, &request.headers, is_trusted);
    }

    /// Tells the client the request's id, with an error of the edge's own or where operators want that; one of the VMS's
    /// own stays.
    pub(super) fn tell_id(&self, answer: &mut ResponseHeader, author: Author) -> Result<()> {
        let tells = author == Author::Edge || self.site.config.log.request_id;
        if tells && !answer.headers.contains_key(X_REQUEST_ID) {
            answer.insert_header(SENT_REQUEST_ID, self.correlation.id.to_value())?;
        }
        Ok(())
    }
}
