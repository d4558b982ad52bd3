//! What the behaviour tests are told with.

pub(crate) mod edge;
pub(crate) mod world;
