//! Where a connection stands between two requests, or within one.
//!
//! It is shared by whoever knows when that changes: the connection's stream sees bytes come, and whoever reads a header
//! knows that it is whole, and how long its body is. The socket asks whether what comes is in haste.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Where a connection stands: what of a request it waits for.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    awaited: AtomicU8,
    /// A [`Rest`], by its number.
    rest: AtomicU64,
    is_forsaken: AtomicBool,
}

/// What is still to come of the request that is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// So many bytes.
    Bytes(u64),
    /// Chunks, of which the last one tells that it is.
    Chunks,
    /// Whatever comes: a tunnel, or streams.
    All,
}

impl Rest {
    const CHUNKS: u64 = u64::MAX - 1;
    const ALL: u64 = u64::MAX;

    fn number(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Chunks => Self::CHUNKS,
            Self::All => Self::ALL,
        }
    }
}

impl Exchange {
    /// A request is waited for.
    pub(super) fn begin(&self) {
        // The first one is waited for from the beginning.
        if self.awaited() == Awaited::Nothing {
            self.set(Awaited::Next);
        }
    }

    /// The whole header of a request is there, and this is still to come.
    pub(super) fn end(&self, rest: Rest) {
        self.rest.store(rest.number(), Ordering::Relaxed);
        self.set(Awaited::Nothing);
    }

    /// What is still to come of the request that is being answered.
    pub(super) fn rest(&self) -> Rest {
        match self.rest.load(Ordering::Relaxed) {
            Rest::CHUNKS => Rest::Chunks,
            Rest::ALL => Rest::All,
            bytes => Rest::Bytes(bytes),
        }
    }

    /// Nothing more is taken from the client.
    pub(super) fn forsake(&self) {
        self.is_forsaken.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is taken from the client.
    pub(super) fn is_forsaken(&self) -> bool {
        self.is_forsaken.load(Ordering::Relaxed)
    }

    /// So many bytes of the rest have come.
    pub(super) fn some_of_rest_came(&self, bytes: u64) {
        self.rest.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A handshake of TLS comes before the first request.
    pub(super) fn begin_handshake(&self) {
        self.set(Awaited::Handshake);
    }

    /// The handshake is over, and nothing of a request has come.
    pub(super) fn end_handshake(&self) {
        self.set(Awaited::First);
    }

    /// Whether what comes may wait until others were looked at: all but what may be a request as a whole. The rest of a header
    /// that came in pieces waits, and any body.
    pub(super) fn may_wait(&self) -> bool {
        match self.awaited() {
            Awaited::First | Awaited::Next => false,
            Awaited::Handshake | Awaited::FirstBegun | Awaited::NextBegun => true,
            // Requests of HTTP/2 come among others' bodies, and what a WebSocket says is short.
            Awaited::Nothing => self.rest() != Rest::All,
        }
    }

    /// Something of the header that is waited for has come.
    pub(super) fn some_came(&self) {
        match self.awaited() {
            Awaited::First => self.set(Awaited::FirstBegun),
            Awaited::Next => self.set(Awaited::NextBegun),
            Awaited::FirstBegun | Awaited::NextBegun | Awaited::Nothing | Awaited::Handshake => {}
        }
    }

    /// What came was no part of a header.
    pub(super) fn nothing_came(&self) {
        match self.awaited() {
            Awaited::FirstBegun => self.set(Awaited::First),
            Awaited::NextBegun => self.set(Awaited::Next),
            Awaited::First | Awaited::Next | Awaited::Nothing | Awaited::Handshake => {}
        }
    }

    /// What is waited for.
    pub(super) fn awaited(&self) -> Awaited {
        Awaited::ALL[usize::from(self.awaited.load(Ordering::Relaxed))]
    }

    // A connection is of one thread, so nobody else sets it between a look and this.
    fn set(&self, awaited: Awaited) {
        self.awaited.store(awaited as u8, Ordering::Relaxed);
    }
}

/// What is waited for; an [`Exchange`] holds it by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaited {
    /// The first request, before the deadline of the connection. Nothing of it has come.
    First,
    /// The same, and a part of its header has come.
    FirstBegun,
    /// A further request, of which nothing has come.
    Next,
    /// A part of its header has come.
    NextBegun,
    /// Nothing: a request is being answered.
    Nothing,
    /// A handshake of TLS.
    Handshake,
}

impl Awaited {
    /// All, in the order of their numbers.
    const ALL: [Self; 6] = [
        Self::First,
        Self::FirstBegun,
        Self::Next,
        Self::NextBegun,
        Self::Nothing,
        Self::Handshake,
    ];
}
