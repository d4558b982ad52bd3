//! Invalidation: which requests that pass through make stored items wrong, and the marks that say so.
//!
//! Marks are set when the VMS's header has arrived and before the client sees it, so that whoever reads after a write
//! reads what was written.

use std::sync::Arc;

use pingora_http::RequestHeader;

use super::fill::Filler;
use crate::cache::clock::Time;
use crate::config;
use crate::ops::metrics::MarkScope;
use crate::request::key::{KeyMaker, UserId};
use crate::request::write;

/// Marks what requests that pass through make wrong, by the `[[invalidate]]` rules.
pub struct Invalidator {
    filler: Arc<Filler>,
    keys: Arc<KeyMaker>,
    rules: Vec<config::Invalidate>,
}

impl Invalidator {
    /// For the items that `filler` stores, under the keys that `keys` makes.
    pub fn new(filler: Arc<Filler>, keys: Arc<KeyMaker>, rules: Vec<config::Invalidate>) -> Self {
        Self {
            filler,
            keys,
            rules,
        }
    }

    /// Marks what a write made wrong that the VMS answered 2xx; nothing if the request is no write.
    pub fn written(&self, request: &RequestHeader) {
        let reach = write::reach(request, &self.rules);
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
    pub fn perhaps_written(&self, request: &RequestHeader) {
        if !write::reach(request, &self.rules).is_nothing()
            && let Some(writer) = write::writer(request, &self.keys)
        {
            self.filler.end_user(writer, self.filler.clock.now());
        }
    }
}

impl Filler {
    /// Invalidates all items of a user.
    pub fn mark_user(&self, user: UserId, now: Time) {
        self.marks.user(user, now);
        self.metrics.mark(MarkScope::User);
    }

    /// Invalidates all items of a user that are stored or on their way. Where there are none nothing is remembered, so
    /// that whoever makes up tokens fills no memory.
    pub fn end_user(&self, user: UserId, now: Time) {
        self.underway.end(&user, now);
        if self.store.knows(&user) {
            self.mark_user(user, now);
        }
    }

    /// Invalidates an item, for everyone.
    pub fn mark_item(&self, id: u64, now: Time) {
        self.marks.item(id, now);
        self.metrics.mark(MarkScope::Item);
    }

    /// Invalidates everything.
    pub fn mark_everything(&self, now: Time) {
        self.marks.everything(now);
        self.metrics.mark(MarkScope::All);
    }
}
