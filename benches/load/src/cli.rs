//! The command line, and what it refuses.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::Effort;
use crate::failure::Statuses;
use crate::rows::{MEASUREMENTS, Measurement};
use crate::siege;
use crate::soak;
use crate::target::cli::Target;

/// Load test of vms-edge: beside nginx and Varnish on this machine, or of a VMS or an edge elsewhere.
///
/// `vms-edge-load bench` starts everything itself and judges it by the goals of the project. `vms-edge-load --target URL
/// --token-file FILE --ids 1-500` asks a staging VMS, or an edge before it, as widgets do.
#[derive(Debug, Parser)]
#[command(name = "vms-edge-load", version, about, long_about, after_long_help = Statuses.to_string())]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) target: Option<Target>,
}

/// What the program does beside asking a target.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure vms-edge, nginx and Varnish on this machine, and judge what came out.
    Bench(Bench),
    /// Attack vms-edge, and measure what those notice who do nothing wrong.
    Siege(siege::Arguments),
    /// Let everything happen at once to vms-edge for an hour, and hold each answer against the VMS.
    Soak(soak::Arguments),
}

/// How the bench is made.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Try it in a few minutes; the figures are none to rely on.
    #[arg(long)]
    quick: bool,
    /// Only these rows, and those that are measured together with them; left out: all.
    #[arg(long, value_name = "ROW", num_args = 1.., value_parser = row_names())]
    only: Vec<String>,
    /// How often each server is measured in turn [default: 5, quick: 3].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: Option<u16>,
    /// Seconds of a round [default: 4, quick: 1].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: Option<u16>,
    /// The program to measure; left out: the one beside this.
    #[arg(long, value_name = "FILE")]
    pub(crate) edge: Option<PathBuf>,
    /// Where report.json, report.html and report.md are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/load")]
    pub(crate) out: PathBuf,
}

impl Bench {
    pub(crate) fn effort(&self) -> Effort {
        let (rounds, seconds) = if self.quick { (3, 1) } else { (5, 4) };
        Effort {
            quick: self.quick,
            rounds: self.rounds.unwrap_or(rounds).into(),
            round_seconds: self.seconds.unwrap_or(seconds).into(),
        }
    }

    /// Those that fill the rows that were asked for.
    pub(crate) fn measurements(&self) -> Vec<&'static Measurement> {
        let is_meant = |measurement: &&Measurement| {
            let mut rows = measurement.rows.iter();
            self.only.is_empty() || rows.any(|row| self.only.iter().any(|name| name == row.name))
        };
        MEASUREMENTS.iter().filter(is_meant).collect()
    }
}

fn row_names() -> Vec<&'static str> {
    let rows = MEASUREMENTS.iter().flat_map(|measurement| measurement.rows);
    rows.map(|row| row.name).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_of_the_help_is_one() {
        let about = Arguments::command().get_long_about().unwrap().to_string();
        let (_, command) = about.split_once("`vms-edge-load --target").unwrap();
        let (arguments, _) = command.split_once('`').unwrap();
        let command = format!("vms-edge-load --target{arguments}");
        assert!(Arguments::try_parse_from(command.split_whitespace()).is_ok());
    }
}
