//! A stand-in VMS: small, fast, and as exact as the recorded answers of Laravel let it be.
//!
//! It is the upstream of the demo, of the load test and of every behaviour test. It answers the routes the edge cares
//! about by Laravel's and PHP's own rules (`input`, `validate`, `php`), from data that follows from rules (`world`),
//! and it can be told to be late, wrong or broken (`faults`, `gate`). What it was asked is kept (`record`) or, for
//! load tests, only counted. It knows nothing of the edge.
//!
//! Tokens are `tok-{user}-{device}`: a user is a number from 1 to 1,000,000, a device any of `[a-z0-9]+`. Intercoms
//! have ids from 1 to 1,000,000, their cameras ids higher by 653. Everyone owns 1, 2 and 3, but user 2 does not own 2.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

mod answer;
mod body;
mod crowd;
mod endpoint;
mod faults;
mod gate;
mod health;
mod input;
mod php;
mod record;
mod routes;
mod server;
mod validate;
mod wire;
mod world;

pub use answer::Answer;
pub use endpoint::Endpoint;
pub use faults::{Fault, Pace, Times, UNASKED_ID};
pub use gate::Hold;
pub use record::{Seen, SeenBatch};
pub use routes::Order;

use self::routes::{Call, Outcome};
use self::world::Viewer;

/// The stand-in VMS. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct StandIn {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    world: world::World,
    settings: RwLock<Settings>,
    faults: faults::Faults,
    gate: gate::Gate,
    steps: Arc<Semaphore>,
    record: record::Record,
    health: Arc<health::Health>,
    crowd: crowd::Crowd,
    connections: AtomicU64,
}

/// How answers are given, whatever they are.
#[derive(Clone, Debug, Default)]
struct Settings {
    latency: Duration,
    /// Who answers; `None`: everyone is attended to at once.
    workers: Option<Arc<Semaphore>>,
    chunked: bool,
    order: Order,
    extra_headers: Arc<Vec<(HeaderName, HeaderValue)>>,
}

/// A stand-in that serves a port of its own until this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for StandIn {
    fn default() -> StandIn {
        StandIn::new()
    }
}

impl StandIn {
    /// A stand-in to which nothing has happened yet and which keeps every request.
    pub fn new() -> StandIn {
        StandIn::with(record::Record::new(true))
    }

    /// One that only counts requests, so that its memory stays flat under load.
    pub fn without_record() -> StandIn {
        StandIn::with(record::Record::new(false))
    }

    fn with(record: record::Record) -> StandIn {
        StandIn {
            inner: Arc::new(Inner {
                world: world::World::default(),
                settings: RwLock::default(),
                faults: faults::Faults::default(),
                gate: gate::Gate::default(),
                steps: Arc::new(Semaphore::new(0)),
                record,
                health: Arc::default(),
                crowd: crowd::Crowd::default(),
                connections: AtomicU64::new(0),
            }),
        }
    }

    /// Serves connections until the returned future is dropped; its connections end with it.
    ///
    /// # Errors
    /// If no more connections can be accepted.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        server::serve(self, listener).await
    }

    /// Serves a free port of the loopback interface in a task.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(&self) -> io::Result<Running> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(self.clone().serve(listener));
        Ok(Running { address, task })
    }

    /// Every answer takes so much longer from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.change_settings(|settings| settings.latency = latency);
    }

    /// No more than so many requests are attended to at once from now on, as by php-fpm; the others wait their turn.
    /// What was asked before, and what is streamed, is not limited.
    pub fn set_workers(&self, workers: usize) {
        let workers = Arc::new(Semaphore::new(workers));
        self.change_settings(|settings| settings.workers = Some(workers));
    }

    /// Whether answers are sent chunked instead of with a Content-Length.
    pub fn set_chunked(&self, chunked: bool) {
        self.change_settings(|settings| settings.chunked = chunked);
    }

    /// The order in which batches are answered.
    pub fn set_order(&self, order: Order) {
        self.change_settings(|settings| settings.order = order);
    }

    /// Adds a header to every answer from now on, in place of one of that name that the VMS sends itself.
    ///
    /// # Panics
    /// If the name or the value cannot stand in a header.
    pub fn add_response_header(&self, name: &str, value: &str) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the caller gives a field name");
        let value = HeaderValue::from_str(value).expect("the caller gives a field value");
        self.change_settings(|settings| {
            Arc::make_mut(&mut settings.extra_headers).push((name, value))
        });
    }

    /// Takes all added headers back.
    pub fn clear_response_headers(&self) {
        self.change_settings(|settings| settings.extra_headers = Arc::default());
    }

    /// A token is nobody's from now on.
    pub fn revoke(&self, token: &str) {
        self.inner.world.revoke(token);
    }

    /// Renames an intercom for everyone: a change that passes no edge.
    pub fn rename(&self, id: u64, title: &str) {
        self.inner.world.rename(id, title);
    }

    /// Takes an intercom away from a user: another change that passes no edge.
    pub fn take_away(&self, user: u64, id: u64) {
        self.inner.world.give_up(user, id);
    }

    /// Gives it back.
    pub fn give_back(&self, user: u64, id: u64) {
        self.inner.world.give_back(user, id);
    }

    /// From now on every intercom says in a member `viewer` for which user, device, language, client and region (by
    /// X-Client and X-Region) it is. That answers depend on the last two is said nowhere.
    pub fn name_viewers(&self) {
        self.inner.world.name_viewers();
    }

    /// Schedules a fault for the batches to come.
    pub fn fault(&self, fault: Fault, times: Times) {
        self.inner.faults.schedule(fault, times);
    }

    /// Drops all scheduled faults.
    pub fn clear_faults(&self) {
        self.inner.faults.clear();
    }

    /// Makes batches that arrive from now on wait, until the hold is released or dropped.
    pub fn hold(&self) -> Hold {
        self.inner.gate.close()
    }

    /// Lets the next chunk of a stream, or the next byte of a [`Pace::Step`] drip, go. Steps that nobody waits for
    /// yet are kept for whoever comes.
    pub fn step(&self) {
        self.inner.steps.add_permits(1);
    }

    /// Every request so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Seen> {
        self.inner.record.requests()
    }

    /// Every batch so far that was understood.
    pub fn batches(&self) -> Vec<SeenBatch> {
        self.inner.record.batches()
    }

    /// How many ids a user has asked for in batches, each once per batch.
    pub fn ids_asked(&self, user: u64) -> u64 {
        self.inner.record.ids_asked(user)
    }

    /// How many requests have come with a valid token of this user.
    pub fn requests_of(&self, user: u64) -> u64 {
        self.inner.record.requests_of(user)
    }

    /// How many requests have come at all.
    pub fn requests_total(&self) -> u64 {
        self.inner.record.requests_total()
    }

    /// How many batches have come that were understood.
    pub fn batches_total(&self) -> u64 {
        self.inner.record.batches_total()
    }

    /// How many ids were asked for in them.
    pub fn ids_total(&self) -> u64 {
        self.inner.record.ids_total()
    }

    /// How many connections have been accepted.
    pub fn connections(&self) -> u64 {
        self.inner.connections.load(Ordering::Relaxed)
    }

    /// How many batches were under way at once at the most, those now under way included, since this was asked last.
    pub fn most_at_once(&self) -> usize {
        self.inner.crowd.most()
    }

    /// Starts all records and counters of requests afresh.
    pub fn forget_requests(&self) {
        self.inner.record.forget();
    }

    /// Whether an intercom is a user's.
    pub fn owns(&self, user: u64, id: u64) -> bool {
        self.inner.world.owns(user, id)
    }

    /// The intercoms that the list endpoint shows a user: the first ones, ascending.
    pub fn owned(&self, user: u64) -> Vec<u64> {
        self.inner.world.owned(user)
    }

    /// What the VMS would answer to a batch now, without anything being counted, held or spoilt. Of the headers,
    /// X-UUID and hl count, and what [`StandIn::name_viewers`] adds.
    pub fn batch_answer(
        &self,
        endpoint: Endpoint,
        token: Option<&str>,
        headers: &HeaderMap,
        ids: &[u64],
    ) -> Answer {
        let world = &self.inner.world;
        let Some(user) = token.and_then(|token| world.user_of(token)) else {
            return Answer::unauthenticated();
        };
        let mut list = php::Array::new();
        for &id in ids {
            list.push(php::Value::Text(id.to_string().into_bytes()));
        }
        let ids = validate::ids(Some(php::Value::Array(list)));
        let (device, language) = (routes::device(headers), routes::language(headers, None));
        let viewer = Viewer {
            user,
            device: &device,
            language: &language,
            others: &routes::others(headers),
        };
        answer_of(routes::batch::answer(
            world,
            endpoint,
            viewer,
            ids,
            self.inner.settings().order,
        ))
    }

    /// What the VMS would answer to a whole request now; like [`StandIn::batch_answer`], but a write is done.
    ///
    /// The target is that of a request line, in origin form. Streams are answered with an empty body.
    pub fn answer(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Answer {
        answer_of(self.outcome(method, target, headers, body))
    }

    /// The batch that the VMS would find in a whole request now, if it is one by its own rules: the user is known, and all
    /// ids are valid. Nothing is recorded.
    pub fn batch(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<SeenBatch> {
        match self.outcome(method, target, headers, body) {
            Outcome::Batch(_, batch) => batch,
            Outcome::Answer(_) | Outcome::Stream(_) => None,
        }
    }

    fn outcome(&self, method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> Outcome {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let call = Call {
            method,
            path,
            query,
            headers,
            body,
        };
        routes::answer(&self.inner.world, call, self.inner.settings().order)
    }

    /// # Panics
    /// If any task of the stand-in has panicked.
    pub fn assert_healthy(&self) {
        let panics = self.inner.health.panics();
        assert!(panics == 0, "{panics} tasks of the stand-in VMS panicked");
    }

    fn change_settings(&self, change: impl FnOnce(&mut Settings)) {
        let settings = self.inner.settings.write();
        change(&mut settings.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    fn settings(&self) -> Settings {
        let settings = self.settings.read();
        settings.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Numbers connections from 1.
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn answer_of(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answer(answer) | Outcome::Batch(answer, _) => answer,
        Outcome::Stream(_) => Answer::new(http::StatusCode::OK, "text/plain; charset=UTF-8", ""),
    }
}
