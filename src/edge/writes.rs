//! Writes that pass through: what they make wrong is marked, so that nothing fetched before is used after.

use pingora_http::RequestHeader;

use super::EdgeProxy;
use crate::request::write;

impl EdgeProxy {
    /// Marks what a write made wrong, before its client sees that it was done.
    pub(super) fn mark_what_was_written(&self, request: &RequestHeader) {
        let reach = write::reach(request, &self.invalidate);
        let now = self.filler.clock.now();
        // Whoever wrote under a credential that the edge does not understand may be anyone.
        match write::writer(request, &self.keys) {
            _ if reach.everything => self.filler.mark_everything(now),
            Some(writer) if reach.user => self.filler.mark_user(writer, now),
            None if reach.user => self.filler.mark_everything(now),
            _ => {}
        }
        for item in reach.items {
            self.filler.mark_item(item, now);
        }
    }

    /// Marks the items of a writer whose write was sent and not answered: the VMS may have done it all the same.
    ///
    /// Others' items are not touched, since the VMS never said that this was anybody's to write.
    pub(super) fn mark_what_may_be_written(&self, request: &RequestHeader) {
        if !write::reach(request, &self.invalidate).is_nothing()
            && let Some(writer) = write::writer(request, &self.keys)
            && self.filler.store.knows(&writer)
        {
            self.filler.mark_user(writer, self.filler.clock.now());
        }
    }
}
