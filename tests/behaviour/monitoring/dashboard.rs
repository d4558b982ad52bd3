//! `conf/grafana/dashboard.json`, read as far as a test can without a Grafana.

use serde_json::Value;

/// The dashboard.
pub(super) struct Dashboard(Value);

/// What a panel, an annotation or a variable asks Prometheus for.
pub(super) struct Query {
    /// Who asks.
    pub(super) of: String,
    /// With a value for each variable.
    pub(super) text: String,
}

impl Dashboard {
    pub(super) fn read() -> Self {
        let text = include_str!("../../../conf/grafana/dashboard.json");
        Self(serde_json::from_str(text).expect("JSON"))
    }

    /// Panels, and the rows between them.
    pub(super) fn panels(&self) -> &Vec<Value> {
        self.0["panels"].as_array().expect("a list")
    }

    /// Everything that is asked of Prometheus.
    pub(super) fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        let mut add = |of: &Value, text: &str| {
            queries.push(Query {
                of: of.as_str().expect("a title").to_owned(),
                text: with_variables(text),
            });
        };
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                add(&panel["title"], target["expr"].as_str().expect("a query"));
            }
        }
        for annotation in self.0["annotations"]["list"].as_array().expect("a list") {
            add(
                &annotation["name"],
                annotation["expr"].as_str().expect("a query"),
            );
        }
        for variable in self.0["templating"]["list"].as_array().expect("a list") {
            // label_values(SERIES, LABEL)
            let Some(query) = variable["query"]["query"].as_str() else {
                continue;
            };
            let query = query.strip_prefix("label_values(").expect("label values");
            let (series, label) = query.rsplit_once(", ").expect("a label");
            let label = label.strip_suffix(')').expect("a bracket");
            add(
                &variable["name"],
                &format!("count by ({label}) ({series}) and on ({label}) {series}"),
            );
        }
        queries
    }
}

fn with_variables(query: &str) -> String {
    let query = query
        .replace("$job", "vms-edge")
        .replace("$instance", ".*")
        .replace("$__rate_interval", "1m");
    assert!(!query.contains('$'), "a variable is unknown: {query}");
    query
}
