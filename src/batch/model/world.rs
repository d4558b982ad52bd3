//! One world: an edge's deciding parts, the model's VMS, and the clients; a schedule is played in it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use pingora_http::RequestHeader;

use super::super::fill::Filler;
use super::super::invalidate::Invalidator;
use super::super::waits::Waits;
use super::super::{Asked, AskedBy, BatchEndpoint, Outcome};
use super::history::{IDS, Moment, Scope};
use super::oracle::{self, Given, Question, Stored};
use super::phones::{CONFIGS, PATHS, Read, Trait, Who, Wishes, asking, phone};
use super::schedule::{Action, Ask, Reach, Step};
use super::tasks::Tasks;
use super::vms::{FETCH_TIMEOUT, Failure, Vms};
use crate::cache::clock::{Clock, Hand};
use crate::cache::freshness::Windows;
use crate::cache::marks::{Marks, Strength};
use crate::cache::store::Store;
use crate::config::{Coding, Config};
use crate::ops::metrics::Metrics;
use crate::ops::spans::Spans;
use crate::origin::fetch::Origin;
use crate::reply::answers::{Answers, Work};
use crate::reply::encode::tests::decoded;
use crate::request;
use crate::request::correlation::Correlation;
use crate::request::key::{KeyMaker, UserId};

/// Steps after which tasks that still get on are taken to do so for ever.
const MAX_STEPS: usize = 2_000;

/// Bytes that all that is stored may occupy.
const MAX_BYTES: u64 = 64 << 20;

/// Answers of the same ids that phones hold.
const MAX_HELD: usize = 3;

/// A batch that was asked, and what came of it.
struct Client {
    task: usize,
    ask: Ask,
    question: Question,
    given: Arc<Mutex<Option<(Given, Moment)>>>,
    has_left: bool,
    /// Its status and `Cache-Status`, once it was judged.
    told: Option<String>,
}

/// What is written and was not yet answered.
struct Write {
    user: u8,
    id: u64,
    reach: Reach,
}

pub(super) struct World {
    hand: Hand,
    vms: Arc<Vms>,
    filler: Arc<Filler>,
    /// Those of one configuration.
    endpoints: Vec<Arc<BatchEndpoint>>,
    config: &'static Config,
    invalidator: Invalidator,
    /// What is to be coded.
    waiting: Receiver<Work>,
    keys: Arc<KeyMaker>,
    tasks: Tasks,
    rng: Rng,
    /// Answers that were judged so far.
    pub(super) judged: u64,
    clients: Vec<Client>,
    writes: Vec<Write>,
    /// Users whose refusal was delivered, but may not have been read yet.
    refused: Vec<(u8, Moment)>,
    /// What the edge was brought, but may not have read yet.
    brought: Vec<(Read, Moment)>,
    stored: Stored,
    /// What anybody was told of these ids, by its tags: all phones have one memory, so that they hold others' answers.
    held: HashMap<u8, Vec<(String, Bytes)>>,
    is_disturbed: bool,
    /// Whether what the edge has stored cannot be told from what it was brought.
    is_forgetful: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, hand) = Clock::manual();
        let config = &CONFIGS[0];
        let longest = longest();
        let (answers, waiting) = Answers::new(MAX_BYTES, 1 << 20);
        let vms = Arc::new(Vms::new(clock.clone()));
        let tasks = Tasks::default();
        let spawner = tasks.clone();
        let metrics = Arc::new(Metrics::new());
        let keys = Arc::new(KeyMaker::new().expect("the system has randomness"));
        let filler = Arc::new(Filler {
            store: Arc::new(Store::new(MAX_BYTES, longest)),
            marks: Arc::new(Marks::new(longest)),
            flights: Arc::default(),
            detach: Box::new(move |fill| {
                spawner.spawn(fill);
            }),
            origin: Arc::clone(&vms) as Arc<dyn Origin>,
            clock,
            metrics: Arc::clone(&metrics),
            spans: Arc::new(Spans::new(Arc::clone(&metrics)).0),
            keys: Arc::clone(&keys),
            answers: Arc::new(answers),
            fetch_coding: config.upstream.fetch_coding,
            compression: config.compression.clone(),
            host: None,
        });
        Self {
            hand,
            vms,
            invalidator: invalidator(&filler, &keys, config),
            filler,
            endpoints: Vec::new(),
            config,
            waiting,
            keys,
            tasks,
            rng: Rng::with_seed(0),
            judged: 0,
            clients: Vec::new(),
            writes: Vec::new(),
            refused: Vec::new(),
            brought: Vec::new(),
            stored: Stored::default(),
            held: HashMap::new(),
            is_disturbed: false,
            is_forgetful: false,
        }
    }

    /// Plays a schedule. After an error the world is of no more use.
    ///
    /// # Errors
    ///
    /// What is wrong with an answer, or with the lack of one.
    pub(super) fn play(&mut self, schedule: &[Step]) -> Result<(), String> {
        self.begin();
        for step in schedule {
            self.rng = Rng::with_seed(step.seed);
            self.act(step.action);
            let steps = self.rng.usize(..4);
            self.run(steps);
            self.judge()?;
        }
        self.end()
    }

    /// What the phones were told, in the order in which they asked.
    pub(super) fn told(&self) -> Vec<&str> {
        let told = self.clients.iter().map(|client| client.told.as_deref());
        told.map(Option::unwrap_or_default).collect()
    }

    /// Whether the edge has counted so.
    pub(super) fn counted(&self, line: &str) -> bool {
        let text = self.filler.metrics.render(self.filler.store.usage(), 0);
        String::from_utf8_lossy(&text).contains(line)
    }

    /// Other people than before, under other keys, and later than every mark. The rest may stay: it takes long to build.
    fn begin(&mut self) {
        self.hand.advance(Duration::from_secs(1));
        self.vms.begin();
        self.tasks.clear();
        self.keys = Arc::new(KeyMaker::new().expect("the system has randomness"));
        self.filler = filler(&self.filler, &self.keys, &self.tasks);
        self.clients.clear();
        self.endpoints.clear();
        self.reload(&CONFIGS[0]);
        self.writes.clear();
        self.brought.clear();
        self.refused.clear();
        self.stored = Stored::default();
        self.held.clear();
        self.is_disturbed = false;
        self.is_forgetful = false;
    }

    /// Puts another configuration into effect, as the edge does; what is under way goes on as it began.
    fn reload(&mut self, config: &'static Config) {
        self.config = config;
        let endpoint = |batch| {
            let vary = &config.headers.vary;
            let endpoint = BatchEndpoint::new(batch, vary, &self.filler.metrics);
            let mut before = self.endpoints.iter();
            let before = before.find(|before| before.config.path == batch.path);
            Arc::new(match before {
                Some(before) => endpoint.knowing(before),
                None => endpoint,
            })
        };
        self.endpoints = config.batches.iter().map(endpoint).collect();
        self.invalidator = invalidator(&self.filler, &self.keys, config);
        // Whoever asks an endpoint that is not there any more is not told of what is marked from now on.
        for client in &mut self.clients {
            let path = PATHS[usize::from(client.ask.who.is(Trait::Path))];
            if config.batches.iter().all(|batch| batch.path != path) {
                client.has_left = true;
                self.tasks.cancel(client.task);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask(ask) => self.ask(ask),
            Action::Again { nth, by } => {
                let earlier = chosen(self.clients.iter().map(|client| client.ask), nth);
                if let Some(ask) = earlier {
                    let who = by.unwrap_or(ask.who);
                    self.ask(Ask { who, ..ask });
                }
            }
            Action::Leave(nth) => {
                let open = self
                    .clients
                    .iter_mut()
                    .filter(|c| !c.has_left && c.told.is_none());
                if let Some(client) = chosen(open, nth) {
                    client.has_left = true;
                    self.tasks.cancel(client.task);
                }
            }
            Action::Process(nth) => {
                if let Some(number) = self.fetch(nth) {
                    self.vms.process(number);
                }
            }
            Action::Deliver(nth) => {
                if let Some(number) = self.fetch(nth) {
                    self.deliver(number);
                }
            }
            Action::Fail(nth, failure) => {
                if let Some(number) = self.fetch(nth) {
                    self.is_disturbed = true;
                    let read = self.vms.fail(number, failure);
                    if failure == Failure::Status(403) {
                        self.refuse(read.user);
                    }
                }
            }
            Action::Write { user, id, reach } => {
                let at = self.vms.moment();
                self.vms.history.lock().unwrap().turn(at, user, id);
                self.writes.push(Write { user, id, reach });
            }
            Action::Written(nth) => self.written(nth),
            Action::Purge { scope, is_soft } => self.purge(scope, is_soft),
            Action::Revoke(user) => {
                let mut history = self.vms.history.lock().unwrap();
                let good = history.is_good(user);
                history.set_good(user, !good);
            }
            Action::PassThrough(user) => {
                if !self.vms.history.lock().unwrap().is_good(user) {
                    self.invalidator.refused(&phone(Who::plain(user, 0)));
                    self.mark_now(Scope::User(user), false);
                }
            }
            Action::Vary => {
                self.forget();
                self.vms.varies.store(true, Ordering::Relaxed);
            }
            Action::Reload(nth) => {
                self.forget();
                self.reload(&CONFIGS[usize::from(nth)]);
            }
            Action::Squeeze => {
                self.forget();
                let store = &self.filler.store;
                store.resize(1, longest());
                store.resize(MAX_BYTES, longest());
            }
            Action::Code => self.filler.answers.code_waiting(&self.waiting),
            Action::Wait { seconds } => self.wait(u64::from(seconds)),
            Action::Run(steps) => self.run(usize::from(steps)),
        }
    }

    /// From now on nobody knows what the edge has stored, and under which keys what is in the air will be.
    fn forget(&mut self) {
        self.is_disturbed = true;
        self.is_forgetful = true;
        for client in &mut self.clients {
            client.question.was_covered = false;
        }
    }

    fn ask(&mut self, ask: Ask) {
        let who = ask.who;
        let path = PATHS[usize::from(who.is(Trait::Path))];
        let mut endpoints = self.endpoints.iter();
        let Some(endpoint) = endpoints
            .find(|endpoint| endpoint.config.path == path)
            .cloned()
        else {
            // It passes through.
            return;
        };
        let ids: Vec<u64> = (1..=IDS)
            .filter(|id| ask.ids >> (id - 1) & 1 == 1)
            .collect();
        let held = match ask.holds {
            true => self.held.get(&ask.ids).cloned().unwrap_or_default(),
            false => Vec::new(),
        };
        let wishes = Wishes {
            no_cache: ask.no_cache,
            held: held.iter().map(|(tag, _)| tag.clone()).collect(),
            gzip: ask.gzip,
        };
        let (request, body) = asking(who, &ids, &wishes);
        let checked =
            request::examine(&request, &self.config.headers).expect("it is a good request");
        let (keyed, peer) = (endpoint.vary(), who.peer());
        let batch = endpoint.understand(&request, &body, checked, &keyed, peer, &self.keys);
        let batch = batch.expect("it is a batch");
        let question = Question {
            who,
            ids,
            no_cache: ask.no_cache,
            held,
            asked: self.vms.moment(),
            was_covered: false,
        };
        let given = Arc::new(Mutex::new(None));
        let (filler, vms) = (Arc::clone(&self.filler), Arc::clone(&self.vms));
        let kept = Arc::clone(&given);
        let is_plain = ask.plainly && body.is_empty();
        let task = self.tasks.spawn(Box::pin(async move {
            let at_hand = is_plain
                .then(|| endpoint.at_hand(&filler, &batch))
                .flatten();
            let reply = at_hand.and_then(|hit| hit.reply(&endpoint, &filler, &batch));
            let asked = Asked {
                batch,
                keyed,
                request: &request,
                body,
                peer,
                correlation: &Correlation::drawn(),
                by: AskedBy::Client,
            };
            let outcome = match reply {
                Some(reply) => Outcome::Reply(reply),
                None => endpoint.answer(&filler, asked, &mut Waits::default()).await,
            };
            *kept.lock().unwrap() = Some((given_by(outcome), vms.moment()));
        }));
        self.clients.push(Client {
            task,
            ask,
            question: Question {
                was_covered: !self.is_forgetful
                    && self.refused.iter().all(|(user, _)| *user != who.user)
                    && self.stored.covers(&question, &self.vms),
                ..question
            },
            given,
            has_left: false,
            told: None,
        });
    }

    /// One of the fetches that the VMS has.
    fn fetch(&self, nth: u8) -> Option<u64> {
        let pending = self.vms.pending.lock().unwrap();
        chosen(pending.keys().copied(), nth)
    }

    fn deliver(&mut self, number: u64) {
        let (fetch, status) = self.vms.deliver(number);
        match status {
            401 => {
                self.is_disturbed = true;
                self.refuse(fetch.read.user);
            }
            _ => self.brought.push((fetch.read, fetch.started)),
        }
    }

    /// Notes that a user's refusal was delivered: from now on the edge may read of it at any moment, and nothing that it
    /// has of the user covers an error for certain.
    fn refuse(&mut self, user: u8) {
        self.refused.push((user, self.vms.moment()));
        for client in &mut self.clients {
            client.question.was_covered &= client.question.who.user != user;
        }
    }

    fn written(&mut self, nth: u8) {
        if self.writes.is_empty() {
            return;
        }
        let write = self.writes.remove(usize::from(nth) % self.writes.len());
        let (target, scope) = match write.reach {
            Reach::User => (
                format!("/api/v1/intercom/{}", write.id),
                Scope::User(write.user),
            ),
            Reach::Item => (
                format!("/api/admin/v1/intercoms/{}", write.id),
                Scope::Item(write.id),
            ),
            Reach::All => ("/api/v1/billing/x".to_owned(), Scope::All),
        };
        let mut request = RequestHeader::build("PATCH", target.as_bytes(), None).unwrap();
        let token = format!("Bearer user-{}", write.user);
        request.insert_header("Authorization", token).unwrap();
        self.invalidator.written(&request);
        self.mark_now(scope, false);
    }

    fn purge(&mut self, scope: Scope, is_soft: bool) {
        let now = self.filler.clock.now();
        let strength = match is_soft {
            true => Strength::Soft,
            false => Strength::Hard,
        };
        let marks = &self.filler.marks;
        match scope {
            Scope::User(user) => marks.user(strength, self.user(user), now),
            Scope::Item(id) => {
                for batch in &self.config.batches {
                    marks.item(strength, batch.endpoint, id, now);
                }
            }
            Scope::All => marks.everything(strength, now),
        }
        self.mark_now(scope, is_soft);
    }

    fn mark_now(&mut self, scope: Scope, is_soft: bool) {
        let now = self.vms.moment();
        self.mark(scope, is_soft, now);
    }

    /// Notes a mark that the edge has by now; `ends` is the end of what it covers.
    fn mark(&mut self, scope: Scope, is_soft: bool, ends: Moment) {
        self.is_disturbed = true;
        let now = self.vms.moment();
        let mut history = self.vms.history.lock().unwrap();
        history.mark(scope, is_soft, ends, now);
        // What is marked and what is fetched in one instant cannot be told apart, and counts as fetched before.
        self.hand.advance(Duration::from_millis(1));
    }

    fn user(&self, user: u8) -> UserId {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let token = format!("Bearer user-{user}");
        request.insert_header("Authorization", token).unwrap();
        request::write::writers(&request, &self.keys)[0]
    }

    /// Lets time pass; fetches time out meanwhile.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            // Nobody takes a second for what he can do at once.
            self.run(MAX_STEPS);
            self.hand.advance(Duration::from_secs(1));
            let now = self.filler.clock.now();
            let late: Vec<u64> = self
                .vms
                .pending
                .lock()
                .unwrap()
                .iter()
                .filter(|(_, fetch)| now.since(fetch.started.time) >= FETCH_TIMEOUT)
                .map(|(number, _)| *number)
                .collect();
            for number in late {
                self.is_disturbed = true;
                self.vms.fail(number, Failure::TimedOut);
            }
        }
    }

    /// Lets tasks get on.
    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.tasks.step(&mut self.rng) {
                // Whatever arrived has been read.
                for (user, ends) in std::mem::take(&mut self.refused) {
                    self.mark(Scope::User(user), false, ends);
                }
                for brought in std::mem::take(&mut self.brought) {
                    self.stored.bring(brought);
                }
                return;
            }
        }
    }

    fn judge(&mut self) -> Result<(), String> {
        if !self.is_disturbed
            && let Some(twice) = self.vms.twice.lock().unwrap().pop()
        {
            return Err(format!("fetched twice at once: {twice}"));
        }
        self.vms.twice.lock().unwrap().clear();
        for client in self
            .clients
            .iter_mut()
            .filter(|client| client.told.is_none())
        {
            let Some((given, at)) = client.given.lock().unwrap().take() else {
                continue;
            };
            client.told = Some(given.to_string());
            self.judged += 1;
            let history = self.vms.history.lock().unwrap();
            oracle::judge(&client.question, &given, at, &history)
                .map_err(|fault| format!("{fault}: {:?} got {given:?}", client.question))?;
            if let Given::Reply {
                status: 200,
                tag: Some(tag),
                body,
                ..
            } = given
            {
                let held = self.held.entry(client.ask.ids).or_default();
                held.truncate(MAX_HELD - 1);
                held.insert(0, (tag, body));
            }
        }
        Ok(())
    }

    /// Everybody who has not left gets an answer once the VMS answers what it was asked.
    fn end(&mut self) -> Result<(), String> {
        for _ in 0..MAX_STEPS {
            self.run(MAX_STEPS);
            match self.fetch(0) {
                Some(number) => self.deliver(number),
                None => break,
            }
        }
        self.run(MAX_STEPS);
        self.judge()?;
        let left = self
            .clients
            .iter()
            .find(|c| c.told.is_none() && !c.has_left);
        if let Some(client) = left {
            return Err(format!("left without an answer: {:?}", client.question));
        }
        match self.filler.flights.count() {
            0 => Ok(()),
            count => Err(format!(
                "{count} fetches have ended and are still in flight"
            )),
        }
    }
}

fn chosen<T>(from: impl Iterator<Item = T>, nth: u8) -> Option<T> {
    let mut from: Vec<T> = from.collect();
    (!from.is_empty()).then(|| from.swap_remove(usize::from(nth) % from.len()))
}

/// The same as `before`, with other keys.
fn filler(before: &Filler, keys: &Arc<KeyMaker>, tasks: &Tasks) -> Arc<Filler> {
    let tasks = tasks.clone();
    Arc::new(Filler {
        store: Arc::clone(&before.store),
        marks: Arc::clone(&before.marks),
        flights: Arc::clone(&before.flights),
        detach: Box::new(move |fill| {
            tasks.spawn(fill);
        }),
        origin: Arc::clone(&before.origin),
        clock: before.clock.clone(),
        metrics: Arc::clone(&before.metrics),
        spans: Arc::clone(&before.spans),
        keys: Arc::clone(keys),
        answers: Arc::clone(&before.answers),
        fetch_coding: before.fetch_coding,
        compression: before.compression.clone(),
        host: None,
    })
}

fn invalidator(filler: &Arc<Filler>, keys: &Arc<KeyMaker>, config: &Config) -> Invalidator {
    Invalidator::new(Arc::clone(filler), Arc::clone(keys), config)
}

/// For how long anything that is stored is of use.
fn longest() -> Duration {
    Windows::new(&CONFIGS[0].batches[0]).longest()
}

/// What a client makes of what becomes of its batch.
fn given_by(outcome: Outcome) -> Given {
    let reply = match outcome {
        Outcome::PassThrough(reason) => return Given::PassedThrough(reason),
        Outcome::Reply(reply) => reply,
    };
    let headers = &reply.header.headers;
    let field = |name: &str| Some(headers.get(name)?.to_str().expect("it is text").to_owned());
    Given::Reply {
        status: reply.header.status.as_u16(),
        cache_status: field("cache-status").expect("every answer to a batch has one"),
        tag: field("etag"),
        seen: field("x-seen"),
        body: match headers.contains_key("content-encoding") {
            true => decoded(Coding::Gzip, &reply.body).into(),
            false => reply.body,
        },
    }
}
