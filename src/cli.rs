//! The command line, as it is read, explained by `--help` and shown in the man page.
//!
//! Only what can be said is here; what is done with it is `main`'s. The man page and the shell completions are made from
//! the same definitions when a package is built (`conf/debian/manual`), so that they cannot say anything else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config;

/// A caching edge proxy for the batch requests of a VMS's mobile widgets.
///
/// It answers from memory what it knows, asks the VMS for the rest, and passes everything else through untouched.
#[derive(Debug, Parser)]
#[command(name = "vms-edge", version, about, long_about, after_long_help = AFTERWARDS)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve, until SIGTERM or SIGINT; SIGHUP reloads the configuration, SIGQUIT upgrades.
    #[command(after_long_help = SIGNALS)]
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take the place of the process at the other end of standard input.
        #[arg(long, hide = true)]
        take_over: bool,
    },
    /// Validate a configuration file; print the configuration in effect, and how long a revoked token is answered.
    ///
    /// The files that it names are read, and nobody is asked: whether the VMS's names resolve shows at a start or a
    /// reload.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print nothing about a valid file.
        #[arg(long)]
        quiet: bool,
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
        /// How many requests are attended to at once, as by php-fpm; more wait. Left out: all of them.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
        workers: Option<u16>,
    },
}

impl Arguments {
    /// The definitions, for what explains them in other forms.
    pub fn definitions() -> clap::Command {
        Self::command()
    }
}

const AFTERWARDS: &str = "\
Exit status: 0 after an orderly end; 1 if it cannot start, such as when a port is in use; 2 if the command line is wrong; \
78 if the configuration is. A bad configuration is reported whole, before any port is bound.";

const SIGNALS: &str = "\
SIGHUP reads the configuration again; a bad file changes nothing. SIGTERM and SIGINT end it in order: what is in \
flight is finished, for server.grace at the most; a second one ends it at once. SIGQUIT starts the program's file anew \
with the same arguments, hands it the listening sockets, and ends in order once the new process is ready; if that \
cannot start, the old one goes on.";
