//! The heads of requests as they came over the wire: the case of names and the order of fields, which the server's
//! parsed form no longer has.
//!
//! A tap on the connection keeps what was read; once a head has been parsed, it is found again in there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::HeaderMap;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much of what was read is kept at most; no head is that long.
const MAX_KEPT: usize = 1 << 20;

/// What was read from a connection since its last head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// The fields of a head that has just been parsed, and forgets everything up to its end.
    pub(crate) fn fields_of(&self, parts: &Parts) -> Vec<(String, String)> {
        let mut heard = self.lock();
        let start = format!("{} ", parts.method).into_bytes();
        for at in 0..heard.len() {
            if !heard[at..].starts_with(&start) {
                continue;
            }
            if let Some((fields, length)) = fields(&heard[at..], &parts.headers) {
                heard.drain(..at + length);
                return fields;
            }
        }
        let parsed = parts.headers.iter();
        parsed
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect()
    }

    fn keep(&self, bytes: &[u8]) {
        let mut heard = self.lock();
        heard.extend(bytes);
        if heard.len() > MAX_KEPT {
            let surplus = heard.len() - MAX_KEPT / 2;
            heard.drain(..surplus);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a head's fields and its length, if it is the one that was parsed into `parsed`.
fn fields(heard: &[u8], parsed: &HeaderMap) -> Option<(Vec<(String, String)>, usize)> {
    let length = heard.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = text(&heard[..length]);
    let mut fields = Vec::new();
    for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let all = parsed.get_all(name).iter();
        if !all
            .map(|value| text(value.as_bytes()))
            .any(|it| it == value)
        {
            return None;
        }
        fields.push((name.to_owned(), value.to_owned()));
    }
    (fields.len() == parsed.len()).then_some((fields, length))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A connection that lets somebody listen to what is read from it.
pub(crate) struct Tap {
    pub(crate) stream: TcpStream,
    pub(crate) heard: Option<Heard>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(heard) = &self.heard {
            heard.keep(&buffer.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
