//! An operator's own VMS, or an edge before it, asked as widgets ask: in an open loop, and no more than it should bear.
//!
//! Tokens are read from a file and sent to the target; they are shown nowhere.

pub(crate) mod cli;
mod material;
mod outcome;
mod place;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};

use self::cli::{Arrivals, Target};
use self::material::Token;
use self::outcome::Outcome;
use self::place::Place;
use crate::Failure;
use crate::asking::Widget;
use crate::generator::expected::Expected;
use crate::generator::tally::Tally;
use crate::generator::{Asked, Load, Pace, Script};
use crate::rows::float;
use crate::trace::exponential;

/// Status of a command line that is wrong, as clap has it.
const USAGE: u8 = 2;

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
pub(crate) fn run(target: &Target) -> Result<ExitCode, Failure> {
    if let Err(too_much) = target.is_bounded() {
        eprintln!("vms-edge-load: {too_much}");
        return Ok(ExitCode::from(USAGE));
    }
    let bad_file = |error: material::BadFile| Failure::Input(error.to_string());
    let mut tokens = material::tokens(&target.token_file).map_err(bad_file)?;
    if let Some(users) = target.users {
        tokens.truncate(users.try_into().unwrap_or(usize::MAX));
    }
    let ids = material::ids(&target.ids).map_err(bad_file)?;
    let place = Place::parse(&target.target).map_err(|bad| Failure::Input(bad.to_string()))?;
    crate::machine::raise_descriptors().map_err(|error| Failure::Unavailable(error.to_string()))?;
    let tally = crate::unless_interrupted(ask(target, place, tokens, ids))??;
    let outcome = Outcome::new(target, &tally);
    print!("{outcome}");
    outcome.write(&target.out).map_err(Failure::Report)?;
    let folder = target.out.display();
    println!("\nWritten to {folder}/report.html, report.json and report.md.");
    for plainly in outcome.plainly(&target.token_file) {
        eprintln!("{plainly}");
    }
    Ok(ExitCode::from(u8::from(tally.failed() > 0)))
}

async fn ask(
    target: &Target,
    place: Place,
    tokens: Vec<Token>,
    ids: Vec<u64>,
) -> Result<Tally, Failure> {
    let to = place.destination(target).await;
    let to = to.map_err(|none| Failure::Input(none.to_string()))?;
    // Whoever cannot be reached at all is told so at once.
    let reached = to.connect().await;
    drop(reached.map_err(|broken| Failure::Unavailable(broken.to_string()))?);
    let load = Load {
        to,
        connections: target.connections.into(),
        pace: Pace::Open,
        lasting: Some(target.duration),
    };
    let progress = progress(target);
    let watch = |tally: &Tally| {
        progress.set_position(tally.asked());
        progress.set_message(match tally.failed() {
            0 => String::new(),
            failed => format!("{failed} failed"),
        });
    };
    let tally = load
        .run_watched(Batches::new(target, place, tokens, ids), watch)
        .await;
    progress.finish_and_clear();
    Ok(tally)
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
