//! A self-test while the edge serves: two test users ask it for the same, and neither may be shown what only the other may
//! see.
//!
//! Each round asks the VMS itself what it shows to each of the two, past everything that is stored or under way, and at once
//! the edge as either of them. What the edge shows to one of them, and the VMS to the other alone, is a leak.
//!
//! The edge is asked as a client asks it: by a header with a token and the fields of a widget, which is checked, understood
//! and keyed like any other, and answered by [`BatchEndpoint::answer`] from the memory, the fetches under way and the marks
//! of all. What is at hand is composed there by the very code that answers a client at hand ([`AtHand`](super::AtHand)). So
//! whatever could give one user another's items is in its way; what is not, is the reading of connections, which has no
//! answers. What the two ask is not counted among the requests of clients, and their fetches are.
//!
//! What the VMS changes meanwhile is no leak: what it has itself shown to a user stays that user's for as long as it may be
//! answered from memory, and before a leak is told, both are asked for at the VMS once more. Memory may be older than who
//! asks here, since it outlives a reload: what it has from before is not answered, but fetched anew first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_http::RequestHeader;
use tokio::time::{MissedTickBehavior, interval};

use super::fill::Filler;
use super::waits::Waits;
use super::{Asked, AskedBy, BatchEndpoint, Outcome};
use crate::cache::clock::Time;
use crate::cache::digest::Digest;
use crate::cache::freshness::Windows;
use crate::config::{self, Config, TestUser};
use crate::ops::metrics::CanaryResult;
use crate::origin::answer::split;
use crate::request::checks::{X_CLIENT, X_UUID};
use crate::request::correlation::Correlation;
use crate::request::ids::Form;
use crate::request::peer::Peer;
use crate::request::{self, Scheme};

/// Most items that the VMS is remembered to have shown to one of the users.
const MAX_KNOWN: usize = 10_000;

/// The two users, and what they ask.
pub struct Canary {
    users: [User; 2],
    endpoint: Arc<BatchEndpoint>,
    filler: Arc<Filler>,
    config: Arc<Config>,
    /// For how long the edge may answer what the VMS has shown.
    longest: Duration,
    memory: Memory,
}

/// What the edge has stored for the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// What the VMS showed before anybody noted it, perhaps.
    Unknown,
    /// What the VMS showed since.
    Known,
}

/// One of them.
struct User {
    request: RequestHeader,
    /// What the VMS itself has shown to this user of late.
    known: Known,
}

/// An item: its id, and its bytes.
type Item = (u64, Digest);

/// When something was shown last.
#[derive(Default)]
struct Known(HashMap<Item, Time>);

impl Canary {
    /// The one that is configured, if there is one.
    pub fn of(
        config: &Arc<Config>,
        endpoints: &[Arc<BatchEndpoint>],
        filler: &Arc<Filler>,
    ) -> Option<Self> {
        let canary = &config.canary;
        let users = canary.users.as_ref()?;
        let mut endpoints = endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.config.endpoint == canary.batch)?;
        let user = |user: &TestUser| User {
            request: request(user, config, &endpoint.config),
            known: Known::default(),
        };
        Some(Self {
            users: users.each_ref().map(user),
            endpoint: Arc::clone(endpoint),
            filler: Arc::clone(filler),
            config: Arc::clone(config),
            longest: Windows::new(&endpoint.config).longest(),
            memory: Memory::Unknown,
        })
    }

    /// Asks as both users, and tells what it shows.
    pub async fn round(&mut self) -> CanaryResult {
        let Some(direct) = self.direct().await else {
            return CanaryResult::Unavailable;
        };
        let [first, second] = &self.users;
        let shown = tokio::join!(self.shown_to(first), self.shown_to(second));
        let (Some(first), Some(second)) = shown else {
            return CanaryResult::Unavailable;
        };
        let shown = [first, second];
        self.memory = Memory::Known;
        if !self.foreign(&shown).iter().all(Vec::is_empty) {
            // The VMS may have changed it between one question and the next. If it does not answer, it stands.
            self.direct().await;
            let foreign = self.foreign(&shown);
            if !foreign.iter().all(Vec::is_empty) {
                let [of_second, of_first] = &foreign;
                tracing::error!(
                    ?of_second,
                    ?of_first,
                    "a canary was shown what only the other may see: ids of the second shown to the first, and of the \
                     first to the second"
                );
                return CanaryResult::Leak;
            }
        }
        if direct[0] == direct[1] {
            CanaryResult::Indistinct
        } else if direct == shown {
            CanaryResult::Ok
        } else {
            CanaryResult::Differs
        }
    }

    /// What the VMS itself shows to each; `None` if it does not say.
    async fn direct(&mut self) -> Option<[Vec<Item>; 2]> {
        let [first, second] = &self.users;
        let direct = tokio::join!(self.direct_to(first), self.direct_to(second));
        let direct = [direct.0?, direct.1?];
        let now = self.filler.clock.now();
        for (user, items) in self.users.iter_mut().zip(&direct) {
            user.known.learn(items, now, self.longest);
        }
        Some(direct)
    }

    async fn direct_to(&self, user: &User) -> Option<Vec<Item>> {
        let correlation = Correlation::drawn();
        let asked = self.asked(user, &correlation)?;
        let answer = self.filler.ask_past_memory(&asked).await.ok()?;
        let is_shown = answer.header.status == StatusCode::OK;
        is_shown.then(|| self.items(&answer.body)).flatten()
    }

    /// What the edge shows; `None` if it shows nothing.
    async fn shown_to(&self, user: &User) -> Option<Vec<Item>> {
        let correlation = Correlation::drawn();
        let asked = self.asked(user, &correlation)?;
        let mut waits = Waits::default();
        let answered = self.endpoint.answer(&self.filler, asked, &mut waits);
        match answered.await {
            Outcome::Reply(reply) if reply.header.status == StatusCode::OK => {
                self.items(&reply.body)
            }
            Outcome::Reply(_) | Outcome::PassThrough(_) => None,
        }
    }

    /// The question, understood as one of a client's is.
    fn asked<'a>(&self, user: &'a User, correlation: &'a Correlation) -> Option<Asked<'a>> {
        let request = &user.request;
        let checked = request::examine(request, &self.config.headers).ok()?;
        let trusted = &self.config.server.trusted_proxies;
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Scheme::Http, trusted);
        let (endpoint, keyed) = (&self.endpoint, self.endpoint.vary());
        let batch = endpoint.understand(request, b"", checked, &keyed, peer, &self.filler.keys);
        let mut batch = batch.ok()?;
        batch.no_cache = self.memory == Memory::Unknown;
        Some(Asked {
            batch,
            keyed,
            request,
            body: Bytes::new(),
            peer,
            correlation,
            by: AskedBy::Canary,
        })
    }

    /// The items of an answer, in ascending order; `None` if it is none.
    fn items(&self, body: &[u8]) -> Option<Vec<Item>> {
        let items = split(body, &self.endpoint.config.id).ok()?;
        let items = items.into_iter();
        let mut items: Vec<Item> = items
            .map(|(id, range)| (id, Digest::of(&body[range])))
            .collect();
        items.sort_unstable();
        Some(items)
    }

    /// The ids of what was shown to each of the users and is the other's.
    fn foreign(&self, shown: &[Vec<Item>; 2]) -> [Vec<u64>; 2] {
        let [first, second] = &self.users;
        [
            foreign(&shown[0], &first.known, &second.known),
            foreign(&shown[1], &second.known, &first.known),
        ]
    }
}

/// Does a round now and then.
pub async fn keep_asking(mut canary: Canary) {
    let mut tick = interval(canary.config.canary.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        tick.tick().await;
        let result = canary.round().await;
        canary.filler.metrics.canary(result);
        if before.replace(result) == Some(result) {
            continue;
        }
        match result {
            CanaryResult::Indistinct => tracing::warn!(
                "the VMS shows the same to both canaries, which so prove nothing: choose ids that only one of them may see"
            ),
            // Whoever looks after the VMS knows already.
            CanaryResult::Unavailable => tracing::debug!("the canaries are not answered"),
            CanaryResult::Ok | CanaryResult::Differs | CanaryResult::Leak => {}
        }
    }
}

/// The request of a test user.
fn request(user: &TestUser, config: &Config, batch: &config::Batch) -> RequestHeader {
    const VALID: &str = "the configuration was checked, and the rest is constant";
    let form = Form::Query { others: Vec::new() };
    let (query, _) = form.write(&config.canary.ids, batch);
    let target = [batch.path.as_bytes(), b"?", &query].concat();
    let mut request = RequestHeader::build("GET", &target, None).expect(VALID);
    let server = config.upstream.servers.first();
    let host = config.upstream.host.clone().or_else(|| {
        let server = server.map(ToString::to_string)?;
        HeaderValue::try_from(server).ok()
    });
    let value = |text: &str| HeaderValue::try_from(text).expect(VALID);
    for (name, value) in [
        (header::HOST, host.expect(VALID)),
        (header::AUTHORIZATION, user.token.authorization()),
        (header::ACCEPT, value("application/json")),
        (header::USER_AGENT, value("vms-edge")),
        (X_CLIENT, value(&config.canary.client)),
        (X_UUID, value(&config.canary.device)),
    ] {
        request.insert_header(name, value).expect(VALID);
    }
    request
}

/// The ids of what was shown to one user, and by the VMS to the other alone: the very bytes, or any of that id.
fn foreign(shown: &[Item], own: &Known, other: &Known) -> Vec<u64> {
    let is_foreign = |item: &&Item| {
        (other.has(item) && !own.has(item)) || (other.has_id(item.0) && !own.has_id(item.0))
    };
    shown.iter().filter(is_foreign).map(|item| item.0).collect()
}

impl Known {
    /// Notes what was shown, and forgets what was not for as long as it may be answered.
    fn learn(&mut self, items: &[Item], now: Time, longest: Duration) {
        self.0.extend(items.iter().map(|item| (*item, now)));
        self.0.retain(|_, shown| now.since(*shown) <= longest);
        if self.0.len() > MAX_KNOWN {
            let mut times: Vec<Time> = self.0.values().copied().collect();
            times.sort_unstable();
            let oldest = times[times.len() - MAX_KNOWN];
            self.0.retain(|_, shown| *shown >= oldest);
        }
    }

    fn has(&self, item: &Item) -> bool {
        self.0.contains_key(item)
    }

    fn has_id(&self, id: u64) -> bool {
        self.0.keys().any(|known| known.0 == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: u64, text: &str) -> Item {
        (id, Digest::of(text.as_bytes()))
    }

    fn known(items: &[Item]) -> Known {
        let mut known = Known::default();
        known.learn(items, Time::default(), Duration::from_secs(60));
        known
    }

    #[test]
    fn what_the_vms_shows_to_the_other_alone_is_foreign() {
        let hers = known(&[item(1, "hers"), item(2, "both"), item(3, "as she sees it")]);
        let his = known(&[item(2, "both"), item(3, "as he sees it"), item(4, "his")]);
        let shown = |items: &[Item]| foreign(items, &hers, &his);
        let own = [item(1, "hers"), item(2, "both"), item(3, "as she sees it")];
        assert_eq!(shown(&own), [0; 0]);
        assert_eq!(shown(&[item(3, "as he sees it")]), [3]);
        assert_eq!(shown(&[item(4, "his")]), [4]);
        assert_eq!(shown(&[item(4, "his, as it was")]), [4]);
    }

    #[test]
    fn what_nobody_was_shown_tells_nothing() {
        let (hers, his) = (known(&[item(1, "hers")]), known(&[item(1, "his")]));
        assert_eq!(foreign(&[item(1, "another")], &hers, &his), [0; 0]);
        assert_eq!(foreign(&[item(9, "unheard of")], &hers, &his), [0; 0]);
    }

    #[test]
    fn what_a_user_was_shown_stays_his_for_as_long_as_it_may_be_answered() {
        let longest = Duration::from_secs(60);
        let (then, hers) = (Time::default(), [item(1, "hers")]);
        let mut known = known(&hers);
        known.learn(&[], then.plus(longest), longest);
        assert!(known.has(&hers[0]));
        known.learn(&[], then.plus(2 * longest), longest);
        assert!(!known.has(&hers[0]) && !known.has_id(1));
    }

    #[test]
    fn what_changes_every_time_takes_no_memory_without_bound() {
        let (mut known, longest) = (Known::default(), Duration::from_secs(60));
        let half = MAX_KNOWN as u64 / 2;
        let shown = |round: u64| {
            let items = (1..=half).map(|id| item(id, &format!("{id} {round}")));
            items.collect::<Vec<_>>()
        };
        for round in 0..3 {
            let now = Time::default().plus(Duration::from_secs(round));
            known.learn(&shown(round), now, longest);
        }
        assert_eq!(known.0.len(), MAX_KNOWN);
        assert!(!known.has(&shown(0)[0]));
        assert!(known.has(&shown(1)[0]) && known.has(&shown(2)[0]));
    }
}
