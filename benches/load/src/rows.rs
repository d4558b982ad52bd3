//! The rows of the table: what is measured, what the goal is, and what came out.
//!
//! A measurement fills one row or several. What a row is called, what its goal is and how it is judged stand in one place,
//! its module; all that is printed and written follows from there.

mod coded;
mod cores;
mod hit;
mod idle;
mod latency;
mod memory;
mod miss;
mod passing;
pub(crate) mod questions;
pub(crate) mod rounds;
mod tls;
mod trace;
mod users;

use std::fmt;
use std::io;
use std::pin::Pin;

use serde::Serialize;

use crate::bench::Bench;
use crate::figure::Figure;
use crate::plot::Plot;
use crate::servers::NotStarted;

/// All measurements, in the order in which they are made.
pub(crate) static MEASUREMENTS: [Measurement; 13] = [
    hit::OF_10,
    hit::OF_25,
    hit::OF_1,
    coded::MEASUREMENT,
    passing::MEASUREMENT,
    latency::MEASUREMENT,
    miss::MEASUREMENT,
    users::MEASUREMENT,
    memory::MEASUREMENT,
    trace::MEASUREMENT,
    tls::MEASUREMENT,
    idle::MEASUREMENT,
    cores::MEASUREMENT,
];

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is called in the table.
    pub(crate) what: &'static str,
    pub(crate) goal: Goal,
    /// How it is measured, in a sentence.
    pub(crate) says: &'static str,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// A ratio, at the most.
    Most(f64),
    /// A ratio, at the least.
    Least(f64),
    /// KiB, at the most.
    MostKib(f64),
}

/// Fills rows.
pub(crate) struct Measurement {
    pub(crate) rows: &'static [Row],
    how: for<'a> fn(&'a Bench) -> Measuring<'a>,
}

type Measuring<'a> = Pin<Box<dyn Future<Output = Result<Vec<Measured>, Fault>> + 'a>>;

/// Why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Server(#[from] NotStarted),
    #[error("the stand-in VMS cannot be started: {0}")]
    Vms(#[from] io::Error),
}

/// What came out of a row.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// What is held against the goal.
    pub(crate) value: f64,
    /// What it was made of, and what stands beside it.
    pub(crate) figures: Vec<Figure>,
    /// What makes the value worthless, such as requests that failed.
    pub(crate) failures: Vec<String>,
    pub(crate) plots: Vec<Plot>,
}

impl Measurement {
    pub(crate) fn measure<'a>(&self, bench: &'a Bench) -> Measuring<'a> {
        (self.how)(bench)
    }
}

impl Goal {
    pub(crate) fn is_reached(self, value: f64) -> bool {
        match self {
            // What is no number reaches nothing.
            Self::Most(most) | Self::MostKib(most) => value <= most,
            Self::Least(least) => value >= least,
        }
    }

    /// A value in the unit of the goal.
    pub(crate) fn spells(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "–".to_owned(),
            Self::MostKib(_) => format!("{value:.1} KiB"),
            Self::Most(_) | Self::Least(_) => format!("{value:.3}"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(most) => write!(f, "≤ {most:.2}"),
            Self::Least(least) => write!(f, "≥ {least:.1}"),
            Self::MostKib(most) => write!(f, "≤ {most:.0} KiB"),
        }
    }
}

impl Measured {
    /// One that could not be made.
    pub(crate) fn impossible(why: &str) -> Self {
        Self {
            value: f64::NAN,
            failures: vec![why.to_owned()],
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_bound_and_by_no_lack_of_a_number() {
        assert!(Goal::Most(0.7).is_reached(0.7));
        assert!(!Goal::Most(0.7).is_reached(0.71));
        assert!(Goal::Least(1.8).is_reached(1.8));
        assert!(!Goal::Least(1.8).is_reached(1.79));
        assert!(!Goal::MostKib(32.0).is_reached(f64::NAN));
        assert!(!Goal::Least(1.8).is_reached(f64::NAN));
    }

    #[test]
    fn the_readme_has_every_row_with_its_goal_and_no_other() {
        let readme = include_str!("../../../README.md");
        let (_, performance) = readme.split_once("\n## Performance\n").unwrap();
        let head = "| row | what | goal | measured | figures |\n|---|---|---|---|---|\n";
        let (_, table) = performance.split_once(head).unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let rows = MEASUREMENTS.iter().flat_map(|measurement| measurement.rows);
        let mut lines = table.lines();
        for row in rows {
            let Row {
                name, what, goal, ..
            } = row;
            let line = lines.next().unwrap_or_default();
            let expected = format!("| `{name}` | {what} | {goal} | ");
            assert!(line.starts_with(&expected), "{line}\n{expected}");
            // What is not reached stands out.
            let measured = line[expected.len()..].split(' ').next().unwrap();
            let value: f64 = measured.trim_matches('*').parse().unwrap();
            assert_eq!(
                !goal.is_reached(value),
                measured.starts_with("**"),
                "{line}"
            );
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn rows_can_be_told_apart() {
        let rows = MEASUREMENTS.iter().flat_map(|measurement| measurement.rows);
        let names: HashSet<&str> = rows.clone().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.count());
    }
}
