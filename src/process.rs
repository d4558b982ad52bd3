//! The process: what it is told by signals, whom it succeeds and who succeeds it, and what it tells whoever started it.

mod handover;
pub mod signals;
mod systemd;

use std::path::PathBuf;

use self::handover::Predecessor;
use self::signals::{Signals, Wish};
use crate::app::{Edge, Given, Running};
use crate::cache::clock::Clock;
use crate::config::Config;
use crate::ops::log;
use crate::ops::metrics::UpgradeResult;
use crate::ops::reload::Asker;

/// The process that all others of a container, or of a machine, end with.
const FIRST_PROCESS: u32 = 1;

/// What can go wrong once the configuration is right.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Whom a process succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succeeds {
    /// Nobody.
    Nobody,
    /// The process that started it, which is at the other end of its standard input.
    Predecessor,
}

/// Serves `config`, which came from `file`, until it is told to stop or a successor accepts.
///
/// # Errors
///
/// What prevents a start, in one line.
pub fn serve(config: Config, file: PathBuf, succeeds: Succeeds) -> Outcome {
    let logs = log::start(&config.log)?;
    let (predecessor, sockets) = match succeeds {
        Succeeds::Nobody => (None, systemd::sockets(&config.listeners())),
        Succeeds::Predecessor => {
            let (predecessor, sockets) = Predecessor::take_over()?;
            (Some(predecessor), sockets)
        }
    };
    let given = Given {
        file: Some(file),
        clock: Clock::system(),
        sockets,
        log: Some(logs.control()),
    };
    // From now on, what is wished while it starts is done when it has.
    let mut signals = Signals::catch()?;
    let edge = Edge::bind(config, given)?;
    let running = edge.start()?;
    let (addresses, tls) = (running.addresses(), running.tls_addresses());
    tracing::info!(?addresses, ?tls, admin = %running.admin_address(), "serving");
    if let Some(predecessor) = predecessor {
        // Counted here, since nobody asks the predecessor any more.
        running.upgraded(UpgradeResult::HandedOver);
        if let Err(error) = predecessor.succeed() {
            tracing::warn!(%error, "the predecessor is gone already");
        }
    }
    // Before it hears that the process serves: from then on it may have to do without.
    match running.sockets() {
        Ok(sockets) => systemd::keep(&sockets),
        // Clients may have taken all descriptors already.
        Err(error) => {
            tracing::warn!(%error, "the service manager is not asked to keep the sockets")
        }
    }
    systemd::ready();
    obey(&mut signals, running);
    Ok(())
}

/// Does what signals ask for, to the end.
fn obey(signals: &mut Signals, running: Running) {
    loop {
        match signals.wait() {
            Wish::Reload => {
                systemd::reloading();
                // What comes of it is told by the log.
                running.reload(Asker::Signal);
                systemd::ready();
            }
            Wish::HandOver if hand_over(&running) => {
                running.leave(|| signals.say_stop());
                return;
            }
            Wish::HandOver => {}
            Wish::Stop => {
                tracing::info!("shutting down");
                systemd::stopping();
                running.stop_unless(|| signals.say_stop());
                return;
            }
        }
    }
}

/// Whether a successor accepts now.
fn hand_over(running: &Running) -> bool {
    if std::process::id() == FIRST_PROCESS {
        tracing::error!(
            "not handed over: all processes of a container end with its first, which this is"
        );
        return false;
    }
    tracing::info!("starting a successor");
    systemd::starting_successor();
    let sockets = running.sockets().map_err(handover::NotHandedOver::from);
    let successor = sockets.and_then(|sockets| handover::hand_over(&sockets));
    match successor {
        Ok(process) => {
            systemd::succeeded_by(process);
            tracing::info!(process, "handed over, finishing what is in flight");
            true
        }
        Err(error) => {
            running.upgraded(UpgradeResult::Failed);
            tracing::error!(%error, "not handed over, going on");
            systemd::not_succeeded();
            false
        }
    }
}
