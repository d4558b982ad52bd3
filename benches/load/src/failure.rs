//! How the program ends: all of its exit statuses, and what keeps it from its work.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// An exit status; those from 64 on are the ones of sysexits.h and of shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    AllWell = 0,
    NotReached = 1,
    Usage = 2,
    Unavailable = 69,
    NotWritten = 74,
    BadFile = 78,
    Interrupted = 130,
}

/// Why nothing was measured, or nothing can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("there is nothing to be measured: {0}")]
    Unavailable(String),
    #[error("the report cannot be written: {0}")]
    Report(io::Error),
    #[error("{0}")]
    BadFile(String),
    #[error("interrupted before there was anything to report")]
    Interrupted,
}

impl Status {
    const ALL: [Self; 7] = [
        Self::AllWell,
        Self::NotReached,
        Self::Usage,
        Self::Unavailable,
        Self::NotWritten,
        Self::BadFile,
        Self::Interrupted,
    ];

    fn meaning(self) -> &'static str {
        match self {
            Self::AllWell => {
                "all goals were reached, or all requests were answered as they should be"
            }
            Self::NotReached => "some were not",
            Self::Usage => "the command line is wrong",
            Self::Unavailable => {
                "there is nothing to be measured: the target cannot be reached, there is no vms-edge, or but one core"
            }
            Self::NotWritten => "the report cannot be written",
            Self::BadFile => "a file that was named is no good",
            Self::Interrupted => "it was interrupted; what was measured by then is in the report",
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl Failure {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Usage(_) => Status::Usage,
            Self::Unavailable(_) => Status::Unavailable,
            Self::Report(_) => Status::NotWritten,
            Self::BadFile(_) => Status::BadFile,
            Self::Interrupted => Status::Interrupted,
        }
    }
}

/// The exit statuses, for the end of the help.
pub(crate) struct Statuses;

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exit status:")?;
        Status::ALL
            .iter()
            .try_for_each(|status| write!(f, "\n  {:<3}  {}", *status as u8, status.meaning()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_tells_every_exit_status() {
        let readme = include_str!("../../../README.md");
        let (_, table) = readme.split_once("<!-- load statuses -->\n").unwrap();
        let (table, _) = table.split_once("<!-- /load statuses -->").unwrap();
        let told: Vec<&str> = table.lines().skip(2).collect();
        let line = |status: &Status| format!("| {} | {} |", *status as u8, status.meaning());
        let expected: Vec<String> = Status::ALL.iter().map(line).collect();
        assert_eq!(told, expected);
    }
}
