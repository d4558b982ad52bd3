//! What became of the drill, phase by phase.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use vms_edge::demo::vms::StandIn;

use super::widgets::{Fate, Told};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Before,
    Away,
    Slow,
    After,
}

/// What was counted when a phase began.
#[derive(Clone, Copy)]
struct Counted {
    at: Instant,
    /// Fetches that the edge has ended, one way or another.
    tried: u64,
    /// Batches that the VMS was asked for.
    arrived: u64,
    /// Most batches at once at the VMS in the phase that ended then.
    most_before: usize,
}

pub(crate) struct Report {
    admin: SocketAddr,
    vms: StandIn,
    /// Where each phase begins, and where the last one ends.
    bounds: Vec<Counted>,
    told: Vec<Told>,
    returned: Option<Instant>,
}

impl Report {
    pub(crate) fn new(admin: SocketAddr, vms: StandIn) -> Self {
        Self {
            admin,
            vms,
            bounds: Vec::new(),
            told: Vec::new(),
            returned: None,
        }
    }

    /// Phases begin in their order.
    pub(crate) async fn begins(&mut self, phase: Phase) {
        assert_eq!(
            phase as usize,
            self.bounds.len(),
            "one phase after the other"
        );
        self.bounds.push(self.count().await);
    }

    /// The last phase is over.
    pub(crate) async fn ends(&mut self) {
        self.bounds.push(self.count().await);
    }

    /// What became of all batches; the VMS had `returned`.
    pub(crate) fn tells(&mut self, told: Vec<Told>, returned: Instant) {
        self.told = told;
        self.returned = Some(returned);
    }

    /// Batches that failed although all that they asked for could have been answered instead.
    pub(crate) fn failed_within_bound(&self) -> usize {
        self.told.iter().filter(|told| failed_within(told)).count()
    }

    async fn count(&self) -> Counted {
        Counted {
            at: Instant::now(),
            tried: fetches(&self.admin).await,
            arrived: self.vms.batches_total(),
            most_before: self.vms.most_at_once(),
        }
    }

    /// One figure of each phase.
    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        figure: impl Fn(&[Told], &Counted, &Counted) -> String,
    ) -> fmt::Result {
        write!(f, "{name:<38}")?;
        for bounds in self.bounds.windows(2) {
            let [from, to] = bounds else { continue };
            let in_phase = |told: &&Told| (from.at..to.at).contains(&told.due);
            let told: Vec<Told> = self.told.iter().filter(in_phase).copied().collect();
            write!(f, "{:>10}", figure(&told, from, to))?;
        }
        writeln!(f)
    }

    /// When the last answer was given of which a part had been fetched before the VMS returned.
    fn fresh_again(&self) -> Option<Duration> {
        let returned = self.returned?;
        let old = self.told.iter().filter(|told| {
            told.answered > returned && told.fetched.is_some_and(|fetched| fetched <= returned)
        });
        let last = old.map(|told| told.answered).max();
        Some(last.map_or(Duration::ZERO, |last| last - returned))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row(f, "phase", |_, from, _| {
            let place = self.bounds.iter().position(|bound| bound.at == from.at);
            ["before", "away", "slow", "after"][place.unwrap_or_default()].to_owned()
        })?;
        self.row(f, "seconds", |_, from, to| {
            format!("{:.1}", (to.at - from.at).as_secs_f64())
        })?;
        self.row(f, "batches asked", |told, _, _| told.len().to_string())?;
        for (name, fate) in [
            ("  hit", Fate::Hit),
            ("  stale, refreshed in the background", Fate::Stale),
            ("  stale instead of an error", Fate::InsteadOfError),
            ("  partly fetched", Fate::Partial),
            ("  fetched", Fate::Miss),
            ("  failed", Fate::Failed),
        ] {
            let is_such = move |told: &&Told| told.fate == fate;
            self.row(f, name, |told, _, _| {
                told.iter().filter(is_such).count().to_string()
            })?;
        }
        self.row(f, "  failed within stale_if_error", |told, _, _| {
            told.iter()
                .filter(|told| failed_within(told))
                .count()
                .to_string()
        })?;
        self.row(f, "p50 of a batch, ms", |told, _, _| percentile(told, 50))?;
        self.row(f, "p99 of a batch, ms", |told, _, _| percentile(told, 99))?;
        self.row(f, "fetches tried per second", |_, from, to| {
            per_second(to.tried - from.tried, from, to)
        })?;
        self.row(f, "batches at the VMS per second", |_, from, to| {
            per_second(to.arrived - from.arrived, from, to)
        })?;
        self.row(f, "most of them at once", |_, _, to| {
            to.most_before.to_string()
        })?;
        if let Some(fresh) = self.fresh_again() {
            let seconds = fresh.as_secs_f64();
            writeln!(
                f,
                "all that was asked was fresh again {seconds:.1} s after the return"
            )?;
        }
        let failed = self.failed_within_bound();
        writeln!(f, "batches failed within stale_if_error: {failed}")
    }
}

fn failed_within(told: &Told) -> bool {
    told.was_known && told.fate == Fate::Failed
}

/// The time below which so many in a hundred batches were answered, in milliseconds.
fn percentile(told: &[Told], percent: usize) -> String {
    let mut times: Vec<Duration> = told.iter().map(|told| told.answered - told.due).collect();
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    let time = times.get(place).copied().unwrap_or_default();
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn per_second(count: u64, from: &Counted, to: &Counted) -> String {
    let seconds = (to.at - from.at).as_secs();
    format!("{}", count / seconds.max(1))
}

/// The edge's own count of the fetches that it sent, or tried to, whatever came of them.
async fn fetches(admin: &SocketAddr) -> u64 {
    let stream = TcpStream::connect(admin)
        .await
        .expect("operators are let in");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("it speaks HTTP");
    let driver = tokio::spawn(connection);
    let request = Request::get("/metrics").header("Host", "edge");
    let request = request.body(Empty::<Bytes>::new()).expect("it is valid");
    let answer = sender.send_request(request).await.expect("it answers");
    let body = answer.into_body().collect().await.expect("it answers");
    driver.abort();
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let lines = text.lines();
    let is_sent = |line: &&str| {
        let unsent = ["open", "busy"].map(|outcome| format!("outcome=\"{outcome}\""));
        line.starts_with("vms_edge_fetches_total{") && !unsent.iter().any(|o| line.contains(o))
    };
    let counts = lines.filter(is_sent);
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}
