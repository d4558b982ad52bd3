//! `json_decode($text, true)` and `json_encode`, with PHP's own spelling.
//!
//! PHP differs from other parsers where a client can tell: `TRUE` is true, integers beyond 64 bits are floats, an
//! object's numeric keys are integers, 512 levels are allowed, and what is written escapes slashes and everything
//! outside ASCII.

use std::io::Write as _;

use super::{Array, Key, Value};

/// How deep values may be nested.
const MAX_DEPTH: usize = 512;

/// Decodes a whole text; `None` for anything malformed.
pub(crate) fn decode(text: &[u8]) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', tail @ ..] = self.rest {
            self.rest = tail;
        }
    }

    /// Takes one byte if it is the wanted one, past white space.
    fn takes(&mut self, wanted: u8) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(&[wanted]) {
            Some(tail) => {
                self.rest = tail;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_space();
        match self.rest.first()? {
            b'{' => self.object(depth + 1),
            b'[' => self.list(depth + 1),
            b'"' => self.text().map(Value::Text),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.takes(b'{');
        let mut array = Array::new();
        if depth > MAX_DEPTH {
            return None;
        }
        if self.takes(b'}') {
            return Some(Value::Array(array));
        }
        loop {
            self.skip_space();
            let key = Key::new(&self.text()?);
            if !self.takes(b':') {
                return None;
            }
            array.set(key, self.value(depth)?);
            if self.takes(b'}') {
                return Some(Value::Array(array));
            }
            if !self.takes(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.takes(b'[');
        let mut array = Array::new();
        if depth > MAX_DEPTH {
            return None;
        }
        if self.takes(b']') {
            return Some(Value::Array(array));
        }
        loop {
            array.push(self.value(depth)?);
            if self.takes(b']') {
                return Some(Value::Array(array));
            }
            if !self.takes(b',') {
                return None;
            }
        }
    }

    fn word(&mut self) -> Option<Value> {
        for (word, value) in [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ] {
            if self
                .rest
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            {
                self.rest = &self.rest[word.len()..];
                return Some(value);
            }
        }
        None
    }

    fn number(&mut self) -> Option<Value> {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = self.rest;
        let mut length = usize::from(text.starts_with(b"-"));
        let whole = digits(&text[length..]);
        if whole == 0 {
            return None;
        }
        // A zero ends the integer: what follows it is not part of the number.
        length += if text[length] == b'0' { 1 } else { whole };
        let mut is_float = false;
        if text.get(length) == Some(&b'.') && digits(&text[length + 1..]) > 0 {
            length += 1 + digits(&text[length + 1..]);
            is_float = true;
        }
        if let Some(b'e' | b'E') = text.get(length) {
            let sign = usize::from(matches!(text.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(&text[length + 1 + sign..]);
            if exponent > 0 {
                length += 1 + sign + exponent;
                is_float = true;
            }
        }
        self.rest = &text[length..];
        let number = std::str::from_utf8(&text[..length]).ok()?;
        match number.parse() {
            Ok(integer) if !is_float => Some(Value::Int(integer)),
            _ => number.parse().ok().map(Value::Float),
        }
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let mut rest = self.rest.strip_prefix(b"\"")?;
        let mut text = Vec::new();
        loop {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            match byte {
                b'"' => break,
                b'\\' => rest = escape(rest, &mut text)?,
                ..=0x1f => return None,
                _ => text.push(byte),
            }
        }
        self.rest = rest;
        std::str::from_utf8(&text).is_ok().then_some(text)
    }
}

/// Takes what follows a backslash.
fn escape<'a>(rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&byte, tail) = rest.split_first()?;
    let plain = match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode_escape(tail, text),
        _ => return None,
    };
    text.push(plain);
    Some(tail)
}

fn unicode_escape<'a>(rest: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let unit = |rest: &'a [u8]| {
        let (digits, tail) = rest.split_at_checked(4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let well_formed = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unit = well_formed.then(|| u16::from_str_radix(digits, 16).ok())??;
        Some((unit, tail))
    };
    let (first, mut rest) = unit(rest)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) {
        let (second, tail) = unit(rest.strip_prefix(br"\u")?)?;
        units.push(second);
        rest = tail;
    }
    text.extend(String::from_utf16(&units).ok()?.into_bytes());
    Some(rest)
}

/// `json_encode($value)`. Text that is not UTF-8 has no JSON in PHP; here its broken parts are replaced.
pub(crate) fn encode(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(value) => out.extend(value.to_string().bytes()),
        Value::Int(value) => out.extend(value.to_string().bytes()),
        Value::Float(value) => out.extend(format!("{value:?}").bytes()),
        Value::Text(text) => encode_text(out, &String::from_utf8_lossy(text)),
        Value::Array(array) => {
            let (open, close) = if array.is_list() { b"[]" } else { b"{}" }.split_at(1);
            out.extend(open);
            for (place, (key, value)) in array.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                if !array.is_list() {
                    encode_text(out, &String::from_utf8_lossy(&key.to_bytes()));
                    out.push(b':');
                }
                encode(out, value);
            }
            out.extend(close);
        }
    }
}

/// Writes text in quotes with PHP's default escapes.
pub(crate) fn encode_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    encode_inner(out, text, true);
    out.push(b'"');
}

/// Writes text without its quotes; `slashes` says whether they are escaped.
pub(crate) fn encode_inner(out: &mut Vec<u8>, text: &str, slashes: bool) {
    for char in text.chars() {
        match char {
            '"' => out.extend(br#"\""#),
            '\\' => out.extend(br"\\"),
            '/' if slashes => out.extend(br"\/"),
            '\u{8}' => out.extend(br"\b"),
            '\u{c}' => out.extend(br"\f"),
            '\n' => out.extend(br"\n"),
            '\r' => out.extend(br"\r"),
            '\t' => out.extend(br"\t"),
            ' '..='\u{7f}' => out.push(char as u8),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("a vector takes every write");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        let mut out = Vec::new();
        encode(&mut out, &decode(text.as_bytes())?);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn json_is_read_and_written_as_php_does() {
        for (text, expected) in [
            (r#" {"ids":[1,2]} "#, r#"{"ids":[1,2]}"#),
            ("{}", "[]"),
            (r#"{"0":1,"1":2}"#, "[1,2]"),
            (r#"{"1":1}"#, r#"{"1":1}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            ("[TRUE,False,nULL]", "[true,false,null]"),
            ("[1.0,1e3,-0.5]", "[1.0,1000.0,-0.5]"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9.223372036854776e18"),
            (r#""\u0416\/\ud83d\ude00\n""#, r#""\u0416\/\ud83d\ude00\n""#),
            (r#""Ж😀/""#, r#""\u0416\ud83d\ude00\/""#),
            (r#""\u007f\u001f""#, "\"\u{7f}\\u001f\""),
        ] {
            assert_eq!(again(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn malformed_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1",
            "[1,]",
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "{a:1}",
            "{'a':1}",
            "[01]",
            "[1.]",
            "[.5]",
            "[+1]",
            "[1] x",
            "tru",
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\x""#,
            r#""\u+123""#,
            "\"\n\"",
            "\u{feff}[]",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode(b"\"\xff\""), None);
    }

    #[test]
    fn nesting_is_allowed_to_512_levels() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(decode(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(decode(nested(MAX_DEPTH + 1).as_bytes()).is_none());
    }
}
