//! The servers that are measured: started on a core of their own, stopped when they are dropped, and what they cost.
//!
//! Only what was started here is ever stopped. Their configurations are those in benches/peers, with free ports for the
//! addresses that stand there.

pub(crate) mod edge;
pub(crate) mod nginx;
mod process;
pub(crate) mod varnish;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::generator::connection::Destination;
use crate::machine::Cores;

/// How long a server may take to accept connections, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long what is asked for again and again is fresh: longer than any run.
pub(crate) const HIT_LIFETIME: Duration = Duration::from_secs(3600);

/// What a server writes, in its folder.
const OUTPUT: &str = "output.log";

/// Between looks at whether it does.
const STEP: Duration = Duration::from_millis(20);

/// Why a server cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    #[error("{name} cannot be started ({program:?}): {source}")]
    Program {
        name: &'static str,
        program: PathBuf,
        source: io::Error,
    },
    #[error("{name} does not accept connections: {said}")]
    Silent { name: &'static str, said: String },
    #[error("the working folder of {name}: {source}")]
    Folder {
        name: &'static str,
        source: io::Error,
    },
}

/// What a server is asked for at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Batches, from memory.
    Cache,
    /// The same, by a server that keeps the files open in which it has them.
    OpenFiles,
    /// The same, compressed for those who accept it.
    Gzip,
    /// What passes through.
    Proxy,
    /// Batches, with TLS.
    Tls,
    /// What operators ask.
    Admin,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    name: &'static str,
    process: Child,
    /// The processes that do the work.
    workers: Vec<u32>,
    doors: Vec<(Door, SocketAddr)>,
    folder: TempDir,
}

/// How a server is started.
struct Start<'a> {
    name: &'static str,
    command: Command,
    cores: &'a [usize],
    doors: Vec<(Door, SocketAddr)>,
    folder: TempDir,
    /// What a process that does the work has in its command line; `None`: it is the one that is started.
    worker: Option<&'static str>,
}

impl Server {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is asked.
    pub(crate) fn door(&self, door: Door) -> Destination {
        let address = self.doors.iter().find(|(is, _)| *is == door);
        let (_, address) = address.expect("whoever is asked there has such a door");
        Destination::plain(*address)
    }

    /// What it wrote.
    pub(crate) fn output(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join(OUTPUT)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Lets it have so many descriptors from now on.
    pub(crate) fn limit_descriptors(&self, most: u64) -> io::Result<()> {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(pid, Resource::Nofile, limit)?;
        Ok(())
    }

    /// CPU time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.workers.iter().map(|&pid| process::cpu(pid)).sum()
    }

    /// The same of each of its threads.
    pub(crate) fn cpu_of_threads(&self) -> Vec<Duration> {
        let threads = self.workers.iter().flat_map(|&pid| process::threads(pid));
        threads.map(|thread| thread.cpu).collect()
    }

    /// How long whoever answers has had something to do so far while the core was the kernel's or somebody else's.
    pub(crate) fn kept_waiting(&self) -> Duration {
        let workers = self.workers.iter();
        workers.map(|&pid| process::kept_waiting(pid)).sum()
    }

    /// Memory that it has in use, and the disk that stands in for it.
    pub(crate) fn occupied_bytes(&self) -> u64 {
        let resident: u64 = self.workers.iter().map(|&pid| process::resident(pid)).sum();
        resident + process::size_of(&self.folder.path().join("cache"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

impl Start<'_> {
    fn start(mut self, cores: &Cores) -> Result<Server, NotStarted> {
        let name = self.name;
        let log = self.folder.path().join(OUTPUT);
        let folder = |source| NotStarted::Folder { name, source };
        let output = std::fs::File::create(&log).map_err(folder)?;
        let command = &mut self.command;
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(folder)?);
        command.stderr(output);
        let started = cores.start_on(self.cores, || command.spawn());
        let process = started.map_err(|source| NotStarted::Program {
            name,
            program: PathBuf::from(self.command.get_program()),
            source,
        })?;
        let mut server = Server {
            name,
            workers: vec![process.id()],
            process,
            doors: self.doors,
            folder: self.folder,
        };
        if !server.is_ready(self.worker) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = said.lines().last().unwrap_or("it says nothing").to_owned();
            return Err(NotStarted::Silent { name, said });
        }
        Ok(server)
    }
}

impl Server {
    /// Waits until it works and every door is open; it may be gone before.
    fn is_ready(&mut self, worker: Option<&'static str>) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.works(worker) {
            let is_gone = !matches!(self.process.try_wait(), Ok(None));
            if is_gone || Instant::now() > deadline {
                return false;
            }
            thread::sleep(STEP);
        }
        true
    }

    /// Whether it does; whoever listens may have nobody to work yet.
    fn works(&mut self, worker: Option<&'static str>) -> bool {
        if let Some(worker) = worker {
            self.workers = process::children(self.process.id(), worker);
        }
        let mut doors = self.doors.iter();
        !self.workers.is_empty() && doors.all(|(_, door)| TcpStream::connect(door).is_ok())
    }
}

/// Asks a process to end, as nginx and Varnish must be asked if their own processes are to end too; later it is made to.
fn stop(process: &mut Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + PATIENCE;
    while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
        thread::sleep(STEP);
    }
    // As above.
    let _ = process.kill();
    let _ = process.wait();
}

/// A working folder that a worker with fewer rights can reach.
fn folder(name: &'static str) -> Result<TempDir, NotStarted> {
    use std::os::unix::fs::PermissionsExt;
    let made = tempfile::Builder::new()
        .prefix("vms-edge-load-")
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir();
    made.map_err(|source| NotStarted::Folder { name, source })
}

/// Writes a file of a working folder.
fn write(name: &'static str, path: &Path, contents: impl AsRef<[u8]>) -> Result<(), NotStarted> {
    std::fs::write(path, contents).map_err(|source| NotStarted::Folder { name, source })
}

/// Writes the certificate of the test, and its key, to a working folder.
fn write_authority(name: &'static str, bench: &Bench, folder: &Path) -> Result<(), NotStarted> {
    let written = bench.authority().write_to(folder);
    written.map_err(|source| NotStarted::Folder { name, source })
}

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|bound| bound.local_addr());
    free.expect("the loopback interface has free ports")
}

/// A configuration with other values in the place of some of its own.
fn filled(configuration: &str, changes: &[(&str, String)]) -> String {
    let change = |text: String, (from, to): &(&str, String)| {
        assert!(text.contains(from), "the configuration has no {from:?}");
        text.replace(from, to)
    };
    changes.iter().fold(configuration.to_owned(), change)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is a line of shell.
    fn start(line: &str, doors: &[(Door, SocketAddr)]) -> Result<Server, NotStarted> {
        let cores = Cores::split().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(line);
        let start = Start {
            name: "a server",
            command,
            cores: &[cores.server],
            doors: doors.to_vec(),
            folder: folder("a server").unwrap(),
            worker: None,
        };
        start.start(&cores)
    }

    #[test]
    fn a_server_that_is_dropped_is_gone_with_all_that_it_wrote() {
        let server = start("touch was-here; exec sleep 1000", &[]).unwrap();
        let (pid, folder) = (server.process.id(), server.folder.path().to_owned());
        assert!(Path::new(&format!("/proc/{pid}")).exists() && folder.exists());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists() && !folder.exists());
    }

    #[test]
    fn a_server_that_ends_before_it_accepts_says_why() {
        let door = (Door::Cache, free_address());
        let ended = start("echo the port is taken >&2; exit 1", &[door])
            .err()
            .unwrap();
        assert_eq!(
            ended.to_string(),
            "a server does not accept connections: the port is taken"
        );
    }

    #[test]
    fn a_server_has_the_core_that_it_is_given() {
        let cores = Cores::split().unwrap();
        let server = start("exec sleep 1000", &[]).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id()));
        let allowed = format!("Cpus_allowed_list:\t{}\n", cores.server);
        assert!(status.unwrap().contains(&allowed));
    }

    #[test]
    #[should_panic(expected = "the configuration has no")]
    fn a_configuration_without_what_is_to_be_replaced_is_a_mistake() {
        filled("listen 80;", &[("listen 81;", "listen 82;".to_owned())]);
    }
}
