//! What the edge occupies, sampled, and whether that has stayed the same.

use std::fmt;

use serde::Serialize;

use super::tally::Numbers;
use crate::generator::connection::{Connection, Destination};

/// What the edge says that it occupies.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Occupied {
    pub(super) resident_bytes: u64,
    pub(super) cache_bytes: u64,
    pub(super) compressed_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    pub(super) tasks: u64,
    pub(super) connections: u64,
    pub(super) requests_in_flight: u64,
}

/// What the rounds of its two test users have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Rounds {
    pub(super) ok: u64,
    pub(super) leaks: u64,
}

/// What it occupied at a time, and what had been counted by then.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Since the beginning.
    pub(super) seconds: u64,
    #[serde(flatten)]
    pub(super) occupied: Occupied,
    #[serde(flatten)]
    pub(super) numbers: Numbers,
}

impl Occupied {
    /// Asks the edge.
    pub(super) async fn by(admin: &Destination) -> Result<Self, String> {
        Ok(Self::of(&metrics(admin).await?))
    }

    /// Reads it from metrics in the form of Prometheus.
    fn of(metrics: &str) -> Self {
        let sum = |name: &str| sum(metrics, name);
        Self {
            resident_bytes: sum("process_resident_memory_bytes"),
            cache_bytes: sum("vms_edge_cache_bytes"),
            compressed_bytes: sum("vms_edge_compressed_bytes"),
            descriptors: sum("process_open_fds"),
            threads: sum("process_threads"),
            tasks: sum("vms_edge_runtime_tasks"),
            connections: sum("vms_edge_connections"),
            requests_in_flight: sum("vms_edge_requests_in_flight"),
        }
    }

    /// What is more than it was at a time at which nobody asked anything, in words.
    pub(super) fn more_than(&self, then: &Self) -> Option<String> {
        let grown = [
            ("descriptors", self.descriptors, then.descriptors),
            ("threads", self.threads, then.threads),
            ("tasks", self.tasks, then.tasks),
            ("connections", self.connections, then.connections),
            (
                "requests in flight",
                self.requests_in_flight,
                then.requests_in_flight,
            ),
        ];
        let grown = grown.into_iter().filter(|(_, now, then)| now > then);
        let grown: Vec<String> = grown
            .map(|(what, now, then)| format!("{now} {what}, {then} at the start"))
            .collect();
        (!grown.is_empty()).then(|| grown.join("; "))
    }
}

impl Rounds {
    /// Asks the edge.
    pub(super) async fn by(admin: &Destination) -> Result<Self, String> {
        Ok(Self::of(&metrics(admin).await?))
    }

    fn of(metrics: &str) -> Self {
        let series = |result| format!("vms_edge_canary_runs_total{{result=\"{result}\"}}");
        Self {
            ok: sum(metrics, &series("ok")),
            leaks: sum(metrics, &series("leak")),
        }
    }
}

/// The edge's metrics in the form of Prometheus.
async fn metrics(admin: &Destination) -> Result<String, String> {
    let mut connection = Connection::new(admin.clone());
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = connection.ask(request).await;
    let answer = answer.map_err(|broken| format!("the edge's metrics: {broken}"))?;
    Ok(String::from_utf8_lossy(&answer.content()).into_owned())
}

/// All series of a name, or of a name and labels, added up.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter(|rest| rest.starts_with([' ', '{']));
    let values = values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    let sum: f64 = values.sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "these are counts and bytes"
    )]
    let sum = sum as u64;
    sum
}

/// How resident memory moved between the first and the second half of `samples`: the medians of both, in bytes.
pub(super) fn halves(samples: &[Sample]) -> Option<[u64; 2]> {
    let half = samples.len() / 2;
    if half == 0 {
        return None;
    }
    let median = |samples: &[Sample]| {
        let mut sizes: Vec<u64> = samples
            .iter()
            .map(|it| it.occupied.resident_bytes)
            .collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    let (first, second) = samples.split_at(half);
    Some([median(first), median(second)])
}

/// The head of the table of samples.
pub(super) const HEAD: &str = "seconds    resident    cache   fds threads tasks  conns  batches   writes  orders troubles  hostile excused failed wrong";

impl fmt::Display for Sample {
    /// A line of the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Occupied {
            resident_bytes,
            cache_bytes,
            descriptors,
            threads,
            tasks,
            connections,
            ..
        } = self.occupied;
        let Numbers {
            batches,
            writes,
            orders,
            troubles,
            hostile,
            excused,
            failed,
            wrong,
            ..
        } = self.numbers;
        let kib = |bytes| bytes >> 10;
        write!(
            f,
            "{:>7} {:>7} KiB {:>4} KiB {descriptors:>5} {threads:>7} {tasks:>5} {connections:>6} {batches:>8} {writes:>8} \
             {orders:>7} {troubles:>8} {hostile:>8} {excused:>7} {failed:>6} {wrong:>5}",
            self.seconds,
            kib(resident_bytes),
            kib(cache_bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_all_labels_are_added_and_others_are_not() {
        let text = "# TYPE vms_edge_connections gauge\nvms_edge_connections{listener=\"plain\"} 3\n\
                    vms_edge_connections{listener=\"tls\"} 4\nvms_edge_connections_refused_total{reason=\"total\"} 9\n\
                    process_open_fds 21\nprocess_resident_memory_bytes 2.5e7\n";
        let occupied = Occupied::of(text);
        assert_eq!((occupied.connections, occupied.descriptors), (7, 21));
        assert_eq!(occupied.resident_bytes, 25_000_000);
    }

    #[test]
    fn rounds_are_told_apart_by_what_they_have_shown() {
        let text = "vms_edge_canary_runs_total{result=\"ok\"} 7\n\
                    vms_edge_canary_runs_total{result=\"leak\"} 2\n\
                    vms_edge_canary_runs_total{result=\"differs\"} 3\n";
        assert_eq!(Rounds::of(text), Rounds { ok: 7, leaks: 2 });
    }

    #[test]
    fn what_has_grown_is_named() {
        let then = Occupied {
            descriptors: 20,
            threads: 5,
            ..Occupied::default()
        };
        assert_eq!(then.more_than(&then), None);
        let now = Occupied {
            descriptors: 21,
            threads: 4,
            ..then
        };
        let grown = now.more_than(&then);
        assert_eq!(grown.as_deref(), Some("21 descriptors, 20 at the start"));
    }

    #[test]
    fn memory_is_that_of_the_middle_of_a_half() {
        let sample = |resident_bytes| Sample {
            seconds: 0,
            occupied: Occupied {
                resident_bytes,
                ..Occupied::default()
            },
            numbers: Numbers::default(),
        };
        assert_eq!(halves(&[1].map(sample)), None);
        let sizes = [5, 1, 3, 9, 2, 4].map(sample);
        assert_eq!(halves(&sizes), Some([3, 4]));
    }
}
