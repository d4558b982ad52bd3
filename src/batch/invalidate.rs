//! Invalidation: which requests that pass through make stored items wrong, what operators purge, and the marks that say
//! so.
//!
//! Marks are set when the VMS's header has arrived and before the client sees it, so that whoever reads after a write
//! reads what was written.

use std::sync::Arc;

use pingora_http::RequestHeader;

use super::fill::Filler;
use crate::cache::clock::Time;
use crate::cache::marks::Scope;
use crate::cache::marks::Strength::{self, Hard};
use crate::config::{Config, EndpointId};
use crate::ops::purge::Purge;
use crate::request::credential;
use crate::request::key::{KeyMaker, UserId};
use crate::request::write::{self, Rules};

/// Marks what requests that pass through make wrong, by the `[[invalidate]]` rules.
pub struct Invalidator {
    filler: Arc<Filler>,
    keys: Arc<KeyMaker>,
    rules: Rules,
}

impl Invalidator {
    /// For the items that `filler` stores, under the keys that `keys` makes.
    pub fn new(filler: Arc<Filler>, keys: Arc<KeyMaker>, config: &Config) -> Self {
        Self {
            filler,
            keys,
            rules: Rules::new(config),
        }
    }

    /// Marks what a write made wrong that the VMS answered 2xx; nothing if the request is no write.
    pub fn written(&self, request: &RequestHeader) {
        let reach = self.rules.reach(request);
        if reach.is_nothing() {
            // As of nearly all that passes; nobody need know whose it was.
            return;
        }
        let now = self.filler.clock.now();
        let writers = write::writers(request, &self.keys);
        // Whoever wrote under a credential that the edge does not understand may be anyone.
        if reach.everything || (reach.user && writers.is_empty()) {
            self.filler.mark_everything(Hard, now);
        } else if reach.user {
            for writer in writers {
                self.filler.mark_user(Hard, writer, now);
            }
        }
        for (endpoint, id) in reach.items {
            self.filler.mark_item(Hard, endpoint, id, now);
        }
    }

    /// Marks what is stored for the users whose tokens a request may have carried that the VMS answered 401 or 403.
    ///
    /// Never more than theirs, since anybody can have such an answer.
    pub fn refused(&self, request: &RequestHeader) {
        for user in credential::holders(request, &self.keys) {
            self.filler.end_user(user);
        }
    }

    /// Marks the items of those whose tokens were in a write that was sent, and not answered or answered 5xx: the VMS may
    /// have done it all the same.
    ///
    /// Others' items are not touched, since the VMS never said that this was anybody's to write.
    pub fn perhaps_written(&self, request: &RequestHeader) {
        if !self.rules.reach(request).is_nothing() {
            for user in credential::holders(request, &self.keys) {
                self.filler.end_user(user);
            }
        }
    }

    /// Purges for an operator: what was fetched before is not used any more, or only as what is stale.
    pub fn purge(&self, purge: &Purge) {
        let (now, mode) = (self.filler.clock.now(), purge.strength);
        if purge.everything {
            self.filler.mark_everything(mode, now);
        }
        if let Some(user) = &purge.user {
            let user = self.keys.holder(user.token());
            self.filler.mark_user(mode, user, now);
        }
        for &endpoint in &purge.endpoints {
            for &id in &purge.items {
                self.filler.mark_item(mode, endpoint, id, now);
            }
        }
    }
}

impl Filler {
    /// Ends what is stored, or in the air, for a user on somebody's word alone.
    ///
    /// Where nothing is stored there is nothing to mark, and whoever guesses tokens fills no memory.
    pub fn end_user(&self, user: UserId) {
        if planted!(RefusalEndsNothing) {
            return;
        }
        let refused = confused!(RefusesAnother, user);
        self.flights.condemn(&refused);
        if self.store.knows(&refused) {
            self.mark_user(Hard, refused, self.clock.now());
        }
    }

    /// Marks all items of a user.
    fn mark_user(&self, strength: Strength, user: UserId, now: Time) {
        self.marks.user(strength, user, now);
        self.metrics.mark(Scope::User);
    }

    /// Marks an item of an endpoint, for everyone.
    fn mark_item(&self, strength: Strength, endpoint: EndpointId, id: u64, now: Time) {
        self.marks.item(strength, endpoint, id, now);
        self.metrics.mark(Scope::Item);
    }

    /// Marks everything.
    fn mark_everything(&self, strength: Strength, now: Time) {
        self.marks.everything(strength, now);
        self.metrics.mark(Scope::All);
    }
}
