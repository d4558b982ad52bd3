//! The threads that serve: each has a runtime of its own, accepts for itself, and answers what it accepted.
//!
//! Nothing moves between threads, which on the hit path costs a third less than a runtime that shares its work. (Pingora
//! has such runtimes too, but it remembers them by a thread number that the system gives out again, so that a process
//! could have them only once.)

use std::io;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::listeners::{ListenerConfig, Listeners};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use pingora_proxy::HttpProxy;
use tokio::sync::watch;

use super::EdgeProxy;

/// Bytes buffered towards a client: header and body of a usual hit leave in one write.
const WRITE_BUFFER_BYTES: usize = 32 << 10;

/// Bytes read from a client at once. Together with the write buffer this is what an idle connection costs.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// Threads that serve.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// How many threads still accept.
    accept: Arc<AtomicUsize>,
    accepting: watch::Sender<bool>,
    serving: watch::Sender<bool>,
}

impl Workers {
    /// Starts `count` threads that accept from all `listeners`.
    ///
    /// # Errors
    ///
    /// When the system has no thread, descriptor or event queue to give.
    pub fn start(
        count: usize,
        listeners: &[TcpListener],
        proxy: HttpProxy<EdgeProxy>,
    ) -> io::Result<Self> {
        let proxy = Arc::new(proxy);
        let mut workers = Self {
            threads: Vec::with_capacity(count),
            accept: Arc::new(AtomicUsize::new(count)),
            accepting: watch::Sender::new(false),
            serving: watch::Sender::new(false),
        };
        for number in 0..count {
            let worker = Worker {
                service: service(listeners, Shared(Arc::clone(&proxy)))?,
                fds: descriptors(listeners)?,
                accept: Arc::clone(&workers.accept),
                stop_accepting: workers.accepting.subscribe(),
                stop_serving: workers.serving.subscribe(),
                runtime: tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?,
            };
            let thread = std::thread::Builder::new().name(format!("vms-edge-{number}"));
            workers.threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(workers)
    }

    /// No more connections, and no more requests on those that there are.
    pub fn stop_accepting(&self) {
        self.accepting.send_replace(true);
    }

    /// Whether any thread still takes a new connection or request.
    pub fn accept(&self) -> bool {
        self.accept.load(Ordering::SeqCst) > 0
    }

    /// Ends all threads, whatever they do.
    pub fn stop_serving(self) {
        self.serving.send_replace(true);
        for thread in self.threads {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }
}

struct Worker {
    runtime: tokio::runtime::Runtime,
    service: Service<Shared>,
    fds: ListenFds,
    accept: Arc<AtomicUsize>,
    stop_accepting: ShutdownWatch,
    stop_serving: watch::Receiver<bool>,
}

impl Worker {
    fn run(mut self) {
        self.runtime.block_on(async {
            self.service
                .start_service(Some(self.fds), self.stop_accepting, 1)
                .await;
            self.accept.fetch_sub(1, Ordering::SeqCst);
            // Its sender lives until the threads have ended.
            let _ = self.stop_serving.wait_for(|stop| *stop).await;
        });
    }
}

fn service(listeners: &[TcpListener], proxy: Shared) -> io::Result<Service<Shared>> {
    let buffers = L4BufferSettings::default()
        .read(READ_BUFFER_BYTES)
        .write(WRITE_BUFFER_BYTES);
    let mut endpoints = Listeners::new();
    for listener in listeners {
        let address = listener.local_addr()?.to_string();
        endpoints.add_listener(ListenerConfig::tcp(address).l4_buffer(buffers));
    }
    let name = "vms-edge".to_owned();
    Ok(Service::with_listeners(name, endpoints, proxy))
}

/// A descriptor of each listener for one thread, under the address by which Pingora looks for it.
fn descriptors(listeners: &[TcpListener]) -> io::Result<ListenFds> {
    let mut fds = Fds::new();
    for listener in listeners {
        let address = listener.local_addr()?.to_string();
        fds.add(address, listener.try_clone()?.into_raw_fd());
    }
    Ok(Arc::new(parking_lot::Mutex::new(fds)))
}

/// One proxy, with its pool of connections to the VMS, for all threads.
struct Shared(Arc<HttpProxy<EdgeProxy>>);

#[async_trait]
impl HttpServerApp for Shared {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.0.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.0.server_options()
    }

    async fn http_cleanup(&self) {
        self.0.http_cleanup().await;
    }
}
