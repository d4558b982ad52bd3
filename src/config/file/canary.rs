//! `[canary]`: two test users whose answers are held against each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::address::WEB_ORIGIN;
use super::super::material::read_user_token;
use super::super::route::PATH;
use super::super::section::{Kind, Section};
use super::super::{Batch, Canary, Headers, TestUser};
use super::visible;

const SHORTEST: Duration = Duration::from_millis(100);
/// One who is asked for less often would be missed late.
const LONGEST: Duration = Duration::from_secs(15 * 60);

const TOKEN_FILE: Kind<TestUser> = Kind {
    allowed: "a readable file of one line with a user's token, 1 to 8192 visible ASCII characters without a comma",
    parse: |text| match read_user_token(Path::new(text)) {
        Ok(token) => Ok(TestUser {
            token_file: PathBuf::from(text),
            token,
        }),
        Err(error) => Err(error.to_string()),
    },
};

const CLIENT: Kind<String> = Kind {
    allowed: "one of headers.clients",
    parse: |text| Ok(text.to_owned()),
};

const DEVICE: Kind<String> = Kind {
    allowed: "1 to 128 visible ASCII characters, such as vms-edge-canary",
    parse: visible,
};

/// `batches` and `headers` are what the file says of them, if that has no fault.
pub(super) fn canary(
    mut section: Section<'_>,
    batches: Option<&[Batch]>,
    headers: Option<&Headers>,
) -> Option<Canary> {
    let users = section.list("token_files", Vec::new(), &TOKEN_FILE);
    let users = users.and_then(|users| pair(&section, users));
    let ids = section.numbers("ids", 1..=i64::MAX);
    let batch = section.optional_text("batch", &PATH);
    let batch = batch.and_then(|batch| whose(&section, batch.as_deref(), batches?));
    let interval = section.duration("interval", Duration::from_secs(60), SHORTEST..=LONGEST);
    let client = section.text("client", "ios".to_owned(), &CLIENT);
    let device = section.text("device", "vms-edge-canary".to_owned(), &DEVICE);
    let origin = section.optional_text("origin", &WEB_ORIGIN);
    if let Some(Some(_)) = &users {
        if let (Some(ids), Some(batch)) = (&ids, batch) {
            let most = batch.max_ids;
            let problem = match ids.len() {
                0 => Some("says nothing that the users could ask for".to_owned()),
                count if count > most => Some(format!("has {count} ids")),
                _ => None,
            };
            if let Some(problem) = problem {
                section.fault("ids", problem, format!("1 to {most} ids"));
            }
        }
        if let (Some(client), Some(headers)) = (&client, headers)
            && !headers.clients.contains(client)
        {
            let clients = headers.clients.join(", ");
            section.fault("client", format!("{client:?} is unknown"), clients);
        }
    }
    section.finish();
    Some(Canary {
        users: users?,
        ids: ids?,
        batch: batch?.endpoint,
        interval: interval?,
        client: client?,
        device: device?,
        origin: origin?,
    })
}

/// Two users, or none.
fn pair(section: &Section<'_>, users: Vec<TestUser>) -> Option<Option<[TestUser; 2]>> {
    match <[TestUser; 2]>::try_from(users) {
        Ok(users) if users[0].token == users[1].token => section.refuse(
            "token_files",
            "holds the same token twice",
            "the tokens of two users",
        ),
        Ok(users) => Some(Some(users)),
        Err(users) if users.is_empty() => Some(None),
        Err(users) => section.refuse(
            "token_files",
            format!("names {} files", users.len()),
            "two files, or none",
        ),
    }
}

/// The endpoint whose path `batch` is; the first if it is none.
fn whose<'b>(
    section: &Section<'_>,
    batch: Option<&str>,
    batches: &'b [Batch],
) -> Option<&'b Batch> {
    let Some(path) = batch else {
        return batches.first();
    };
    let known = batches.iter().find(|known| known.path == path);
    known.or_else(|| {
        let paths: Vec<_> = batches.iter().map(|batch| &*batch.path).collect();
        let problem = format!("{path:?} is the path of no [[batch]]");
        section.refuse("batch", problem, paths.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::super::tests::{accepted, refused};
    use super::super::super::{EndpointId, Scheme};

    /// A directory with the tokens of some users, each in a file of its own, and a list of the files.
    fn token_files(tokens: &[&str]) -> (TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = |(number, token): (usize, &&str)| {
            let path = directory.path().join(format!("user-{number}"));
            std::fs::write(&path, token).unwrap();
            format!("'{}'", path.display())
        };
        let files: Vec<String> = tokens.iter().enumerate().map(file).collect();
        let list = format!("token_files = [{}]", files.join(", "));
        (directory, list)
    }

    #[test]
    fn a_canary_is_two_users_who_ask_for_the_same() {
        let (_directory, files) = token_files(&["ann", "bob\n"]);
        let text = format!("[canary]\n{files}\nids = [1, 2]\ninterval = \"10s\"");
        let canary = accepted(&text).canary;
        let users = canary.users.expect("there are two");
        let tokens = users.map(|user| user.token.authorization());
        assert_eq!(tokens, ["Bearer ann", "Bearer bob"]);
        assert_eq!(canary.ids, [1, 2]);
        assert_eq!(canary.batch, EndpointId::of("/api/v1/intercom/shows"));
    }

    #[test]
    fn without_users_there_is_none() {
        assert_eq!(accepted("[canary]\ntoken_files = []").canary.users, None);
        assert_eq!(accepted("").canary.users, None);
    }

    #[test]
    fn the_users_are_two_and_not_the_same() {
        let (_directory, files) = token_files(&["ann"]);
        assert_eq!(
            refused(&format!("[canary]\nids = [1]\n{files}")),
            "edge.toml:3: canary.token_files: names 1 files; allowed: two files, or none"
        );
        let (_directory, files) = token_files(&["ann", "ann\r\n"]);
        assert_eq!(
            refused(&format!("[canary]\nids = [1]\n{files}")),
            "edge.toml:3: canary.token_files: holds the same token twice; allowed: the tokens of two users"
        );
    }

    #[test]
    fn a_token_is_one_that_is_understood_in_a_request() {
        for (token, problem) in [
            ("", "is empty"),
            ("a\nb", "holds more than one line"),
            (
                "a,b",
                "holds a token with a comma, spaces or other characters than visible ASCII",
            ),
            (
                "a b",
                "holds a token with a comma, spaces or other characters than visible ASCII",
            ),
        ] {
            let (directory, files) = token_files(&[token, "bob"]);
            let path = directory.path().join("user-0");
            assert_eq!(
                refused(&format!("[canary]\nids = [1]\n{files}")),
                format!(
                    "edge.toml:3: canary.token_files[0]: {path:?} {problem}; allowed: a readable file of one line with \
                     a user's token, 1 to 8192 visible ASCII characters without a comma"
                )
            );
        }
        let (_directory, files) = token_files(&[&"a".repeat(8193), "bob"]);
        let told = refused(&format!("[canary]\nids = [1]\n{files}"));
        assert!(told.contains("holds a token of 8193 characters"), "{told}");
    }

    #[test]
    fn the_vms_is_addressed_as_clients_do() {
        let (_directory, files) = token_files(&["ann", "bob"]);
        let text = |origin: &str| format!("[canary]\n{files}\nids = [1]\norigin = \"{origin}\"");
        for (origin, scheme, host) in [
            ("https://vms.example.com", Scheme::Https, "vms.example.com"),
            ("http://10.0.0.5:8080", Scheme::Http, "10.0.0.5:8080"),
            ("https://[fd00::5]", Scheme::Https, "[fd00::5]"),
        ] {
            let read = accepted(&text(origin)).canary.origin.unwrap();
            assert_eq!((read.scheme, read.host.to_str().unwrap()), (scheme, host));
            assert_eq!(read.to_string(), origin);
        }
        assert_eq!(accepted(&text("")).canary.origin, None);
        for (origin, problem) in [
            ("vms.example.com", "does not begin with http:// or https://"),
            ("ftp://vms.local", "does not begin with http:// or https://"),
            (
                "HTTPS://vms.local",
                "does not begin with http:// or https://",
            ),
            ("https://", "has no valid host name"),
            (
                "https://vms.local/",
                "holds more than a scheme, a host and a port",
            ),
            (
                "https://vms.local?a",
                "holds more than a scheme, a host and a port",
            ),
            ("https://a@vms.local", "holds a user or a password"),
            (
                "https://vms.local:0",
                "has a port out of the range 1 to 65535",
            ),
            ("https://fd00::5", "has no valid host name"),
        ] {
            let told = refused(&text(origin));
            let wanted = format!(
                "edge.toml:4: canary.origin: {origin:?} {problem}; allowed: http:// or https:// and HOST"
            );
            assert!(told.starts_with(&wanted), "{told}");
        }
    }

    #[test]
    fn what_is_asked_is_a_batch_that_the_edge_answers() {
        let (_directory, files) = token_files(&["ann", "bob"]);
        let rest = "batch = \"/a\"\nclient = \"fridge\"\ndevice = \"a b\"\ninterval = \"1ms\"";
        assert_eq!(
            refused(&format!(
                "[canary]\n{files}\nids = [0, 1, 1, \"2\"]\n{rest}"
            )),
            "edge.toml:3: canary.ids[0]: 0 is out of range; allowed: a whole number, 1 to 9223372036854775807\n\
             edge.toml:3: canary.ids[2]: 1 repeats canary.ids[1]; allowed: each only once\n\
             edge.toml:3: canary.ids[3]: \"2\" is a string, not an integer; \
             allowed: a whole number, 1 to 9223372036854775807\n\
             edge.toml:4: canary.batch: \"/a\" is the path of no [[batch]]; allowed: /api/v1/intercom/shows\n\
             edge.toml:5: canary.client: \"fridge\" is unknown; \
             allowed: ios-cctv, android-cctv, thick-legal, web, ios, android\n\
             edge.toml:6: canary.device: \"a b\" holds other characters than visible ASCII; \
             allowed: 1 to 128 visible ASCII characters, such as vms-edge-canary\n\
             edge.toml:7: canary.interval: 1ms is out of range; allowed: 100ms to 15m"
        );
        assert_eq!(
            refused(&format!("[canary]\n{files}")),
            "edge.toml:1: canary.ids: says nothing that the users could ask for; allowed: 1 to 25 ids"
        );
        let many: Vec<String> = (1..=26).map(|id| id.to_string()).collect();
        assert_eq!(
            refused(&format!("[canary]\n{files}\nids = [{}]", many.join(","))),
            "edge.toml:3: canary.ids: has 26 ids; allowed: 1 to 25 ids"
        );
    }
}
