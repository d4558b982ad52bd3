//! PHP's values, as far as a request can make them: what `parse_str` and `json_decode` give, and how they are read
//! as integers and written as JSON.
//!
//! The stand-in keeps PHP's own rules here, apart from Laravel's, because the odd corners of the VMS come from PHP:
//! keys that look like integers are integers, a pushed element takes the next free index, text is bytes.
//! Nothing here knows of HTTP, users or intercoms.

use std::collections::HashMap;

pub(crate) mod json;
pub(crate) mod query;

/// A PHP value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Vec<u8>),
    Array(Array),
}

/// A key of a PHP array.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Key {
    Int(i64),
    Text(Vec<u8>),
}

impl Key {
    /// Text that spells an integer the way PHP would print it is that integer.
    pub(crate) fn new(text: &[u8]) -> Key {
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let canonical = match digits {
            [b'0'] => digits.len() == text.len(),
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        std::str::from_utf8(text)
            .ok()
            .filter(|_| canonical)
            .and_then(|number| number.parse().ok())
            .map_or_else(|| Key::Text(text.to_vec()), Key::Int)
    }

    /// The key as PHP prints it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Key::Int(number) => number.to_string().into_bytes(),
            Key::Text(text) => text.clone(),
        }
    }
}

/// A PHP array: an ordered map that keeps the place of a key when its value is replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Array {
    entries: Vec<(Key, Value)>,
    /// Where keys stand; the keys of a plain list stand where they say and are left out.
    places: HashMap<Key, usize>,
    /// The index that the next pushed element takes; `None` once the last one is taken.
    next: Option<i64>,
}

impl PartialEq for Array {
    fn eq(&self, other: &Array) -> bool {
        self.entries == other.entries
    }
}

impl Array {
    pub(crate) fn new() -> Array {
        Array {
            next: Some(0),
            ..Array::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Key, Value)> {
        self.entries.iter()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.place(key).map(|place| &self.entries[place].1)
    }

    pub(crate) fn get_text(&self, name: &str) -> Option<&Value> {
        self.get(&Key::new(name.as_bytes()))
    }

    pub(crate) fn set(&mut self, key: Key, value: Value) {
        *self.entry(key) = value;
    }

    /// Appends, unless the last index there is has been taken.
    pub(crate) fn push(&mut self, value: Value) -> Option<&mut Value> {
        let slot = self.entry(Key::Int(self.next?));
        *slot = value;
        Some(slot)
    }

    /// The place for a key, made with null where there was none.
    pub(crate) fn entry(&mut self, key: Key) -> &mut Value {
        let place = self.place(&key).unwrap_or_else(|| self.append(key));
        &mut self.entries[place].1
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        let Some(place) = self.place(key) else { return };
        let next = self.next;
        let mut entries = std::mem::take(&mut self.entries);
        entries.remove(place);
        *self = Array::new();
        for (key, value) in entries {
            self.set(key, value);
        }
        self.next = next;
    }

    /// The values with `change` applied to each, keys and order kept.
    pub(crate) fn map(self, change: fn(Value) -> Value) -> Array {
        Array {
            entries: self
                .entries
                .into_iter()
                .map(|(key, value)| (key, change(value)))
                .collect(),
            ..self
        }
    }

    /// Whether `json_encode` writes brackets: the keys are 0, 1, 2 … in this order.
    pub(crate) fn is_list(&self) -> bool {
        self.places.is_empty()
    }

    fn place(&self, key: &Key) -> Option<usize> {
        if let Key::Int(number) = key
            && let Ok(place) = usize::try_from(*number)
            && self.entries.get(place).is_some_and(|entry| entry.0 == *key)
        {
            return Some(place);
        }
        self.places.get(key).copied()
    }

    fn append(&mut self, key: Key) -> usize {
        let place = self.entries.len();
        if let Key::Int(number) = key
            && self.next.is_some_and(|next| number >= next)
        {
            self.next = number.checked_add(1);
        }
        if !matches!(key, Key::Int(number) if usize::try_from(number) == Ok(place)) {
            self.places.insert(key.clone(), place);
        }
        self.entries.push((key, Value::Null));
        place
    }
}

/// `filter_var($value, FILTER_VALIDATE_INT)`: what the value is as an integer, or `None` where it is none.
pub(crate) fn filter_int(value: &Value) -> Option<i64> {
    match value {
        Value::Null | Value::Bool(false) | Value::Array(_) => None,
        Value::Bool(true) => Some(1),
        Value::Int(number) => Some(*number),
        Value::Float(number) => float_printed_as_int(*number),
        Value::Text(text) => filter_int_text(text),
    }
}

fn filter_int_text(text: &[u8]) -> Option<i64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\n');
    let start = text.iter().position(|byte| !is_space(byte))?;
    let end = text.iter().rposition(|byte| !is_space(byte))? + 1;
    let number = std::str::from_utf8(&text[start..end]).ok()?;
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let well_formed = match digits.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    well_formed.then(|| number.parse().ok()).flatten()
}

/// PHP prints a float with 14 significant digits before it filters it, so 1.0 is "1", and 1e14 is "1.0E+14".
fn float_printed_as_int(number: f64) -> Option<i64> {
    let printed = format!("{number:.13e}");
    let (mantissa, exponent) = printed.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let fraction = mantissa.split_once('.')?.1.trim_end_matches('0');
    let whole = i32::try_from(fraction.len()).is_ok_and(|digits| digits <= exponent.max(0));
    if number != 0.0 && !(whole && (0..=13).contains(&exponent)) {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.as_bytes().to_vec())
    }

    #[test]
    fn text_is_an_integer_as_php_filters_it() {
        for (written, expected) in [
            ("1", Some(1)),
            (" 1", Some(1)),
            ("1 \t\r\n\x0b", Some(1)),
            ("+1", Some(1)),
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("+0", Some(0)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("007", None),
            ("00", None),
            ("+01", None),
            ("--1", None),
            ("+-1", None),
            ("+", None),
            ("", None),
            ("  ", None),
            ("1.0", None),
            ("1e0", None),
            ("0x1A", None),
            ("1 2", None),
            ("\u{a0}1", None),
            ("\x0c1", None),
            ("1\0", None),
        ] {
            assert_eq!(filter_int(&text(written)), expected, "{written:?}");
        }
    }

    #[test]
    fn other_values_are_integers_as_php_prints_them() {
        for (value, expected) in [
            (Value::Null, None),
            (Value::Bool(true), Some(1)),
            (Value::Bool(false), None),
            (Value::Int(-5), Some(-5)),
            (Value::Float(1.0), Some(1)),
            (Value::Float(-0.0), Some(0)),
            (Value::Float(120.0), Some(120)),
            (Value::Float(1.5), None),
            (Value::Float(0.5), None),
            (Value::Float(1.000_000_000_000_001), Some(1)),
            (Value::Float(12_345_678_901_234.0), Some(12_345_678_901_234)),
            (Value::Float(1e14), None),
            (Value::Float(1e20), None),
            (Value::Float(f64::INFINITY), None),
            (Value::Array(Array::new()), None),
        ] {
            assert_eq!(filter_int(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn keys_that_spell_integers_are_integers() {
        for (written, expected) in [
            ("0", Some(0)),
            ("-5", Some(-5)),
            ("10", Some(10)),
            ("-0", None),
            ("01", None),
            (" 1", None),
            ("1a", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            let expected = expected.map_or_else(|| Key::Text(written.into()), Key::Int);
            assert_eq!(Key::new(written.as_bytes()), expected, "{written:?}");
        }
    }

    #[test]
    fn a_pushed_element_takes_the_next_free_index() {
        let mut array = Array::new();
        array.set(Key::Int(5), Value::Null);
        array.set(Key::Int(-7), Value::Null);
        array.push(Value::Bool(true));
        assert_eq!(array.get(&Key::Int(6)), Some(&Value::Bool(true)));
        assert!(!array.is_list());
        array.set(Key::Int(i64::MAX), Value::Null);
        assert!(array.push(Value::Null).is_none());
    }

    #[test]
    fn a_replaced_value_keeps_its_place_and_a_removed_one_leaves_no_gap() {
        let mut array = Array::new();
        for name in ["a", "b", "c"] {
            array.set(Key::new(name.as_bytes()), Value::Null);
        }
        array.set(Key::new(b"a"), Value::Int(1));
        array.remove(&Key::new(b"b"));
        let entries: Vec<_> = array.iter().cloned().collect();
        assert_eq!(
            entries,
            [
                (Key::new(b"a"), Value::Int(1)),
                (Key::new(b"c"), Value::Null)
            ]
        );
        assert_eq!(array.get_text("c"), Some(&Value::Null));
    }
}
