//! The process: what it is told by signals, and what it tells whoever started it.

pub mod signals;

use std::path::PathBuf;

use self::signals::{Signals, Wish};
use crate::app::Edge;
use crate::cache::clock::Clock;
use crate::config::Config;
use crate::ops::log;
use crate::ops::reload::Asker;

/// What can go wrong once the configuration is right.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Serves `config`, which came from `file`, until it is told to stop.
///
/// # Errors
///
/// What prevents a start, in one line.
pub fn serve(config: Config, file: PathBuf) -> Outcome {
    let logs = log::start(&config.log)?;
    let edge = Edge::bind(config, Some(file), Clock::system())?;
    let mut signals = Signals::catch()?;
    let running = edge.start(Some(logs.dropped()))?;
    let addresses = running.addresses();
    tracing::info!(?addresses, admin = %running.admin_address(), "serving");
    loop {
        match signals.next() {
            // What comes of it is told by the log.
            Wish::Reload => drop(running.reload(Asker::Signal)),
            Wish::Stop => break,
        }
    }
    tracing::info!("shutting down");
    running.stop();
    Ok(())
}
