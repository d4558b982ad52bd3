//! People with their phones: each asks, writes and reads what was written, one thing after the other, so that what the VMS
//! would show at any time is known.
//!
//! A phone has a user of its own. Nobody else changes what is this user's, but for the [`News`], so that whatever is
//! answered 200 has to be, byte for byte, what the VMS would answer now; a write is to be seen by all that is asked after
//! it. A token that was given up must never be answered again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use vms_edge::demo::vms::{Endpoint, StandIn};

use super::news::{self, News};
use super::tally::Counted;
use crate::asking::SHOWS;
use crate::generator::answer::{Answer, Head};
use crate::generator::connection::{Connection, Destination};
use crate::generator::expected::decoded;
use crate::generator::http2;
use crate::generator::tally::Said;

/// Intercoms of each user that phones ask for.
const INTERCOMS: usize = 20;

/// Most ids of a batch.
const MAX_IDS: usize = 25;

/// How long a phone waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing in so many that a phone does.
const WRITES: u32 = 8;
const LEAVES: u32 = 50;
const LOGS_OUT: u32 = 300;
const ASKS_SOMETHING_ELSE: u32 = 10;

/// How much the number of a camera is above its intercom's.
const CAMERAS: u64 = 653;

/// The X-Client of every phone.
const CLIENT: &str = "ios";

/// What all phones share.
pub(super) struct Place {
    pub(super) plain: Destination,
    pub(super) http2: Destination,
    pub(super) vms: StandIn,
    pub(super) news: News,
    pub(super) counted: Counted,
}

/// Somebody with a phone.
pub(super) struct Phone {
    place: Arc<Place>,
    user: u64,
    /// How often this user logged in.
    session: u32,
    intercoms: Vec<u64>,
    lines: [Line; 2],
    random: fastrand::Rng,
    written: u64,
}

/// A connection to the edge.
enum Line {
    Http1(Box<Connection>),
    Http2 {
        to: Destination,
        sender: Option<SendRequest<Bytes>>,
        drivers: JoinSet<()>,
    },
}

/// What a phone sends.
struct Message {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: String,
}

/// What came back; the body is decoded.
struct Heard {
    status: u16,
    instead_of_error: bool,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Item<'a> {
    id: u64,
    title: std::borrow::Cow<'a, str>,
    viewer: std::borrow::Cow<'a, str>,
}

impl Phone {
    /// Of this user.
    pub(super) fn new(place: &Arc<Place>, user: u64) -> Self {
        let line = |number: u64| match (user + number) % 4 {
            0 => Line::Http2 {
                to: place.http2.clone(),
                sender: None,
                drivers: JoinSet::new(),
            },
            _ => Line::Http1(Box::new(Connection::new(place.plain.clone()))),
        };
        Self {
            place: Arc::clone(place),
            user,
            session: 0,
            intercoms: place.vms.owned(user).into_iter().take(INTERCOMS).collect(),
            lines: [line(0), line(1)],
            random: fastrand::Rng::with_seed(user),
            written: 0,
        }
    }

    /// Does one thing after the other, so many a second, until it is dropped.
    pub(super) async fn lives(mut self, per_second: f64) {
        loop {
            let wait = -(1.0 - self.random.f64()).ln() / per_second;
            sleep(Duration::from_secs_f64(wait)).await;
            self.does_something().await;
        }
    }

    /// Asks once, as somebody does whom nobody has met before.
    pub(super) async fn passes_by(mut self) {
        self.asks_two().await;
    }

    async fn does_something(&mut self) {
        let is_one_in = |random: &mut fastrand::Rng, many| random.u32(..many) == 0;
        if is_one_in(&mut self.random, LOGS_OUT) {
            self.logs_out().await;
        } else if is_one_in(&mut self.random, WRITES) {
            self.writes().await;
        } else if is_one_in(&mut self.random, LEAVES) {
            self.leaves().await;
        } else if is_one_in(&mut self.random, ASKS_SOMETHING_ELSE) {
            self.asks_something_else().await;
        } else {
            self.asks_two().await;
        }
    }

    /// Two batches at once that overlap, as when widgets wake up.
    async fn asks_two(&mut self) {
        let (first, second) = (self.ids(), self.ids());
        let device = ["phone", "tablet"][self.random.usize(..2)];
        let language = ["en", "kk"][self.random.usize(..2)];
        let messages = [first, second].map(|ids| (self.batch(device, language, &ids), ids));
        let place = Arc::clone(&self.place);
        let token = self.token();
        let [one, other] = &mut self.lines;
        let [first, second] = messages;
        let asks = async |line: &mut Line, (message, ids): (Message, Vec<u64>)| {
            let sent = Instant::now();
            match line.asks(&message).await {
                Ok(heard) => place.judges(&token, &message, &ids, sent, &heard),
                Err(why) => place.counted.failed(sent, || format!("a batch: {why}")),
            }
        };
        tokio::join!(asks(one, first), asks(other, second));
    }

    /// A batch whose client does not wait for its answer.
    async fn leaves(&mut self) {
        let ids = self.ids();
        let message = self.batch("phone", "en", &ids);
        let wait = Duration::from_micros(self.random.u64(..2000));
        // Whatever is not read by then is left.
        let _ = timeout(wait, self.lines[0].asks(&message)).await;
        self.lines[0].hangs_up();
        self.place.counted.count(|numbers| numbers.left += 1);
    }

    async fn writes(&mut self) {
        self.written += 1;
        let own = self.intercoms.iter().copied();
        let own: Vec<u64> = own.filter(|id| !news::IDS.contains(id)).collect();
        let id = own[self.random.usize(..own.len())];
        let title = format!("{{\"title\":\"title {} of {}\"}}", self.written, self.user);
        let (method, target, body) = match self.random.u32(..5) {
            0 => (Method::POST, favourite(id), String::new()),
            1 => (Method::DELETE, favourite(id), String::new()),
            2 => (Method::PUT, format!("/api/v1/intercom/{id}"), title),
            _ => (Method::PATCH, format!("/api/v1/intercom/{id}"), title),
        };
        let message = self.message(method, target, "phone", "en", body);
        let sent = Instant::now();
        let counted = &self.place.counted;
        match self.lines[0].asks(&message).await {
            Ok(heard) if matches!(heard.status, 200 | 204) => {
                counted.count(|numbers| numbers.writes += 1);
            }
            Ok(heard) => counted.failed(sent, || format!("a write: {}", heard.status)),
            Err(why) => counted.failed(sent, || format!("a write: {why}")),
        }
        self.asks_two().await;
    }

    /// Ends the token, asks with it once more, and logs in again.
    async fn logs_out(&mut self) {
        let target = "/api/v1/logout".to_owned();
        let message = self.message(Method::POST, target, "phone", "en", String::new());
        let sent = Instant::now();
        match self.lines[0].asks(&message).await {
            Ok(heard) if heard.status == 204 => {
                let ids = self.ids();
                let batch = self.batch("phone", "en", &ids);
                let sent = Instant::now();
                match self.lines[1].asks(&batch).await {
                    Ok(heard) if heard.status == 200 => self.place.counted.wrong(|| {
                        format!("user {}: a token that was given up was answered", self.user)
                    }),
                    Ok(heard) if heard.status == 401 => {
                        self.place.counted.count(|numbers| numbers.others += 1);
                    }
                    Ok(heard) => {
                        let why = || format!("a token that was given up: {}", heard.status);
                        self.place.counted.failed(sent, why);
                    }
                    Err(why) => self.place.counted.failed(sent, || why),
                }
            }
            Ok(heard) => {
                let why = || format!("a logout: {}", heard.status);
                self.place.counted.failed(sent, why);
            }
            Err(why) => self
                .place
                .counted
                .failed(sent, || format!("a logout: {why}")),
        }
        self.session += 1;
    }

    /// Something that passes through, and is this user's own.
    async fn asks_something_else(&mut self) {
        let target = ["/api/v1/user", "/api/v1/intercom"][self.random.usize(..2)];
        let message = self.message(Method::GET, target.to_owned(), "phone", "en", String::new());
        let expected = self
            .place
            .vms
            .answer(&Method::GET, target, &message.headers, b"");
        let sent = Instant::now();
        let counted = &self.place.counted;
        match self.lines[1].asks(&message).await {
            // The news may have come meanwhile.
            Ok(heard) if heard.status == 200 && target.ends_with("intercom") => {
                match serde_json::from_slice::<Vec<Item<'_>>>(&heard.body) {
                    Ok(items)
                        if items
                            .iter()
                            .all(|item| item.viewer == self.viewer("phone", "en")) =>
                    {
                        counted.count(|numbers| numbers.others += 1);
                    }
                    _ => counted.wrong(|| format!("user {} was shown another list", self.user)),
                }
            }
            Ok(heard) if heard.status == 200 => match heard.body == expected.body {
                true => counted.count(|numbers| numbers.others += 1),
                false => counted.wrong(|| format!("user {} was told of another", self.user)),
            },
            Ok(heard) => counted.failed(sent, || format!("{target}: {}", heard.status)),
            Err(why) => counted.failed(sent, || format!("{target}: {why}")),
        }
    }

    /// Some of the user's intercoms, the news among them, and now and then somebody else's.
    fn ids(&mut self) -> Vec<u64> {
        let count = self.random.usize(1..=10);
        let start = self.random.usize(..=self.intercoms.len() - count);
        let mut ids = self.intercoms[start..start + count].to_vec();
        if self.random.bool() {
            ids.push(self.random.u64(4..1000));
            ids.dedup();
        }
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(MAX_IDS);
        ids
    }

    fn token(&self) -> String {
        format!("tok-{}-s{}", self.user, self.session)
    }

    fn viewer(&self, device: &str, language: &str) -> String {
        viewer(&self.user.to_string(), device, language)
    }

    fn batch(&mut self, device: &str, language: &str, ids: &[u64]) -> Message {
        if self.random.u32(..10) == 0 {
            let body = format!("{{\"ids\":{ids:?}}}");
            return self.message(Method::GET, SHOWS.to_owned(), device, language, body);
        }
        let ids: Vec<String> = ids.iter().map(|id| format!("ids%5B%5D={id}")).collect();
        let target = format!("{SHOWS}?{}", ids.join("&"));
        self.message(Method::GET, target, device, language, String::new())
    }

    fn message(
        &mut self,
        method: Method,
        target: String,
        device: &str,
        language: &str,
        body: String,
    ) -> Message {
        let mut headers = HeaderMap::new();
        let token = format!("Bearer {}", self.token());
        let coding = ["identity", "gzip", "br"][self.random.usize(..3)];
        for (name, value) in [
            ("authorization", token.as_str()),
            ("accept", "application/json"),
            ("accept-encoding", coding),
            ("content-type", "application/json"),
            ("x-client", CLIENT),
            ("x-uuid", device),
            ("hl", language),
        ] {
            headers.insert(name, HeaderValue::from_str(value).expect("it is ASCII"));
        }
        Message {
            method,
            target,
            headers,
            body,
        }
    }
}

impl Place {
    /// Holds a batch's answer against what the VMS would answer now.
    fn judges(&self, token: &str, message: &Message, ids: &[u64], sent: Instant, heard: &Heard) {
        let latency = sent.elapsed();
        if heard.status != 200 {
            let status = heard.status;
            return self.counted.failed(sent, || format!("a batch: {status}"));
        }
        let headers = &message.headers;
        let expected = self
            .vms
            .batch_answer(Endpoint::Intercoms, Some(token), headers, ids);
        match self.compares(headers, &expected.body, sent, heard) {
            Ok(()) => self.counted.batch(latency),
            Err(what) => self.counted.wrong(|| {
                let body = String::from_utf8_lossy(&heard.body);
                format!("{token} asked for {ids:?}: {what}: {body}")
            }),
        }
    }

    fn compares(
        &self,
        headers: &HeaderMap,
        expected: &[u8],
        sent: Instant,
        heard: &Heard,
    ) -> Result<(), &'static str> {
        let items = |body| serde_json::from_slice::<Vec<&RawValue>>(body);
        let told = items(&heard.body).map_err(|_| "no list")?;
        let expected = items(expected).expect("the stand-in answers JSON");
        if told.len() != expected.len() {
            return Err("not as many as the VMS would show");
        }
        let text = |name: &str| headers[name].to_str().expect("it is ASCII");
        for (told, expected) in told.iter().zip(expected) {
            let (told, expected) = (told.get(), expected.get());
            if told == expected {
                continue;
            }
            // What only the news have changed may lag behind.
            let item = |text| serde_json::from_str::<Item<'_>>(text).map_err(|_| "no intercom");
            let (told, expected) = (item(told)?, item(expected)?);
            let is_news = told.id == expected.id && news::IDS.contains(&told.id);
            if told.viewer != expected.viewer {
                return Err("somebody else's");
            }
            let user = expected.viewer.split(' ').next().unwrap_or_default();
            if told.viewer != viewer(user, text("x-uuid"), text("hl")) {
                return Err("another phone's");
            }
            let instead = heard.instead_of_error;
            if !is_news || !self.news.may_be_called(told.id, &told.title, sent, instead) {
                return Err("not what the VMS would show");
            }
        }
        Ok(())
    }
}

impl Line {
    async fn asks(&mut self, message: &Message) -> Result<Heard, String> {
        let asked = timeout(PATIENCE, self.exchanges(message)).await;
        let heard = asked.unwrap_or_else(|_| Err("no answer in 30 seconds".to_owned()));
        if heard.is_err() {
            self.hangs_up();
        }
        heard
    }

    async fn exchanges(&mut self, message: &Message) -> Result<Heard, String> {
        match self {
            Self::Http1(connection) => {
                let request = message.text();
                let answer = connection.ask(&request).await;
                let answer = answer.map_err(|broken| broken.to_string())?;
                heard(&answer)
            }
            Self::Http2 {
                to,
                sender,
                drivers,
            } => {
                let asked = match sender {
                    Some(sender) => sender.clone(),
                    None => sender.insert(http2::connect(to, drivers).await?).clone(),
                };
                let (mut asked, mut body) = (asked, Vec::new());
                let content = Bytes::copy_from_slice(message.body.as_bytes());
                let head = http2::ask_with(&mut asked, message.request(), content, &mut body);
                let head: Head = head.await.map_err(|error| error.to_string())?;
                heard(&Answer { head, body: &body })
            }
        }
    }

    /// Ends the connection, whatever is under way.
    fn hangs_up(&mut self) {
        match self {
            Self::Http1(connection) => connection.close(),
            Self::Http2 {
                sender, drivers, ..
            } => {
                *sender = None;
                drivers.abort_all();
            }
        }
    }
}

impl Message {
    /// As HTTP/1.1.
    fn text(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: vms.local\r\n",
            self.method, self.target
        );
        for (name, value) in &self.headers {
            let value = value.to_str().expect("it is ASCII");
            text += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || self.method != Method::GET {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        format!("{text}\r\n{}", self.body).into_bytes()
    }

    /// As HTTP/2.
    fn request(&self) -> Request<()> {
        let uri = format!("https://vms.local{}", self.target);
        let mut request = Request::builder().method(&self.method).uri(uri);
        let headers = request.headers_mut().expect("method and target are valid");
        headers.extend(self.headers.clone());
        if !self.body.is_empty() {
            headers.insert("content-length", self.body.len().into());
        }
        request.body(()).expect("a phone's request is valid")
    }
}

fn heard(answer: &Answer<'_>) -> Result<Heard, String> {
    Ok(Heard {
        status: answer.head.status,
        instead_of_error: answer.head.said == Said::InsteadOfError,
        body: decoded(answer).ok_or("the body cannot be decoded")?,
    })
}

fn favourite(id: u64) -> String {
    format!("/api/v1/cameras/{}/favorites", id + CAMERAS)
}

/// As the stand-in has it of those who ask here: from iOS, and from no region.
fn viewer(user: &str, device: &str, language: &str) -> String {
    format!("{user} {device} {language} {CLIENT} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The news, and one that is user 5's own.
    fn ids(place: &Place) -> [u64; 4] {
        let owned = place.vms.owned(5);
        [1, 2, 3, owned[3]]
    }

    fn place() -> Place {
        let nowhere = Destination::plain(([127, 0, 0, 1], 1).into());
        let vms = StandIn::without_record();
        vms.name_viewers();
        Place {
            plain: nowhere.clone(),
            http2: nowhere,
            vms,
            news: News::default(),
            counted: Counted::default(),
        }
    }

    fn headers(device: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-uuid", device), ("hl", "en"), ("x-client", CLIENT)] {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn shown(place: &Place, token: &str, device: &str) -> Vec<u8> {
        let answer = place.vms.batch_answer(
            Endpoint::Intercoms,
            Some(token),
            &headers(device),
            &ids(place),
        );
        answer.body.to_vec()
    }

    /// What is wrong with an answer to user 5's phone.
    fn wrong(place: &Place, body: Vec<u8>, sent: Instant) -> Option<&'static str> {
        let expected = shown(place, "tok-5-s0", "phone");
        let heard = Heard {
            status: 200,
            instead_of_error: false,
            body,
        };
        place
            .compares(&headers("phone"), &expected, sent, &heard)
            .err()
    }

    #[tokio::test]
    async fn an_answer_that_the_vms_would_not_give_is_wrong() {
        let place = place();
        let now = Instant::now();
        let own = shown(&place, "tok-5-s0", "phone");
        assert_eq!(wrong(&place, own.clone(), now), None);
        let own = String::from_utf8(own).unwrap();
        let of_another_user = own.replace("5 phone en", "6 phone en").into_bytes();
        for (body, why) in [
            (of_another_user, "somebody else's"),
            (shown(&place, "tok-5-s0", "tablet"), "somebody else's"),
            (b"[]".to_vec(), "not as many as the VMS would show"),
            (b"<html>".to_vec(), "no list"),
        ] {
            assert_eq!(wrong(&place, body, now), Some(why));
        }
    }

    #[tokio::test]
    async fn a_write_must_be_seen_and_news_may_be_late() {
        let place = place();
        let before = shown(&place, "tok-5-s0", "phone");
        let number = place.news.rename(&place.vms, 2);
        assert_eq!(wrong(&place, before.clone(), Instant::now()), None);
        place.news.purged(2, number);
        let later = Instant::now() + Duration::from_millis(1);
        let why = Some("not what the VMS would show");
        assert_eq!(wrong(&place, before, later), why);

        let before = shown(&place, "tok-5-s0", "phone");
        let mut headers = headers("phone");
        headers.insert("authorization", HeaderValue::from_static("Bearer tok-5-s0"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let (patch, target) = (
            Method::PATCH,
            format!("/api/v1/intercom/{}", ids(&place)[3]),
        );
        let written = place
            .vms
            .answer(&patch, &target, &headers, b"{\"title\":\"mine\"}");
        assert_eq!(written.status, 200);
        assert_eq!(wrong(&place, before, later), why);
    }
}
