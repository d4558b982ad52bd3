//! A cursor over one table of the file: it reads keys, remembers which ones it was asked for, and collects faults.
//!
//! Each reading method gives `None` if, and only if, it has added a fault, so whoever builds a section reads all its
//! keys first and gives up (`?`) afterwards: that is how all faults of a file are told at once. A key that is read is
//! a known key; [`Section::finish`] turns every other key into a fault. What the keys are is not known here.
//!
//! Here is how a section is walked, found fault with and finished; [`values`] has a method for each kind of value.

mod values;

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, Wrong};
use super::suggest::nearest;
pub(super) use values::Kind;
use values::type_problem;

/// One table of the file, or the place where it might have been.
pub(super) struct Section<'a> {
    /// In full, such as `batch[1]`; empty for the top of the file.
    name: String,
    /// `None`: the file leaves it out, and all keys have their defaults.
    table: Option<&'a DeTable<'a>>,
    /// Byte offset of the table's header.
    offset: Option<usize>,
    known: Vec<&'static str>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The top of the file.
    pub(super) fn top(table: &'a DeTable<'a>, faults: &'a Faults) -> Self {
        Self {
            name: String::new(),
            table: Some(table),
            offset: None,
            known: Vec::new(),
            faults,
        }
    }

    /// The table `[key]` of this one.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let name = self.full(key);
        let Some(value) = self.take(key) else {
            return Some(self.inner(name, None));
        };
        match value.get_ref() {
            DeValue::Table(table) => Some(self.inner(name, Some((value, table)))),
            other => self.refuse(
                key,
                type_problem(other, "a table"),
                format!("one [{name}] table"),
            ),
        }
    }

    /// The tables `[[key]]`, in file order; none if the file has none.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'a>>> {
        let Some(value) = self.take(key) else {
            return Some(Vec::new());
        };
        let allowed = format!("[[{}]] tables, in two brackets each", self.full(key));
        let list = match value.get_ref() {
            DeValue::Array(list) if list.is_empty() => {
                return self.refuse(
                    key,
                    "the list is empty",
                    format!("{allowed}, or none at all"),
                );
            }
            DeValue::Array(list) => list,
            other => return self.refuse(key, type_problem(other, "a list of tables"), allowed),
        };
        let mut sections = Vec::new();
        for (index, value) in list.iter().enumerate() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let name = format!("{}[{index}]", self.full(key));
                    sections.push(self.inner(name, Some((value, table))));
                }
                other => {
                    self.fault_item(key, index, type_problem(other, "a table"), &allowed);
                }
            }
        }
        (sections.len() == list.len()).then_some(sections)
    }

    /// A key that means nothing here, and is a fault if the file gives it.
    pub(super) fn idle(&mut self, key: &'static str, without: &str) {
        if self.take(key).is_some() {
            self.fault(
                key,
                format!("has no effect without {without}"),
                format!("only together with {without}"),
            );
        }
    }

    /// Whether the file gives `key`.
    pub(super) fn given(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Adds a fault of `key`, on its line if the file gives it, else on the section's.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>, allowed: impl Into<String>) {
        let offset = self.value(key).map(|value| value.span().start);
        self.faults.add(
            offset.or(self.offset),
            self.full(key),
            Wrong::new(problem, allowed),
        );
    }

    /// Adds a fault of one item of the list `key`, on its own line if the file gives it.
    pub(super) fn fault_item(
        &self,
        key: &str,
        index: usize,
        problem: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        let item = self.value(key).and_then(|list| list.get_ref().get(index));
        let offset = item.map(|item| item.span().start);
        self.faults.add(
            offset.or(self.offset),
            format!("{}[{index}]", self.full(key)),
            Wrong::new(problem, allowed),
        );
    }

    /// Adds a fault of `key` in place of its value.
    pub(super) fn refuse<T>(
        &self,
        key: &str,
        problem: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Option<T> {
        self.fault(key, problem, allowed);
        None
    }

    /// Turns each key that was never asked for into a fault.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let problem = match nearest(name, &self.known) {
                Some(meant) => format!("unknown key, did you mean {meant}?"),
                None => "unknown key".to_owned(),
            };
            self.faults.add(
                Some(key.span().start),
                self.full(&shown(name)),
                Wrong::new(problem, self.known.join(", ")),
            );
        }
    }

    fn inner(
        &self,
        name: String,
        found: Option<(&'a Spanned<DeValue<'a>>, &'a DeTable<'a>)>,
    ) -> Section<'a> {
        Section {
            name,
            table: found.map(|(_, table)| table),
            offset: found.map(|(value, _)| value.span().start),
            known: Vec::new(),
            faults: self.faults,
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.value(key)
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// A key as the file would spell it: a strange one in quotes, so that it stays on its line.
fn shown(key: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(plain) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(values::quoted(key))
    }
}
