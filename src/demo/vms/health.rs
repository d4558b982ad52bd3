//! Panics of the stand-in's tasks, which would otherwise pass as an upstream that closes its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Health {
    panics: AtomicUsize,
}

/// Counts a panic if it is dropped by one.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Health>);

impl Health {
    pub(crate) fn watch(self: &Arc<Self>) -> Watch {
        Watch(Arc::clone(self))
    }

    pub(crate) fn panics(&self) -> usize {
        self.panics.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.fetch_add(1, Ordering::AcqRel);
            tracing::error!("a task of the stand-in VMS panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_watched_task_is_counted() {
        let health = Arc::new(Health::default());
        for panics in [false, true] {
            let watch = health.watch();
            let task = tokio::spawn(async move {
                let _watch = watch;
                assert!(!panics, "as asked");
            });
            assert_eq!(task.await.is_err(), panics);
        }
        assert_eq!(health.panics(), 1);
    }
}
