//! How long something was waited for. It knows of nothing else, and every room may use it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Runs `future` to its end, and tells how long that took; zero if there was nothing to wait for, and then no clock is
/// looked at.
pub(crate) async fn waited<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => (output, Duration::ZERO),
        Poll::Pending => {
            let began = Instant::now();
            let output = future.await;
            (output, began.elapsed())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_ready_takes_no_time_and_what_is_not_takes_some() {
        assert_eq!(waited(async { 7 }).await, (7, Duration::ZERO));
        let (sender, receiver) = oneshot::channel();
        let waiting = tokio::spawn(waited(receiver));
        tokio::task::yield_now().await;
        sender.send(7).unwrap();
        let (received, time) = waiting.await.unwrap();
        assert!(received == Ok(7) && time > Duration::ZERO);
    }
}
