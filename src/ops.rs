//! What operators see, and what they ask for.
//!
//! They see [`metrics`], the lines of the [`log`] and, in tools of their own, [`spans`]; the last hour of the metrics is kept
//! as [`history`]. They ask through [`admin`], the listener, whose handlers are named after their endpoints. What a handler
//! reads and answers is a module here where others have to do with it too: [`purge`], [`explain`] and [`reload`] say what is
//! wanted and what came of it, and `batch` and `app` do it. [`body`] reads what they send, and [`moment`] says when
//! something was.

pub mod admin;
pub mod body;
pub mod explain;
pub mod history;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod purge;
pub mod reload;
pub mod spans;
