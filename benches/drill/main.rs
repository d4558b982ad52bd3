//! The restart drill: the VMS dies under load, stays away, comes back slowly, and is well again.
//!
//! Stand-in, edge and widgets run in this process, on ports of the loopback interface. Widgets ask at a steady rate,
//! whether earlier ones were answered or not, as phones do. `make drill` prints what became of them, phase by phase; the
//! exit status is 1 if any batch failed that the edge could have answered within `stale_if_error`.

mod memory;
mod outage;
mod report;
mod widgets;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use vms_edge::app::{Edge, Given, Running};
use vms_edge::config::{self, Config};

use memory::{FRESH, STALE_IF_ERROR, WHILE_REVALIDATE};
use outage::Vms;
use report::{Phase, Report};
use widgets::Widgets;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The restart drill.
#[derive(Parser)]
struct Arguments {
    /// How long the VMS is away.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = config::duration)]
    away: Duration,
    /// How long it is slow once it is back.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::duration)]
    slow: Duration,
    /// How long each of its answers takes in that time.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = config::duration)]
    latency: Duration,
    /// How long the VMS is well, before and after.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::duration)]
    well: Duration,
    /// Users; each has twenty intercoms.
    #[arg(long, default_value_t = 300)]
    users: u64,
    /// Batches a second: two overlapping ones of ten intercoms each whenever a phone wakes up.
    #[arg(long, default_value_t = 400)]
    rate: u32,
    /// What cargo tells every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = Runtime::new().expect("the system has threads");
    let vms = runtime.block_on(Vms::start());
    let edge = start_edge(&vms);
    let report = runtime.block_on(drill(&arguments, vms, &edge));
    edge.stop();
    print!("{report}");
    ExitCode::from(u8::from(report.failed_within_bound() > 0))
}

/// An edge whose windows are short enough that a drill of a minute sees all of them but the last.
fn start_edge(vms: &Vms) -> Running {
    let [fresh, while_revalidate, if_error] =
        [FRESH, WHILE_REVALIDATE, STALE_IF_ERROR].map(|window| window.as_secs());
    let settings = format!(
        "server.listen = [\"127.0.0.1:0\"]\nserver.threads = 1\nadmin.listen = \"127.0.0.1:0\"\nlog.access = false\n\
         upstream.servers = [\"{}\"]\n[[batch]]\npath = \"/api/v1/intercom/shows\"\nfresh = \"{fresh}s\"\n\
         absent = \"{fresh}s\"\nstale_while_revalidate = \"{while_revalidate}s\"\nstale_if_error = \"{if_error}s\"\n",
        vms.address()
    );
    let config = Config::parse(&settings, "drill").expect("the drill's settings are valid");
    Edge::bind(config, Given::default())
        .and_then(Edge::start)
        .expect("the loopback has free ports")
}

async fn drill(arguments: &Arguments, mut vms: Vms, edge: &Running) -> Report {
    let widgets = Widgets::new(edge.addresses()[0], vms.stand_in(), arguments.users);
    let mut report = Report::new(edge.admin_address(), vms.stand_in().clone());
    widgets.meet_all().await;
    let load = tokio::spawn(Arc::clone(&widgets).ask_at(arguments.rate));

    report.begins(Phase::Before).await;
    tokio::time::sleep(arguments.well).await;
    report.begins(Phase::Away).await;
    vms.die().await;
    tokio::time::sleep(arguments.away).await;
    report.begins(Phase::Slow).await;
    vms.stand_in().set_latency(arguments.latency);
    let returned = Instant::now();
    vms.come_back();
    tokio::time::sleep(arguments.slow).await;
    report.begins(Phase::After).await;
    vms.stand_in().set_latency(Duration::ZERO);
    tokio::time::sleep(arguments.well).await;

    load.abort();
    report.ends().await;
    report.tells(widgets.last_answers().await, returned);
    report
}
