//! Writes: which stored items a request that passes through makes wrong, by the `[[invalidate]]` rules.
//!
//! When in doubt, more: a path is compared as generously as any server might read it (`//`, percent-encoding,
//! `/index.php`, another case), and a POST counts as every method, since Laravel lets a form say which one it means.

use http::Method;
use percent_encoding::percent_decode;
use pingora_http::RequestHeader;

use super::ids::canonical;
use super::key::{KeyMaker, UserId};
use super::{bearer, credential, path};
use crate::config::{Config, EndpointId, Invalidate, PathPattern, Segment};

/// The `[[invalidate]]` rules, and what they are about.
pub struct Rules {
    rules: Vec<Invalidate>,
    endpoints: Vec<EndpointId>,
    /// The batch paths, segment by segment.
    batches: Vec<Vec<String>>,
}

/// What a write makes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// All items of the user who writes.
    pub user: bool,
    /// These items of these endpoints, for everyone.
    pub items: Vec<(EndpointId, u64)>,
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

impl Rules {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        let batches = config.batches.iter();
        Self {
            rules: config.invalidate.clone(),
            endpoints: batches.clone().map(|batch| batch.endpoint).collect(),
            batches: batches
                .map(|batch| segments(batch.path.as_bytes()))
                .collect(),
        }
    }

    /// What a write reaches; nothing if no rule matches.
    pub fn reach(&self, request: &RequestHeader) -> Reach {
        let mut reach = Reach::default();
        if !is_write(&request.method) {
            return reach;
        }
        let segments = segments(path(request));
        for rule in &self.rules {
            if !says(&request.method, &rule.methods) {
                continue;
            }
            let Some(item) = matched(&rule.path, &segments) else {
                continue;
            };
            reach.user |= rule.scope.user;
            reach.everything |= rule.scope.all;
            if !rule.scope.item {
                continue;
            }
            match item {
                Item::Id(id) => {
                    let whose = rule.batch.as_slice();
                    let whose = if whose.is_empty() {
                        &self.endpoints
                    } else {
                        whose
                    };
                    reach
                        .items
                        .extend(whose.iter().map(|endpoint| (*endpoint, id)));
                }
                // `/api/v1/intercom/shows` is the batch itself, and no item of `/api/v1/intercom/{id}`.
                Item::Unread if self.batches.contains(&segments) => {}
                // The VMS may read a number into what the edge does not: `180;x`, ` 180`.
                Item::Unread | Item::Unnamed => reach.everything = true,
            }
        }
        reach.items.sort_unstable();
        reach.items.dedup();
        reach
    }
}

/// Whether a method may stand for one of these: a POST for any, and PHP reads every method in capitals.
fn says(method: &Method, rules: &[Method]) -> bool {
    let is = |other: &Method| method.as_str().eq_ignore_ascii_case(other.as_str());
    is(&Method::POST) || rules.iter().any(is)
}

/// The users one of whom writes; none where there may be others. Beside the one plain token the VMS may read another,
/// in a parameter. A cookie beside a plain token counts for nothing here: browsers send one with everything, and each of
/// their writes would end what all others have stored.
pub fn writers(request: &RequestHeader, keys: &KeyMaker) -> Vec<UserId> {
    match bearer(&request.headers) {
        Some(_) => credential::holders(request, keys),
        None => Vec::new(),
    }
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

    const EVERYTHING: Reach = Reach {
        user: false,
        items: Vec::new(),
        everything: true,
    };

    fn reached_by(rules: &str, method: &str, target: &str) -> Reach {
        let text = format!("upstream.servers = [\"127.0.0.1:1\"]\n{rules}");
        let rules = Rules::new(&Config::parse(&text, "test").unwrap());
        let request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        rules.reach(&request)
    }

    fn reached(method: &str, target: &str) -> Reach {
        const RULES: &str = r#"
            [[invalidate]]
            methods = ["PATCH", "DELETE"]
            path = "/api/v1/intercom/{id}"
            scope = ["user", "item"]
            [[invalidate]]
            path = "/api/v1/billing/**"
            scope = ["all"]
        "#;
        reached_by(RULES, method, target)
    }

    fn the_item() -> Reach {
        Reach {
            user: true,
            items: vec![(EndpointId::of("/api/v1/intercom/shows"), 180)],
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
    fn writers_are_the_holders_of_all_tokens_beside_a_plain_one_and_unknown_without_one() {
        let keys = KeyMaker::new().unwrap();
        let wrote = |target: &str, fields: &[(&'static str, &str)]| {
            let mut request = RequestHeader::build("PATCH", target.as_bytes(), None).unwrap();
            for (name, value) in fields {
                request.append_header(*name, *value).unwrap();
            }
            writers(&request, &keys)
        };
        let ann = ("Authorization", "Bearer ann");
        let (anns, bobs) = (keys.holder(b"ann"), keys.holder(b"bob"));
        assert_eq!(wrote("/x", &[ann]), [anns]);
        for name in ["api_token", "api.token", "api+token", "api[token"] {
            let writers = wrote(&format!("/x?{name}=bob"), &[ann]);
            let both = writers.contains(&anns) && writers.contains(&bobs);
            assert!(both && writers.len() == 2, "{name}");
        }
        for other in [("Cookie", "session=x"), ("Proxy-Authorization", "Basic x")] {
            assert_eq!(wrote("/x", &[ann, other]), [anns], "{other:?}");
            assert_eq!(wrote("/x", &[other]), [], "{other:?}");
        }
        assert_eq!(wrote("/x?api_token=bob", &[]), []);
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
    fn a_post_may_mean_any_method_and_a_method_may_be_in_small_letters() {
        for method in ["POST", "post", "patch", "Delete"] {
            assert_eq!(
                reached(method, "/api/v1/intercom/180"),
                the_item(),
                "{method}"
            );
        }
        assert_eq!(reached("get", "/api/v1/intercom/180"), Reach::default());
    }

    #[test]
    fn the_batch_itself_is_no_item() {
        let reach = reached("POST", "/api/v1//intercom/Shows");
        assert!(reach.user && reach.items.is_empty() && !reach.everything);
        assert!(reached("POST", "/api/v1/intercom/other").everything);
    }

    #[test]
    fn an_id_is_one_of_the_named_batch_or_of_any() {
        let reached = |batch: &str, path: &str| {
            let rules = format!(
                r#"
                [[batch]]
                path = "/a/shows"
                [[batch]]
                path = "/b/shows"
                name = "b"
                [[invalidate]]
                path = "/x/{{id}}"
                scope = ["item"]
                {batch}
            "#
            );
            reached_by(&rules, "PATCH", path)
        };
        let (first, second) = (EndpointId::of("/a/shows"), EndpointId::of("/b/shows"));
        assert_eq!(reached("batch = \"/b/shows\"", "/x/7").items, [(second, 7)]);
        let mut both = [(first, 7), (second, 7)];
        both.sort_unstable();
        assert_eq!(reached("", "/x/7").items, both);
        assert_eq!(reached("batch = \"/b/shows\"", "/x/7x"), EVERYTHING);
    }
}
