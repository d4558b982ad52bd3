//! The threads that serve: each has a runtime of its own, accepts for itself, and answers what it accepted.
//!
//! Nothing moves between threads, which on the hit path costs a third less than a runtime that shares its work.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::server::ShutdownWatch;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::watch;

use super::certificates::TlsListener;
use super::connection;
use super::http1::Application;
use super::shared::{Phase, Rules, Shared};
use super::turns::Turns;
use crate::ops::metrics::Metrics;

/// How long a listener rests that cannot accept because the system has no descriptor or no memory to give. The connection
/// waits in the kernel meanwhile, and other listeners and all open connections go on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After so many polls of tasks a thread looks which sockets have something to say. Who asks while others keep the thread
/// busy is heard of after that many of theirs: tokio's own 61 are more than a millisecond of floods. He is polled after all
/// who were heard of before, few of whom [`Turns`] lets do much.
const EVENT_INTERVAL: u32 = 8;

/// A bound socket, and whether it speaks TLS.
pub struct Listener {
    /// The socket; others may share it.
    pub socket: TcpListener,
    /// Its certificates; `None`: it speaks plain HTTP.
    pub tls: Option<TlsListener>,
}

/// How connections are ended that wait for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// At once.
    Quick,
    /// When they have had one more, which loses none of those that are under way.
    Patient,
}

/// Threads that serve.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    runtimes: Vec<RuntimeMetrics>,
    accepting: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    phase: watch::Sender<Phase>,
    /// Tells Pingora to end the connections that it has after their next answer; `phase` tells it of the others.
    shutdown: watch::Sender<bool>,
}

impl Workers {
    /// Starts `count` threads, which accept from all `listeners` for `app`.
    ///
    /// # Errors
    ///
    /// When the system has no thread, descriptor or event queue to give.
    pub fn start<A>(
        count: usize,
        listeners: &[Listener],
        rules: Arc<Rules>,
        app: A,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self>
    where
        A: Application,
    {
        let phase = watch::Sender::new(Phase::Serving);
        let shared = Arc::new(Shared {
            app: Arc::new(app),
            rules,
            places: Arc::default(),
            metrics,
            open: Arc::default(),
            lingering: AtomicUsize::new(0),
            phase: phase.clone(),
            accepting: Arc::default(),
        });
        let mut workers = Self {
            threads: Vec::with_capacity(count),
            runtimes: Vec::with_capacity(count),
            accepting: Arc::clone(&shared.accepting),
            open: Arc::clone(&shared.open),
            phase,
            shutdown: watch::Sender::new(false),
        };
        for number in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .build()?;
            let turns = Turns::default();
            let mut loops = Vec::with_capacity(listeners.len());
            for listener in listeners {
                loops.push(AcceptLoop::new(
                    listener,
                    Arc::clone(&shared),
                    turns.clone(),
                    workers.shutdown.subscribe(),
                )?);
            }
            workers.runtimes.push(runtime.metrics());
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("vms-edge-{number}"));
            let thread = thread.spawn(move || {
                seed();
                runtime.block_on(work(loops, shared));
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// How busy each thread is, by its number.
    pub fn runtimes(&self) -> Vec<(String, RuntimeMetrics)> {
        let runtimes = self.runtimes.iter().cloned().enumerate();
        let named = runtimes.map(|(number, runtime)| (number.to_string(), runtime));
        named.collect()
    }

    /// No more connections, and on those that there are one more request at the most.
    ///
    /// Only our own descriptors of the listening sockets are closed: what waits in the kernel is for whoever else has
    /// one. A patient drain may become a quick one.
    pub fn drain(&self, drain: Drain) {
        let phase = match drain {
            Drain::Patient => Phase::Patient,
            Drain::Quick => Phase::Quick,
        };
        self.shutdown.send_replace(true);
        self.phase.send_if_modified(|now| {
            let goes_on = *now < phase;
            *now = (*now).max(phase);
            goes_on
        });
    }

    /// Whether any thread still accepts connections.
    pub fn accepts(&self) -> bool {
        self.accepting.load(Ordering::SeqCst) > 0
    }

    /// How many connections are open, those included whose request has not come yet.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Ends all threads, whatever they do.
    pub fn stop_serving(self) {
        self.shutdown.send_replace(true);
        self.phase.send_replace(Phase::Over);
        for thread in self.threads {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }
}

/// Lets this thread draw other numbers than any other thread of any process: fastrand's own seed is made of the time, but
/// what is drawn of it, such as the ids of requests and traces, meets in one place.
fn seed() {
    let mut drawn = [0; 8];
    // A system without randomness has not got as far as this: the secret of the process was drawn before.
    if getrandom::fill(&mut drawn).is_ok() {
        fastrand::seed(u64::from_le_bytes(drawn));
    }
}

/// What one thread does.
async fn work<A>(loops: Vec<AcceptLoop<A>>, shared: Arc<Shared<A>>)
where
    A: Application,
{
    let mut phase = shared.phase.subscribe();
    for accept in loops {
        tokio::spawn(accept.run());
    }
    // Its sender lives for as long as `shared` does.
    let _ = phase.wait_for(|phase| *phase >= Phase::Quick).await;
    shared.app.proxy().http_cleanup().await;
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
}

/// Takes connections from one socket.
struct AcceptLoop<A> {
    socket: TcpListener,
    tls: Option<TlsListener>,
    shared: Arc<Shared<A>>,
    /// Of this thread.
    turns: Turns,
    shutdown: ShutdownWatch,
    _accepting: Accepting,
}

impl<A> AcceptLoop<A>
where
    A: Application,
{
    fn new(
        listener: &Listener,
        shared: Arc<Shared<A>>,
        turns: Turns,
        shutdown: ShutdownWatch,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: listener.socket.try_clone()?,
            tls: listener.tls.clone(),
            _accepting: Accepting::new(&shared.accepting),
            shared,
            turns,
            shutdown,
        })
    }

    async fn run(self) {
        let socket = tokio::net::TcpListener::from_std(self.socket)
            .expect("a bound listener can be registered");
        let mut phase = self.shared.phase.subscribe();
        let mut is_exhausted = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    is_exhausted = false;
                    tokio::spawn(connection::serve(
                        Arc::clone(&self.shared),
                        self.tls.clone(),
                        self.turns.clone(),
                        stream,
                        peer,
                        self.shutdown.clone(),
                    ));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Said once for each time of need, not for each connection.
                    if !is_exhausted {
                        tracing::error!(%error, "no connection can be accepted now");
                    }
                    is_exhausted = true;
                    tokio::select! {
                        biased;
                        _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Whether the connection failed before it was accepted, which says nothing of the next one (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut
    )
}

/// Counts an accept loop for as long as it lives.
struct Accepting(Arc<AtomicUsize>);

impl Accepting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
