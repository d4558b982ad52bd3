//! Which users have something stored: counted exactly, so that none of them is ever forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::request::key::UserId;

/// So many locks that fills of different users seldom wait for each other.
const SHARDS: u8 = 64;

/// How many reasons there are to know each user.
pub(super) struct Known {
    shards: Vec<Mutex<HashMap<UserId, u32>>>,
}

/// A reason to know a user, for as long as it lasts: a shelf of theirs, or one that is about to be stored.
pub struct Reason {
    known: Arc<Known>,
    user: UserId,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Known {
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.shard(user).lock().contains_key(user)
    }

    fn shard(&self, user: &UserId) -> &Mutex<HashMap<UserId, u32>> {
        &self.shards[usize::from(user.spread() % SHARDS)]
    }
}

impl Reason {
    pub(super) fn new(known: &Arc<Known>, user: UserId) -> Self {
        *known.shard(&user).lock().entry(user).or_default() += 1;
        Self {
            known: Arc::clone(known),
            user,
        }
    }
}

impl Drop for Reason {
    fn drop(&mut self) {
        let mut users = self.known.shard(&self.user).lock();
        let Some(reasons) = users.get_mut(&self.user) else {
            return;
        };
        *reasons -= 1;
        if *reasons == 0 {
            users.remove(&self.user);
            // A table never shrinks by itself, and its users may have been many.
            if users.len() < users.capacity() / 8 {
                let room = users.len() * 2;
                users.shrink_to(room);
            }
        }
    }
}
