//! What one configuration has otherwise than another, key by key, as the file spells it.
//!
//! Tables that may stand several times are told apart by what they are about (the path of a `[[batch]]`), not by their
//! place, so that a new one before them changes nothing of them.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Serialize;
use toml::{Table, Value};

use super::{Canary, Config, Server};

/// A key that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, such as `upstream.max_fetches` or `batch[/api/v1/intercom/shows].fresh`.
    pub key: String,
    /// The value that it had; `None`: it was not there.
    pub before: Option<String>,
    /// The value that it has; `None`: it is gone.
    pub after: Option<String>,
}

impl Display for Change {
    /// `key: before -> after`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        let (before, after) = (value(&self.before), value(&self.after));
        write!(f, "{}: {before} -> {after}", self.key)
    }
}

impl Config {
    /// What this configuration has otherwise than the one `before`; secrets are named, not shown.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let (earlier, later) = (before.values(), self.values());
        let mut keys: Vec<&String> = earlier.keys().chain(later.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let changes = keys.into_iter().map(|key| Change {
            key: key.clone(),
            before: earlier.get(key).cloned(),
            after: later.get(key).cloned(),
        });
        let mut changes: Vec<Change> = changes
            .filter(|change| change.before != change.after)
            .collect();
        if self.admin.token_file == before.admin.token_file
            && self.admin.token != before.admin.token
        {
            changes.push(Change {
                key: "admin.token_file".to_owned(),
                before: Some("a token".to_owned()),
                after: Some("another token in the same file".to_owned()),
            });
        }
        let files = |canary: &Canary| {
            let users = canary.users.as_ref();
            users.map(|users| users.clone().map(|user| user.token_file))
        };
        if files(&self.canary) == files(&before.canary) && self.canary.users != before.canary.users
        {
            changes.push(Change {
                key: "canary.token_files".to_owned(),
                before: Some("tokens".to_owned()),
                after: Some("other tokens in the same files".to_owned()),
            });
        }
        for tls in &self.server.tls {
            let same = before.server.tls.iter().filter(|before| {
                (&before.certificate, &before.key) == (&tls.certificate, &tls.key)
            });
            if let Some(before) = { same }.next()
                && before.identity != tls.identity
            {
                changes.push(Change {
                    key: format!("server.tls[{}].certificate", tls.certificate.display()),
                    before: Some(before.identity.to_string()),
                    after: Some(tls.identity.to_string()),
                });
            }
        }
        changes
    }

    /// Takes what cannot change while the process runs from the configuration it `runs` with; what that would have
    /// changed is returned, and waits for the next start.
    pub fn keep_what_is_fixed(&mut self, runs: &Self) -> Vec<Change> {
        let wanted = self.clone();
        self.server.listen.clone_from(&runs.server.listen);
        self.server.keep_tls_listeners(&runs.server);
        self.server.threads = runs.server.threads;
        self.admin.listen = runs.admin.listen;
        wanted.changes_since(self)
    }

    /// Every key with its value.
    fn values(&self) -> BTreeMap<String, String> {
        let table: Table = self
            .effective()
            .parse()
            .expect("what is shown can be read back");
        let mut values = BTreeMap::new();
        add_table(&mut values, "", &table);
        values
    }
}

impl Server {
    /// Leaves the TLS listeners that there are, and no other. One of which nothing is said any more keeps its certificates.
    fn keep_tls_listeners(&mut self, runs: &Self) {
        let there = runs.tls_listeners();
        self.tls.retain(|tls| there.contains(&tls.listen));
        let said = self.tls_listeners();
        let unsaid = runs.tls.iter().filter(|tls| !said.contains(&tls.listen));
        self.tls.extend(unsaid.cloned());
    }
}

fn add_table(values: &mut BTreeMap<String, String>, name: &str, table: &Table) {
    for (key, value) in table {
        let key = match name {
            "" => key.clone(),
            _ => format!("{name}.{key}"),
        };
        match value {
            Value::Table(table) => add_table(values, &key, table),
            Value::Array(several) if several.iter().any(Value::is_table) => {
                for table in several.iter().filter_map(Value::as_table) {
                    add_table(values, &format!("{key}[{}]", subject(table)), table);
                }
            }
            _ => drop(values.insert(key, value.to_string())),
        }
    }
}

/// What a table that may stand several times is about.
fn subject(table: &Table) -> String {
    let text = |key: &str| table.get(key).and_then(Value::as_str).unwrap_or_default();
    let methods = table.get("methods").and_then(Value::as_array);
    match methods {
        Some(methods) => {
            let methods: Vec<&str> = methods.iter().filter_map(Value::as_str).collect();
            format!("{} {}", methods.join(","), text("path"))
        }
        None => format!("{}{}", text("path"), text("certificate")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::accepted;
    use super::*;

    fn told(before: &str, after: &str) -> Vec<String> {
        let changes = accepted(after).changes_since(&accepted(before));
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn the_same_configuration_in_other_words_is_no_change() {
        let spelt_out =
            "[server]\ngrace = \"30000ms\"\n[[batch]]\npath = \"/api/v1/intercom/shows\"";
        assert_eq!(told("", spelt_out), [""; 0]);
    }

    #[test]
    fn a_change_is_told_with_both_values() {
        assert_eq!(
            told(
                "[headers]\nvary = [\"Hl\"]",
                "[headers]\nvary = [\"Hl\", \"Origin\"]\n[cache]\nmax_bytes = \"1GiB\""
            ),
            [
                "cache.max_bytes: \"256MiB\" -> \"1GiB\"",
                "headers.vary: [\"hl\"] -> [\"hl\", \"origin\"]",
            ]
        );
    }

    #[test]
    fn tables_are_told_apart_by_what_they_are_about() {
        let one = "[[batch]]\npath = \"/b\"\nfresh = \"1s\"";
        let two = "[[batch]]\npath = \"/a\"\n[[batch]]\npath = \"/b\"\nfresh = \"2s\"\n\
                   [[invalidate]]\nmethods = [\"PUT\"]\npath = \"/x\"\nscope = [\"all\"]";
        let changes = told(one, two);
        assert!(changes.contains(&"batch[/b].fresh: \"1s\" -> \"2s\"".to_owned()));
        assert!(changes.contains(&"batch[/a].max_ids: none -> 25".to_owned()));
        assert!(changes.contains(&"invalidate[PUT /x].scope: none -> [\"all\"]".to_owned()));
        let of_b = |change: &&String| change.starts_with("batch[/b]");
        assert_eq!(changes.iter().filter(of_b).count(), 1);
    }

    #[test]
    fn another_token_is_a_change_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let text = format!("[admin]\ntoken_file = '{}'", path.display());
        std::fs::write(&path, "correct-horse-battery").unwrap();
        let before = accepted(&text);
        std::fs::write(&path, "staple-correct-horse").unwrap();
        let changes = accepted(&text).changes_since(&before);
        assert_eq!(
            changes[0].to_string(),
            "admin.token_file: a token -> another token in the same file"
        );
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn other_tokens_of_a_canary_are_a_change_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["ann", "bob"].map(|user| directory.path().join(user));
        let text = format!(
            "[canary]\ntoken_files = ['{}', '{}']\nids = [1]",
            one.display(),
            other.display()
        );
        std::fs::write(&one, "tok-1").unwrap();
        std::fs::write(&other, "tok-2").unwrap();
        let before = accepted(&text);
        std::fs::write(&other, "tok-3").unwrap();
        let changes = accepted(&text).changes_since(&before);
        let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
        assert_eq!(
            changes,
            ["canary.token_files: tokens -> other tokens in the same files"]
        );
    }

    #[test]
    fn listeners_threads_and_the_admin_address_wait_for_a_start() {
        let runs = accepted("[server]\nthreads = 1");
        let mut next = accepted(
            "[server]\nthreads = 2\nlisten = [\"127.0.0.1:1\"]\ngrace = \"1s\"\n[admin]\nlisten = \"127.0.0.1:2\"",
        );
        let waiting = next.keep_what_is_fixed(&runs);
        let waiting: Vec<_> = waiting.iter().map(Change::to_string).collect();
        assert_eq!(
            waiting,
            [
                "admin.listen: \"127.0.0.1:9090\" -> \"127.0.0.1:2\"",
                "server.listen: [\"0.0.0.0:8080\"] -> [\"127.0.0.1:1\"]",
                "server.threads: 1 -> 2",
            ]
        );
        let applied = next.changes_since(&runs);
        assert_eq!(applied.len(), 1);
        assert_eq!(applied[0].to_string(), "server.grace: \"30s\" -> \"1s\"");
    }

    #[test]
    fn tls_listeners_stay_and_their_certificates_change() {
        use super::super::file::tls::tests::Files;
        let files = Files::new();
        let (a, b) = (
            files.table(8443, "a.example"),
            files.table(8443, "b.example"),
        );
        let elsewhere = files.table(9443, "c.example");
        let runs = accepted(&a);
        let mut wanted = accepted(&format!("{b}{elsewhere}"));
        let waiting = wanted.keep_what_is_fixed(&runs);
        assert!(
            waiting
                .iter()
                .all(|change| change.key.contains("c.example"))
        );
        assert!(!waiting.is_empty());
        assert_eq!(wanted.server.tls, accepted(&b).server.tls);

        // One of which nothing is said is left as it is.
        let mut wanted = accepted("");
        wanted.keep_what_is_fixed(&runs);
        assert_eq!(wanted.server.tls, runs.server.tls);
    }

    #[test]
    fn another_certificate_in_the_same_files_is_told() {
        use super::super::file::tls::tests::Files;
        let files = Files::new();
        let table = files.table(8443, "a.example");
        let before = accepted(&table);
        files.table(8443, "a.example");
        let changes = accepted(&table).changes_since(&before);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].key.ends_with("a.example.pem].certificate"));
    }
}
