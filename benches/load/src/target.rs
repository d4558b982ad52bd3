//! An operator's own VMS, or an edge before it, asked as widgets ask: in an open loop, and no more than it should bear.
//!
//! Tokens are read from a file and sent to the target; they are shown nowhere.

pub(crate) mod cli;
mod material;
mod outcome;
mod place;

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};

use self::cli::{Arrivals, Target};
use self::material::Token;
use self::outcome::Outcome;
use self::place::{NoTarget, Place};
use crate::asking::Widget;
use crate::failure::{Failure, Status};
use crate::figure::float;
use crate::generator::connection::Destination;
use crate::generator::expected::Expected;
use crate::generator::tally::Tally;
use crate::generator::{Asked, Load, Pace, Script};
use crate::interrupt::{self, Interrupt};
use crate::trace::exponential;

/// Batches of users and devices at random.
struct Batches {
    place: Place,
    tokens: Vec<Token>,
    ids: Vec<u64>,
    devices: u64,
    batch: usize,
    client: String,
    more: String,
    random: Rng,
    arrivals: Arrivals,
    per_second: f64,
    due: Duration,
    left: Option<u64>,
    device: String,
}

/// Asks a target, and tells what became of it.
///
/// # Errors
/// If it cannot be asked at all.
pub(crate) fn run(target: &Target) -> Result<Status, Failure> {
    let usage = |what: &dyn std::fmt::Display| Failure::Usage(what.to_string());
    target.is_bounded().map_err(|too_much| usage(&too_much))?;
    let place = Place::parse(&target.target).map_err(|bad| usage(&bad))?;
    let bad_file = |error: material::BadFile| Failure::BadFile(error.to_string());
    let mut tokens = material::tokens(&target.token_file).map_err(bad_file)?;
    if let Some(users) = target.users {
        tokens.truncate(users.try_into().unwrap_or(usize::MAX));
    }
    let ids = material::ids(&target.ids).map_err(bad_file)?;
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    crate::machine::raise_descriptors().map_err(unavailable)?;
    let asked = interrupt::run(async |interrupt| ask(target, place, tokens, ids, interrupt).await);
    let (tally, interrupted) = asked.map_err(unavailable)??;
    if interrupted && tally.asked() == 0 {
        return Err(Failure::Interrupted);
    }
    let outcome = Outcome::new(target, &tally, interrupted);
    print!("{outcome}");
    outcome.write(&target.out).map_err(Failure::Report)?;
    let folder = target.out.display();
    println!("\nWritten to {folder}/report.html, report.json and report.md.");
    for plainly in outcome.plainly(&target.token_file) {
        eprintln!("{plainly}");
    }
    Ok(match (interrupted, tally.failed() + tally.unsent) {
        (true, _) => Status::Interrupted,
        (false, 0) => Status::AllWell,
        (false, _) => Status::NotReached,
    })
}

/// What became of the requests, and whether they were interrupted.
async fn ask(
    target: &Target,
    place: Place,
    tokens: Vec<Token>,
    ids: Vec<u64>,
    interrupt: &mut Interrupt,
) -> Result<(Tally, bool), Failure> {
    let to = tokio::select! {
        to = reach(target, &place) => to?,
        () = interrupt.came() => return Err(Failure::Interrupted),
    };
    let load = Load {
        to,
        connections: target.connections.into(),
        pace: Pace::Open,
        lasting: Some(target.duration),
    };
    let progress = progress(target);
    let watch = |tally: &Tally| {
        progress.set_position(tally.asked() + tally.unsent);
        progress.set_message(match tally.failed() {
            0 => String::new(),
            failed => format!("{failed} failed"),
        });
    };
    let mut interrupted = false;
    let end = async {
        interrupt.came().await;
        interrupted = true;
    };
    let batches = Batches::new(target, place, tokens, ids);
    let tally = load.run_until(end, batches, watch).await;
    progress.finish_and_clear();
    Ok((tally, interrupted))
}

/// Where to ask: whoever cannot be reached at all is told so at once.
async fn reach(target: &Target, place: &Place) -> Result<Destination, Failure> {
    let to = place.destination(target).await;
    let to = to.map_err(|none| match none {
        NoTarget::Url { .. } => Failure::Usage(none.to_string()),
        NoTarget::Address { .. } | NoTarget::System(_) => Failure::Unavailable(none.to_string()),
        NoTarget::Authorities { .. } => Failure::BadFile(none.to_string()),
    })?;
    let reached = to.connect().await;
    drop(reached.map_err(|broken| Failure::Unavailable(broken.to_string()))?);
    Ok(to)
}

fn progress(target: &Target) -> ProgressBar {
    let due = u64::from(target.rate) * target.duration.as_secs().max(1);
    let length = target.requests.map_or(due, |requests| requests.min(due));
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}");
    ProgressBar::new(length).with_style(style.expect("the template is valid"))
}

impl Batches {
    fn new(target: &Target, place: Place, tokens: Vec<Token>, ids: Vec<u64>) -> Self {
        Self {
            place,
            batch: usize::from(target.batch).min(ids.len()),
            tokens,
            ids,
            devices: target.devices.into(),
            client: target.client.clone(),
            more: target.header.concat(),
            random: Rng::with_seed(target.seed),
            arrivals: target.arrivals,
            per_second: float(target.rate.into()),
            due: Duration::ZERO,
            left: target.requests,
            device: String::new(),
        }
    }
}

impl Script for Batches {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        use std::fmt::Write;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        self.due += match self.arrivals {
            Arrivals::Poisson => exponential(&mut self.random, self.per_second),
            Arrivals::Steady => Duration::from_secs_f64(1.0 / self.per_second),
        };
        let user = self.random.usize(..self.tokens.len());
        self.device.clear();
        let device = self.random.u64(..self.devices);
        write!(self.device, "vms-edge-load-{user}-{device}").expect("memory can be written to");
        let start = self.random.usize(..=self.ids.len() - self.batch);
        let ids = &self.ids[start..start + self.batch];
        let widget = Widget {
            host: &self.place.authority,
            token: self.tokens[user].secret(),
            device: &self.device,
            client: &self.client,
            more: &self.more,
        };
        widget.asks(&self.place.path, ids, request);
        Some(Asked {
            due: self.due,
            expected: Expected::Among(Arc::from(ids)),
        })
    }
}
