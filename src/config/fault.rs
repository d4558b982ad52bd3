//! What is wrong with a configuration, told so that the operator can repair it without a manual.
//!
//! Everything in here is about the report. Which values are wrong is decided where they are read.
//!
//! A report has one line per fault, in the order of the file: file, line, key, what is wrong, what is allowed.
//! Indices in keys count from 0 (`batch[1]` is the second `[[batch]]`).

use std::cell::RefCell;
use std::fmt;

/// A configuration that was refused: the file and everything that is wrong with it, at least one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named to us.
    pub file: String,
    /// In file order; what is missing from the file altogether comes last.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1, where it can be known.
    pub line: Option<usize>,
    /// Column in characters, from 1, where the text is not even TOML.
    pub column: Option<usize>,
    /// The key in full, such as `batch[1].fresh`; `None` if the fault is not about one key.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What is allowed, where saying so helps.
    pub allowed: Option<String>,
}

impl fmt::Display for ConfigError {
    /// One fault per line, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            for position in [fault.line, fault.column].into_iter().flatten() {
                write!(f, ":{position}")?;
            }
            if let Some(key) = &fault.key {
                write!(f, ": {key}")?;
            }
            write!(f, ": {}", fault.problem)?;
            if let Some(allowed) = &fault.allowed {
                write!(f, "; allowed: {allowed}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// The file could not even be read.
    pub(super) fn whole_file(file: String, problem: String) -> Self {
        let fault = Fault {
            problem,
            ..Fault::default()
        };
        Self {
            file,
            faults: vec![fault],
        }
    }

    /// The file holds bytes that are not UTF-8, the first of them at `offset`.
    pub(super) fn not_text(file: String, bytes: &[u8], offset: usize) -> Self {
        let (line, column) = position(bytes, offset);
        let fault = Fault {
            line: Some(line),
            column: Some(column),
            problem: "not UTF-8 text".to_owned(),
            ..Fault::default()
        };
        Self {
            file,
            faults: vec![fault],
        }
    }

    /// The text is not TOML. One fault per line is told: what follows on the same line is mostly an echo of the first.
    pub(super) fn not_toml(file: &str, text: &str, errors: &[toml::de::Error]) -> Self {
        let mut faults: Vec<Fault> = errors
            .iter()
            .map(|error| syntax_fault(text, error))
            .collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup_by_key(|fault| fault.line);
        Self {
            file: file.to_owned(),
            faults,
        }
    }
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or_default();
    let (line, column) = position(text.as_bytes(), span.start);
    let (problem, allowed) = match (error.message(), text.get(span)) {
        ("duplicate key", Some(key)) => (
            format!("{key} is given twice"),
            Some("each key and each [table] once".to_owned()),
        ),
        (message, _) => (format!("not TOML: {message}"), None),
    };
    Fault {
        line: Some(line),
        column: Some(column),
        key: None,
        problem,
        allowed,
    }
}

/// Line and column, both from 1, of the byte at `offset`.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    let column = 1 + String::from_utf8_lossy(&before[line_start..])
        .chars()
        .count();
    (line, column)
}

/// What is wrong with a value, and what would be right.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) problem: String,
    pub(super) allowed: String,
}

impl Wrong {
    pub(super) fn new(problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            allowed: allowed.into(),
        }
    }
}

/// Collects what is wrong while the file is read. Shared by all sections, hence the cell.
#[derive(Default)]
pub(super) struct Faults {
    found: RefCell<Vec<Found>>,
}

struct Found {
    offset: Option<usize>,
    key: String,
    wrong: Wrong,
}

impl Faults {
    /// Adds a fault of `key`, at byte `offset` of the text if it stands there at all.
    pub(super) fn add(&self, offset: Option<usize>, key: String, wrong: Wrong) {
        self.found.borrow_mut().push(Found { offset, key, wrong });
    }

    /// The report, or `None` if nothing was wrong.
    pub(super) fn report(self, file: &str, text: &str) -> Option<ConfigError> {
        let mut found = self.found.into_inner();
        if found.is_empty() {
            return None;
        }
        found.sort_by_key(|found| found.offset.unwrap_or(usize::MAX));
        let faults = found
            .into_iter()
            .map(|found| Fault {
                line: found
                    .offset
                    .map(|offset| position(text.as_bytes(), offset).0),
                column: None,
                key: Some(found.key),
                problem: found.wrong.problem,
                allowed: Some(found.wrong.allowed),
            })
            .collect();
        Some(ConfigError {
            file: file.to_owned(),
            faults,
        })
    }
}
