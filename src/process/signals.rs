//! Signals, as what operators wish.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: finish what is in flight, then end.
    Stop,
    /// SIGHUP: take the configuration as the file has it now.
    Reload,
    /// SIGQUIT: let the program as it is installed now take over.
    HandOver,
}

/// The signals that the process understands. From when they are caught on, none of them kills it.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    ///
    /// When the system has no descriptor or event queue to give.
    pub fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let context = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hang_up = signal(SignalKind::hangup())?;
        let quit = signal(SignalKind::quit())?;
        drop(context);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hang_up,
            quit,
        })
    }

    /// Waits for the next.
    pub fn wait(&mut self) -> Wish {
        let Self {
            runtime,
            terminate,
            interrupt,
            hang_up,
            quit,
        } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Wish::Stop,
                _ = interrupt.recv() => Wish::Stop,
                _ = hang_up.recv() => Wish::Reload,
                _ = quit.recv() => Wish::HandOver,
            }
        })
    }

    /// Whether the process was asked to stop since the last time that somebody waited or looked.
    pub fn say_stop(&mut self) -> bool {
        let Self {
            runtime,
            terminate,
            interrupt,
            ..
        } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                () = std::future::ready(()) => false,
            }
        })
    }

    /// Waits until the process is to stop, whatever else is wished.
    pub fn wait_for_stop(&mut self) {
        while self.wait() != Wish::Stop {}
    }
}
