//! What a target is asked with: tokens and ids, from files.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cli::Ids;

/// A token of a user. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

/// A file that is no good. What stands in it is not told, since it may be a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadFile {
    #[error("{path:?} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path:?} is empty: it should have one {what} a line")]
    Empty { path: PathBuf, what: &'static str },
    #[error("line {line} of {path:?} is no {what}")]
    Line {
        path: PathBuf,
        line: usize,
        what: &'static str,
    },
}

impl Token {
    /// For a request, and nothing else.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// Visible ASCII, and no comma, which would make two of it.
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("Bearer ").unwrap_or(line);
        let is_good = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        line.bytes().all(is_good).then(|| Self(line.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens of a file, one a line; empty lines do not count.
pub(super) fn tokens(path: &Path) -> Result<Vec<Token>, BadFile> {
    lines(path, "token", Token::parse)
}

/// Ids, in the order in which they are given.
pub(super) fn ids(ids: &Ids) -> Result<Vec<u64>, BadFile> {
    match ids {
        Ids::Range(first, last) => Ok((*first..=*last).collect()),
        Ids::File(path) => lines(path, "id", |line| line.parse().ok().filter(|id| *id > 0)),
    }
}

fn lines<T>(
    path: &Path,
    what: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, BadFile> {
    let text = fs::read_to_string(path).map_err(|source| BadFile::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let lines = text.lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(text, _)| !text.is_empty());
    let parsed = lines.map(|(text, line)| {
        parse(text).ok_or_else(|| BadFile::Line {
            path: path.to_owned(),
            line,
            what,
        })
    });
    let parsed: Vec<T> = parsed.collect::<Result<_, _>>()?;
    match parsed.is_empty() {
        true => Err(BadFile::Empty {
            path: path.to_owned(),
            what,
        }),
        false => Ok(parsed),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_file_has_a_token_on_each_line_that_is_not_empty() {
        let file = file("tok-1-ios\n\n Bearer tok-2-ios \n");
        let tokens = tokens(file.path()).unwrap();
        let secrets: Vec<&str> = tokens.iter().map(Token::secret).collect();
        assert_eq!(secrets, ["tok-1-ios", "tok-2-ios"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_but_not_what_stands_in_it() {
        for (text, told) in [
            ("\n \n", "is empty: it should have one token a line"),
            ("good\nsecret one\n", "is no token"),
            ("good\nsecret,two\n", "is no token"),
            ("sécret\n", "is no token"),
        ] {
            let file = file(text);
            let error = tokens(file.path()).unwrap_err();
            let message = format!("{error} {error:?}");
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("cret"), "{message}");
        }
        let missing = tokens(Path::new("/nowhere/tokens")).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"));
    }

    #[test]
    fn a_token_is_shown_nowhere() {
        let token = Token::parse("secret").unwrap();
        assert!(!format!("{token:?} {:#?}", vec![token.clone()]).contains("secret"));
    }

    #[test]
    fn ids_are_read_in_their_order() {
        assert_eq!(ids(&Ids::Range(3, 5)).unwrap(), [3, 4, 5]);
        let given = file("7\n2\n");
        assert_eq!(ids(&Ids::File(given.path().to_owned())).unwrap(), [7, 2]);
        let refused = file("7\n0\n");
        let refused = ids(&Ids::File(refused.path().to_owned())).unwrap_err();
        assert!(refused.to_string().starts_with("line 2 of"));
    }
}
