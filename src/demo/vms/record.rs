//! What the stand-in has been asked: whole requests for tests to look at, and counters that cost nothing to keep.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Method;

use super::endpoint::Endpoint;

/// Users are spread over so many locks, so that connections seldom wait for each other.
const SHARDS: usize = 16;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection it came by, counted from 1.
    pub connection: u64,
    /// The method of the request line.
    pub method: Method,
    /// The target of the request line, as it was sent.
    pub target: String,
    /// The fields in their order, names with their case.
    pub headers: Vec<(String, String)>,
    /// The body without its framing; empty for a request whose body is streamed back.
    pub body: Bytes,
    /// The user behind the token, if there is one.
    pub user: Option<u64>,
}

impl Seen {
    /// The values of a field, whatever the case of its name.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter();
        fields
            .filter(|field| field.0.eq_ignore_ascii_case(name))
            .map(|field| field.1.as_str())
            .collect()
    }
}

/// One batch that was understood: its user was known and its ids were valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBatch {
    /// Who asked.
    pub user: u64,
    /// The X-UUID, empty when there was none.
    pub device: String,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The ids in the order asked, each once.
    pub ids: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    ids: u64,
}

#[derive(Debug)]
pub(crate) struct Record {
    keeps_requests: bool,
    requests: Mutex<Vec<Seen>>,
    batches: Mutex<Vec<SeenBatch>>,
    users: [Mutex<HashMap<u64, Counts>>; SHARDS],
    requests_total: AtomicU64,
    batches_total: AtomicU64,
    ids_total: AtomicU64,
}

impl Record {
    pub(crate) fn new(keeps_requests: bool) -> Record {
        Record {
            keeps_requests,
            requests: Mutex::default(),
            batches: Mutex::default(),
            users: Default::default(),
            requests_total: AtomicU64::new(0),
            batches_total: AtomicU64::new(0),
            ids_total: AtomicU64::new(0),
        }
    }

    /// Whether whole requests are kept.
    pub(crate) fn keeps_requests(&self) -> bool {
        self.keeps_requests
    }

    /// Counts a request; `seen` is called only if requests are kept.
    pub(crate) fn request(&self, user: Option<u64>, seen: impl FnOnce() -> Seen) {
        self.requests_total.fetch_add(1, Ordering::Relaxed);
        if let Some(user) = user {
            lock(self.shard(user)).entry(user).or_default().requests += 1;
        }
        if self.keeps_requests {
            lock(&self.requests).push(seen());
        }
    }

    pub(crate) fn batch(&self, batch: SeenBatch) {
        let ids = u64::try_from(batch.ids.len()).unwrap_or(u64::MAX);
        self.batches_total.fetch_add(1, Ordering::Relaxed);
        self.ids_total.fetch_add(ids, Ordering::Relaxed);
        lock(self.shard(batch.user))
            .entry(batch.user)
            .or_default()
            .ids += ids;
        if self.keeps_requests {
            lock(&self.batches).push(batch);
        }
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        lock(&self.requests).clone()
    }

    pub(crate) fn batches(&self) -> Vec<SeenBatch> {
        lock(&self.batches).clone()
    }

    pub(crate) fn requests_of(&self, user: u64) -> u64 {
        self.counts(user).requests
    }

    pub(crate) fn ids_asked(&self, user: u64) -> u64 {
        self.counts(user).ids
    }

    pub(crate) fn requests_total(&self) -> u64 {
        self.requests_total.load(Ordering::Relaxed)
    }

    pub(crate) fn batches_total(&self) -> u64 {
        self.batches_total.load(Ordering::Relaxed)
    }

    pub(crate) fn ids_total(&self) -> u64 {
        self.ids_total.load(Ordering::Relaxed)
    }

    /// Forgets requests, batches and counters.
    pub(crate) fn forget(&self) {
        lock(&self.requests).clear();
        lock(&self.batches).clear();
        for shard in &self.users {
            lock(shard).clear();
        }
        for total in [&self.requests_total, &self.batches_total, &self.ids_total] {
            total.store(0, Ordering::Relaxed);
        }
    }

    fn counts(&self, user: u64) -> Counts {
        lock(self.shard(user))
            .get(&user)
            .copied()
            .unwrap_or_default()
    }

    fn shard(&self, user: u64) -> &Mutex<HashMap<u64, Counts>> {
        let shard = usize::try_from(user % SHARDS as u64).unwrap_or_default();
        &self.users[shard]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
