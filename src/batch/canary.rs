//! A self-test while the edge serves: two test users ask it for the same, and neither may be shown what only the other may
//! see.
//!
//! Each round asks the VMS itself what it shows to each of the two, past everything that is stored or under way, and at once
//! the edge as either of them. What the edge shows to one of them, and the VMS to the other alone, is a leak.
//!
//! The edge is asked as a client asks it: by a header with a token and the fields of a widget, which is checked, understood
//! and keyed like any other, and answered by [`BatchEndpoint::answer`] from the memory, the fetches under way and the marks
//! of all. What is at hand is composed there by the very code that answers a client at hand ([`AtHand`](super::AtHand)), and
//! in every second round in a coding. So keys, memory, what is shared while it is fetched, and what is put together are in
//! its way. What is not, is all that lies between there and a client's connection, a 304 to one who holds an answer, and
//! what passes through. What the two ask is not counted among the requests of clients; what is fetched or coded for them
//! is counted like any other.
//!
//! What the VMS changes meanwhile is no leak: an id that it has itself shown to a user stays that user's for as long as it
//! may be answered from memory, and no leak is told before it has shown once more what both may see. Of an id that both may
//! see, the bytes tell whose it is only as long as they do not change: one that carries the time of its making may be shown
//! to one user at a tick and to the other at the next. Memory may be older than who asks here, since it outlives a reload:
//! what it has from before is not answered, but fetched anew first.

#[cfg(test)]
mod rounds;

use std::borrow::Cow;
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
use super::{Asked, AskedBy, BatchEndpoint, Outcome, Reply};
use crate::cache::clock::Time;
use crate::cache::digest::Digest;
use crate::cache::freshness::Windows;
use crate::config::{self, Coding, Config, TestUser, WebOrigin};
use crate::ops::metrics::CanaryResult;
use crate::origin::answer::split;
use crate::origin::fetch::MAX_ANSWER_BYTES;
use crate::reply::encode;
use crate::request::checks::{X_CLIENT, X_UUID};
use crate::request::correlation::Correlation;
use crate::request::ids::Form;
use crate::request::peer::Peer;
use crate::request::{self, Scheme};

/// The two users, and what they ask.
pub struct Canary {
    users: [User; 2],
    endpoint: Arc<BatchEndpoint>,
    filler: Arc<Filler>,
    config: Arc<Config>,
    /// For how long the edge may answer what the VMS has shown.
    longest: Duration,
    memory: Memory,
    /// Rounds that were begun.
    rounds: usize,
    /// What was shown to each of them as if it were the other's, and what the VMS has not yet cleared of that. A reload
    /// forgets it.
    suspected: [Vec<Item>; 2],
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

/// What somebody was shown of each id.
#[derive(Default)]
struct Known(HashMap<u64, Seen>);

/// What was shown of one id.
struct Seen {
    /// What was shown last, and when.
    version: Digest,
    at: Time,
    /// When anything else was, last.
    others_at: Option<Time>,
}

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
            rounds: 0,
            suspected: Default::default(),
        })
    }

    /// Asks as both users, and tells what it shows.
    pub async fn round(&mut self) -> CanaryResult {
        self.accept_next_coding();
        let [Some(first), Some(second)] = self.direct().await else {
            return CanaryResult::Unavailable;
        };
        if self.suspects() {
            // Of an earlier round, which the VMS left without an answer.
            return self.leak();
        }
        let direct = [first, second];
        let [first, second] = &self.users;
        let shown = tokio::join!(self.shown_to(first), self.shown_to(second));
        let (Some(first), Some(second)) = shown else {
            return CanaryResult::Unavailable;
        };
        let shown = [first, second];
        self.memory = Memory::Known;
        self.suspected = self.foreign(&shown);
        if self.suspects() {
            // The VMS may have changed it between one question and the next.
            let [Some(_), Some(_)] = self.direct().await else {
                return CanaryResult::Unavailable;
            };
            if self.suspects() {
                return self.leak();
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

    /// Every second round is answered as a client is who takes a coding, each in its turn.
    fn accept_next_coding(&mut self) {
        let codings = &self.config.compression.codings;
        let turn = (self.rounds / 2).checked_rem(codings.len());
        let coding = match self.rounds % 2 {
            1 => turn.map(|turn| codings[turn]),
            _ => None,
        };
        for User { request, .. } in &mut self.users {
            match coding {
                Some(coding) => {
                    let accepted = HeaderValue::from_static(coding.name());
                    request
                        .insert_header(header::ACCEPT_ENCODING, accepted)
                        .expect("it is a valid field");
                }
                None => drop(request.remove_header(&header::ACCEPT_ENCODING)),
            }
        }
        self.rounds += 1;
    }

    fn suspects(&self) -> bool {
        !self.suspected.iter().all(Vec::is_empty)
    }

    /// Tells of what is suspected.
    fn leak(&mut self) -> CanaryResult {
        let suspected = std::mem::take(&mut self.suspected);
        let ids = |items: &Vec<Item>| -> Vec<u64> { items.iter().map(|item| item.0).collect() };
        let [of_second, of_first] = suspected.each_ref().map(ids);
        tracing::error!(
            ?of_second,
            ?of_first,
            "a canary was shown what only the other may see: ids of the second shown to the first, and of the first to \
             the second"
        );
        CanaryResult::Leak
    }

    /// What the VMS itself shows to each, `None` where it does not say; what that explains is not suspected any more.
    async fn direct(&mut self) -> [Option<Vec<Item>>; 2] {
        let [first, second] = &self.users;
        let direct = tokio::join!(self.direct_to(first), self.direct_to(second));
        let direct = [direct.0, direct.1];
        let now = self.filler.clock.now();
        for (user, items) in self.users.iter_mut().zip(&direct) {
            if let Some(items) = items {
                let asked = &self.config.canary.ids;
                user.known.learn(items, asked, now, self.longest);
            }
        }
        self.suspected = self.foreign(&self.suspected);
        direct
    }

    async fn direct_to(&self, user: &User) -> Option<Vec<Item>> {
        let correlation = Correlation::drawn();
        let asked = self.asked(user, &correlation)?;
        let answer = self.filler.ask_past_memory(&asked).await.ok()?;
        match answer.header.status {
            StatusCode::OK => self.items(&answer.body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                // The token is not, or no longer, good for what is stored under it, whoever asked the VMS.
                self.filler.end_user(asked.batch.user);
                None
            }
            _ => None,
        }
    }

    /// What the edge shows; `None` if it shows nothing.
    async fn shown_to(&self, user: &User) -> Option<Vec<Item>> {
        let correlation = Correlation::drawn();
        let asked = self.asked(user, &correlation)?;
        let mut waits = Waits::default();
        let answered = self.endpoint.answer(&self.filler, asked, &mut waits);
        match answered.await {
            Outcome::Reply(reply) if reply.header.status == StatusCode::OK => {
                self.items(&plain(&reply)?)
            }
            Outcome::Reply(_) | Outcome::PassThrough(_) => None,
        }
    }

    /// The question, understood as one of a client's is.
    fn asked<'a>(&self, user: &'a User, correlation: &'a Correlation) -> Option<Asked<'a>> {
        let request = &user.request;
        let checked = request::examine(request, &self.config.headers).ok()?;
        let trusted = &self.config.server.trusted_proxies;
        let origin = self.config.canary.origin.as_ref();
        let scheme = origin.map_or(Scheme::Http, |origin| origin.scheme);
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), scheme, trusted);
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

    /// What was shown to each of the users and is the other's.
    fn foreign(&self, shown: &[Vec<Item>; 2]) -> [Vec<Item>; 2] {
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
    let (origin, upstream) = (&config.canary.origin, &config.upstream);
    let host = match (origin, &upstream.host) {
        (Some(WebOrigin { host, .. }), _) | (None, Some(host)) => Some(host.clone()),
        (None, None) => {
            let server = upstream.servers.first().map(ToString::to_string);
            server.and_then(|server| HeaderValue::try_from(server).ok())
        }
    };
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

/// The body of an answer without its coding; `None` if it is in one that nobody asked for.
fn plain(reply: &Reply) -> Option<Cow<'_, [u8]>> {
    let Some(name) = reply.header.headers.get(header::CONTENT_ENCODING) else {
        return Some(Cow::Borrowed(&reply.body));
    };
    let mut codings = Coding::ALL.into_iter();
    let coding = codings.find(|coding| name == coding.name())?;
    let body = encode::decode(coding, &reply.body, MAX_ANSWER_BYTES).ok()?;
    Some(Cow::Owned(body))
}

/// What was shown to one user and is the other's: the VMS shows its id to the other alone; or of that id it shows always the
/// same to either of them, and this is what it shows to the other.
fn foreign(shown: &[Item], own: &Known, other: &Known) -> Vec<Item> {
    let is_foreign = |(id, version): &Item| match (own.0.get(id), other.0.get(id)) {
        (None, Some(_)) => true,
        (Some(own), Some(other)) => {
            let (own, other) = (own.only_version(), other.only_version());
            other == Some(version) && own.is_some_and(|own| own != version)
        }
        (_, None) => false,
    };
    let shown = shown.iter().copied();
    shown.filter(is_foreign).collect()
}

impl Known {
    /// Notes what was shown of the ids that were asked, and forgets what was not for as long as it may be answered.
    fn learn(&mut self, items: &[Item], asked: &[u64], now: Time, longest: Duration) {
        let items = items.iter().filter(|item| asked.contains(&item.0));
        for &(id, version) in items {
            let seen = self.0.entry(id).or_insert(Seen {
                version,
                at: now,
                others_at: None,
            });
            if seen.version != version {
                seen.others_at = Some(seen.at);
                seen.version = version;
            }
            seen.at = now;
        }
        let is_late = |at: Time| now.since(at) > longest;
        self.0.retain(|_, seen| !is_late(seen.at));
        for seen in self.0.values_mut() {
            seen.others_at.take_if(|at| is_late(*at));
        }
    }
}

impl Seen {
    /// What was shown, if it was always the same.
    fn only_version(&self) -> Option<&Digest> {
        self.others_at.is_none().then_some(&self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: [u64; 4] = [1, 2, 3, 4];
    const LONGEST: Duration = Duration::from_secs(60);

    fn item(id: u64, text: &str) -> Item {
        (id, Digest::of(text.as_bytes()))
    }

    fn known(items: &[Item]) -> Known {
        let mut known = Known::default();
        known.learn(items, &ASKED, Time::default(), LONGEST);
        known
    }

    #[test]
    fn what_the_vms_shows_to_the_other_alone_is_foreign() {
        let hers = known(&[item(1, "hers"), item(2, "both"), item(3, "as she sees it")]);
        let his = known(&[item(2, "both"), item(3, "as he sees it"), item(4, "his")]);
        let shown = |items: &[Item]| {
            let foreign = foreign(items, &hers, &his).into_iter();
            foreign.map(|item| item.0).collect::<Vec<_>>()
        };
        let own = [item(1, "hers"), item(2, "both"), item(3, "as she sees it")];
        assert_eq!(shown(&own), [0; 0]);
        assert_eq!(shown(&[item(3, "as he sees it")]), [3]);
        assert_eq!(shown(&[item(4, "his")]), [4]);
        assert_eq!(shown(&[item(4, "his, as it was")]), [4]);
    }

    #[test]
    fn what_nobody_was_shown_tells_nothing() {
        let (hers, his) = (known(&[item(1, "hers")]), known(&[item(1, "his")]));
        assert_eq!(foreign(&[item(1, "another")], &hers, &his), []);
        assert_eq!(foreign(&[item(9, "unheard of")], &hers, &his), []);
    }

    #[test]
    fn what_changes_for_either_of_them_is_nobodys_until_only_one_version_may_be_answered() {
        for changing in [0, 1] {
            let mut shown = [item(1, "hers"), item(1, "his")];
            let mut both = shown.map(|item| known(&[item]));
            let mut learn = |shown: &[Item; 2], now| {
                for (known, item) in both.iter_mut().zip(shown) {
                    known.learn(&[*item], &ASKED, now, LONGEST);
                }
                let [hers, his] = &both;
                foreign(&shown[1..], hers, his)
            };
            let then = Time::default();
            assert_eq!(learn(&shown, then), shown[1..]);
            shown[changing] = item(1, "at the next tick");
            assert_eq!(learn(&shown, then.plus(LONGEST / 2)), []);
            assert_eq!(learn(&shown, then.plus(LONGEST)), []);
            let later = then.plus(LONGEST + Duration::from_secs(1));
            assert_eq!(learn(&shown, later), shown[1..]);
        }
    }

    #[test]
    fn what_a_user_was_shown_stays_his_for_as_long_as_it_may_be_answered() {
        let (then, hers) = (Time::default(), [item(1, "hers")]);
        let (mut known, other) = (known(&hers), known(&[item(1, "his")]));
        known.learn(&[], &ASKED, then.plus(LONGEST), LONGEST);
        assert_eq!(foreign(&hers, &known, &other), []);
        known.learn(&[], &ASKED, then.plus(2 * LONGEST), LONGEST);
        assert_eq!(foreign(&hers, &known, &other), hers);
    }

    #[test]
    fn what_changes_every_time_and_what_nobody_asked_for_take_no_memory() {
        let mut known = Known::default();
        for round in 0..3 {
            let items = (1..=6_000).map(|id| item(id, &format!("{id} {round}")));
            let now = Time::default().plus(Duration::from_secs(round));
            known.learn(&items.collect::<Vec<_>>(), &ASKED, now, LONGEST);
            let mut ids: Vec<u64> = known.0.keys().copied().collect();
            ids.sort_unstable();
            assert_eq!(ids, ASKED);
        }
    }
}
