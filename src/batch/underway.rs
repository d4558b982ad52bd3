//! Users whose fetches are under way, and what was said of them meanwhile.
//!
//! A refused token ends what is stored for its user, and where nothing is stored there is nothing to mark: whoever guesses
//! tokens fills no memory. But what was fetched before the refusal may come after it. So a refusal is noted for as long as
//! any fetch of that user is under way, and a fetch that brings something looks for such a note.
//!
//! # Why none is missed
//!
//! Who refuses notes it here first and then looks whether the user is known to the store; who brings something makes the
//! user known first and then looks here. Whichever comes first, the other sees it.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::cache::clock::Time;
use crate::request::key::UserId;

/// The users of all fetches under way.
#[derive(Default)]
pub struct Underway(Mutex<HashMap<UserId, Noted>>);

#[derive(Default)]
struct Noted {
    fetches: usize,
    ended: Option<Time>,
}

/// One fetch of a user, for as long as it is under way.
pub(super) struct Fetching<'a> {
    all: &'a Underway,
    user: UserId,
}

impl Underway {
    /// A fetch of a user begins.
    pub(super) fn enter(&self, user: UserId) -> Fetching<'_> {
        self.0.lock().entry(user).or_default().fetches += 1;
        Fetching { all: self, user }
    }

    /// What began before `now` is not to be used, if anything of this user is under way.
    pub(super) fn end(&self, user: &UserId, now: Time) {
        if let Some(noted) = self.0.lock().get_mut(user) {
            noted.ended = noted.ended.max(Some(now));
        }
    }
}

impl Fetching<'_> {
    /// When what this user's fetches bring was ended last, if that was not before `began`.
    pub(super) fn ended_since(&self, began: Time) -> Option<Time> {
        let ended = self.all.0.lock().get(&self.user)?.ended?;
        (began <= ended).then_some(ended)
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut users = self.all.0.lock();
        if let Some(noted) = users.get_mut(&self.user) {
            noted.fetches -= 1;
            if noted.fetches == 0 {
                users.remove(&self.user);
            }
        }
    }
}
