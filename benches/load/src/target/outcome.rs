//! What became of the requests to a target, in figures and in plain words.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::cli::Target;
use crate::figure::float;
use crate::generator::tally::{Said, Tally, microseconds};
use crate::plot::Plot;
use crate::report;

/// What was asked of a target, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Seconds since 1970.
    at: u64,
    target: String,
    rate: u32,
    connections: u16,
    batch: u16,
    seed: u64,
    asked: u64,
    answered: u64,
    failed: u64,
    /// Due, but not sent when the time was up.
    unsent: u64,
    /// Whether somebody ended it before its time.
    interrupted: bool,
    failures: BTreeMap<&'static str, u64>,
    first_failure: Option<String>,
    statuses: BTreeMap<u16, u64>,
    cache_status: BTreeMap<Said, u64>,
    body_bytes: u64,
    latency_us: Latency,
    /// How late the generator itself was at the most.
    late_us: f64,
    /// All of this, as people read it.
    shown: Vec<(String, String)>,
    plots: Vec<Plot>,
}

/// Of answers that were as they should be, since they were due; and of requests that were never sent, until the end.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Outcome {
    pub(super) fn new(target: &Target, tally: &Tally, interrupted: bool) -> Self {
        let mut outcome = Self {
            at: report::now(),
            target: target.target.clone(),
            rate: target.rate,
            connections: target.connections,
            batch: target.batch,
            seed: target.seed,
            asked: tally.asked(),
            answered: tally.answered,
            failed: tally.failed(),
            unsent: tally.unsent,
            interrupted,
            failures: tally.failures.clone(),
            first_failure: tally.first_failure.clone(),
            statuses: tally.statuses.clone(),
            cache_status: tally.said.clone(),
            body_bytes: tally.body_bytes,
            latency_us: Latency {
                p50: tally.percentile_us(0.5),
                p90: tally.percentile_us(0.9),
                p99: tally.percentile_us(0.99),
                p99_9: tally.percentile_us(0.999),
                max: microseconds(tally.latency.max()),
            },
            late_us: microseconds(tally.lateness.max()),
            shown: Vec::new(),
            plots: vec![Plot::of_latencies(
                "Latency of a batch",
                &[("target", tally)],
            )],
        };
        outcome.shown = outcome.lines();
        outcome
    }

    /// Writes report.json, report.html and report.md to a folder.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        report::write_files(folder, self, &self.to_string())
    }

    /// What an operator should be told first.
    pub(super) fn plainly(&self, token_file: &Path) -> Vec<String> {
        let count = |status| self.statuses.get(&status).copied().unwrap_or_default();
        let mut told = Vec::new();
        let mut tell = |status, what: String| {
            let count = count(status);
            if count > 0 {
                told.push(format!(
                    "{count} of {} requests were answered {status}: {what}",
                    self.asked
                ));
            }
        };
        let file = token_file.display();
        tell(
            401,
            format!("the target does not know these tokens of {file}, or they have expired."),
        );
        tell(
            403,
            format!("the users of these tokens of {file} may not ask for that."),
        );
        tell(404, "the target has no such path.".to_owned());
        tell(
            422,
            "the target refuses the ids, or X-Client (--client).".to_owned(),
        );
        tell(
            429,
            "the target limits how often it is asked; --rate asks less often.".to_owned(),
        );
        if let Some(first) = self.first_failure.as_ref().filter(|_| told.is_empty()) {
            told.push(format!(
                "{} of {} requests failed; the first: {first}.",
                self.failed, self.asked
            ));
        }
        if self.unsent > 0 {
            told.push(format!(
                "{} requests were due and not sent when the time was up: the target answers no more than that, or there \
                 are too few --connections. They count with the time that they had waited.",
                self.unsent
            ));
        }
        told
    }

    fn lines(&self) -> Vec<(String, String)> {
        let ms = |us: f64| format!("{:.2} ms", us / 1e3);
        let line = |name: &str, value: String| (name.to_owned(), value);
        let latency = &self.latency_us;
        let mut lines = vec![
            line("requests", self.asked.to_string()),
            line("answered as they should be", self.answered.to_string()),
            line("failed", self.failed.to_string()),
            line("due, but never sent", self.unsent.to_string()),
            line("latency p50", ms(latency.p50)),
            line("latency p90", ms(latency.p90)),
            line("latency p99", ms(latency.p99)),
            line("latency p99.9", ms(latency.p99_9)),
            line("latency max", ms(latency.max)),
            line("sent late by at most", ms(self.late_us)),
            line(
                "bytes of bodies",
                format!("{:.1} MB", float(self.body_bytes) / 1e6),
            ),
        ];
        let statuses = self.statuses.iter();
        lines.extend(
            statuses.map(|(status, count)| line(&format!("status {status}"), count.to_string())),
        );
        let said = self.cache_status.iter();
        lines.extend(said.map(|(said, count)| {
            line(&format!("Cache-Status {}", said.name()), count.to_string())
        }));
        let failures = self.failures.iter();
        lines.extend(
            failures.map(|(kind, count)| line(&format!("failed by {kind}"), count.to_string())),
        );
        lines
    }
}

impl fmt::Display for Outcome {
    /// As Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            rate,
            batch,
            connections,
            ..
        } = self;
        writeln!(
            f,
            "{target}, {rate} requests per second of {batch} ids over {connections} connections; latency counts from when a \
             request was due.\n"
        )?;
        if self.interrupted {
            writeln!(f, "Interrupted: what was under way then is not counted.\n")?;
        }
        writeln!(f, "| what | |\n|---|---|")?;
        self.shown
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "| {name} | {value} |"))
    }
}
