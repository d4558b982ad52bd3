//! The siege: what somebody who does nothing wrong notices of those who do, and what they can take.
//!
//! Each row has an edge and a VMS of its own. The edge has one core; the phones that are measured, the VMS and the attackers
//! share the others, the VMS and the attackers at the lowest priority, so that what is measured is the edge under attack and
//! not the generator: what the edge asks of the VMS for attackers could keep the phones waiting for their own core.

mod beside;
mod descriptors;
mod memory;
mod neighbour;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::bench::{Bench, Effort};
use crate::hostile::{Attack, Harm, Victim};
use crate::interrupt::Interrupt;
use crate::judge::judged;
use crate::priority::Priority;
use crate::report::{Judged, Report};

/// How the siege is made.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Try it in a minute, with a tenth of the attackers; the figures are none to rely on.
    #[arg(long)]
    quick: bool,
    /// Only these rows, and those that are measured together with them; left out: all.
    #[arg(long, value_name = "ROW", num_args = 1.., value_parser = row_names())]
    only: Vec<String>,
    /// Rounds of each, without an attack and with it [default: 5, quick: 2].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: Option<u16>,
    /// Seconds of a round [default: 4, quick: 1].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: Option<u16>,
    /// The program to besiege; left out: the one beside this.
    #[arg(long, value_name = "FILE")]
    pub(crate) edge: Option<PathBuf>,
    /// Where report.json, report.html and report.md are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/siege")]
    pub(crate) out: PathBuf,
}

const CONFIGURATION: &str = include_str!("siege/edge.toml");

/// What all rows share.
pub(crate) struct Siege {
    bench: Bench,
    /// Runs the attackers, at the lowest priority.
    attackers: Runtime,
}

impl Arguments {
    pub(crate) fn effort(&self) -> Effort {
        let (rounds, seconds) = if self.quick { (2, 1) } else { (5, 4) };
        Effort {
            quick: self.quick,
            rounds: self.rounds.unwrap_or(rounds).into(),
            round_seconds: self.seconds.unwrap_or(seconds).into(),
        }
    }

    fn is_asked(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

impl Siege {
    /// # Errors
    /// If the system refuses threads.
    pub(crate) fn new(bench: Bench) -> io::Result<Self> {
        let attackers = Priority::Lowest.runtime(1)?;
        Ok(Self { bench, attackers })
    }

    /// Measures the rows that are asked for, one after the other, until an interrupt comes.
    pub(crate) async fn run(&self, arguments: &Arguments, interrupt: &mut Interrupt) -> Report {
        let mut rows: Vec<Judged> = Vec::new();
        let all = interrupt.or(self.measure(arguments, &mut rows)).await;
        Report::new(&self.bench, rows, all.is_none())
    }

    async fn measure(&self, arguments: &Arguments, rows: &mut Vec<Judged>) {
        for besieged in &beside::ALL {
            if arguments.is_asked(besieged.row.name) {
                let measured = beside::measure(self, besieged).await;
                let row = std::slice::from_ref(&besieged.row);
                rows.extend(judged(row, measured.map(|measured| vec![measured])));
            }
        }
        let mut without = descriptors::ROWS.iter();
        if without.any(|row| arguments.is_asked(row.name)) {
            let measured = descriptors::measure(self).await;
            rows.extend(judged(&descriptors::ROWS, measured));
        }
        if arguments.is_asked(memory::ROW.name) {
            let measured = memory::measure(self).await;
            rows.extend(judged(std::slice::from_ref(&memory::ROW), measured));
        }
    }

    /// Begins an attack, which goes on until it is aborted.
    fn attacks(
        &self,
        attack: Attack,
        victim: &Victim,
        clients: usize,
        harm: &Arc<Harm>,
    ) -> AbortHandle {
        let (victim, harm) = (victim.clone(), Arc::clone(harm));
        let goes_on = async move { attack.goes_on(&victim, clients, &harm).await };
        self.attackers.spawn(goes_on).abort_handle()
    }
}

fn row_names() -> Vec<&'static str> {
    let besieged = beside::ALL.iter().map(|besieged| besieged.row.name);
    let descriptors = descriptors::ROWS.iter().map(|row| row.name);
    besieged
        .chain(descriptors)
        .chain([memory::ROW.name])
        .collect()
}
