//! The way of spans to the collector: in batches, by OTLP over HTTP, on a connection of its own for each.
//!
//! Batches are far enough apart for that to cost nothing, and so each finds the collector wherever its name leads by then.
//! What it does not take is dropped: who wants nothing lost lets it go through a collector of his own near by, which has
//! the queues and the retries that do not belong here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::otlp;
use super::{Metrics, Span, SpanResult};
use crate::config::{Collector, Tracing};

/// Most spans in a batch.
const MAX_BATCH: usize = 512;

/// How long the first span of a batch waits for others.
const PAUSE: Duration = Duration::from_secs(1);

/// Most bytes of the collector's answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// The task that exports spans.
pub struct Export {
    settings: watch::Sender<Tracing>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Why the collector has not taken a batch.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error("its name cannot be resolved: {0}")]
    Unresolved(std::io::Error),
    #[error("no connection: {0}")]
    Unreached(std::io::Error),
    #[error("no answer: {0}")]
    Broken(#[from] hyper::Error),
    #[error("status {}", .0.as_u16())]
    Refused(StatusCode),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl Export {
    /// Begins to export what comes out of `queue`, on `runtime`.
    pub fn start(
        runtime: &Handle,
        queue: mpsc::Receiver<Span>,
        tracing: &Tracing,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = watch::Sender::new(tracing.clone());
        let stop = watch::Sender::new(false);
        let exporter = Exporter {
            queue,
            settings: settings.subscribe(),
            stop: stop.subscribe(),
            instance: format!("{:032x}", fastrand::u128(..)),
            is_failing: false,
            metrics,
        };
        Self {
            settings,
            stop,
            task: Mutex::new(Some(runtime.spawn(exporter.run()))),
        }
    }

    /// Exports by other settings from now on.
    pub fn apply(&self, tracing: &Tracing) {
        self.settings.send_replace(tracing.clone());
    }

    /// Exports what is left, for as long as one batch may take, and ends.
    pub async fn finish(&self) {
        let Some(task) = self.task.lock().take() else {
            return;
        };
        let longest = self.settings.borrow().timeout;
        self.stop.send_replace(true);
        if timeout(longest, task).await.is_err() {
            tracing::warn!(?longest, "the last spans were not taken in time");
        }
    }
}

struct Exporter {
    queue: mpsc::Receiver<Span>,
    settings: watch::Receiver<Tracing>,
    stop: watch::Receiver<bool>,
    /// Tells this process from others.
    instance: String,
    is_failing: bool,
    metrics: Arc<Metrics>,
}

impl Exporter {
    async fn run(mut self) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                received = self.queue.recv_many(&mut batch, MAX_BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                // What is in the queue can still be taken out of it.
                _ = self.stop.wait_for(|stop| *stop), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            }
            if batch.len() < MAX_BATCH {
                // Its sender lives for as long as anybody waits for the end.
                let _ = timeout(PAUSE, self.stop.wait_for(|stop| *stop)).await;
                while batch.len() < MAX_BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    batch.push(span);
                }
            }
            self.export(batch).await;
        }
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let tracing = self.settings.borrow().clone();
        let count = batch.len();
        let Some(collector) = &tracing.endpoint else {
            // Made before a reload that ended them.
            return self.metrics.spans(SpanResult::Dropped, count);
        };
        let request = otlp::Request::of(batch, &tracing.service_name, &self.instance);
        let sent = timeout(tracing.timeout, send(collector, request.encode_to_vec()));
        let sent = sent
            .await
            .unwrap_or(Err(Untaken::TimedOut(tracing.timeout)));
        match &sent {
            Err(error) if !self.is_failing => {
                tracing::warn!(%collector, %error, "the collector takes no spans; they are dropped");
            }
            Ok(_) if self.is_failing => {
                tracing::info!(%collector, "the collector takes spans again")
            }
            _ => {}
        }
        self.is_failing = sent.is_err();
        let rejected = sent.map_or(count, |answer| answer.rejected(count));
        self.metrics.spans(SpanResult::Dropped, rejected);
        self.metrics.spans(SpanResult::Exported, count - rejected);
    }
}

/// Sends a batch, and returns what the collector says of it.
async fn send(collector: &Collector, body: Vec<u8>) -> Result<otlp::Response, Untaken> {
    let server = &collector.server;
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port));
    let addresses: Vec<_> = addresses.await.map_err(Untaken::Unresolved)?.collect();
    let stream = TcpStream::connect(&addresses[..]).await;
    let stream = stream.map_err(Untaken::Unreached)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(format!("{}/v1/traces", collector.path))
        .header(header::HOST, server.to_string())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(
            header::USER_AGENT,
            concat!("vms-edge/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .expect("the configuration was checked, and the rest is constant");
    let exchange = async {
        let answer = sender.send_request(request).await?;
        if !answer.status().is_success() {
            return Err(Untaken::Refused(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        // It has said that it took them; what it says beyond that it may leave out.
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(otlp::Response::decode(body).unwrap_or_default())
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection's end may be the end of the answer.
        driven = connection => {
            let answer = exchange.await;
            driven?;
            answer
        }
    }
}
