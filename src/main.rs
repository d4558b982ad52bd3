//! What the program does with its command line.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use vms_edge::app::{Edge, Given};
use vms_edge::cli::{Arguments, Command};
use vms_edge::config::{self, Config};
use vms_edge::demo::tour;
use vms_edge::demo::vms::StandIn;
use vms_edge::process::signals::Signals;
use vms_edge::process::{self, Outcome, Succeeds};
use zeroizing_alloc::ZeroAlloc;

// What is given back is overwritten, so that no token of a request that is over is left where it was.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// Exit status for a bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

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
        Command::Check { config, quiet } => with_config(&config, |config| {
            if !quiet {
                print!("{}\n{}", config.effective(), config.revocation());
            }
            ExitCode::SUCCESS
        }),
        Command::Demo { once } => report(demo(once)),
        Command::DemoVms {
            listen,
            latency,
            workers,
        } => report(demo_vms(listen, latency, workers)),
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

fn demo_vms(listen: SocketAddr, latency: Duration, workers: Option<u16>) -> Outcome {
    let vms = StandIn::without_record();
    vms.set_latency(latency);
    if let Some(workers) = workers {
        vms.set_workers(workers.into());
    }
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        eprintln!("the stand-in VMS listens on {}", listener.local_addr()?);
        vms.serve(listener).await?;
        Ok(())
    })
}
