//! Where schedules are played: one edge and one VMS for many of them, with new users for each.
//!
//! Every batch that overlaps another has a connection of its own. What a step has to wait for is asked of the edge and
//! the VMS; nothing is waited for by the clock on the wall.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::task::{AbortHandle, JoinSet};
use vms_edge::demo::vms::{self, Hold, Order, StandIn};
use vms_edge::ops::reload::Outcome;

use super::history::{History, Mark, Point, Scope, Ticks};
use super::oracle::{Asked, Told, judge};
use super::requests;
use super::schedule::{
    Change, EVERYONE, Pace, Purge, Question, Reload, Schedule, Step, Strength, Who, Write,
};
use crate::support::client::{Client, Response};
use crate::support::edge::TestEdge;
use crate::support::soon;

/// Windows as the oracle knows them.
const SETTINGS: &str = r#"
[[batch]]
path = "/api/v1/intercom/shows"
fresh = "30s"
absent = "20s"
stale_while_revalidate = "60s"
stale_if_error = "300s"
[[invalidate]]
methods = ["PATCH", "DELETE"]
path = "/api/v1/intercom/{id}"
scope = ["user"]
[[invalidate]]
methods = ["PUT"]
path = "/api/v1/intercom/{id}"
scope = ["item"]
[[invalidate]]
path = "/api/v1/cameras/{id}/favorites"
scope = ["all"]
[[invalidate]]
path = "/api/v1/logout"
scope = ["user"]
"#;

/// A request that has gone through both of them is certainly behind a fetch that was on its way before, however new its
/// connection, after so many times.
const ROUNDS: usize = 3;

/// Failures after which an edge may leave the VMS alone, and good answers after which it certainly trusts it again.
const FAILURES_NOTICED: usize = 5;
const SUCCESSES_NOTICED: usize = 10;

pub(super) struct Stage {
    vms: StandIn,
    _serving: vms::Running,
    edge: TestEdge,
    order: Order,
    ticks: Ticks,
    /// Users 1 and 2 are those of the recorded answers; everyone else follows from one rule.
    next_user: u64,
    /// Of what was written last, so that no two are alike.
    serial: u64,
    idle: Vec<Client>,
    operator: Client,
    operators_token: NamedTempFile,
}

/// A schedule that is being played.
struct Play<'a> {
    stage: &'a mut Stage,
    history: History,
    holds: Vec<Hold>,
    asked: Vec<Asked>,
    /// Who waits for an answer, the first who came first.
    waiting: VecDeque<(usize, AbortHandle)>,
    answers: JoinSet<(usize, u64, Client, Response)>,
}

impl Stage {
    pub(super) async fn new(order: Order) -> Self {
        Self::with(order, "").await
    }

    /// One whose edge has other settings beside those that the oracle knows, until it is reloaded.
    pub(super) async fn with(order: Order, more: &str) -> Self {
        let vms = StandIn::without_record();
        vms.set_order(order);
        vms.name_viewers();
        vms.add_response_header("Vary", "X-Region");
        let serving = vms.start().await.expect("the loopback has free ports");
        let mut token = NamedTempFile::new().expect("there is room for a file");
        writeln!(token, "{}", requests::OPERATOR).expect("there is room for a token");
        let settings = format!("{more}{}", settings(token.path(), Reload::Nothing));
        let edge = TestEdge::with(&[serving.address().to_string()], &settings);
        Self {
            operator: Client::connect(edge.admin).await,
            edge,
            vms,
            _serving: serving,
            order,
            ticks: Ticks::default(),
            next_user: 3,
            serial: 0,
            idle: Vec::new(),
            operators_token: token,
        }
    }

    /// Plays a schedule, and judges all that was answered.
    pub(super) async fn play(&mut self, schedule: &Schedule) -> Result<(), String> {
        let users = [self.next_user, self.next_user + 1];
        self.next_user += 2;
        self.vms.clear_faults();
        let order = self.order;
        let history = History::begin(&self.vms, users, self.ticks.clone());
        let mut play = Play {
            stage: self,
            history,
            holds: Vec::new(),
            asked: Vec::new(),
            waiting: VecDeque::new(),
            answers: JoinSet::new(),
        };
        for step in &schedule.0 {
            // No two steps are at the same time, so that what came first can be told.
            play.advance(Duration::from_millis(1));
            play.step(step).await;
        }
        play.holds.clear();
        while play.collect().await {}
        let Play {
            mut history, asked, ..
        } = play;
        self.vms.assert_healthy();
        judge(&mut history, &asked, order)?;
        match schedule.failures() {
            0 => Ok(()),
            failures => self.heal(failures).await,
        }
    }

    /// Lets the edge find out that the VMS is well again, so that no schedule suffers from the one before.
    async fn heal(&mut self, failures: usize) -> Result<(), String> {
        self.vms.clear_faults();
        let wanted = match failures < FAILURES_NOTICED {
            true => 1,
            false => SUCCESSES_NOTICED,
        };
        let mut successes = 0;
        for _ in 0..wanted + 20 {
            let token = format!("tok-{}-ios", self.next_user);
            let question = Question {
                who: EVERYONE[0],
                ids: vec![1],
                in_body: false,
                no_cache: false,
            };
            let request = requests::batch(&token, &question);
            self.next_user += 1;
            if self.exchange(&request, "GET").await == 200 {
                successes += 1;
            } else {
                successes = 0;
                self.edge.advance(Duration::from_secs(30));
            }
            if successes == wanted {
                return Ok(());
            }
        }
        Err("the edge does not find out that the VMS is well again".to_owned())
    }

    fn reload(&self, reload: Reload) {
        let settings = settings(self.operators_token.path(), reload);
        match self.edge.reload(&settings) {
            Outcome::Applied { .. } => {}
            Outcome::Refused { reasons } => panic!("{reasons:?}"),
        }
    }

    async fn client(&mut self) -> Client {
        match self.idle.pop() {
            Some(client) => client,
            None => Client::connect(self.edge.address).await,
        }
    }

    fn give_back(&mut self, client: Client, response: &Response) {
        if response.complete && response.head.one("connection") != Some("close") {
            self.idle.push(client);
        }
    }

    /// Sends a request and waits for its answer.
    async fn exchange(&mut self, request: &str, method: &str) -> u16 {
        let mut client = self.client().await;
        client.send(request).await;
        let response = client.response_to(method).await;
        self.give_back(client, &response);
        response.status
    }

    /// Waits until whatever was on its way to the edge or to the VMS has got there, and back if nothing holds it.
    async fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let request = "GET /api/v1/static/basic HTTP/1.1\r\nHost: vms.local\r\n\r\n";
            assert_eq!(self.exchange(request, "GET").await, 200);
        }
    }
}

/// The settings of an edge, changed as little as `reload` says. No fetch is given up because the machine is busy.
fn settings(token: &Path, reload: Reload) -> String {
    let fetch_timeout = match reload {
        Reload::Upstream => "61s",
        _ => "60s",
    };
    let more = match reload {
        Reload::Nothing | Reload::Upstream => "",
        Reload::Memory => "cache.max_bytes = \"64MiB\"\n",
        Reload::Key => "headers.vary = [\"X-UUID\", \"X-Client\", \"Hl\"]\n",
        Reload::Endpoints => "[[batch]]\npath = \"/api/v1/cameras/shows\"\n",
    };
    format!(
        "admin.token_file = {token:?}\nupstream.fetch_timeout = \"{fetch_timeout}\"\n{more}{SETTINGS}"
    )
}

impl Play<'_> {
    fn advance(&mut self, by: Duration) {
        self.history.advance(by);
        self.stage.edge.advance(by);
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(question, pace) => self.ask(question, *pace).await,
            Step::Again(back, pace) => {
                let asked = self.asked.iter().nth_back(*back);
                if let Some(question) = asked.map(|asked| asked.question.clone()) {
                    self.ask(&question, *pace).await;
                }
            }
            Step::Write(who, write) => self.write(*who, write).await,
            Step::Purge(purge, strength) => self.purge(purge, *strength).await,
            Step::Change(change) => self.change(change),
            Step::Wait(seconds) => self.wait(Duration::from_secs(*seconds)).await,
            Step::Hold => self.holds.push(self.stage.vms.hold()),
            Step::Open => self.open(),
            Step::Release => self.holds.clear(),
            Step::Leave => {
                if let Some((_, task)) = self.waiting.pop_front() {
                    task.abort();
                }
            }
            Step::Reload(reload) => self.stage.reload(*reload),
            Step::Fail(trouble, times) => {
                self.history.trouble(*trouble);
                let times = vms::Times::Next(*times);
                self.stage.vms.fault(trouble.fault(), times);
            }
        }
    }

    /// The newest hold decides about those to come, and this one is over at once.
    fn open(&self) {
        self.stage.vms.hold().release();
    }

    async fn ask(&mut self, question: &Question, pace: Pace) {
        let request = requests::batch(&self.history.token(question.who), question);
        let mut client = self.stage.client().await;
        let number = self.asked.len();
        self.asked.push(Asked {
            question: question.clone(),
            sent: Point {
                tick: self.history.ticks.next(),
                clock: self.history.now.clock,
            },
            settled: self.history.settled,
            told: None,
        });
        if pace == Pace::Held {
            self.holds.push(self.stage.vms.hold());
        }
        client.send(request).await;
        let ticks = self.history.ticks.clone();
        let task = self.answers.spawn(async move {
            let response = client.response().await;
            (number, ticks.next(), client, response)
        });
        self.waiting.push_back((number, task));
        match pace {
            Pace::Races => {}
            Pace::Settled if self.holds.is_empty() => {
                while self.asked[number].told.is_none() && self.collect().await {}
            }
            Pace::Settled => self.stage.settle().await,
            Pace::Held => {
                self.stage.settle().await;
                self.open();
            }
        }
    }

    /// Takes in the next answer; false if nobody waits for any.
    async fn collect(&mut self) -> bool {
        let Some(answer) = soon("an answer", self.answers.join_next()).await else {
            return false;
        };
        match answer {
            Ok((number, tick, client, response)) => {
                self.waiting.retain(|(waiting, _)| *waiting != number);
                let text = |name| response.head.one(name).map(str::to_owned);
                self.asked[number].told = Some(Told {
                    tick,
                    status: response.status,
                    is_whole: response.complete,
                    age: text("age").map(|age| age.parse().expect("an age is a number")),
                    cache_status: text("cache-status").unwrap_or_default(),
                    body: response.body.clone(),
                });
                self.stage.give_back(client, &response);
            }
            Err(left) if left.is_cancelled() => {}
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
        true
    }

    async fn wait(&mut self, time: Duration) {
        if !self.holds.is_empty() {
            return self.advance(time);
        }
        // What is in flight here takes no time, however far the clock is moved.
        self.stage.settle().await;
        self.advance(time);
        self.history.settled = self.history.now;
    }

    async fn write(&mut self, who: Who, write: &Write) {
        self.stage.serial += 1;
        let token = self.history.token(who);
        let writing = requests::write(&token, who, write, self.stage.serial);
        let begun = self.history.ticks.next();
        let status = self.stage.exchange(&writing.text, writing.method).await;
        if !matches!(status, 200 | 204) {
            assert!(matches!(status, 401 | 404), "a write is answered {status}");
            return;
        }
        let from = self.history.changed(begun, &[who.user], writing.id);
        if writing.id.is_none() {
            self.history.refused(who);
        }
        let tick = self.history.ticks.next();
        self.history.marks.push(Mark {
            scope: writing.scope,
            strength: Strength::Hard,
            tick,
            from,
        });
    }

    async fn purge(&mut self, purge: &Purge, strength: Strength) {
        let (what, scopes) = match purge {
            Purge::Items(ids) => {
                let scopes = ids.iter().map(|&id| Scope::Item(id)).collect();
                (format!("\"items\":{ids:?}"), scopes)
            }
            Purge::User(who) => {
                let token = self.history.token(*who);
                (format!("\"user\":{token:?}"), vec![Scope::Writer(*who)])
            }
            Purge::Everything => ("\"everything\":true".to_owned(), vec![Scope::Everything]),
        };
        let mode = match strength {
            Strength::Hard => "hard",
            Strength::Soft => "soft",
        };
        let body = format!("{{{what},\"mode\":{mode:?}}}");
        let operator = &mut self.stage.operator;
        operator.send(requests::purge(&body)).await;
        let response = operator.response().await;
        assert!((200..300).contains(&response.status), "{}", response.text());
        let from = self.history.latest();
        let tick = self.history.ticks.next();
        let marks = scopes.into_iter().map(|scope| Mark {
            scope,
            strength,
            tick,
            from,
        });
        self.history.marks.extend(marks);
    }

    fn change(&mut self, change: &Change) {
        let begun = self.history.ticks.next();
        let vms = &self.stage.vms;
        let users = self.history.users;
        match *change {
            Change::Rename(id) => {
                self.stage.serial += 1;
                vms.rename(id, &format!("title {}", self.stage.serial));
                self.history.changed(begun, &[0, 1], Some(id));
            }
            Change::TakeAway(whose, id) => {
                vms.take_away(users[whose], id);
                self.history.changed(begun, &[whose], Some(id));
            }
            Change::GiveBack(whose, id) => {
                vms.give_back(users[whose], id);
                self.history.changed(begun, &[whose], Some(id));
            }
            Change::Revoke(who) => {
                vms.revoke(&self.history.token(who));
                self.history.changed(begun, &[], None);
                self.history.refused(who);
            }
        }
    }
}
