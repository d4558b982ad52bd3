//! A real Prometheus of a test's own, with the configuration and the rules that operators are given.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::soon;
use crate::support::world::send;

/// How often Prometheus is asked again for what it does not know yet: it needs the processor more than the question.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What operators are given.
pub(super) fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/prometheus")
}

/// A running Prometheus; it is killed when the test drops it.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// A rule as Prometheus has loaded it.
pub(super) struct Rule {
    /// The name of the alert, or of the series that is recorded.
    pub(super) name: String,
    pub(super) query: String,
    /// All that Prometheus tells of it.
    pub(super) told: Value,
}

impl Rule {
    pub(super) fn is_alert(&self) -> bool {
        self.told["type"] == "alerting"
    }
}

impl Prometheus {
    /// Starts `program` with `conf/prometheus`, but for whom it asks, and how often: the edge with this admin listener,
    /// each second.
    pub(super) async fn watching(admin: SocketAddr, program: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let scrape = std::fs::read_to_string(conf().join("scrape.yml")).expect("a file");
        let scrape = scrape.replace("127.0.0.1:9090", &admin.to_string());
        let scrape = scrape.replace("_interval: 15s", "_interval: 1s");
        assert!(scrape.contains(&admin.to_string()) && scrape.contains("_interval: 1s"));
        let config = directory.path().join("prometheus.yml");
        std::fs::write(&config, scrape).expect("a file");
        for rules in ["recording.yml", "alerts.yml"] {
            std::fs::copy(conf().join(rules), directory.path().join(rules)).expect("a file");
        }
        let mut child = Command::new(program)
            .arg("--config.file")
            .arg(config)
            .arg("--storage.tsdb.path")
            .arg(directory.path().join("data"))
            .args(["--web.listen-address", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is there");
        let log = child.stderr.take().expect("it is piped");
        let listens = tokio::task::spawn_blocking(|| listens(log));
        let address = soon("Prometheus", listens).await.unwrap();
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    /// What a query finds now: the samples that are numbers.
    ///
    /// # Errors
    ///
    /// What Prometheus says of a query that it does not understand.
    pub(super) async fn asks(&self, query: &str) -> Result<Vec<Value>, String> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let told = self.gets(&format!("/api/v1/query?query={query}")).await?;
        let samples = told["result"].as_array().expect("a list").iter();
        let is_number = |sample: &&Value| sample["value"][1] != "NaN";
        Ok(samples.filter(is_number).cloned().collect())
    }

    /// What a query finds as soon as it finds anything.
    pub(super) async fn finds(&self, query: &str) -> Vec<Value> {
        let mut turn = tokio::time::interval(ASK_EVERY);
        let found = async {
            loop {
                turn.tick().await;
                // Until it has read its configuration it answers nothing.
                let found = self.asks(query).await;
                match found {
                    Ok(found) if !found.is_empty() => return found,
                    Err(error) if !error.contains("Service Unavailable") => {
                        panic!("{error}: {query}")
                    }
                    _ => {}
                }
            }
        };
        soon(&format!("data for {query}"), found).await
    }

    /// The rules that it has loaded.
    pub(super) async fn rules(&self) -> Vec<Rule> {
        let told = self.gets("/api/v1/rules").await.expect("there are rules");
        let groups = told["groups"].as_array().expect("a list").iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().expect("a list"));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let rules = rules.map(|rule| Rule {
            name: text(&rule["name"]),
            query: text(&rule["query"]),
            told: rule.clone(),
        });
        rules.collect()
    }

    /// The alerts that fire, or will if nothing changes.
    pub(super) async fn alerts(&self) -> Vec<Value> {
        let told = self.gets("/api/v1/alerts").await.expect("it can tell");
        told["alerts"].as_array().expect("a list").clone()
    }

    async fn gets(&self, target: &str) -> Result<Value, String> {
        let request = Request::get(target).header("host", "prometheus");
        let answer = send(self.address, request.body(Full::default()).unwrap()).await;
        let text = answer.text();
        if answer.status != 200 {
            return Err(text);
        }
        let mut told: Value = serde_json::from_str(&text).expect("JSON");
        Ok(told["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it says that it listens. What else it says is read all the while, so that it is not held up.
fn listens(log: ChildStderr) -> SocketAddr {
    let mut said = String::new();
    let mut lines = BufReader::new(log).lines();
    for line in lines.by_ref() {
        let line = line.expect("a log is UTF-8");
        if line.contains("\"Listening on\"") {
            std::thread::spawn(move || lines.for_each(drop));
            let (_, address) = line.split_once("address=").expect("an address");
            return address.trim().parse().expect("an address");
        }
        said += &line;
        said += "\n";
    }
    panic!("Prometheus ended:\n{said}")
}
