//! Being asked to end: by Ctrl-C, or by SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Comes when the program is asked to end.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// What comes of `work`; `None` if it was given up for an interrupt.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // Servers hear of Ctrl-C too: what they do then is no measurement.
            biased;
            () = self.came() => None,
            done = work => Some(done),
        }
    }
}

/// Runs on this thread what is to be told of an interrupt, and has to heed it.
///
/// # Errors
/// If the system has no event queue to give.
pub(crate) fn run<T>(work: impl AsyncFnOnce(&mut Interrupt) -> T) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = Interrupt {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        Ok(work(&mut interrupt).await)
    })
}
