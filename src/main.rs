//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use vms_edge::app::Edge;
use vms_edge::cache::clock::Clock;
use vms_edge::config::{self, Config};
use vms_edge::ops::log;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status for a bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// A caching edge proxy for the batch requests of a VMS's mobile widgets.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Validate a configuration file and print the configuration in effect.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => with_config(&config, run),
        Command::Check { config } => with_config(&config, |config| {
            print!("{}", config.effective());
            ExitCode::SUCCESS
        }),
    }
}

fn with_config(path: &Path, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config::load(path) {
        Ok(config) => command(config),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn run(config: Config) -> ExitCode {
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vms-edge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let logs = log::start(&config.log)?;
    let running = Edge::bind(config, Clock::system())?.start(Some(logs.dropped()))?;
    let addresses = running.addresses();
    tracing::info!(?addresses, admin = %running.admin_address(), "serving");
    wait_for_signal()?;
    tracing::info!("shutting down");
    running.stop();
    Ok(())
}

fn wait_for_signal() -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
}
