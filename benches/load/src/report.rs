//! What came out, for people (a table in Markdown, a page with plots) and for programs (JSON).

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::bench::{Bench, Effort};
use crate::figure::Figure;
use crate::machine::{Cores, Machine};
use crate::plot::Plot;
use crate::rows::{Measured, Row};

/// The page, with marks where its parts go; uPlot is the one of the admin page.
const PAGE: &str = include_str!("report/page.html");
const UPLOT: &str = include_str!("../../../src/ops/admin/page/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../../src/ops/admin/page/uPlot.min.css");

/// The report of a bench.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Seconds since 1970.
    at: u64,
    machine: Machine,
    cores: Cores,
    effort: Effort,
    /// Whether somebody ended it before all rows were measured.
    interrupted: bool,
    pub(crate) rows: Vec<Judged>,
}

/// A row of the table with what came out.
#[derive(Serialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    row: &'static Row,
    verdict: Verdict,
    /// No number if nothing could be measured.
    value: Option<f64>,
    figures: Vec<Figure>,
    failures: Vec<String>,
    plots: Vec<Plot>,
}

/// Whether a goal was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
}

impl Judged {
    pub(crate) fn new(row: &'static Row, measured: Measured) -> Self {
        let Measured {
            value,
            figures,
            failures,
            plots,
        } = measured;
        let verdict = match row.goal.is_reached(value) && failures.is_empty() {
            true => Verdict::Pass,
            false => Verdict::Fail,
        };
        Self {
            row,
            verdict,
            value: value.is_finite().then_some(value),
            figures,
            failures,
            plots,
        }
    }

    fn spelt(&self) -> String {
        self.row.goal.spells(self.value.unwrap_or(f64::NAN))
    }
}

impl Report {
    /// Of these rows, after which nothing more is under way.
    pub(crate) fn new(bench: &Bench, rows: Vec<Judged>, interrupted: bool) -> Self {
        bench.ends();
        Self {
            at: now(),
            machine: bench.machine().clone(),
            cores: bench.cores().clone(),
            effort: bench.effort().clone(),
            interrupted,
            rows,
        }
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// What did not reach its goal, and why, one line each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = self.rows.iter().filter(|row| row.verdict == Verdict::Fail);
        let lines = failed.map(|result| {
            let (name, goal) = (result.row.name, result.row.goal);
            match result.failures.as_slice() {
                [] => format!("{name}: {} is not {goal}", result.spelt()),
                failures => format!("{name}: {}", failures.join("; ")),
            }
        });
        lines.collect()
    }

    /// Writes report.json, report.html and report.md to a folder.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        write_files(folder, self, &self.to_string())
    }
}

impl fmt::Display for Report {
    /// As Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            processor,
            cores,
            memory_gib,
            kernel,
            nginx,
            varnish,
        } = &self.machine;
        let Effort {
            quick,
            rounds,
            round_seconds,
        } = &self.effort;
        writeln!(
            f,
            "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}; nginx {nginx}, Varnish {varnish}; one core for \
             the server, medians of {rounds} rounds of {round_seconds} s in one run.\n"
        )?;
        if *quick {
            writeln!(f, "A quick run: the figures show that it works, no more.\n")?;
        }
        if self.interrupted {
            writeln!(f, "Interrupted: other rows were not measured.\n")?;
        }
        writeln!(
            f,
            "| what | goal | measured | | figures |\n|---|---|---|---|---|"
        )?;
        for result in &self.rows {
            let (what, goal, measured) = (result.row.what, result.row.goal, result.spelt());
            let figures: Vec<String> = result.figures.iter().map(Figure::to_string).collect();
            let verdict = match result.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "**fail**",
            };
            let figures = figures.join(", ");
            writeln!(
                f,
                "| {what} | {goal} | {measured} | {verdict} | {figures} |"
            )?;
        }
        Ok(())
    }
}

/// Writes a report in its three forms. `report` is what the page shows, too.
pub(crate) fn write_files(
    folder: &Path,
    report: &impl Serialize,
    markdown: &str,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
    fs::write(folder.join("report.json"), &json)?;
    fs::write(folder.join("report.md"), markdown)?;
    fs::write(folder.join("report.html"), page(&json))
}

/// The page, all in one file.
fn page(json: &str) -> String {
    // In a script element nothing but `</` ends it; in JSON a slash may be escaped.
    let json = json.replace("</", "<\\/");
    let parts = [
        ("/*uplot-style*/", UPLOT_STYLE),
        ("/*uplot*/", UPLOT),
        ("/*report*/", &json),
    ];
    let fill = |page: String, (mark, part): (&str, &str)| page.replacen(mark, part, 1);
    parts.into_iter().fold(PAGE.to_owned(), fill)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Unit;
    use crate::rows::Goal;

    static ROW: Row = Row {
        name: "a-row",
        what: "CPU per hit",
        goal: Goal::Most(0.70),
        says: "It is measured.",
    };

    fn report(value: f64, failures: Vec<String>) -> Report {
        let measured = Measured {
            value,
            figures: vec![Figure::median_of(
                "vms-edge",
                vec![3.0, 1.0, 2.0],
                Unit::Microseconds,
            )],
            failures,
            plots: Vec::new(),
        };
        let effort = Effort {
            quick: false,
            rounds: 3,
            round_seconds: 1.0,
        };
        let cores = Cores {
            server: 0,
            generator: vec![1],
        };
        Report {
            at: now(),
            machine: Machine::describe(),
            cores,
            effort,
            interrupted: false,
            rows: vec![Judged::new(&ROW, measured)],
        }
    }

    #[test]
    fn a_row_passes_if_its_goal_is_reached_and_nothing_failed() {
        let failed = || vec!["nginx: 1 of 9 requests failed".to_owned()];
        for (value, failures, line) in [
            (0.65, vec![], None),
            (0.75, vec![], Some("a-row: 0.750 is not ≤ 0.70")),
            (f64::NAN, vec![], Some("a-row: – is not ≤ 0.70")),
            (0.65, failed(), Some("a-row: nginx: 1 of 9 requests failed")),
        ] {
            let told = report(value, failures).failures();
            assert_eq!(told.first().map(String::as_str), line);
        }
    }

    #[test]
    fn the_table_can_be_pasted() {
        let table = report(0.65, vec![]).to_string();
        let line = "| CPU per hit | ≤ 0.70 | 0.650 | pass | vms-edge 2.0 µs |";
        assert!(table.contains(line), "{table}");
    }

    #[test]
    fn a_report_says_whether_it_is_of_all_that_was_to_be_measured() {
        let mut report = report(0.65, vec![]);
        assert!(!report.to_string().contains("Interrupted"));
        report.interrupted = true;
        assert!(report.to_string().contains("\nInterrupted: "));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["interrupted"], true);
    }

    #[test]
    fn the_page_needs_no_other_file_and_is_not_ended_by_what_it_shows() {
        let page = page(r#"{"what":"</script><b>"}"#);
        assert!(page.contains(r#"{"what":"<\/script><b>"}"#));
        assert!(page.contains("uPlot"));
        for elsewhere in ["src=", "href=", "@import", "/*report*/", "/*uplot*/"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
