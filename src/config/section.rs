//! A cursor over one table of the file: it reads keys, remembers which ones it was asked for, and collects faults.
//!
//! Each reading method gives `None` if, and only if, it has added a fault, so whoever builds a section reads all its
//! keys first and gives up (`?`) afterwards: that is how all faults of a file are told at once. A key that is read is
//! a known key; [`Section::finish`] turns every other key into a fault. What the keys are is not known here.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Faults, Wrong};
use super::suggest::nearest;
use super::units::{self, duration_text, size_text};

/// How a string of the file becomes a value.
pub(super) struct Kind<T> {
    /// What is allowed; names a value that a key may take.
    pub(super) allowed: &'static str,
    /// The value, or what is wrong with the string: words that read on after it.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

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

    /// A table that the file leaves out, so that every key has its default.
    pub(super) fn absent(&self, name: &str) -> Section<'a> {
        self.inner(name.to_owned(), None)
    }

    /// The table `[key]`.
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
                format!("one [{key}] table"),
            ),
        }
    }

    /// The tables `[[key]]`, in file order; none if the file has none.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'a>>> {
        let Some(value) = self.take(key) else {
            return Some(Vec::new());
        };
        let allowed = format!("[[{key}]] tables, in two brackets each");
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

    /// A string.
    pub(super) fn text<T>(&mut self, key: &'static str, default: T, kind: &Kind<T>) -> Option<T> {
        self.read(key, Some(default), kind.allowed, |value| parse(value, kind))
    }

    /// A string that the file must give.
    pub(super) fn required_text<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<T> {
        self.read(key, None, kind.allowed, |value| parse(value, kind))
    }

    /// A string that may be empty, which is as good as leaving it out.
    pub(super) fn optional_text<T>(
        &mut self,
        key: &'static str,
        kind: &Kind<T>,
    ) -> Option<Option<T>> {
        self.read(key, Some(None), kind.allowed, |value| match value {
            DeValue::String(text) if text.is_empty() => Ok(None),
            value => parse(value, kind).map(Some),
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        self.read(key, Some(default), &names.join(", "), |value| {
            let text = string(value)?;
            words
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("{} is none of the choices", quoted(text)))
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> Option<bool> {
        self.read(
            key,
            Some(default),
            "true or false, without quotes",
            |value| {
                value
                    .as_bool()
                    .ok_or_else(|| type_problem(value, "a boolean"))
            },
        )
    }

    /// A whole number.
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let allowed = format!("a whole number, {} to {}", range.start(), range.end());
        self.read(key, Some(default), &allowed, |value| {
            let DeValue::Integer(integer) = value else {
                return Err(type_problem(value, "an integer"));
            };
            usize::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("{integer} is out of range"))
        })
    }

    /// A number; one without a decimal point will do.
    pub(super) fn fraction(
        &mut self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        let allowed = format!("a number, {:?} to {:?}", range.start(), range.end());
        self.read(key, Some(default), &allowed, |value| {
            let text = match value {
                DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
                DeValue::Float(float) => float.as_str(),
                other => return Err(type_problem(other, "a number")),
            };
            text.parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| format!("{text} is out of range"))
        })
    }

    /// A duration.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let bounds = (duration_text(*range.start()), duration_text(*range.end()));
        let parsed = self.read(key, Some(default), units::DURATION, |value| {
            let text = string(value)?;
            units::parse_duration(text).ok_or_else(|| format!("{} is not a duration", quoted(text)))
        })?;
        if !range.contains(&parsed) {
            let problem = format!("{} is out of range", duration_text(parsed));
            return self.refuse(key, problem, format!("{} to {}", bounds.0, bounds.1));
        }
        Some(parsed)
    }

    /// A size in bytes.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let parsed = self.read(key, Some(default), units::SIZE, |value| {
            let text = string(value)?;
            units::parse_size(text).ok_or_else(|| format!("{} is not a size", quoted(text)))
        })?;
        if !range.contains(&parsed) {
            let problem = format!("{} is out of range", size_text(parsed));
            let bounds = (size_text(*range.start()), size_text(*range.end()));
            return self.refuse(key, problem, format!("{} to {}", bounds.0, bounds.1));
        }
        Some(parsed)
    }

    /// A list of strings, each only once; may be empty.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        kind: &Kind<T>,
    ) -> Option<Vec<T>> {
        match self.take(key) {
            None => Some(default),
            Some(value) => self.items(key, value, kind),
        }
    }

    /// A list of strings, each only once, at least one.
    pub(super) fn filled_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        kind: &Kind<T>,
    ) -> Option<Vec<T>> {
        let list = self.list(key, default, kind)?;
        if list.is_empty() {
            return self.refuse(
                key,
                "the list is empty",
                format!("at least one of: {}", kind.allowed),
            );
        }
        Some(list)
    }

    /// A list of strings, each only once, at least one, that the file must give.
    pub(super) fn required_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        kind: &Kind<T>,
    ) -> Option<Vec<T>> {
        if self.given(key) {
            return self.filled_list(key, Vec::new(), kind);
        }
        self.known.push(key);
        self.refuse(key, "is required", format!("a list of: {}", kind.allowed))
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
                self.full(name),
                Wrong::new(problem, self.known.join(", ")),
            );
        }
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        allowed: &str,
        parse: impl FnOnce(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        match (self.take(key), default) {
            (Some(value), _) => match parse(value.get_ref()) {
                Ok(parsed) => Some(parsed),
                Err(problem) => self.refuse(key, problem, allowed),
            },
            (None, Some(default)) => Some(default),
            (None, None) => self.refuse(key, "is required", allowed),
        }
    }

    fn items<T: PartialEq>(
        &self,
        key: &'static str,
        value: &'a Spanned<DeValue<'a>>,
        kind: &Kind<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(list) = value.get_ref() else {
            let problem = type_problem(value.get_ref(), "a list");
            return self.refuse(key, problem, format!("a list of: {}", kind.allowed));
        };
        // Unsound items keep their place, so that a repetition is told with the index of the first.
        let mut items: Vec<Option<T>> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let item = parse(value.get_ref(), kind)
                .map_err(|problem| Wrong::new(problem, kind.allowed))
                .and_then(|item| {
                    match items.iter().position(|other| other.as_ref() == Some(&item)) {
                        None => Ok(item),
                        Some(first) => {
                            let shown = value.get_ref().as_str().map(quoted).unwrap_or_default();
                            let problem = format!("{shown} repeats {}[{first}]", self.full(key));
                            Err(Wrong::new(problem, "each only once"))
                        }
                    }
                })
                .map_err(|wrong| self.fault_item(key, index, wrong.problem, wrong.allowed));
            items.push(item.ok());
        }
        items.into_iter().collect()
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

fn parse<T>(value: &DeValue<'_>, kind: &Kind<T>) -> Result<T, String> {
    let text = string(value)?;
    (kind.parse)(text).map_err(|problem| format!("{} {problem}", quoted(text)))
}

fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| type_problem(value, "a string"))
}

fn type_problem(value: &DeValue<'_>, wanted: &str) -> String {
    let found = match value {
        DeValue::String(text) => format!("{} is a string", quoted(text)),
        DeValue::Integer(integer) => format!("{integer} is an integer"),
        DeValue::Float(float) => format!("{float} is a float"),
        DeValue::Boolean(flag) => format!("{flag} is a boolean"),
        DeValue::Datetime(time) => format!("{time} is a date or time"),
        DeValue::Array(_) => "this is a list".to_owned(),
        DeValue::Table(_) => "this is a table".to_owned(),
    };
    format!("{found}, not {wanted}")
}

/// A string of the file as a message shows it: on one line, and not too long.
fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_in_a_message() {
        assert_eq!(quoted("a\n\"b\""), r#""a\n\"b\"""#);
        assert_eq!(quoted(&"ä".repeat(81)), format!("\"{}\"…", "ä".repeat(80)));
    }
}
