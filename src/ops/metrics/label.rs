//! The labels of metrics: each a closed set of values.

use http::StatusCode;

use crate::cache::marks::Scope;
use crate::config::Coding;
use crate::origin::answer::Unfit;
use crate::origin::fetch::FetchError;
use crate::origin::server::ServerState;
use crate::reply::cache_status::BatchResult;
use crate::request::decline::Bypass;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of their discriminants.
    const ALL: &'static [Self];
    /// The value as it is written.
    fn name(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn place(self) -> usize;
}

/// Makes a set with its names, or a label of a set that has its names already.
macro_rules! label {
    ($(#[$doc:meta])* $set:ident as $label:literal { $($(#[$value_doc:meta])* $value:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set { $($(#[$value_doc])* $value,)* }

        label!($set, $label, &[$($set::$value,)*], value => match value { $($set::$value => $name,)* });
    };
    ($set:ident as $label:literal) => {
        label!($set, $label, &$set::ALL, value => value.name());
    };
    ($set:ident, $label:literal, $all:expr, $value:ident => $name:expr) => {
        impl Label for $set {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = $all;
            fn name(self) -> &'static str {
                let $value = self;
                $name
            }
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What was known about an asked id.
    ItemResult as "result" {
        /// A usable item.
        Fresh = "fresh",
        /// A stale item, answered while it is refreshed.
        Stale = "stale",
        /// Known to be absent.
        Absent = "absent",
        /// Nothing usable.
        Missing = "missing",
    }
}

label! {
    /// What came of a fetch.
    FetchOutcome as "outcome" {
        /// A 200 whose items were stored.
        Stored = "stored",
        /// A 200 that does not fit; relayed or passed through.
        Unfit = "unfit",
        /// Another status; relayed.
        Status = "status",
        /// No connection.
        Connect = "connect",
        /// Not complete in time.
        Timeout = "timeout",
        /// Broke off, or was not HTTP.
        Broken = "broken",
        /// No turn in time.
        Busy = "busy",
        /// Not sent: the VMS is left alone, its breaker is open.
        Open = "open",
        /// Larger than the edge holds.
        TooLarge = "too_large",
    }
}

label! {
    /// What a client connects to.
    ListenerKind as "listener" {
        /// Plain HTTP.
        Plain = "plain",
        /// TLS.
        Tls = "tls",
    }
}

label! {
    /// Why a connection was closed before any request.
    ConnectionRefusal as "reason" {
        /// There are too many.
        Total = "total",
        /// There are too many of its address.
        Address = "address",
        /// Its address comes too often.
        Pace = "address_connection_rate",
        /// It did not begin with a PROXY header of a trusted proxy.
        ProxyProtocol = "proxy_protocol",
    }
}

label! {
    /// What came of a TLS handshake.
    Handshake as "result" {
        /// Done.
        Ok = "ok",
        /// Broken off, by whomever, or not done in time.
        Failed = "failed",
    }
}

label! {
    /// What came of a certificate that has changed.
    CertificateReload as "result" {
        /// It serves.
        Applied = "applied",
        /// The one before it serves on.
        Refused = "refused",
    }
}

label! {
    /// What kind of request it was.
    RequestKind as "kind" {
        /// On a batch path, answered by the edge.
        Batch = "batch",
        /// Passed through.
        Pass = "pass",
    }
}

label! {
    /// What became of an attempt to let a successor take over.
    UpgradeResult as "result" {
        /// The successor accepts.
        HandedOver = "handed_over",
        /// It did not come to that.
        Failed = "failed",
    }
}

label! {
    /// What became of a reload of the configuration.
    ReloadResult as "result" {
        /// It is in effect.
        Applied = "applied",
        /// The file was not taken.
        Refused = "refused",
    }
}

label! {
    /// How a request was answered: the class of the status (RFC 9110, 15).
    StatusClass as "status" {
        /// The protocol was switched.
        Informational = "1xx",
        /// It was done.
        Successful = "2xx",
        /// There is something elsewhere, or nothing new.
        Redirection = "3xx",
        /// The client's fault.
        ClientError = "4xx",
        /// The edge's, or the VMS's.
        ServerError = "5xx",
        /// Not at all: the client left before.
        NoAnswer = "none",
    }
}

impl StatusClass {
    /// Of the status that was answered with, if there was one.
    pub fn of(status: Option<StatusCode>) -> Self {
        match status.map(|status| status.as_u16()) {
            Some(..200) => Self::Informational,
            Some(200..300) => Self::Successful,
            Some(300..400) => Self::Redirection,
            Some(400..500) => Self::ClientError,
            Some(500..) => Self::ServerError,
            None => Self::NoAnswer,
        }
    }
}

label! {
    /// Which rate limit a request was over.
    LimitedBy as "by" {
        /// That of its token.
        User = "user",
        /// That of its client's address.
        Address = "address",
    }
}

label! {
    /// What became of a span.
    SpanResult as "result" {
        /// The collector has it.
        Exported = "exported",
        /// Nobody has it.
        Dropped = "dropped",
    }
}

label! {
    /// What a round of the canaries has shown.
    CanaryResult as "result" {
        /// Each was shown what the VMS shows.
        Ok = "ok",
        /// One was shown what only the other may see.
        Leak = "leak",
        /// Nothing of the other's, but not what the VMS shows now: something has changed, or always does.
        Differs = "differs",
        /// Nothing: the VMS shows the same to both.
        Indistinct = "indistinct",
        /// Nothing: the VMS, or the edge, gave no items.
        Unavailable = "unavailable",
    }
}

label!(BatchResult as "result");
label!(Bypass as "reason");
label!(Coding as "coding");
label!(ServerState as "state");
label!(Scope as "scope");

impl FetchOutcome {
    /// Of a fetch without answer.
    pub fn of_error(error: &FetchError) -> Self {
        match error {
            FetchError::Open => Self::Open,
            FetchError::Busy(_) => Self::Busy,
            FetchError::Connect(..) => Self::Connect,
            FetchError::Timeout(_) => Self::Timeout,
            FetchError::Broken(_) | FetchError::Panicked => Self::Broken,
            FetchError::TooLarge => Self::TooLarge,
        }
    }

    /// Of a fetch with an answer.
    pub fn of_fill<T>(fill: &Result<T, Unfit>) -> Self {
        match fill {
            Ok(_) => Self::Stored,
            Err(Unfit::Status(_)) => Self::Status,
            Err(_) => Self::Unfit,
        }
    }
}
