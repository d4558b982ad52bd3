//! HTTP/2 with TLS, in a closed loop: several streams over each connection, each of which asks as soon as it was answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::PATIENCE;
use super::answer::{Answer, Coding, Framing, Head};
use super::connection::Destination;
use super::expected::Expected;
use super::tally::{Said, Tally};

/// What a stream may receive before it says that it read it: more than any answer here has.
const WINDOW: u32 = 8 << 20;

/// A request that is asked again and again, and what its answer is.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) request: Request<()>,
    pub(crate) expected: Expected,
}

/// A run over HTTP/2.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) to: Destination,
    pub(crate) connections: usize,
    /// Of each connection.
    pub(crate) streams: usize,
    pub(crate) lasting: Duration,
}

impl Load {
    /// Asks questions in an order that is the same in each run.
    pub(crate) async fn run(self, questions: Arc<[Question]>) -> Tally {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let until = Instant::now() + self.lasting;
        let mut streams = JoinSet::new();
        let mut drivers = JoinSet::new();
        for connection in 0..self.connections {
            let sender = match connect(&self.to, &mut drivers).await {
                Ok(sender) => sender,
                Err(why) => {
                    lock(&tally).fails("connection", || why);
                    continue;
                }
            };
            for stream in 0..self.streams {
                let place = (connection * self.streams + stream) as u64;
                let (sender, tally) = (sender.clone(), Arc::clone(&tally));
                let questions = Arc::clone(&questions);
                streams.spawn(stream_of(sender, questions, place, until, tally));
            }
        }
        while let Some(joined) = streams.join_next().await {
            joined.expect("a stream does not panic");
        }
        drivers.abort_all();
        std::mem::take(&mut *lock(&tally))
    }
}

/// A connection that `drivers` keep going.
pub(crate) async fn connect(
    to: &Destination,
    drivers: &mut JoinSet<()>,
) -> Result<SendRequest<Bytes>, String> {
    let stream = to.connect().await.map_err(|broken| broken.to_string())?;
    let handshake = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(stream)
        .await;
    let (sender, connection) = handshake.map_err(|error| error.to_string())?;
    drivers.spawn(async move {
        // A connection that ends early shows in each of its streams.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn stream_of(
    mut sender: SendRequest<Bytes>,
    questions: Arc<[Question]>,
    seed: u64,
    until: Instant,
    tally: Arc<Mutex<Tally>>,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut body = Vec::new();
    while Instant::now() < until {
        let question = &questions[random.usize(..questions.len())];
        let sent = Instant::now();
        let answer = timeout(PATIENCE, ask(&mut sender, &question.request, &mut body)).await;
        let answered = Instant::now();
        let tally = &mut *lock(&tally);
        match answer {
            Err(_) => tally.fails("timeout", || "no answer in 30 seconds".to_owned()),
            Ok(Err(error)) => {
                tally.fails("connection", || error.to_string());
                // There is no other connection for this stream.
                return;
            }
            Ok(Ok(head)) => {
                let answer = Answer { head, body: &body };
                tally.hears(head.status, head.said, body.len());
                match question.expected.judge(&answer) {
                    Ok(()) => tally.answers(answered - sent, Duration::ZERO),
                    Err(wrong) => tally.fails(wrong.kind(), || wrong.to_string()),
                }
            }
        }
    }
}

async fn ask(
    sender: &mut SendRequest<Bytes>,
    request: &Request<()>,
    body: &mut Vec<u8>,
) -> Result<Head, h2::Error> {
    ask_with(sender, request.clone(), Bytes::new(), body).await
}

/// Sends a request with `content`, and receives its answer, whose body is in `body` then.
pub(crate) async fn ask_with(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
    content: Bytes,
    body: &mut Vec<u8>,
) -> Result<Head, h2::Error> {
    body.clear();
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (answer, mut stream) = sender.send_request(request, content.is_empty())?;
    if !content.is_empty() {
        stream.send_data(content, true)?;
    }
    let (head, mut content) = answer.await?.into_parts();
    while let Some(data) = content.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        content.flow_control().release_capacity(data.len())?;
    }
    let coding = head.headers.get("content-encoding");
    let said = head.headers.get("cache-status");
    Ok(Head {
        status: head.status.as_u16(),
        framing: Framing::Length(body.len()),
        coding: coding.map_or(Coding::Identity, |value| Coding::of(value.as_bytes())),
        said: said.map_or(Said::Nothing, |value| Said::of(value.as_bytes())),
        closes: false,
    })
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
