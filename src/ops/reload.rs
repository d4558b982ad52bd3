//! What operators are told of reloads.

use std::time::SystemTime;

/// One reload, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// When it was done.
    pub at: SystemTime,
    /// Who asked for it.
    pub by: Asker,
    /// What came of it.
    pub result: ReloadResult,
    /// If it was applied, what changed; if it was refused, why: a line each, secrets masked.
    pub lines: Vec<String>,
}

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Admin,
}

impl Asker {
    /// The name that operators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Admin => "admin",
        }
    }
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// The file is in effect.
    Applied,
    /// Nothing changed.
    Refused,
}

impl ReloadResult {
    /// The name that operators are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}
