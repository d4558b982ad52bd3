//! The answer: items put together, what the cache did to it, and the edge's own errors.

pub mod cache_status;
pub mod compose;
pub mod error;
pub mod order;
