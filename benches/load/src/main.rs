//! The load test.
//!
//! `bench` measures vms-edge beside nginx and Varnish: [`rows`] says what, [`servers`] are started for it, the
//! [`generator`] asks them, [`judge`] has it all done in turn, and a [`report`] tells what came out. [`siege`] measures what
//! somebody who does nothing wrong notices of [`hostile`] clients, and [`soak`] lets everything happen at once for an hour.
//! [`target`] is for operators, who ask their own VMS.
//!
//! Imports run one way: figure < generator < plot < bench < servers < rows < report < judge < siege, soak; target < cli < main.

mod asking;
mod authority;
mod bench;
mod cli;
mod failure;
mod figure;
mod generator;
mod hostile;
mod interrupt;
mod judge;
mod machine;
mod plot;
mod priority;
mod report;
mod rows;
mod servers;
mod siege;
mod soak;
mod target;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use bench::Bench;
use cli::{Arguments, Command};
use failure::{Failure, Status};
use priority::Priority;
use report::Report;
use siege::Siege;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.command, arguments.target) {
        (Some(Command::Bench(arguments)), _) => measure(&arguments),
        (Some(Command::Siege(arguments)), _) => besiege(&arguments),
        (Some(Command::Soak(arguments)), _) => endure(&arguments),
        (None, Some(target)) => target::run(&target),
        (None, None) => unreachable!("clap asks for one of them"),
    };
    match done {
        Ok(status) => status.into(),
        Err(failure) => {
            eprintln!("vms-edge-load: {failure}");
            failure.status().into()
        }
    }
}

fn measure(arguments: &cli::Bench) -> Result<Status, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge, Priority::Usual).map_err(unavailable)?;
    let measurements = arguments.measurements();
    let report =
        interrupt::run(async |interrupt| judge::judge(&bench, &measurements, interrupt).await);
    tell(&report.map_err(unavailable)?, &arguments.out)
}

fn besiege(arguments: &siege::Arguments) -> Result<Status, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge, Priority::Lowest).map_err(unavailable)?;
    let siege = Siege::new(bench).map_err(unavailable)?;
    let report = interrupt::run(async |interrupt| siege.run(arguments, interrupt).await);
    tell(&report.map_err(unavailable)?, &arguments.out)
}

/// Prints a report and writes it; the status says whether all goals were reached.
fn tell(report: &Report, out: &Path) -> Result<Status, Failure> {
    if report.is_interrupted() && report.rows.is_empty() {
        return Err(Failure::Interrupted);
    }
    print!("{report}");
    report.write(out).map_err(Failure::Report)?;
    let folder = out.display();
    println!("\nWritten to {folder}/report.html, report.json and report.md.");
    let failures = report.failures();
    for failure in &failures {
        eprintln!("not reached: {failure}");
    }
    Ok(match (report.is_interrupted(), failures.as_slice()) {
        (true, _) => Status::Interrupted,
        (false, []) => Status::AllWell,
        (false, _) => Status::NotReached,
    })
}

fn endure(arguments: &soak::Arguments) -> Result<Status, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge, Priority::Usual).map_err(unavailable)?;
    interrupt::run(async |interrupt| soak::run(arguments, &bench, interrupt).await)
        .map_err(unavailable)?
}

/// The program that is measured: the one that was named, or the one beside this.
fn program(named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = match named {
        Some(edge) => edge.clone(),
        None => servers::edge::beside_this_program().map_err(unavailable)?,
    };
    edge.canonicalize().map_err(|error| {
        Failure::Unavailable(format!("{}: {error}; --edge names it", edge.display()))
    })
}
