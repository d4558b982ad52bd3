//! The process as the system sees it, under the names that all programs use, and which build it is.
//!
//! Only Linux is asked. (The collector of the prometheus crate counts whole seconds of CPU time, too coarse for a process
//! that needs few.)

use prometheus::proto::MetricFamily;

use super::reading::gauge_per;

/// The process that runs.
pub(super) struct Process {
    #[cfg(target_os = "linux")]
    started_seconds: f64,
}

impl Process {
    /// Finds out when it started: once, since a clock that is set moves it.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            started_seconds: linux::started_seconds().unwrap_or_default(),
        }
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = vec![gauge_per(
            "vms_edge_build_info",
            "1, labelled with the version that runs.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1.0)],
        )];
        #[cfg(target_os = "linux")]
        families.extend(linux::families(self.started_seconds).unwrap_or_default());
        families
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::{LimitValue, Process};
    use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};
    use prometheus::proto::MetricFamily;

    use super::super::reading::{counter, gauge};

    /// When the process started, in seconds since 1970.
    pub(super) fn started_seconds() -> ProcResult<f64> {
        let since_boot = in_seconds(Process::myself()?.stat()?.starttime);
        Ok(boot_time_secs()? as f64 + since_boot)
    }

    pub(super) fn families(started_seconds: f64) -> ProcResult<Vec<MetricFamily>> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let max_fds = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Unlimited => f64::INFINITY,
            LimitValue::Value(most) => most as f64,
        };
        Ok(vec![
            counter(
                "process_cpu_seconds_total",
                "CPU time of the process, its own and the system's for it, in seconds.",
                in_seconds(stat.utime + stat.stime),
            ),
            gauge(
                "process_resident_memory_bytes",
                "Memory that the process occupies, in bytes.",
                (stat.rss * page_size()) as f64,
            ),
            gauge(
                "process_virtual_memory_bytes",
                "Addresses that the process has reserved, in bytes.",
                stat.vsize as f64,
            ),
            gauge(
                "process_open_fds",
                "Descriptors that the process has open.",
                process.fd_count()? as f64,
            ),
            gauge(
                "process_max_fds",
                "Descriptors that the process may have open.",
                max_fds,
            ),
            gauge(
                "process_threads",
                "Threads of the process.",
                stat.num_threads as f64,
            ),
            gauge(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
                started_seconds,
            ),
        ])
    }

    fn in_seconds(ticks: u64) -> f64 {
        ticks as f64 / ticks_per_second() as f64
    }

    #[cfg(test)]
    mod tests {
        use std::time::{Duration, Instant, SystemTime};

        use super::*;

        fn value(name: &str) -> f64 {
            let started = started_seconds().unwrap();
            let families = families(started).unwrap();
            let family = families.iter().find(|family| family.name() == name);
            let sample = &family.unwrap().get_metric()[0];
            sample.get_counter().get_value() + sample.get_gauge().get_value()
        }

        #[test]
        fn cpu_time_is_counted_finer_than_in_seconds() {
            let before = value("process_cpu_seconds_total");
            let start = Instant::now();
            while value("process_cpu_seconds_total") == before {
                assert!(start.elapsed() < Duration::from_secs(20), "it is counted");
            }
            let used = value("process_cpu_seconds_total") - before;
            assert!(used > 0.0 && used.fract() != 0.0, "{used}");
        }

        #[test]
        fn a_file_that_is_opened_is_a_descriptor_more() {
            let files: Vec<_> = (0..100)
                .map(|_| std::fs::File::open("/dev/null").unwrap())
                .collect();
            let open = value("process_open_fds");
            assert!(open > 100.0 && open < value("process_max_fds"), "{open}");
            drop(files);
        }

        #[test]
        fn it_started_a_while_ago_and_occupies_less_than_it_reserved() {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let age = now.unwrap().as_secs_f64() - value("process_start_time_seconds");
            assert!((-2.0..3600.0).contains(&age), "{age} s ago");
            let resident = value("process_resident_memory_bytes");
            assert!(resident > 100_000.0 && resident < value("process_virtual_memory_bytes"));
            assert!(value("process_threads") >= 1.0);
        }
    }
}
