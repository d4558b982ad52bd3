//! The bench: what all measurements share.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::runtime::Runtime;
use vms_edge::demo::vms::{Running, StandIn};

use crate::authority::Authority;
use crate::machine::{Cores, Machine};
use crate::priority::Priority;

const ONE_CORE: &str = "this program may use one core alone; whoever is measured needs one for itself, and the load \
     generator another";

/// How much is measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Effort {
    /// Whether figures are only to be seen to come, not to be relied on.
    pub(crate) quick: bool,
    /// How often each server is measured, in turn with the others.
    pub(crate) rounds: usize,
    /// How long a round lasts, without its beginning, which does not count.
    pub(crate) round_seconds: f64,
}

/// What all measurements share.
pub(crate) struct Bench {
    effort: Effort,
    machine: Machine,
    cores: Cores,
    authority: Authority,
    edge_program: PathBuf,
    progress: ProgressBar,
    /// Runs the stand-ins, so that the generator does not have to.
    vms_runtime: Runtime,
}

/// A stand-in VMS of a measurement's own, on the generator's cores.
pub(crate) struct Vms {
    pub(crate) stand_in: StandIn,
    running: Running,
}

impl Vms {
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }
}

impl Bench {
    /// # Errors
    /// If the system refuses cores or threads, or has one core alone.
    pub(crate) fn new(effort: Effort, edge_program: PathBuf, vms: Priority) -> io::Result<Self> {
        let machine = Machine::describe();
        let cores = Cores::split()?;
        if cores.are_shared() {
            return Err(io::Error::other(ONE_CORE));
        }
        cores.keep_to_generator()?;
        let vms_runtime = vms.runtime(cores.generator.len())?;
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed_precise} {msg}");
        let progress = ProgressBar::no_length();
        progress.set_style(style.expect("the template is valid"));
        Ok(Self {
            effort,
            machine,
            cores,
            authority: Authority::new(),
            edge_program,
            progress,
            vms_runtime,
        })
    }

    /// Shows that so many measurements are to be made.
    pub(crate) fn begins(&self, measurements: usize) {
        self.progress.set_length(measurements as u64);
    }

    /// One more was made.
    pub(crate) fn is_done_with_one(&self) {
        self.progress.inc(1);
    }

    /// There are no more.
    pub(crate) fn ends(&self) {
        self.progress.finish_and_clear();
    }

    /// Says what is under way.
    pub(crate) fn tells(&self, what: &str) {
        self.progress.enable_steady_tick(Duration::from_millis(500));
        self.progress.set_message(what.to_owned());
    }

    pub(crate) fn effort(&self) -> &Effort {
        &self.effort
    }

    pub(crate) fn round(&self) -> Duration {
        Duration::from_secs_f64(self.effort.round_seconds)
    }

    /// One of two figures: for those who only try it, or for those who want to know.
    pub(crate) fn of<T>(&self, quick: T, whole: T) -> T {
        if self.effort.quick { quick } else { whole }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn cores(&self) -> &Cores {
        &self.cores
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn edge_program(&self) -> &Path {
        &self.edge_program
    }

    /// A stand-in that answers at once.
    pub(crate) fn vms(&self) -> io::Result<Vms> {
        let stand_in = StandIn::without_record();
        let (told, tells) = std::sync::mpsc::channel();
        // The generator's runtime must not run it, and may not enter another one.
        self.vms_runtime.spawn({
            let stand_in = stand_in.clone();
            async move {
                // Whoever waits for it is there.
                let _ = told.send(stand_in.start().await);
            }
        });
        let running = tells.recv().map_err(io::Error::other)??;
        Ok(Vms { stand_in, running })
    }
}
