//! The command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use vms_edge::app::{Edge, Given};
use vms_edge::config::{self, Config};
use vms_edge::demo::tour;
use vms_edge::demo::vms::StandIn;
use vms_edge::process::signals::Signals;
use vms_edge::process::{self, Outcome, Succeeds};

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
    /// Serve, until SIGTERM or SIGINT; SIGHUP reloads the configuration, SIGQUIT upgrades.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take the place of the process at the other end of standard input.
        #[arg(long, hide = true)]
        take_over: bool,
    },
    /// Validate a configuration file; print the configuration in effect, and how long a revoked token is answered.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show the main job with a stand-in VMS in the same process, then stay up to be tried.
    Demo {
        /// End after the tour.
        #[arg(long)]
        once: bool,
    },
    /// Serve the stand-in VMS alone, for load tests.
    DemoVms {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
        /// How long each answer takes.
        #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = config::duration)]
        latency: Duration,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run {
            config: file,
            take_over,
        } => {
            let succeeds = match take_over {
                true => Succeeds::Predecessor,
                false => Succeeds::Nobody,
            };
            with_config(&file, |config| {
                report(process::serve(config, file.clone(), succeeds))
            })
        }
        Command::Check { config } => with_config(&config, |config| {
            print!("{}\n{}", config.effective(), config.revocation());
            ExitCode::SUCCESS
        }),
        Command::Demo { once } => report(demo(once)),
        Command::DemoVms { listen, latency } => report(demo_vms(listen, latency)),
    }
}

fn with_config(path: &Path, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config::load(path) {
        Ok(config) => command(config),
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("vms-edge: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever started the process, in one piece: a predecessor may be writing to the same place.
fn say(text: &str) {
    // There is nobody to tell if that fails.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn demo(once: bool) -> Outcome {
    let runtime = Runtime::new()?;
    let vms = StandIn::new();
    let serving = runtime.block_on(vms.start())?;
    // A tour that ends needs no port that anybody knows.
    let listen = if once {
        "127.0.0.1:0"
    } else {
        "127.0.0.1:8080"
    };
    let admin = if once {
        "127.0.0.1:0"
    } else {
        "127.0.0.1:9090"
    };
    let settings = format!(
        "server.listen = [{listen:?}]\nupstream.servers = [\"{}\"]\nadmin.listen = {admin:?}\n",
        serving.address()
    );
    let running = Edge::bind(Config::parse(&settings, "demo")?, Given::default())?.start()?;
    let address = running.addresses()[0];
    let mut signals = Signals::catch()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "vms-edge at {address} before a stand-in VMS at {}\n",
        serving.address()
    )?;
    runtime.block_on(tour::walk(&vms, address, &mut out))?;
    if !once {
        let (curl, admin) = (tour::curl(address), running.admin_address());
        writeln!(
            out,
            "\nTry it:\n\n{curl}\n\nMetrics: curl http://{admin}/metrics\nCtrl-C ends it."
        )?;
        signals.wait_for_stop();
    }
    running.stop();
    Ok(())
}

fn demo_vms(listen: SocketAddr, latency: Duration) -> Outcome {
    let vms = StandIn::without_record();
    vms.set_latency(latency);
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        eprintln!("the stand-in VMS listens on {}", listener.local_addr()?);
        vms.serve(listener).await?;
        Ok(())
    })
}
