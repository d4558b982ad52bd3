//! Bodies that do not simply lie in memory: chunked, cut short, endless, or given out step by step.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{Semaphore, mpsc};

use super::health::Health;

/// The body of any answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How many bytes an endless body gives out at a time.
const ENDLESS_CHUNK: usize = 4096;

/// The whole body at once, with its length announced.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(infallible).boxed_unsync()
}

/// The whole body at once, of unannounced length and therefore chunked.
pub(crate) fn chunked(bytes: Bytes) -> Body {
    Unannounced(Full::new(bytes))
        .map_err(infallible)
        .boxed_unsync()
}

/// Some bytes, then the end of the connection instead of the end of the body.
pub(crate) fn cut(bytes: Bytes) -> Body {
    Cut::Whole(bytes).boxed_unsync()
}

/// An array that never ends.
pub(crate) fn endless(health: &Arc<Health>) -> Body {
    let chunk = Bytes::from(vec![b' '; ENDLESS_CHUNK]);
    fed(health, async move |chunks| {
        let mut next = Bytes::from_static(b"[");
        while chunks.send(next).await.is_ok() {
            next = chunk.clone();
        }
    })
}

/// One byte each `period`.
pub(crate) fn drip(health: &Arc<Health>, bytes: Bytes, period: Duration) -> Body {
    fed(health, async move |chunks| {
        let mut ticks = tokio::time::interval(period);
        for at in 0..bytes.len() {
            ticks.tick().await;
            if chunks.send(bytes.slice(at..=at)).await.is_err() {
                return;
            }
        }
    })
}

/// One piece for each permit of `steps`.
pub(crate) fn stepwise(
    health: &Arc<Health>,
    steps: Arc<Semaphore>,
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Body {
    fed(health, async move |chunks| {
        for piece in pieces {
            let step = tokio::select! {
                step = steps.acquire() => step,
                () = chunks.closed() => return,
            };
            let Ok(step) = step else { return };
            step.forget();
            if chunks.send(piece).await.is_err() {
                return;
            }
        }
    })
}

/// A body fed by a task of its own, which ends at the latest when the body is dropped.
fn fed<F>(health: &Arc<Health>, feed: impl FnOnce(mpsc::Sender<Bytes>) -> F) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let watch = health.watch();
    let feeding = feed(sender);
    tokio::spawn(async move {
        let _watch = watch;
        feeding.await;
    });
    Fed(receiver).boxed_unsync()
}

fn infallible(never: Infallible) -> io::Error {
    match never {}
}

struct Unannounced(Full<Bytes>);

impl HttpBody for Unannounced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

enum Cut {
    Whole(Bytes),
    /// One turn in which nothing is ready makes the server write out what it has.
    Flushing,
    Broken,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match std::mem::replace(&mut *self, Cut::Broken) {
            Cut::Whole(bytes) => {
                *self = Cut::Flushing;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Cut::Flushing => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Cut::Broken => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        }
    }
}

struct Fed(mpsc::Receiver<Bytes>);

impl HttpBody for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = self.0.poll_recv(context);
        chunk.map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}
