//! Paths, patterns of paths and parameter names, as the file spells them.
//!
//! Spelling only: how a request's path is compared with them is decided where requests are read.

use std::fmt;

use http::uri::PathAndQuery;

use super::section::Kind;

/// A path that a batch request must have.
pub(super) const PATH: Kind<String> = Kind {
    allowed: "an absolute path of visible ASCII without ? # { } *, such as /api/v1/intercom/shows",
    parse: |text| {
        absolute(text)?;
        if text.contains(['{', '}', '*']) {
            return Err("holds a pattern, but a batch path is compared byte for byte".to_owned());
        }
        Ok(text.to_owned())
    },
};

/// The path that a health check asks for.
pub(super) const CHECK_PATH: Kind<String> = Kind {
    allowed: "an absolute path without ? and #, such as /api/v1/static/basic",
    parse: |text| {
        absolute(text)?;
        match PathAndQuery::try_from(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("holds a character that no request may have".to_owned()),
        }
    },
};

/// The name of the parameter that carries the ids.
pub(super) const IDS: Kind<String> = Kind {
    allowed: "letters, digits, _ and -, such as ids; not token, api_token or access_token",
    parse: |text| match text {
        "token" | "api_token" | "access_token" => Err(
            "names a credential, and a request with one is never answered from memory".to_owned(),
        ),
        text => parameter(text),
    },
};

/// The name of the member that carries an object's id.
pub(super) const ID: Kind<String> = Kind {
    allowed: "letters, digits, _ and -, such as id",
    parse: parameter,
};

/// What metrics call a batch endpoint.
pub(super) const NAME: Kind<String> = Kind {
    allowed: "1 to 40 lower-case letters, digits and _, such as intercom_shows",
    parse: |text| match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("is no name".to_owned()),
    },
};

/// The name that is made of a batch path: its last two segments, in lower case, with `_` between them and for whatever
/// is neither a letter nor a digit. `None` where that makes no name.
pub(super) fn name_of(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').filter(|text| !text.is_empty()).collect();
    let last_two = &segments[segments.len().saturating_sub(2)..];
    let plain = |letter: char| match letter.is_ascii_alphanumeric() {
        true => letter.to_ascii_lowercase(),
        false => '_',
    };
    let name: String = last_two.join("_").chars().map(plain).collect();
    is_name(&name).then_some(name)
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=40).contains(&text.len()) && text.bytes().all(fits)
}

/// A pattern of paths.
pub(super) const PATTERN: Kind<PathPattern> = Kind {
    allowed: "an absolute path whose segments are fixed, {name} for any one segment, or ** at the end for any rest, \
              such as /api/v1/intercom/{id}",
    parse: pattern,
};

/// A pattern of request paths: `/` before each segment, no segment empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// At least one; [`Segment::Rest`] only at the end, names distinct.
    pub segments: Vec<Segment>,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This segment.
    Literal(String),
    /// `{name}`: any one segment that is not empty. The one called `id` carries the item's id.
    Name(String),
    /// `**`: any rest, also none, so that `/a/**` is `/a` and everything below.
    Rest,
}

impl PathPattern {
    /// Whether a segment is called `{id}`, so that a request that matches names an item.
    pub fn names_item(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| matches!(segment, Segment::Name(name) if name == "id"))
    }

    /// Whether the two match the same paths: case does not matter, nor what a name is.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one.eq_ignore_ascii_case(other),
            (Segment::Name(_), Segment::Name(_)) | (Segment::Rest, Segment::Rest) => true,
            _ => false,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments
            .iter()
            .try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Literal(text) => f.write_str(text),
            Segment::Name(name) => write!(f, "{{{name}}}"),
            Segment::Rest => f.write_str("**"),
        }
    }
}

fn pattern(text: &str) -> Result<PathPattern, String> {
    absolute(text)?;
    let spelled: Vec<&str> = text.split('/').skip(1).collect();
    let mut segments: Vec<Segment> = Vec::with_capacity(spelled.len());
    for (index, spelling) in spelled.iter().enumerate() {
        let segment = segment(spelling)?;
        if segment == Segment::Rest && index + 1 < spelled.len() {
            return Err("has ** before its end".to_owned());
        }
        if index == 0 && spelling.eq_ignore_ascii_case("index.php") {
            return Err(
                "begins with /index.php, which is left out of a path before it is compared, \
                        so it would never match"
                    .to_owned(),
            );
        }
        if matches!(segment, Segment::Name(_)) && segments.contains(&segment) {
            return Err(format!("has {segment} twice"));
        }
        segments.push(segment);
    }
    Ok(PathPattern { segments })
}

fn segment(text: &str) -> Result<Segment, String> {
    if text.is_empty() {
        return Err("has an empty segment, so it would never match".to_owned());
    }
    if text == "**" {
        return Ok(Segment::Rest);
    }
    if text == "." || text == ".." {
        return Err(format!(
            "has a segment {text}, which is resolved before a path is compared, so it would never match"
        ));
    }
    if text.contains('%') {
        return Err(format!(
            "has a segment {text} with %, but paths are compared decoded, so it would never match"
        ));
    }
    if let Some(name) = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        return match parameter(name) {
            Ok(name) => Ok(Segment::Name(name)),
            Err(_) => Err(format!(
                "has a segment {text} whose name is not letters, digits, _ and -"
            )),
        };
    }
    if text.contains(['{', '}', '*']) {
        return Err(format!(
            "has a segment {text} that is only partly a pattern"
        ));
    }
    Ok(Segment::Literal(text.to_owned()))
}

fn absolute(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("does not begin with /".to_owned());
    }
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
    {
        Some(character) => Err(format!("holds {character:?}, which no path can")),
        None => Ok(()),
    }
}

fn parameter(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if !text.bytes().all(fits) {
        return Err("holds other characters than letters, digits, _ and -".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_read_segment_by_segment() {
        let read = pattern("/api/v1/intercom/{id}/**").unwrap();
        let expected = [
            Segment::Literal("api".to_owned()),
            Segment::Literal("v1".to_owned()),
            Segment::Literal("intercom".to_owned()),
            Segment::Name("id".to_owned()),
            Segment::Rest,
        ];
        assert_eq!(read.segments, expected);
        assert!(read.names_item());
        assert!(!pattern("/a/{item}").unwrap().names_item());
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        for (text, problem) in [
            ("", "does not begin with /"),
            ("api/{id}", "does not begin with /"),
            ("/", "has an empty segment, so it would never match"),
            ("/api//x", "has an empty segment, so it would never match"),
            ("/api/", "has an empty segment, so it would never match"),
            ("/api/**/x", "has ** before its end"),
            ("/{id}/{id}", "has {id} twice"),
            (
                "/{}",
                "has a segment {} whose name is not letters, digits, _ and -",
            ),
            ("/{a b}", "holds ' ', which no path can"),
            (
                "/{id}.json",
                "has a segment {id}.json that is only partly a pattern",
            ),
            ("/*", "has a segment * that is only partly a pattern"),
            ("/a?b=1", "holds '?', which no path can"),
            ("/a#b", "holds '#', which no path can"),
            (
                "/a/../b",
                "has a segment .., which is resolved before a path is compared, so it would never match",
            ),
            (
                "/a/.",
                "has a segment ., which is resolved before a path is compared, so it would never match",
            ),
            (
                "/a%2Fb",
                "has a segment a%2Fb with %, but paths are compared decoded, so it would never match",
            ),
            (
                "/Index.php/a",
                "begins with /index.php, which is left out of a path before it is compared, so it would never match",
            ),
        ] {
            assert_eq!(pattern(text), Err(problem.to_owned()), "{text}");
        }
    }

    #[test]
    fn two_patterns_are_the_same_if_they_match_the_same_paths() {
        let is_same = |one, other| pattern(one).unwrap().is_same(&pattern(other).unwrap());
        for same in [("/a/{id}", "/a/{x}"), ("/A/b", "/a/B"), ("/a/**", "/a/**")] {
            assert!(is_same(same.0, same.1), "{same:?}");
        }
        for other in ["/a/b", "/a/{id}/b", "/a/{id}/**", "/a/**", "/b/{id}", "/a"] {
            assert!(!is_same("/a/{id}", other), "{other}");
        }
    }

    #[test]
    fn a_name_is_made_of_the_last_two_segments() {
        for (path, name) in [
            ("/api/v1/intercom/shows", Some("intercom_shows")),
            ("/api/v1/cameras/shows/", Some("cameras_shows")),
            ("/shows", Some("shows")),
            ("/Inter-Com/v1.2", Some("inter_com_v1_2")),
            ("/", None),
            ("/a/0123456789012345678901234567890123456789", None),
        ] {
            assert_eq!(name_of(path).as_deref(), name, "{path}");
        }
        for name in ["", "A", "a b", "ä", "a-b", &"a".repeat(41)] {
            assert!((NAME.parse)(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_batch_path_is_absolute_and_holds_no_pattern() {
        assert_eq!(
            (PATH.parse)("/api/v1/intercom/shows").unwrap(),
            "/api/v1/intercom/shows"
        );
        for bad in [
            "", "api", "/a b", "/a?b", "/a#b", "/a\n", "/\u{e4}", "/a/{id}", "/a/**",
        ] {
            assert!((PATH.parse)(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_path_of_a_check_can_be_asked_for() {
        assert_eq!((CHECK_PATH.parse)("/a%20{b}*").unwrap(), "/a%20{b}*");
        for bad in ["", "api", "/a b", "/a?b", "/a#b", "/a\n", "/<", "/\u{e4}"] {
            assert!((CHECK_PATH.parse)(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_pattern_is_read_back_the_same(text in "(/[a-z0-9.]{1,4}|/\\{[a-z]{1,4}\\}){1,4}(/\\*\\*)?") {
            if let Ok(read) = pattern(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
