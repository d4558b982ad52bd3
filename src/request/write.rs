//! Writes: which stored items a request that passes through makes wrong, by the `[[invalidate]]` rules.
//!
//! When in doubt, more: a path is compared as generously as any server might read it (`//`, percent-encoding,
//! `/index.php`, another case), and a POST counts as every method, since Laravel lets a form say which one it means.

use http::Method;
use percent_encoding::percent_decode;
use pingora_http::RequestHeader;

use super::ids::canonical;
use super::key::{KeyMaker, UserId};
use super::{bearer, path};
use crate::config::{Invalidate, PathPattern, Segment};

/// What a write makes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// All items of the user who writes.
    pub user: bool,
    /// These items, for everyone.
    pub items: Vec<u64>,
    /// Everything.
    pub everything: bool,
}

impl Reach {
    /// Whether no rule matched.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The item that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    /// The pattern has no `{id}`.
    Unnamed,
    /// There is something at `{id}`, but not a canonical number.
    Unread,
    /// This one.
    Id(u64),
}

/// Whether a request may change what the VMS would answer (RFC 9110, 9.2.1).
pub fn is_write(method: &Method) -> bool {
    !method.is_safe()
}

/// What a write reaches; nothing if no rule matches.
pub fn reach(request: &RequestHeader, rules: &[Invalidate]) -> Reach {
    let mut reach = Reach::default();
    if !is_write(&request.method) {
        return reach;
    }
    let segments = segments(path(request));
    for rule in rules {
        if request.method != Method::POST && !rule.methods.contains(&request.method) {
            continue;
        }
        let Some(item) = matched(&rule.path, &segments) else {
            continue;
        };
        reach.user |= rule.scope.user;
        reach.everything |= rule.scope.all;
        if rule.scope.item {
            match item {
                Item::Id(id) => reach.items.push(id),
                // The VMS may read a number into what the edge does not: `180;x`, ` 180`.
                Item::Unread | Item::Unnamed => reach.everything = true,
            }
        }
    }
    reach
}

/// The user who writes; `None` where readers may disagree on who that is.
pub fn writer(request: &RequestHeader, keys: &KeyMaker) -> Option<UserId> {
    bearer(&request.headers).map(|token| keys.user(token))
}

/// The segments of a path as the most generous server reads them.
fn segments(path: &[u8]) -> Vec<String> {
    let decoded: Vec<u8> = percent_decode(path).collect();
    let mut segments: Vec<String> = Vec::new();
    for segment in String::from_utf8_lossy(&decoded).split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_lowercase()),
        }
    }
    if segments.first().is_some_and(|first| first == "index.php") {
        segments.remove(0);
    }
    segments
}

/// Whether a pattern matches, and the item that it names.
fn matched(pattern: &PathPattern, segments: &[String]) -> Option<Item> {
    let mut item = Item::Unnamed;
    let mut rest = segments.iter();
    for expected in &pattern.segments {
        match expected {
            Segment::Rest => return Some(item),
            Segment::Literal(literal) => {
                rest.next()
                    .filter(|segment| **segment == literal.to_lowercase())?;
            }
            Segment::Name(name) => {
                let segment = rest.next()?;
                if name == "id" {
                    item = canonical(segment.as_bytes()).map_or(Item::Unread, Item::Id);
                }
            }
        }
    }
    rest.next().is_none().then_some(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn reached(method: &str, target: &str) -> Reach {
        const RULES: &str = r#"
            upstream.servers = ["127.0.0.1:1"]
            [[invalidate]]
            methods = ["PATCH", "DELETE"]
            path = "/api/v1/intercom/{id}"
            scope = ["user", "item"]
            [[invalidate]]
            path = "/api/v1/billing/**"
            scope = ["all"]
        "#;
        let rules = Config::parse(RULES, "test").unwrap().invalidate;
        let request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        reach(&request, &rules)
    }

    fn the_item() -> Reach {
        Reach {
            user: true,
            items: vec![180],
            everything: false,
        }
    }

    #[test]
    fn a_rule_reaches_what_it_says() {
        assert_eq!(reached("PATCH", "/api/v1/intercom/180?x=1"), the_item());
        assert!(reached("PUT", "/api/v1/billing/any/thing").everything);
        assert!(reached("PUT", "/api/v1/billing").everything);
    }

    #[test]
    fn other_methods_and_paths_reach_nothing() {
        for (method, target) in [
            ("GET", "/api/v1/intercom/180"),
            ("HEAD", "/api/v1/billing/x"),
            ("PUT", "/api/v1/intercom/180"),
            ("PATCH", "/api/v1/intercom"),
            ("PATCH", "/api/v1/intercom/180/flat"),
            ("PATCH", "/api/v2/intercom/180"),
        ] {
            assert_eq!(
                reached(method, target),
                Reach::default(),
                "{method} {target}"
            );
        }
    }

    #[test]
    fn odd_spellings_of_a_path_reach_the_same() {
        for target in [
            "//api//v1/intercom/180",
            "/api/v1/intercom/180/",
            "/api/v1/%69ntercom/%3180",
            "/index.php/api/v1/intercom/180",
            "/API/v1/Intercom/180",
            "/api/./v1/intercom/180",
            "/api/v1/x/../intercom/180",
        ] {
            assert_eq!(reached("DELETE", target), the_item(), "{target}");
        }
    }

    #[test]
    fn an_item_that_cannot_be_read_may_be_any() {
        for target in [
            "/api/v1/intercom/180;x",
            "/api/v1/intercom/%20180",
            "/api/v1/intercom/0180",
        ] {
            let reach = reached("PATCH", target);
            assert!(reach.everything && reach.items.is_empty(), "{target}");
        }
    }

    #[test]
    fn a_post_may_mean_any_method() {
        assert_eq!(reached("POST", "/api/v1/intercom/180"), the_item());
    }
}
