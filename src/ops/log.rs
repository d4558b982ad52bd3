//! Logs: lines to stderr, written by a thread of their own, so that a slow reader slows no request.
//!
//! The edge's own events follow `log.level`. Of the libraries only warnings are let through, whatever the level: what
//! they say in detail quotes request headers, and so could hold a token. Some of their warnings do too, and are left out.
//!
//! `admin/log` is the handler of `/log`, which changes the level.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{self, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// The target of access lines.
pub const ACCESS: &str = "vms_edge::access";

/// Keeps the log's thread alive; what is still to be written is written when it is dropped.
#[must_use = "dropping it ends the log"]
pub struct LogGuard {
    _worker: WorkerGuard,
    control: Control,
}

/// What can be asked of a running log, and changed about it.
#[derive(Clone)]
pub struct Control {
    dropped: ErrorCounter,
    refused: Arc<AtomicUsize>,
    level: Arc<Mutex<Level>>,
    filter: reload::Handle<Targets, Registry>,
    form: Form,
}

/// How lines are written; clones are handles to the same choice.
#[derive(Clone)]
struct Form {
    is_json: Arc<AtomicBool>,
    text: Format,
    json: Format<format::Json>,
}

impl Form {
    fn new(form: LogFormat) -> Self {
        let json = Format::default().json().flatten_event(true);
        Self {
            is_json: Arc::new(AtomicBool::new(form == LogFormat::Json)),
            text: Format::default().with_ansi(false),
            json: json.with_ansi(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        match self.is_json.load(Ordering::Relaxed) {
            true => self.json.format_event(context, line, event),
            false => self.text.format_event(context, line, event),
        }
    }
}

impl LogGuard {
    /// For whoever looks after the log.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Control {
    /// Lines that were dropped because stderr was too slow, or took none.
    pub fn dropped(&self) -> usize {
        let refused = self.refused.load(Ordering::Relaxed);
        self.dropped.dropped_lines().saturating_add(refused)
    }

    /// The level in effect.
    pub fn level(&self) -> Level {
        *self.level.lock()
    }

    /// Lets what a configuration says of the log take effect.
    pub fn apply(&self, log: &Log) {
        let is_json = log.format == LogFormat::Json;
        self.form.is_json.store(is_json, Ordering::Relaxed);
        self.set_level(log.level);
    }

    /// Lets another level take effect, until the next change; what libraries may say stays as it is.
    ///
    /// Each place in the code that logs is told whether it is wanted, so that one that is not costs as little as before.
    pub fn set_level(&self, level: Level) {
        let mut in_effect = self.level.lock();
        if self.filter.reload(filter(level)).is_ok() {
            *in_effect = level;
        }
    }
}

/// Starts logging for the whole process.
///
/// # Errors
///
/// When logging was started before.
pub fn start(log: &Log) -> Result<LogGuard, TryInitError> {
    let stderr = Counting::new(io::stderr());
    let refused = Arc::clone(&stderr.refused);
    let (writer, worker) = writer(stderr, MAX_WAITING);
    let dropped = writer.error_counter();
    let form = Form::new(log.format);
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .event_format(form.clone());
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let layer = lines.with_filter(filter);
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(LogGuard {
        _worker: worker,
        control: Control {
            dropped,
            refused,
            level: Arc::new(Mutex::new(log.level)),
            filter: handle,
            form,
        },
    })
}

/// Lines that wait until they are written; beyond them, lines are dropped and counted.
const MAX_WAITING: usize = 128_000;

/// Writes to `to` on a thread of its own: whoever has a line to write never waits for it.
fn writer(to: impl io::Write + Send + 'static, most_waiting: usize) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .thread_name("vms-edge-log")
        .buffered_lines_limit(most_waiting)
        .lossy(true)
        .finish(to)
}

/// Counts the lines that could not be written, as when the disk is full; each comes in one piece.
struct Counting<W> {
    to: W,
    refused: Arc<AtomicUsize>,
}

impl<W> Counting<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            refused: Arc::default(),
        }
    }
}

impl<W: io::Write> io::Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line);
        if written.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Where libraries quote in warnings what came over the wire, or complain of clients one by one.
const QUOTING: [&str; 6] = [
    // Malformed headers, as they came. What else it says, request by request, the access line and the edge's own
    // warnings say too.
    "pingora_proxy",
    // The value of a Content-Length that is no number.
    "pingora_core::protocols::http::v1::common",
    // Accept-Encoding.
    "pingora_core::protocols::http::compression",
    // What a client does wrong at the beginning of HTTP/2: anybody can make as many of these as he likes.
    "pingora_core::apps",
    // The names that clients ask for before anybody knows them.
    "rustls",
    // Headers of answers over HTTP/2.
    "pingora_core::protocols::http::v2::client",
];

fn filter(level: Level) -> Targets {
    // What the filter lets through, the libraries compose, read or not; and what Pingora traces it composes with an
    // unwrap, of bytes that the VMS chose. The edge itself says nothing at this level.
    let level = level.min(Level::DEBUG);
    Targets::new()
        .with_default(LevelFilter::WARN.min(LevelFilter::from_level(level)))
        .with_target("vms_edge", level)
        .with_targets(QUOTING.map(|target| (target, LevelFilter::OFF)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn nobody_waits_for_a_full_pipe_and_each_line_is_written_or_counted() {
        let (mut pipe, full) = io::pipe().unwrap();
        let (mut writer, worker) = writer(full, 100);
        let dropped = writer.error_counter();
        let line = [b'x'; 999];
        let mut lines = 0;
        // As nobody reads, the pipe and then the queue are full after a while; if writing waited, this would not end.
        while dropped.dropped_lines() < 50 {
            writer.write_all(&[&line[..], b"\n"].concat()).unwrap();
            lines += 1;
        }
        let read = std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).unwrap();
            text.iter().filter(|&&byte| byte == b'\n').count()
        });
        drop((writer, worker));
        assert_eq!(read.join().unwrap(), lines - dropped.dropped_lines());
    }

    #[test]
    fn each_line_that_cannot_be_written_is_counted_and_the_next_ones_are_tried() {
        struct Full(usize);

        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match self.0.checked_sub(1) {
                    Some(left) => self.0 = left,
                    None => return Ok(bytes.len()),
                }
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let counting = Counting::new(Full(3));
        let refused = Arc::clone(&counting.refused);
        let (mut writer, worker) = writer(counting, 100);
        for _ in 0..5 {
            writer.write_all(b"line\n").unwrap();
        }
        drop((writer, worker));
        assert_eq!(refused.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn libraries_may_warn_but_neither_say_details_nor_quote_whatever_the_level() {
        let all = filter(Level::TRACE);
        assert!(all.would_enable("vms_edge::batch", &Level::DEBUG));
        let body = "pingora_core::protocols::http::v1::body";
        assert!(all.would_enable(body, &Level::WARN));
        assert!(!all.would_enable(body, &Level::INFO));
        assert!(!all.would_enable("hyper::proto::h1::io", &Level::DEBUG));
        for quoting in [
            "pingora_proxy",
            "pingora_proxy::proxy_h1",
            "pingora_core::protocols::http::v1::common",
            "pingora_core::protocols::http::compression",
            "pingora_core::protocols::http::v2::client",
        ] {
            assert!(!all.would_enable(quoting, &Level::ERROR), "{quoting}");
        }
    }

    #[test]
    fn a_higher_level_leaves_out_what_is_below_it() {
        let errors = filter(Level::ERROR);
        for target in ["vms_edge::batch", "pingora_core::listeners"] {
            assert!(errors.would_enable(target, &Level::ERROR));
            assert!(!errors.would_enable(target, &Level::WARN));
        }
        assert!(!filter(Level::WARN).would_enable(ACCESS, &Level::INFO));
    }
}
