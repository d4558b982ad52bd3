//! Which users have something stored, and how much: counted exactly, so that none of them is ever forgotten, and none
//! takes more than one user's share.
//!
//! A lock is held for a moment, and whoever holds one takes no other and calls nobody: the store calls here from within
//! its own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::request::key::{Key, UserId};

/// So many locks that fills of different users seldom wait for each other.
const SHARDS: u8 = 64;

/// Most shelves of one user: phones, languages, versions. So many that no person has them, and so few that a list of them
/// is gone through in no time.
pub(super) const MAX_SHELVES: usize = 1024;

/// What there is of each user.
pub(super) struct Known {
    shards: Vec<Mutex<HashMap<UserId, Account>>>,
}

/// What there is of one user.
#[derive(Default)]
struct Account {
    /// How many reasons there are to know the user.
    reasons: u32,
    /// How many shelves were put down so far.
    put_down: u32,
    /// The shelves that the store has of the user, and not only somebody who still reads one. The latest stands last.
    held: Vec<Held>,
}

/// A shelf, put down to its user's account.
struct Held {
    key: Key,
    bytes: u32,
    /// Tells it from those that its key had before.
    number: u32,
}

/// A reason to know a user, for as long as it lasts: a shelf of theirs, or one that is about to be stored.
pub struct Reason {
    known: Arc<Known>,
    user: UserId,
    /// That of the shelf it is for, once that is put down.
    number: Option<u32>,
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

    /// Takes off every account the shelves put down first, until what is left fits within `share`.
    pub(super) fn over(&self, share: u64) -> Vec<Key> {
        let of_shard = |shard: &Mutex<HashMap<UserId, Account>>| {
            let mut users = shard.lock();
            let over = users
                .values_mut()
                .flat_map(|account| account.make_room(0, share));
            over.collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Bytes that are put down to a user's account.
    #[cfg(test)]
    pub(super) fn bytes_of(&self, user: &UserId) -> u64 {
        let users = self.shard(user).lock();
        let held = users.get(user).map(|account| &account.held[..]);
        let bytes = held.unwrap_or_default().iter().map(|held| held.bytes);
        bytes.map(u64::from).sum()
    }

    fn shard(&self, user: &UserId) -> &Mutex<HashMap<UserId, Account>> {
        &self.shards[usize::from(user.spread() % SHARDS)]
    }
}

impl Account {
    /// Takes off it the shelves put down first, until another one of so many bytes fits within a share.
    fn make_room(&mut self, bytes: u32, share: u64) -> Vec<Key> {
        let mut left = self.held.len();
        let mut sum: u64 = self.held.iter().map(|held| u64::from(held.bytes)).sum();
        let over = self.held.iter().take_while(|held| {
            let is_over = sum + u64::from(bytes) > share || left >= MAX_SHELVES;
            sum -= u64::from(held.bytes);
            left -= 1;
            is_over
        });
        let over = over.count();
        self.held.drain(..over).map(|held| held.key).collect()
    }

    fn take_off(&mut self, number: u32) {
        // In their order, and no room is left: there may be a million users, with one shelf or two.
        self.held.retain(|held| held.number != number);
        self.held.shrink_to_fit();
    }
}

impl Reason {
    pub(super) fn new(known: &Arc<Known>, user: UserId) -> Self {
        known.shard(&user).lock().entry(user).or_default().reasons += 1;
        Self {
            known: Arc::clone(known),
            user,
            number: None,
        }
    }

    /// Puts the shelf that it is for down to its user's account, in place of the one that its key had. Whoever has more
    /// than `share` bytes then, or too many shelves, must let go those put down first, whose keys are returned; or this
    /// one, if it is more than that by itself.
    pub(super) fn put_down(&mut self, key: Key, bytes: u32, share: u64) -> Vec<Key> {
        let mut users = self.known.shard(&self.user).lock();
        let account = users.entry(self.user).or_default();
        account.held.retain(|held| held.key != key);
        if u64::from(bytes) > share {
            return vec![key];
        }
        let over = account.make_room(bytes, share);
        account.put_down = account.put_down.wrapping_add(1);
        let number = account.put_down;
        account.held.reserve_exact(1);
        account.held.push(Held { key, bytes, number });
        self.number = Some(number);
        over
    }

    /// Takes the shelf off the account: the store has it no more.
    pub(super) fn take_off(&self) {
        let mut users = self.known.shard(&self.user).lock();
        if let (Some(number), Some(account)) = (self.number, users.get_mut(&self.user)) {
            account.take_off(number);
        }
    }
}

impl Drop for Reason {
    fn drop(&mut self) {
        let mut users = self.known.shard(&self.user).lock();
        let Some(account) = users.get_mut(&self.user) else {
            return;
        };
        if let Some(number) = self.number {
            account.take_off(number);
        }
        account.reasons -= 1;
        if account.reasons == 0 {
            users.remove(&self.user);
            // A table never shrinks by itself, and its users may have been many.
            if users.len() < users.capacity() / 8 {
                let room = users.len() * 2;
                users.shrink_to(room);
            }
        }
    }
}
