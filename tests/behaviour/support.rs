//! What the behaviour tests are told with.

pub mod edge;
