//! Where the time of a batch went, as far as it was spent waiting.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::origin::fetch::Course;

/// How a fetch went, once it has ended.
pub type Told = Arc<OnceLock<Course>>;

/// What a batch waited for. A hit waited for nothing, and has nothing to drop.
#[derive(Debug, Default)]
pub struct Waits {
    /// Its own fetches that it waited for to their end, in their order.
    pub(super) own: Vec<Told>,
    /// Other batches' fetches, beyond the wait for its own.
    pub others: Duration,
    /// Fetches that it did without in the end, since the VMS was failing.
    pub vain: Duration,
}

impl Waits {
    /// Its own fetches that have ended, in their order.
    pub fn fetches(&self) -> impl Iterator<Item = &Course> {
        self.own.iter().filter_map(|told| told.get())
    }
}
