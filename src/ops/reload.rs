//! What became of a wish for another configuration, as operators are told.
//!
//! `admin/reload` is the handler of `POST /reload`, and `app::reload` does it, for SIGHUP too.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::moment::Moment;
use crate::config::Change;

/// How many of the last reloads are remembered.
pub const MAX_REMEMBERED: usize = 20;

/// A reload of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    /// When it was done.
    #[serde(rename = "when", serialize_with = "moment")]
    pub at: SystemTime,
    /// Who asked for it.
    pub by: Asker,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Who can ask for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// Whoever sent SIGHUP.
    Signal,
    /// Whoever has the admin token.
    Admin,
}

impl Asker {
    /// The name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Admin => "admin",
        }
    }
}

/// What becomes of a reload.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The file is in effect.
    Applied {
        /// What changed.
        changes: Vec<Change>,
        /// What would have, but waits for the next start.
        waiting: Vec<Change>,
    },
    /// The file is not, and nothing changed.
    Refused {
        /// All that is wrong with it.
        reasons: Vec<String>,
    },
}

fn moment<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    Moment::on_the_wall(*at).serialize(serializer)
}
