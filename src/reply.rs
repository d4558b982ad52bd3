//! The answer: items put together, its codings, what the cache did to it, and the edge's own errors.

pub mod answers;
pub mod cache_status;
pub mod compose;
pub mod encode;
pub mod error;
pub mod order;
