//! `parse_str`: a query string or a form body as PHP's `$_GET` has it.
//!
//! The rules are those of PHP 8.2's `php_register_variable_ex`: leading spaces of a name go, dots and spaces in it
//! become underscores, brackets make arrays, an array replaces a scalar and a later scalar replaces an array.

use super::{Array, Key, Value};

/// PHP's `max_input_vars`: variables beyond are not read.
const MAX_VARIABLES: usize = 1000;
/// PHP's `max_input_nesting_level`: a name with more brackets takes its whole variable away.
const MAX_NESTING: usize = 64;

/// What a variable's name says: where its value goes.
#[derive(Debug, PartialEq)]
enum Name {
    /// Keys from the outermost inwards; `None` appends.
    Path(Vec<Option<Key>>),
    TooDeep(Key),
    Empty,
}

/// Parses what stands behind the question mark, or a form body.
pub(crate) fn parse(query: &[u8]) -> Array {
    let mut array = Array::new();
    let pairs = query.split(|&byte| byte == b'&');
    for pair in pairs.filter(|pair| !pair.is_empty()).take(MAX_VARIABLES) {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &b""[..]),
        };
        match parse_name(&decode(name)) {
            Name::Path(path) => insert(&mut array, &path, Value::Text(decode(value))),
            Name::TooDeep(key) => array.remove(&key),
            Name::Empty => {}
        }
    }
    array
}

/// `urldecode`: a plus is a space, a percent sign without two hexadecimal digits is itself.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, hex_pair(tail)) {
            (b'+', _) => decoded.push(b' '),
            (b'%', Some(value)) => {
                decoded.push(value);
                rest = &tail[2..];
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, ..] = *text else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn parse_name(name: &[u8]) -> Name {
    // PHP's names are C strings: a NUL ends them.
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let spaces = name.iter().take_while(|&&byte| byte == b' ').count();
    let name = &name[spaces..];
    let bracket = name.iter().position(|&byte| byte == b'[');
    let stem = mangle(&name[..bracket.unwrap_or(name.len())], b" .");
    if stem.is_empty() {
        return Name::Empty;
    }
    let Some(bracket) = bracket else {
        return Name::Path(vec![Some(Key::new(&stem))]);
    };
    let mut path = vec![Some(Key::new(&stem))];
    let mut rest = &name[bracket..];
    while let Some(inner) = rest.strip_prefix(b"[") {
        if path.len() > MAX_NESTING {
            return Name::TooDeep(Key::new(&stem));
        }
        // One white space before the closing bracket is as good as none.
        let after_space = match inner {
            [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c', tail @ ..] => tail,
            _ => inner,
        };
        if let Some(tail) = after_space.strip_prefix(b"]") {
            path.push(None);
            rest = tail;
        } else if let Some(close) = after_space.iter().position(|&byte| byte == b']') {
            let close = close + (inner.len() - after_space.len());
            path.push(Some(Key::new(&inner[..close])));
            rest = &inner[close + 1..];
        } else {
            // An unclosed bracket is no bracket: it belongs to the name, if no other closed before it.
            if path.len() == 1 {
                let mut whole = stem;
                whole.push(b'_');
                whole.extend(mangle(inner, b" .["));
                return Name::Path(vec![Some(Key::new(&whole))]);
            }
            break;
        }
    }
    Name::Path(path)
}

fn mangle(name: &[u8], forbidden: &[u8]) -> Vec<u8> {
    name.iter()
        .map(|byte| {
            if forbidden.contains(byte) {
                b'_'
            } else {
                *byte
            }
        })
        .collect()
}

fn insert(array: &mut Array, path: &[Option<Key>], value: Value) {
    let Some((first, inner)) = path.split_first() else {
        return;
    };
    let slot = match first {
        Some(key) => array.entry(key.clone()),
        None => match array.push(Value::Null) {
            Some(slot) => slot,
            None => return,
        },
    };
    if inner.is_empty() {
        *slot = value;
        return;
    }
    if !matches!(slot, Value::Array(_)) {
        *slot = Value::Array(Array::new());
    }
    if let Value::Array(nested) = slot {
        insert(nested, inner, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::vms::php::json;

    /// What `json_encode` makes of the variables of a query.
    fn parsed(query: &str) -> String {
        let mut out = Vec::new();
        json::encode(&mut out, &Value::Array(parse(query.as_bytes())));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn queries_become_arrays_as_php_makes_them() {
        for (query, expected) in [
            ("", "[]"),
            ("a", r#"{"a":""}"#),
            ("a=1&b=2", r#"{"a":"1","b":"2"}"#),
            ("a=1&a=2", r#"{"a":"2"}"#),
            ("&&a=1&", r#"{"a":"1"}"#),
            ("=1", "[]"),
            ("ids[]=1&ids[]=2", r#"{"ids":["1","2"]}"#),
            ("ids%5B%5D=1&ids%5b%5d=2", r#"{"ids":["1","2"]}"#),
            ("ids[0]=1&ids[0]=3", r#"{"ids":["3"]}"#),
            ("ids[5]=1&ids[]=2", r#"{"ids":{"5":"1","6":"2"}}"#),
            ("ids[-5]=1&ids[]=2", r#"{"ids":{"-5":"1","0":"2"}}"#),
            ("ids[a]=1&ids[b]=2", r#"{"ids":{"a":"1","b":"2"}}"#),
            ("ids[01]=1", r#"{"ids":{"01":"1"}}"#),
            ("ids[0][x]=1", r#"{"ids":[{"x":"1"}]}"#),
            ("ids[][]=1&ids[][]=2", r#"{"ids":[["1"],["2"]]}"#),
            ("ids[]=1&ids=2", r#"{"ids":"2"}"#),
            ("ids=2&ids[]=1", r#"{"ids":["1"]}"#),
            ("ids[0]=1&ids[0][a]=2", r#"{"ids":[{"a":"2"}]}"#),
            ("ids[]x=1", r#"{"ids":["1"]}"#),
            ("ids[1]x[2]=1", r#"{"ids":{"1":"1"}}"#),
            ("ids[ ]=1", r#"{"ids":["1"]}"#),
            ("ids[ 1]=1", r#"{"ids":{" 1":"1"}}"#),
            ("ids[=1", r#"{"ids_":"1"}"#),
            ("ids[1=1", r#"{"ids_1":"1"}"#),
            ("ids[a.b[c=1", r#"{"ids_a_b_c":"1"}"#),
            ("ids[0][1=5", r#"{"ids":["5"]}"#),
            ("ids[][1=5", r#"{"ids":["5"]}"#),
            ("ids]=1", r#"{"ids]":"1"}"#),
            ("[]=1", "[]"),
            ("+ids[]=1", r#"{"ids":["1"]}"#),
            ("%20%20ids=1", r#"{"ids":"1"}"#),
            ("i.d s=1", r#"{"i_d_s":"1"}"#),
            ("ids%00x=1", r#"{"ids":"1"}"#),
            ("ids[]=%2", r#"{"ids":["%2"]}"#),
            ("ids[]=%zz", r#"{"ids":["%zz"]}"#),
            ("ids[]=a=b", r#"{"ids":["a=b"]}"#),
            ("ids[]=1+2", r#"{"ids":["1 2"]}"#),
            (
                "ids[9223372036854775807]=1&ids[]=2",
                r#"{"ids":{"9223372036854775807":"1"}}"#,
            ),
        ] {
            assert_eq!(parsed(query), expected, "{query}");
        }
    }

    #[test]
    fn variables_beyond_the_limit_are_not_read() {
        let query = vec!["ids[]=1"; MAX_VARIABLES + 5].join("&");
        let array = parse(query.as_bytes());
        let Some(Value::Array(ids)) = array.get_text("ids") else {
            panic!("ids is an array");
        };
        assert_eq!(ids.len(), MAX_VARIABLES);
    }

    #[test]
    fn brackets_beyond_the_limit_take_the_variable_away() {
        let deep = "[a]".repeat(MAX_NESTING);
        assert_ne!(parsed(&format!("ids{deep}=1")), "[]");
        assert_eq!(parsed(&format!("ids[]=1&ids{deep}[b]=1")), "[]");
    }
}
