//! One world: an edge's deciding parts, the model's VMS, and the clients; a schedule is played in it.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use pingora_http::RequestHeader;

use super::super::fill::Filler;
use super::super::invalidate::Invalidator;
use super::super::waits::Waits;
use super::super::{Asked, AskedBy, BatchEndpoint, Outcome, Reply};
use super::history::{Asker, IDS, Moment, Scope};
use super::oracle::{self, Given, Question, Stored};
use super::phones::{CONFIG, LANGUAGE, asking, phone};
use super::schedule::{Action, Ask, Reach};
use super::tasks::Tasks;
use super::vms::{FETCH_TIMEOUT, Failure, SHOWN_TO, Vms};
use crate::cache::clock::{Clock, Hand};
use crate::cache::freshness::Windows;
use crate::cache::marks::{Marks, Strength};
use crate::cache::store::Store;
use crate::config::Coding;
use crate::ops::metrics::Metrics;
use crate::ops::spans::Spans;
use crate::origin::fetch::Origin;
use crate::reply::answers::{Answers, Work};
use crate::reply::encode::tests::decoded;
use crate::request::correlation::Correlation;
use crate::request::key::{KeyMaker, UserId};
use crate::request::peer::Peer;
use crate::request::{self, Endpoint, Scheme};

/// Steps after which tasks that still get on are taken to do so for ever.
const MAX_STEPS: usize = 2_000;

/// A seed under which the edge has to learn that languages matter; every fourth is one.
pub(super) const SEED_OF_LEARNING: u64 = 3;

/// A batch that was asked, and what came of it.
struct Client {
    task: usize,
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
    endpoint: Arc<BatchEndpoint>,
    invalidator: Invalidator,
    keys: Arc<KeyMaker>,
    tasks: Tasks,
    rng: Rng,
    clients: Vec<Client>,
    writes: Vec<Write>,
    /// Users whose refusal was delivered, but may not have been read yet.
    refused: Vec<(u8, Moment)>,
    /// What the edge was brought, but may not have read yet.
    brought: Vec<(Asker, Vec<u64>, Moment)>,
    stored: Stored,
    /// What somebody was told of these ids: tags and bodies. It is all in one memory, so that phones hold others' answers.
    held: HashMap<u8, Vec<(String, Bytes)>>,
    /// Answers that are to be coded.
    uncoded: Receiver<Work>,
    /// Whether the edge has to learn that languages matter. Until then nothing is stored.
    has_to_learn: bool,
    is_disturbed: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, hand) = Clock::manual();
        let config = &CONFIG.batches[0];
        let longest = Windows::new(config).longest();
        let vms = Arc::new(Vms::new(clock.clone()));
        let tasks = Tasks::default();
        let spawner = tasks.clone();
        let metrics = Arc::new(Metrics::new());
        let keys = Arc::new(KeyMaker::new().expect("the system has randomness"));
        let (answers, uncoded) = Answers::new(64 << 20, 1 << 20);
        let filler = Arc::new(Filler {
            store: Arc::new(Store::new(64 << 20, longest)),
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
            fetch_coding: CONFIG.upstream.fetch_coding,
            compression: CONFIG.compression.clone(),
            host: None,
        });
        Self {
            hand,
            vms,
            invalidator: invalidator(&filler, &keys),
            filler,
            endpoint: endpoint(&metrics, false),
            keys,
            tasks,
            rng: Rng::with_seed(0),
            clients: Vec::new(),
            writes: Vec::new(),
            refused: Vec::new(),
            brought: Vec::new(),
            stored: Stored::default(),
            held: HashMap::new(),
            uncoded,
            has_to_learn: false,
            is_disturbed: false,
        }
    }

    /// Plays a schedule, with the steps between its actions drawn from `seed`. After an error the world is of no more use.
    ///
    /// # Errors
    ///
    /// What is wrong with an answer, or with the lack of one.
    pub(super) fn play(&mut self, schedule: &[Action], seed: u64) -> Result<(), String> {
        self.begin(seed);
        for action in schedule {
            self.act(*action);
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
    fn begin(&mut self, seed: u64) {
        self.hand.advance(Duration::from_secs(1));
        self.vms.begin();
        self.tasks.clear();
        self.keys = Arc::new(KeyMaker::new().expect("the system has randomness"));
        self.filler = filler(&self.filler, &self.keys, &self.tasks);
        self.invalidator = invalidator(&self.filler, &self.keys);
        self.rng = Rng::with_seed(seed);
        self.has_to_learn = seed % 4 == SEED_OF_LEARNING;
        self.endpoint = endpoint(&self.filler.metrics, self.has_to_learn);
        self.clients.clear();
        self.writes.clear();
        self.stored = Stored::default();
        self.held.clear();
        self.is_disturbed = false;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask(ask) => self.ask(ask),
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
                    self.vms.fail(number, failure);
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
                    self.invalidator.refused(&phone(of_user(user)));
                    self.mark_now(Scope::User(user), false);
                }
            }
            Action::Wait { seconds } => self.wait(u64::from(seconds)),
            Action::Run(steps) => self.run(usize::from(steps)),
        }
    }

    fn ask(&mut self, ask: Ask) {
        let bits = 1..=IDS;
        let ids: Vec<u64> = bits.filter(|id| ask.ids >> (id - 1) & 1 == 1).collect();
        let held = match ask.holds {
            true => self.held.get(&ask.ids).cloned().unwrap_or_default(),
            false => Vec::new(),
        };
        let tags: Vec<String> = held.iter().map(|(tag, _)| tag.clone()).collect();
        let request = asking(ask, &ids, &tags);
        let endpoint = Endpoint {
            batch: &self.endpoint.config,
            vary: &self.endpoint.vary(),
            peer_is_trusted: false,
            scheme: Scheme::Http,
            era: 0,
        };
        let checked = request::examine(&request, &CONFIG.headers).expect("it is a good request");
        let batch = checked.read(&request, b"", &endpoint, &self.keys);
        let batch = batch.expect("it is a batch");
        let question = Question {
            asker: ask.asker,
            ids,
            no_cache: ask.no_cache,
            held,
            asked: self.vms.moment(),
            was_covered: false,
        };
        let given = Arc::new(Mutex::new(None));
        let (filler, endpoint, vms) = (
            Arc::clone(&self.filler),
            Arc::clone(&self.endpoint),
            Arc::clone(&self.vms),
        );
        let (keyed, kept) = (self.endpoint.vary(), Arc::clone(&given));
        let task = self.tasks.spawn(Box::pin(async move {
            let asked = Asked {
                batch,
                keyed,
                request: &request,
                body: Bytes::new(),
                peer: Peer::new(
                    "127.0.0.1".parse().expect("it is an address"),
                    Scheme::Http,
                    &[],
                ),
                correlation: &Correlation::drawn(),
                by: AskedBy::Client,
            };
            let given = match endpoint.answer(&filler, asked, &mut Waits::default()).await {
                Outcome::PassThrough(reason) => Given::PassedThrough(reason),
                Outcome::Reply(reply) => seen(&reply),
            };
            *kept.lock().unwrap() = Some((given, vms.moment()));
        }));
        self.clients.push(Client {
            task,
            question: Question {
                was_covered: !self.has_to_learn && self.stored.covers(&question, &self.vms),
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
                self.refused.push((fetch.asker.user, self.vms.moment()));
            }
            _ => self.brought.push((fetch.asker, fetch.ids, fetch.started)),
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
            Scope::Item(id) => marks.item(strength, self.endpoint.config.endpoint, id, now),
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
        self.filler.answers.code_waiting(&self.uncoded);
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
        // While the edge learns, what was asked before that is asked again under another key.
        if !(self.is_disturbed || self.has_to_learn)
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
            // A refusal that has arrived may have been read, and ended what covered it.
            let user = client.question.asker.user;
            let is_refused = self.refused.iter().any(|(refused, _)| *refused == user);
            client.question.was_covered &= !is_refused;
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
                let ids = client.question.ids.iter().map(|id| 1 << (id - 1)).sum();
                self.held.entry(ids).or_default().push((tag, body));
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

/// An endpoint that has learnt nothing yet.
fn endpoint(metrics: &Metrics, has_to_learn: bool) -> Arc<BatchEndpoint> {
    let mut vary = CONFIG.headers.vary.clone();
    vary.retain(|name| !(has_to_learn && *name == LANGUAGE));
    Arc::new(BatchEndpoint::new(&CONFIG.batches[0], &vary, metrics))
}

/// A reply as its client sees it.
fn seen(reply: &Reply) -> Given {
    let field = |name: &str| {
        let value = reply.header.headers.get(name)?;
        Some(value.to_str().expect("it is text").to_owned())
    };
    let body = match field("content-encoding").as_deref() {
        Some("gzip") => decoded(Coding::Gzip, &reply.body).into(),
        _ => reply.body.clone(),
    };
    Given::Reply {
        status: reply.header.status.as_u16(),
        cache_status: field("cache-status").expect("each reply has one"),
        tag: field("etag"),
        shown_to: field(SHOWN_TO.as_str()),
        body,
    }
}

/// A phone of a user's.
fn of_user(user: u8) -> Asker {
    Asker {
        user,
        device: 0,
        language: 0,
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

fn invalidator(filler: &Arc<Filler>, keys: &Arc<KeyMaker>) -> Invalidator {
    Invalidator::new(Arc::clone(filler), Arc::clone(keys), &CONFIG)
}
