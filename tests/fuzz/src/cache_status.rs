//! `Cache-Status`: whatever the edge says of an answer is a structured field, and says just that.
//!
//! Input: the words of one status, such as `hit -1500`, `miss 200 stored`, `partial 9 1 200 stored collapsed`,
//! `bypass cookie`, `stale 503 -1` or `failed partial`. The other reader is `sfv`.

use sfv::{BareItem, List, ListEntry, Parser};
use vms_edge::reply::cache_status::CacheStatus;
use vms_edge::request::decline::Bypass;

/// Runs one input.
///
/// # Panics
///
/// If a parser of structured fields reads anything else than what was to be said.
pub fn cache_status(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let Some(status) = status(&words) else {
        return;
    };
    let field = status.to_field();
    assert_eq!(status.to_value(), field, "both ways to write it");
    let list: List = Parser::new(&field)
        .parse()
        .expect("it is a structured list");
    let [ListEntry::Item(item)] = &list[..] else {
        panic!("{field} is not one item");
    };
    assert_eq!(
        item.bare_item.as_token().map(|name| name.as_str()),
        Some("vms-edge")
    );
    let said: Vec<(String, Said)> = item
        .params
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), said(value)))
        .collect();
    assert_eq!(said, expected(status), "{field}");
}

/// The value of a parameter.
#[derive(Debug, PartialEq)]
enum Said {
    Yes,
    Number(i64),
    Word(String),
    Text(String),
}

fn said(value: &BareItem) -> Said {
    match value {
        BareItem::Boolean(true) => Said::Yes,
        BareItem::Integer(number) => Said::Number((*number).into()),
        BareItem::Token(word) => Said::Word(word.as_str().to_owned()),
        BareItem::String(text) => Said::Text(text.as_str().to_owned()),
        other => panic!("nothing of {other:?} is ever said"),
    }
}

fn status(words: &[&str]) -> Option<CacheStatus> {
    let has = |word| words.contains(&word);
    let number = |at: usize| words.get(at)?.parse::<i64>().ok();
    let code = |at: usize| words.get(at)?.parse::<u16>().ok();
    let count = |at: usize| words.get(at)?.parse::<u16>().ok().map(usize::from);
    // An age is counted from when the process began: no more than an i64 of nanoseconds, and so of no more seconds than a
    // structured field can hold.
    let ttl_ms = |at| number(at).map(|ttl_ms| ttl_ms / 1_000_000);
    Some(match *words.first()? {
        "hit" => CacheStatus::Hit { ttl_ms: ttl_ms(1)? },
        "miss" => CacheStatus::Miss {
            status: code(1)?,
            stored: has("stored"),
            collapsed: has("collapsed"),
        },
        "partial" => CacheStatus::Partial {
            hit: count(1)?,
            miss: count(2)?,
            status: code(3)?,
            stored: has("stored"),
            collapsed: has("collapsed"),
        },
        "bypass" => {
            let reason = Bypass::ALL.into_iter().find(|reason| has(reason.name()));
            CacheStatus::Bypass(reason?)
        }
        "stale" => CacheStatus::InsteadOfError {
            status: code(1),
            ttl_ms: ttl_ms(2)?,
        },
        "failed" => CacheStatus::Failed {
            partial: has("partial"),
        },
        _ => return None,
    })
}

/// RFC 9211, section 2, parameter by parameter.
fn expected(status: CacheStatus) -> Vec<(String, Said)> {
    let mut all = Vec::new();
    let mut say = |name: &str, value| all.push((name.to_owned(), value));
    let word = |word: &str| Said::Word(word.to_owned());
    let seconds = |ttl_ms: i64| {
        let whole = ttl_ms / 1000;
        // Down to the whole second, before zero too.
        Said::Number(whole - i64::from(ttl_ms < 0 && whole * 1000 != ttl_ms))
    };
    let mut say_if = |holds: bool, name: &str, value: Said| {
        if holds {
            say(name, value);
        }
    };
    match status {
        CacheStatus::Hit { ttl_ms } => {
            say_if(true, "hit", Said::Yes);
            say_if(true, "ttl", seconds(ttl_ms));
        }
        CacheStatus::Miss {
            status,
            stored,
            collapsed,
        } => {
            say_if(true, "fwd", word("miss"));
            say_if(true, "fwd-status", Said::Number(status.into()));
            say_if(stored, "stored", Said::Yes);
            say_if(collapsed, "collapsed", Said::Yes);
        }
        CacheStatus::Partial {
            hit,
            miss,
            status,
            stored,
            collapsed,
        } => {
            say_if(true, "fwd", word("partial"));
            say_if(true, "fwd-status", Said::Number(status.into()));
            say_if(stored, "stored", Said::Yes);
            say_if(collapsed, "collapsed", Said::Yes);
            say_if(true, "detail", Said::Text(format!("hit={hit} miss={miss}")));
        }
        CacheStatus::Bypass(reason) => {
            say_if(true, "fwd", word("bypass"));
            say_if(true, "detail", word(reason.name()));
        }
        CacheStatus::InsteadOfError { status, ttl_ms } => {
            say_if(true, "fwd", word("stale"));
            let code = status.map(|status| Said::Number(status.into()));
            say_if(status.is_some(), "fwd-status", code.unwrap_or(Said::Yes));
            say_if(true, "ttl", seconds(ttl_ms));
            say_if(true, "detail", word("stale_if_error"));
        }
        CacheStatus::Failed { partial } => {
            say_if(true, "fwd", word(if partial { "partial" } else { "miss" }));
            say_if(true, "detail", word("failed"));
        }
    }
    all
}
