//! The load test.
//!
//! `bench` measures vms-edge beside nginx and Varnish: [`rows`] says what, [`servers`] are started for it, the
//! [`generator`] asks them, and a [`report`] judges what came out. [`siege`] measures what somebody who does nothing
//! wrong notices of [`hostile`] clients, and [`soak`] lets everything happen at once for an hour. [`target`] is for operators, who ask their own VMS.

mod asking;
mod authority;
mod bench;
mod cli;
mod generator;
mod hostile;
mod machine;
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
use tokio::signal::unix::{SignalKind, signal};

use bench::Bench;
use cli::{Arguments, Command};
use report::Report;
use siege::Siege;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why nothing was measured, or nothing can be told. The statuses are those of sysexits.h.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("there is nothing to be measured: {0}")]
    Unavailable(String),
    #[error("the report cannot be written: {0}")]
    Report(std::io::Error),
    #[error("{0}")]
    Input(String),
    #[error("interrupted")]
    Interrupted,
}

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
        Ok(code) => code,
        Err(failure) => {
            eprintln!("vms-edge-load: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::Unavailable(_) => 69,
            Self::Report(_) => 74,
            Self::Input(_) => 78,
            Self::Interrupted => 130,
        }
    }
}

fn measure(arguments: &cli::Bench) -> Result<ExitCode, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge).map_err(unavailable)?;
    let report = unless_interrupted(bench.run(&arguments.measurements()))?;
    tell(&report, &arguments.out)
}

fn besiege(arguments: &siege::Arguments) -> Result<ExitCode, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge).map_err(unavailable)?;
    let siege = Siege::new(bench).map_err(unavailable)?;
    let report = unless_interrupted(siege.run(arguments))?;
    tell(&report, &arguments.out)
}

/// Prints a report and writes it; the status says whether all goals were reached.
fn tell(report: &Report, out: &Path) -> Result<ExitCode, Failure> {
    print!("{report}");
    report.write(out).map_err(Failure::Report)?;
    let folder = out.display();
    println!("\nWritten to {folder}/report.html, report.json and report.md.");
    let failures = report.failures();
    for failure in &failures {
        eprintln!("not reached: {failure}");
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

fn endure(arguments: &soak::Arguments) -> Result<ExitCode, Failure> {
    let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
    let edge = program(arguments.edge.as_ref())?;
    machine::raise_descriptors().map_err(unavailable)?;
    let bench = Bench::new(arguments.effort(), edge).map_err(unavailable)?;
    unless_interrupted(soak::run(arguments, &bench))?
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

/// Runs on this thread. What a signal interrupts is dropped, and stops what it started.
fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::Unavailable(error.to_string()))?;
    runtime.block_on(async {
        let unavailable = |error: std::io::Error| Failure::Unavailable(error.to_string());
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
        tokio::select! {
            done = work => Ok(done),
            _ = interrupt.recv() => Err(Failure::Interrupted),
            _ = terminate.recv() => Err(Failure::Interrupted),
        }
    })
}
