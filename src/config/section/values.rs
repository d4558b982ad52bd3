//! Reading one key: a method of [`Section`] for each kind of value, and the words for values that are of another.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::super::fault::Wrong;
use super::super::units::{self, duration_text, size_text};
use super::Section;

/// How a string of the file becomes a value.
pub(in crate::config) struct Kind<T> {
    /// What is allowed; names a value that a key may take.
    pub(in crate::config) allowed: &'static str,
    /// The value, or what is wrong with the string: words that read on after it.
    pub(in crate::config) parse: fn(&str) -> Result<T, String>,
}

impl<'a> Section<'a> {
    /// A string.
    pub(in crate::config) fn text<T>(
        &mut self,
        key: &'static str,
        default: T,
        kind: &Kind<T>,
    ) -> Option<T> {
        self.read(key, Some(default), kind.allowed, |value| parse(value, kind))
    }

    /// A string that the file must give.
    pub(in crate::config) fn required_text<T>(
        &mut self,
        key: &'static str,
        kind: &Kind<T>,
    ) -> Option<T> {
        self.read(key, None, kind.allowed, |value| parse(value, kind))
    }

    /// A string that may be empty, which is as good as leaving it out.
    pub(in crate::config) fn optional_text<T>(
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
    pub(in crate::config) fn choice<T: Copy>(
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
    pub(in crate::config) fn flag(&mut self, key: &'static str, default: bool) -> Option<bool> {
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
    pub(in crate::config) fn whole(
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
    pub(in crate::config) fn fraction(
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
    pub(in crate::config) fn duration(
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
    pub(in crate::config) fn size(
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

    /// A list of whole numbers, each only once; empty where the file says nothing.
    pub(in crate::config) fn numbers(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<Vec<u64>> {
        let Some(value) = self.take(key) else {
            return Some(Vec::new());
        };
        let allowed = format!("a whole number, {} to {}", range.start(), range.end());
        self.each(key, value, &allowed, |value| {
            let DeValue::Integer(integer) = value else {
                return Err(type_problem(value, "an integer"));
            };
            i64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| range.contains(number))
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| format!("{integer} is out of range"))
        })
    }

    /// A list of strings, each only once; may be empty.
    pub(in crate::config) fn list<T: PartialEq>(
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
    pub(in crate::config) fn filled_list<T: PartialEq>(
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
    pub(in crate::config) fn required_list<T: PartialEq>(
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
        self.each(key, value, kind.allowed, |value| parse(value, kind))
    }

    /// The items of a list, each only once.
    fn each<T: PartialEq>(
        &self,
        key: &'static str,
        value: &'a Spanned<DeValue<'a>>,
        allowed: &str,
        parse: impl Fn(&'a DeValue<'a>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(list) = value.get_ref() else {
            let problem = type_problem(value.get_ref(), "a list");
            return self.refuse(key, problem, format!("a list of: {allowed}"));
        };
        // Unsound items keep their place, so that a repetition is told with the index of the first.
        let mut items: Vec<Option<T>> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let item = parse(value.get_ref())
                .map_err(|problem| Wrong::new(problem, allowed))
                .and_then(|item| {
                    match items.iter().position(|other| other.as_ref() == Some(&item)) {
                        None => Ok(item),
                        Some(first) => {
                            let shown = match value.get_ref() {
                                DeValue::Integer(integer) => integer.to_string(),
                                other => other.as_str().map(quoted).unwrap_or_default(),
                            };
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

pub(super) fn type_problem(value: &DeValue<'_>, wanted: &str) -> String {
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
pub(super) fn quoted(text: &str) -> String {
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
