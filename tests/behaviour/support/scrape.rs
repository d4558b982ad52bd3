//! What an edge's metrics say, read as strictly as Prometheus reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::Full;

use super::world::{World, send};

/// One reading of `/metrics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    /// Type of each family, by name.
    pub(crate) families: BTreeMap<String, String>,
    /// Help of each family, by name.
    pub(crate) help: BTreeMap<String, String>,
    /// Value of each series, by name and labels as they are written.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the metrics of the edge whose admin listener this is.
    pub(crate) async fn of(admin: SocketAddr) -> Self {
        let request = Request::get("/metrics").header("host", "edge");
        let answer = send(admin, request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status, 200);
        let content_type = answer.header("content-type").unwrap();
        assert!(content_type.starts_with("text/plain; version=0.0.4"));
        Self::parse(&answer.text())
    }

    /// Reads them once no request is in flight any more: the last of them has been counted then.
    pub(crate) async fn settled(admin: SocketAddr) -> Self {
        Self::once(admin, "vms_edge_requests_in_flight", 0.0).await;
        // A reading takes its time: what it read first may be older than that nothing is in flight.
        Self::of(admin).await
    }

    /// Reads them once a series has this value.
    pub(crate) async fn once(admin: SocketAddr, series: &str, value: f64) -> Self {
        let reach = async {
            loop {
                let scrape = Self::of(admin).await;
                if scrape.value(series) == value {
                    return scrape;
                }
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(10), reach).await;
        reached.unwrap_or_else(|_| panic!("{series} does not become {value}"))
    }

    /// The text format of Prometheus, version 0.0.4; panics where it is not followed.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut scrape = Self::default();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a text");
                let twice = scrape.help.insert(name.to_owned(), help.to_owned());
                assert_eq!(twice, None, "{name} is explained once");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a type");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let twice = scrape.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(twice, None, "{name} is declared once");
            } else {
                scrape.add_sample(line);
            }
        }
        assert!(scrape.families.keys().eq(scrape.help.keys()));
        scrape.check_histograms();
        scrape
    }

    /// What is counted by endpoint adds up to what is counted of all; only of a reading while nothing happens.
    fn check_endpoints(&self) {
        for (of_all, by_endpoint) in [
            (
                "vms_edge_batch_requests_total",
                "vms_edge_endpoint_requests_total",
            ),
            (
                "vms_edge_batch_items_total",
                "vms_edge_endpoint_items_total",
            ),
            (
                "vms_edge_fetch_ids_total",
                "vms_edge_endpoint_fetch_ids_total",
            ),
        ] {
            for (series, all) in self
                .series
                .iter()
                .filter(|series| series.0.starts_with(of_all))
            {
                let label = series.split_once('{').map_or("}", |(_, label)| label);
                let endpoints = self.series.iter().filter(|(series, _)| {
                    series.starts_with(by_endpoint) && series.ends_with(label)
                });
                let sum: f64 = endpoints.map(|(_, value)| value).sum();
                assert_eq!(sum, *all, "{by_endpoint} adds up to {series}");
            }
        }
    }

    fn add_sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let value: f64 = value.parse().expect("a number");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
            None => (series, ""),
        };
        let is_name = |name: &str| {
            let mut letters = name.bytes();
            !name.is_empty() && letters.all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        assert!(is_name(name), "{line}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').expect("a label and a value");
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            assert!(is_name(label) && value.is_some(), "{line}");
            assert!(!value.unwrap().contains(['"', '\\']), "{line}");
        }
        let family = self.families.contains_key(name).then_some(name);
        let family = family.or_else(|| {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().find_map(|part| name.strip_suffix(part))?;
            (self.families.get(family)? == "histogram").then_some(family)
        });
        assert!(family.is_some(), "a type comes before: {line}");
        let twice = self.series.insert(series.to_owned(), value);
        assert_eq!(twice, None, "{series} is there once");
    }

    /// Buckets only grow, and the last one holds everything.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.series {
            if let Some((whose, le)) = series.split_once("le=\"") {
                let le = le.split_once('"').expect("a closing quote").0;
                let le = le.parse().expect("a number, or +Inf");
                let whose = whose.trim_end_matches(['{', ',']).to_owned();
                buckets.entry(whose).or_default().push((le, *value));
            }
        }
        assert!(!buckets.is_empty());
        for (whose, mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by_key(|bucket| bucket.1), "{whose}");
            let (last, all) = *buckets.last().expect("there is one");
            assert_eq!(last, f64::INFINITY, "{whose}");
            let count = whose.replacen("_bucket", "_count", 1);
            let count = match count.contains('{') {
                true => format!("{count}}}"),
                false => count,
            };
            assert_eq!(all, self.value(&count), "{whose}");
        }
    }

    /// The value of a series, named with its labels.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        let value = self.series.get(series);
        *value.unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// By how much each series moved since `before`, but for those of time, bytes and open connections, and of the process
    /// and its threads, of which no test can know, and those by endpoint, which add up to others.
    pub(crate) fn moved_since(&self, before: &Self) -> BTreeMap<&str, f64> {
        let unknowable = |series: &str| {
            [
                "_bucket",
                "_sum",
                "_cache_bytes",
                "_endpoint_",
                "_connections{",
                "process_",
                "_runtime_",
            ]
            .iter()
            .any(|part| series.contains(part))
        };
        let moved = self.series.iter().filter_map(|(series, value)| {
            let by = value - before.series.get(series).copied().unwrap_or(0.0);
            (by != 0.0 && !unknowable(series)).then_some((series.as_str(), by))
        });
        moved.collect()
    }
}

/// Looks at what happens to an edge's metrics, step by step.
pub(crate) struct Watch<'a> {
    world: &'a World,
    before: Scrape,
}

impl<'a> Watch<'a> {
    pub(crate) async fn over(world: &'a World) -> Self {
        Self {
            world,
            before: Scrape::settled(world.edge.admin).await,
        }
    }

    /// Exactly these series moved since the last look, by so much; names without `vms_edge_`.
    pub(crate) async fn sees(&mut self, expected: &[(&str, i32)]) {
        let now = Scrape::settled(self.world.edge.admin).await;
        now.check_endpoints();
        let expected: BTreeMap<String, f64> = expected
            .iter()
            .map(|(series, by)| (format!("vms_edge_{series}"), f64::from(*by)))
            .collect();
        let moved = now.moved_since(&self.before);
        let moved: BTreeMap<String, f64> = moved
            .into_iter()
            .map(|(series, by)| (series.to_owned(), by))
            .collect();
        assert_eq!(moved, expected);
        self.before = now;
    }
}
