//! The machine that a run takes place on: its cores, and what it is called.

use std::fs;
use std::io;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::figure::float;

/// Which cores are whose.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cores {
    /// The one core that servers have in turn.
    pub(crate) server: usize,
    /// Those of the generator and of the stand-in VMS.
    pub(crate) generator: Vec<usize>,
}

/// What a reader of the report must know to judge its figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) nginx: String,
    pub(crate) varnish: String,
}

impl Cores {
    /// The first core for servers, all others for the generator. On a machine with one core they share it, and nothing can
    /// be measured.
    pub(crate) fn split() -> io::Result<Self> {
        let mut cores = affinity::allowed()?.into_iter();
        let server = cores.next().ok_or(io::ErrorKind::NotFound)?;
        let mut generator: Vec<usize> = cores.collect();
        if generator.is_empty() {
            generator.push(server);
        }
        Ok(Self { server, generator })
    }

    /// Whether the generator has none of its own.
    pub(crate) fn are_shared(&self) -> bool {
        self.generator.contains(&self.server)
    }

    /// Keeps this thread, and those that it starts from now on, to the generator's cores.
    pub(crate) fn keep_to_generator(&self) -> io::Result<()> {
        affinity::keep_to(&self.generator)
    }

    /// Starts a process that is kept to `cores`: it inherits them from the thread that starts it.
    pub(crate) fn start_on<T>(
        &self,
        cores: &[usize],
        start: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        affinity::keep_to(cores)?;
        let started = start();
        self.keep_to_generator()?;
        started
    }
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let processor = field("/proc/cpuinfo", "model name");
        let memory = field("/proc/meminfo", "MemTotal");
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_kib >> 20,
            kernel: kernel.trim().to_owned(),
            nginx: version("nginx", "-v"),
            varnish: version("varnishd", "-V"),
        }
    }
}

/// Lets this process, and those that it starts, have as many descriptors as the system allows.
pub(crate) fn raise_descriptors() -> io::Result<()> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: allowed,
        maximum: allowed,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The time of all cores so far, in ticks, and what of it the machine's host took for others while they had something to do:
/// `steal` in proc_stat(5).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CoreTime {
    all: u64,
    stolen: u64,
}

impl CoreTime {
    /// Nothing where the system does not tell.
    pub(crate) fn now() -> Self {
        let statistics = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::read(&statistics).unwrap_or_default()
    }

    fn read(statistics: &str) -> Option<Self> {
        let all_cores = statistics.lines().next()?.strip_prefix("cpu ")?;
        let spent = all_cores.split_whitespace().map(str::parse);
        // What follows is spent by guests of this machine's own, and counted before.
        let spent: Vec<u64> = spent.take(8).collect::<Result<_, _>>().ok()?;
        Some(Self {
            all: spent.iter().sum(),
            stolen: *spent.get(7)?,
        })
    }

    /// How much was stolen since `before`, in percent.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let ticks = |now: u64, before: u64| float(now.saturating_sub(before));
        ticks(self.stolen, before.stolen) / ticks(self.all, before.all).max(1.0) * 100.0
    }
}

/// The first value of a name in a file of the form `name : value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_else(|| "unknown".to_owned())
}

/// What a program says of its version, such as `1.22.1`.
fn version(program: &str, argument: &str) -> String {
    let said = Command::new(program).arg(argument).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let said = said.unwrap_or_default();
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let mut words = said.split(['/', '-', ' ', ')', '\n']);
    let found = words.find(is_version);
    found.map_or_else(|| "not installed".to_owned(), str::to_owned)
}

/// Which cores a thread may run on.
#[cfg(target_os = "linux")]
mod affinity {
    use std::io;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> io::Result<Vec<usize>> {
        let allowed = sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Ok(cores.collect())
    }

    pub(super) fn keep_to(cores: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        for &core in cores {
            set.set(core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// Elsewhere nothing can be measured, but targets can be asked.
#[cfg(not(target_os = "linux"))]
mod affinity {
    use std::io;

    pub(super) fn allowed() -> io::Result<Vec<usize>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn keep_to(_: &[usize]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_took_is_a_share_of_the_time_of_all_cores() {
        let before = CoreTime::read("cpu  10 20 30 40 50 60 70 80 5 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        let now = CoreTime::read("cpu  20 20 30 100 50 60 70 110 9 9\n");
        let stolen = now.unwrap().stolen_since(before.unwrap());
        assert!((stolen - 30.0).abs() < 1e-9, "{stolen} %");
    }

    #[test]
    fn where_the_system_does_not_tell_nothing_was_taken() {
        assert!(CoreTime::read("").is_none());
        assert!(CoreTime::read("cpu  1 2 3\n").is_none());
        let stolen = CoreTime::default().stolen_since(CoreTime::default());
        assert!(stolen.abs() < f64::EPSILON);
    }
}
