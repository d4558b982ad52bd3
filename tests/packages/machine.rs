//! A machine to throw away, with a systemd of its own (`machine.sh`).

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::tools::tool;
use crate::{must, project, run};

/// A running machine; it ends when the test drops it.
pub(crate) struct Machine {
    script: Child,
    stdin: Option<ChildStdin>,
    process: String,
    directory: tempfile::TempDir,
}

impl Machine {
    /// Boots a machine with `package` installed; `None` where none can be had.
    pub(crate) fn with(package: &Path) -> Option<Self> {
        for name in ["unshare", "nsenter", "dpkg", "curl", "ip"] {
            tool(name)?;
        }
        tool("/lib/systemd/systemd")?;
        if must(Command::new("id").arg("-u")).trim() != "0" {
            // Another user cannot mount; what can be said without a machine is said by other tests.
            assert!(std::env::var_os("CI").is_none(), "a machine needs root");
            eprintln!("skipped: a machine needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut script = Command::new(project().join("tests/packages/machine.sh"))
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = script.stdin.take();
        let mut line = String::new();
        let mut said = BufReader::new(script.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        if line.trim() == "refused" || line.is_empty() {
            // Inside some containers not even root may mount: that is no tool which could be installed.
            eprintln!("skipped: the kernel does not allow a machine here");
            script.wait().unwrap();
            return None;
        }
        let process = line
            .strip_prefix("booted ")
            .unwrap_or_else(|| panic!("the machine {line}"));
        let machine = Self {
            process: process.trim().to_owned(),
            script,
            stdin,
            directory,
        };
        machine.install(package);
        machine.does("systemctl start vms");
        Some(machine)
    }

    /// Installs a package, as `apt` would; what it says.
    pub(crate) fn install(&self, package: &Path) -> String {
        std::fs::copy(package, self.directory.path().join("package.deb")).unwrap();
        self.does("dpkg --no-triggers -i /machine/package.deb")
    }

    /// What a shell in the machine says, which must succeed.
    #[track_caller]
    pub(crate) fn does(&self, script: &str) -> String {
        let (said, succeeded) = self.tries(script);
        let log = std::fs::read_to_string(self.directory.path().join("log"));
        assert!(
            succeeded,
            "{script}\nsays:\n{said}\nlog:\n{}",
            log.unwrap_or_default()
        );
        said
    }

    /// What a shell in the machine says, and whether it succeeds.
    pub(crate) fn tries(&self, script: &str) -> (String, bool) {
        run(&mut self.shell(script))
    }

    /// One property of the service.
    pub(crate) fn property(&self, name: &str) -> String {
        let value = self.does(&format!(
            "systemctl show --property={name} --value vms-edge"
        ));
        value.trim().to_owned()
    }

    /// A metric of the edge.
    pub(crate) fn metric(&self, name: &str) -> String {
        let metrics = self.does("curl -sS http://127.0.0.1:9090/metrics");
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {metrics}"))
            .to_owned()
    }

    /// A client that asks again and again, each time over a new connection, and has been answered once.
    pub(crate) fn client(&self) -> Asking {
        let script = format!(
            "until [ -e /tmp/enough ]; do {BATCH} -o /dev/null -w '%{{http_code}} '; echo $?; done"
        );
        let mut process = self.shell(&script).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut first = String::new();
        answers.read_line(&mut first).unwrap();
        Asking {
            process,
            answers,
            first,
        }
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.process, "--mount", "--pid", "--net"])
            .args(["--ipc", "--uts", "--cgroup", "--root"])
            .args(["sh", "-c", script])
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.script.wait().expect("the script ends with its input");
    }
}

/// A batch that the stand-in VMS would answer.
pub(crate) const BATCH: &str = "curl -sS --globoff 'http://127.0.0.1:8080/api/v1/intercom/shows?ids[]=1' \
     -H 'Authorization: Bearer tok-1-ios' -H 'Accept: application/json' -H 'X-Client: ios' -H 'X-UUID: phone'";

/// A client at work.
pub(crate) struct Asking {
    process: Child,
    answers: BufReader<ChildStdout>,
    first: String,
}

impl Asking {
    /// Lets it have enough; every answer that it got.
    pub(crate) fn ends(mut self, machine: &Machine) -> Vec<String> {
        machine.does("touch /tmp/enough");
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).unwrap();
        self.process.wait().unwrap();
        let all = self.first.lines().chain(rest.lines());
        all.map(str::to_owned).collect()
    }
}
