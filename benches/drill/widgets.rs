//! The load: phones that wake up at a steady rate, and ask for two overlapping batches each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use vms_edge::demo::vms::StandIn;

use super::memory::Memory;

/// Intercoms of each user that widgets ask for, and how many of them a batch asks for.
const INTERCOMS: usize = 20;
const BATCH: usize = 10;

/// Users whom nobody has met before are one in so many of the phones that wake up.
const NEWCOMERS: u64 = 200;

/// The first user that follows from the stand-in's rules alone.
const FIRST_USER: u64 = 3;

/// How long a phone waits for an answer, as the vendor's Android client does.
const PATIENCE: Duration = Duration::from_secs(30);

/// All widgets, and what they were told.
pub(crate) struct Widgets {
    edge: SocketAddr,
    vms: StandIn,
    users: u64,
    newcomers: AtomicU64,
    intercoms: Mutex<HashMap<u64, Arc<[u64]>>>,
    memory: Mutex<Memory>,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
    told: Mutex<Vec<Told>>,
}

/// What became of one batch.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    /// When it was to be sent; one that is sent late is late.
    pub(crate) due: Instant,
    pub(crate) answered: Instant,
    pub(crate) fate: Fate,
    /// When the oldest part of a good answer was fetched, at the latest.
    pub(crate) fetched: Option<Instant>,
    /// Whether the edge knew, before it was asked, all that it was asked for.
    pub(crate) was_known: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Hit,
    Stale,
    InsteadOfError,
    Partial,
    Miss,
    Failed,
}

impl Widgets {
    pub(crate) fn new(edge: SocketAddr, vms: &StandIn, users: u64) -> Arc<Self> {
        Arc::new(Self {
            edge,
            vms: vms.clone(),
            users,
            newcomers: AtomicU64::new(0),
            intercoms: Mutex::default(),
            memory: Mutex::default(),
            idle: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Every user asks for all of his intercoms once.
    pub(crate) async fn meet_all(self: &Arc<Self>) {
        for user in FIRST_USER..FIRST_USER + self.users {
            let ids = self.intercoms(user);
            let told = self.ask(user, &ids, Instant::now()).await;
            assert!(told.fate != Fate::Failed, "the VMS is well");
        }
    }

    /// Wakes phones up for so many batches a second, until it is dropped; what was asked by then is answered all the same.
    pub(crate) async fn ask_at(self: Arc<Self>, batches_per_second: u32) {
        let mut ticks = tokio::time::interval(Duration::from_secs(2) / batches_per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            let due = ticks.tick().await;
            let user = FIRST_USER
                + match fastrand::u64(..NEWCOMERS) {
                    0 => self.users + self.newcomers.fetch_add(1, Ordering::Relaxed),
                    _ => fastrand::u64(..self.users),
                };
            let first = fastrand::usize(..=INTERCOMS - BATCH);
            let second = fastrand::usize(first.saturating_sub(BATCH / 2)..=first + BATCH / 2);
            for start in [first, second.min(INTERCOMS - BATCH)] {
                let widgets = Arc::clone(&self);
                tokio::spawn(async move {
                    let ids = widgets.intercoms(user);
                    let told = widgets.ask(user, &ids[start..start + BATCH], due).await;
                    widgets.told.lock().push(told);
                });
            }
        }
    }

    /// All that was told, the last of it included.
    pub(crate) async fn last_answers(self: Arc<Self>) -> Vec<Told> {
        // Whoever asks holds a handle to all.
        let answered = async {
            while Arc::strong_count(&self) > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let all_left = timeout(PATIENCE * 2, answered).await;
        all_left.expect("nobody waits longer than a phone does");
        std::mem::take(&mut self.told.lock())
    }

    fn intercoms(&self, user: u64) -> Arc<[u64]> {
        let find = || self.vms.owned(user).into_iter().take(INTERCOMS).collect();
        Arc::clone(self.intercoms.lock().entry(user).or_insert_with(find))
    }

    async fn ask(&self, user: u64, ids: &[u64], due: Instant) -> Told {
        let was_known = self.memory.lock().reaches(user, ids, Instant::now());
        let sent = Instant::now();
        let answer = timeout(PATIENCE, self.exchange(user, ids)).await;
        let answered = Instant::now();
        let answer = answer.ok().flatten();
        let fate = answer.as_ref().map_or(Fate::Failed, fate);
        let mut fetched = None;
        if let Some(answer) = answer.filter(|_| fate != Fate::Failed) {
            let age = answer.headers().get("age");
            let age = age.and_then(|age| age.to_str().ok()?.parse().ok());
            let age = Duration::from_secs(age.unwrap_or(0));
            fetched = answered.checked_sub(age);
            // The age is told in whole seconds, and was true at some time since the batch was sent.
            if let Some(earliest) = sent.checked_sub(age + Duration::from_secs(1)) {
                self.memory.lock().learn(user, ids, earliest);
            }
        }
        Told {
            due,
            answered,
            fate,
            fetched,
            was_known,
        }
    }

    /// Sends a batch on a connection that nobody uses; `None` if it was not answered.
    async fn exchange(&self, user: u64, ids: &[u64]) -> Option<Response<()>> {
        let ids: Vec<String> = ids.iter().map(|id| format!("ids%5B%5D={id}")).collect();
        let request = Request::get(format!("/api/v1/intercom/shows?{}", ids.join("&")))
            .header("Host", "vms.local")
            .header("Authorization", format!("Bearer tok-{user}-ios"))
            .header("Accept", "application/json")
            .header("X-Client", "ios")
            .header("X-UUID", "phone")
            .body(Empty::new())
            .expect("a widget's request is valid");
        let mut sender = self.connection().await?;
        let (head, mut body) = sender.send_request(request).await.ok()?.into_parts();
        while let Some(frame) = body.frame().await {
            frame.ok()?;
        }
        if sender.ready().await.is_ok() {
            self.idle.lock().push(sender);
        }
        Some(Response::from_parts(head, ()))
    }

    async fn connection(&self) -> Option<SendRequest<Empty<Bytes>>> {
        let idle = || self.idle.lock().pop();
        while let Some(sender) = idle() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        let stream = TcpStream::connect(self.edge).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }
}

/// What an answer is, by its status and `Cache-Status`.
fn fate(answer: &Response<()>) -> Fate {
    let said = answer.headers().get("cache-status");
    let said = said.and_then(|said| said.to_str().ok()).unwrap_or_default();
    let is_stale = said.contains("; ttl=-") || said.ends_with("; ttl=0");
    match said {
        _ if !answer.status().is_success() => Fate::Failed,
        _ if said.contains("detail=stale_if_error") => Fate::InsteadOfError,
        _ if said.contains("; hit") && is_stale => Fate::Stale,
        _ if said.contains("; hit") => Fate::Hit,
        _ if said.contains("fwd=partial") => Fate::Partial,
        _ => Fate::Miss,
    }
}
