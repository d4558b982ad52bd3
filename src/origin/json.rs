//! JSON (RFC 8259) as far as an answer has to be read: that it is well-formed, and where its parts stand.
//!
//! A text is read once, from left to right, and nothing of it is kept; however deep it is nested, nothing recurses. What is
//! taken for JSON here is what `serde_json` takes for it: a test holds one against the other.

/// Bytes at which a string is no longer plain: its end, an escape, and what must not stand in it.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special
};

/// A text, and how far it was read. Every step ends with `None` where the text is not JSON.
pub(super) struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What ends the arrays and objects that are being skipped, the innermost last.
    open: Vec<u8>,
}

impl<'a> Json<'a> {
    /// At the beginning of a text, which must be UTF-8.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?;
        Some(Self {
            bytes,
            at: 0,
            open: Vec::new(),
        })
    }

    /// The elements of an array; `each` reads one.
    pub(super) fn array(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.list(b'[', b']', |json| {
            json.space();
            each(json)
        })
    }

    /// The members of an object; `each` is given a name as it is written, without its quotes, and reads the value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.list(b'{', b'}', |json| {
            let name = json.name()?;
            json.space();
            each(json, name)
        })
    }

    /// The byte that comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// How much of the text was read.
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// Whether there is nothing more.
    pub(super) fn ends(&mut self) -> bool {
        self.space();
        self.at == self.bytes.len()
    }

    /// Skips a value.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.open.clear();
        loop {
            self.space();
            match self.next()? {
                b'"' => {
                    self.rest_of_string()?;
                }
                b'[' if !self.takes(b']') => {
                    self.open.push(b']');
                    continue;
                }
                b'{' if !self.takes(b'}') => {
                    self.open.push(b'}');
                    self.name()?;
                    continue;
                }
                b'[' | b'{' => {}
                b't' => self.rest(b"rue")?,
                b'f' => self.rest(b"alse")?,
                b'n' => self.rest(b"ull")?,
                b'-' => {
                    let digit = self.next()?;
                    self.rest_of_number(digit)?;
                }
                digit => self.rest_of_number(digit)?,
            }
            if self.closes()? {
                return Some(());
            }
        }
    }

    /// After a value that is being skipped: whether it was the outermost one. If it was not, the next one comes.
    fn closes(&mut self) -> Option<bool> {
        while let Some(&end) = self.open.last() {
            self.space();
            match self.next()? {
                b',' if end == b'}' => {
                    self.name()?;
                    return Some(false);
                }
                b',' => return Some(false),
                byte if byte == end => {
                    self.open.pop();
                }
                _ => return None,
            }
        }
        Some(true)
    }

    fn list(
        &mut self,
        begin: u8,
        end: u8,
        mut each: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        if !self.takes(begin) {
            return None;
        }
        if self.takes(end) {
            return Some(());
        }
        loop {
            each(self)?;
            if !self.takes(b',') {
                return self.takes(end).then_some(());
            }
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Option<&'a [u8]> {
        if !self.takes(b'"') {
            return None;
        }
        let name = self.rest_of_string()?;
        self.takes(b':').then_some(name)
    }

    /// A string after its first quote.
    fn rest_of_string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        loop {
            let rest = &self.bytes[self.at..];
            let plain = rest.iter().position(|&byte| SPECIAL[usize::from(byte)])?;
            self.at += plain + 1;
            match rest[plain] {
                b'"' => return Some(&self.bytes[start..self.at - 1]),
                b'\\' => self.rest_of_escape()?,
                _ => return None,
            }
        }
    }

    fn rest_of_escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// A number after its first digit.
    fn rest_of_number(&mut self, first: u8) -> Option<()> {
        match first {
            // Nothing follows a leading zero.
            b'0' => {}
            b'1'..=b'9' => {
                self.digits();
            }
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// As many digits as there are, which is at least one.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn rest(&mut self, of_literal: &[u8]) -> Option<()> {
        let is_there = self.bytes[self.at..].starts_with(of_literal);
        self.at += of_literal.len();
        is_there.then_some(())
    }

    /// Takes this byte if it comes next, whatever space is before it.
    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::value::RawValue;

    use super::*;

    fn is_json(bytes: &[u8]) -> bool {
        let read = |mut json: Json<'_>| {
            json.skip()?;
            json.ends().then_some(())
        };
        Json::new(bytes).and_then(read).is_some()
    }

    #[track_caller]
    fn assert_is_judged_as_by_serde(bytes: &[u8]) {
        let expected = serde_json::from_slice::<&RawValue>(bytes).is_ok();
        assert_eq!(is_json(bytes), expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn what_is_json_is_what_it_is_to_serde() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true",
            "tru",
            "false",
            "falsy",
            "[]",
            "[ ]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1,2]",
            "{}",
            "{ }",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":{\"b\":[{}]}}",
            "[[]",
            "[]]",
            "{]",
            "[}",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "\"\\/\\b\"",
            "\"\t\"",
            "\"\u{7f}\u{80}\"",
            "0",
            "-0",
            "00",
            "01",
            "-",
            "-a",
            "+1",
            "1.",
            ".1",
            "1.5",
            "1e",
            "1e5",
            "1E+5",
            "1e-",
            "1.5e05",
            "1 ",
            "\n1\r\t",
            "\u{a0}1",
            "\u{feff}1",
            "[1]x",
            "NaN",
            "// a\n1",
            "[\"a\",\"b\"]",
            "{\"a\" : 1 , \"b\" : [ ] }",
        ] {
            assert_is_judged_as_by_serde(text.as_bytes());
        }
        assert_is_judged_as_by_serde(b"\"\xff\"");
        assert_is_judged_as_by_serde(b"\"\xc3\xa9\" \xff");
    }

    #[test]
    fn nesting_may_be_as_deep_as_a_text_is_long() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(is_json(deep.as_bytes()));
        assert!(!is_json(&deep.as_bytes()[1..]));
    }

    fn text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false",
            "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\"([a-zé ]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,6}\"",
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let members = proptest::collection::vec(("\"[a-z]{0,3}\"", inner.clone()), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4)
                    .prop_map(|all| format!("[{}]", all.join(" ,"))),
                members.prop_map(|all| {
                    let all: Vec<_> = all
                        .iter()
                        .map(|(name, value)| format!("{name} :{value}"))
                        .collect();
                    format!("{{{}}}", all.join(", "))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_text_and_what_becomes_of_it_by_one_change_are_judged_as_by_serde(
            text in text(),
            change in (any::<Index>(), 0usize..2, prop::option::of(prop_oneof![
                Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b','),
                Just(b':'), Just(b'0'), Just(b'-'), Just(b'.'), Just(b'e'), Just(b' '), any::<u8>(),
            ])),
        ) {
            assert!(is_json(text.as_bytes()), "{text}");
            assert_is_judged_as_by_serde(text.as_bytes());
            let (at, taken, put) = change;
            let mut changed = text.into_bytes();
            let at = at.index(changed.len());
            changed.splice(at..at + taken, put);
            assert_is_judged_as_by_serde(&changed);
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in any::<Vec<u8>>(), text in "[\\[\\]{}:,\"\\\\u0-9a-f ]{0,60}") {
            assert_is_judged_as_by_serde(&bytes);
            assert_is_judged_as_by_serde(text.as_bytes());
        }
    }
}
