//! The program as operators call it, against a stand-in VMS.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use vms_edge::demo::vms::{Running, StandIn};

/// A stand-in VMS, and a folder for what the program reads and writes.
struct World {
    runtime: Runtime,
    vms: StandIn,
    running: Option<Running>,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().expect("the system has threads");
        let vms = StandIn::without_record();
        let running = runtime.block_on(vms.start()).expect("a free port");
        Self {
            runtime,
            vms,
            running: Some(running),
            folder: tempfile::tempdir().expect("a folder for what is temporary"),
        }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("it is ASCII").to_owned()
    }

    /// Runs the program with these tokens against `url`, and further arguments.
    fn asked(&self, url: &str, tokens: &str, more: &[&str]) -> Output {
        let mut command = self.command(url, tokens, more);
        command.output().expect("it was built")
    }

    fn command(&self, url: &str, tokens: &str, more: &[&str]) -> Command {
        let file = self.path("tokens");
        fs::write(&file, tokens).expect("the folder can be written to");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vms-edge-load"));
        command.args(["--target", url, "--token-file", &file, "--ids", "1-40"]);
        command.args(["--out", &self.path("out"), "--rate", "100"]);
        command.args(more);
        command
    }

    fn url(&self) -> String {
        let running = self.running.as_ref().expect("it runs");
        format!("http://{}", running.address())
    }

    /// The VMS behind TLS: its URL, and the certificate that it shows.
    fn behind_tls(&self) -> (String, String) {
        let made = generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("it is an address");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into(),
            );
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("the key is the certificate's")));
        let vms = self.running.as_ref().expect("it runs").address();
        let bound = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = self.runtime.block_on(bound).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not like the certificate leaves.
                    let mut client = acceptor.accept(stream).await.ok()?;
                    let mut vms = TcpStream::connect(vms).await.ok()?;
                    copy_bidirectional(&mut client, &mut vms).await.ok()
                });
            }
        });
        (format!("https://{address}"), cert.pem())
    }

    fn report(&self) -> Value {
        let text = fs::read(self.path("out/report.json")).expect("it was written");
        serde_json::from_slice(&text).expect("it is JSON")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.running = None;
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_target_is_asked_as_often_as_was_said_and_a_report_tells_what_came_of_it() {
    let world = World::new();
    let output = world.asked(
        &world.url(),
        "tok-3-ios\ntok-4-ios\n",
        &["--requests", "60", "--devices", "2"],
    );
    assert!(output.status.success(), "{}", error(&output));
    let report = world.report();
    for (name, value) in [("asked", 60), ("answered", 60), ("failed", 0)] {
        assert_eq!(report[name], value, "{name}");
    }
    assert_eq!(report["statuses"]["200"], 60);
    assert_eq!(report["cache_status"]["nothing"], 60);
    let latency = &report["latency_us"];
    assert!(latency["p50"].as_f64() <= latency["max"].as_f64());
    assert_eq!(
        (world.vms.batches_total(), world.vms.ids_total()),
        (60, 600)
    );
    assert_eq!(world.vms.requests_of(3) + world.vms.requests_of(4), 60);
    assert!(world.vms.requests_of(3) > 0 && world.vms.requests_of(4) > 0);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("| status 200 | 60 |"), "{shown}");
    let page = fs::read_to_string(world.path("out/report.html")).unwrap();
    assert!(page.contains("\"asked\": 60"));
}

#[test]
fn tokens_that_the_target_does_not_know_are_told_plainly_and_shown_nowhere() {
    let world = World::new();
    let output = world.asked(&world.url(), "hush-hush\n", &["--requests", "5"]);
    assert_eq!(output.status.code(), Some(1));
    let told = error(&output);
    assert!(told.contains("5 of 5 requests were answered 401"), "{told}");
    let written = ["report.json", "report.md", "report.html"]
        .map(|name| fs::read_to_string(world.path(&format!("out/{name}"))).unwrap());
    let shown = String::from_utf8(output.stdout).unwrap();
    for text in written.iter().chain([&told, &shown]) {
        assert!(!text.contains("hush"));
    }
}

#[test]
fn a_certificate_must_be_vouched_for_unless_anybody_is_to_be_believed() {
    let world = World::new();
    let (url, certificate) = world.behind_tls();
    let file = world.path("ca.pem");
    fs::write(&file, certificate).unwrap();
    for (more, status) in [
        (&["--ca", file.as_str()][..], 0),
        (&["--insecure"], 0),
        (&[], 69),
    ] {
        let more = [more, &["--requests", "3"]].concat();
        let output = world.asked(&url, "tok-3-ios", &more);
        let error = error(&output);
        assert_eq!(output.status.code(), Some(status), "{more:?}: {error}");
        assert!(status == 0 || error.contains("certificate"), "{error}");
    }
    assert_eq!(world.vms.batches_total(), 6);
}

#[test]
fn what_cannot_be_asked_is_told_with_a_status_of_its_own() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let tls = world.url().replace("http:", "https:");
    for (url, tokens, more, status, told) in [
        (
            nobody.as_str(),
            "tok-3-ios",
            &[][..],
            69,
            "cannot connect to 127.0.0.1",
        ),
        (&tls, "tok-3-ios", &["--insecure"], 69, "TLS with 127.0.0.1"),
        (
            &nobody,
            "\n",
            &[],
            78,
            "is empty: it should have one token a line",
        ),
        (
            "vms.example",
            "tok-3-ios",
            &[],
            2,
            "it should begin with http:// or https://",
        ),
        (
            "http://vms.invalid",
            "tok-3-ios",
            &[],
            69,
            "vms.invalid has no address",
        ),
        (
            &nobody,
            "tok-3-ios",
            &["--rate", "101"],
            2,
            "cannot be used multiple times",
        ),
        (
            &nobody,
            "tok-3-ios",
            &["--duration", "2h"],
            2,
            "say so with --unbounded",
        ),
        (
            &tls,
            "tok-3-ios",
            &["--ca", "/nowhere.pem"],
            78,
            "\"/nowhere.pem\" cannot be read",
        ),
    ] {
        let output = world.asked(url, tokens, more);
        let error = error(&output);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{url} {more:?}: {error}"
        );
        assert!(error.contains(told), "{url} {more:?}: {error}");
    }
    assert_eq!(world.vms.requests_total(), 0);
}

#[test]
fn a_report_that_cannot_be_written_is_told() {
    let world = World::new();
    fs::write(world.path("out"), "a file").unwrap();
    let output = world.asked(&world.url(), "tok-3-ios", &["--requests", "1"]);
    let error = error(&output);
    assert_eq!(output.status.code(), Some(74), "{error}");
    assert!(error.contains("the report cannot be written"), "{error}");
}

#[test]
fn what_was_due_and_never_sent_is_counted_and_told() {
    let world = World::new();
    // One connection that waits for an answer until long after the end.
    world.vms.set_latency(Duration::from_millis(1500));
    let more = ["--connections", "1", "--duration", "1s"];
    let output = world.asked(&world.url(), "tok-3-ios", &more);
    assert_eq!(output.status.code(), Some(1));
    let report = world.report();
    assert_eq!(
        (&report["asked"], &report["failed"]),
        (&1.into(), &0.into())
    );
    let unsent = report["unsent"].as_u64().unwrap();
    assert!(unsent > 50, "{unsent} of about a hundred");
    let told = format!("{unsent} requests were due and not sent when the time was up");
    assert!(error(&output).contains(&told), "{}", error(&output));
}

#[test]
fn whoever_interrupts_it_has_a_report_of_what_was_answered_by_then() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new();
        let mut command = world.command(&world.url(), "tok-3-ios", &["--duration", "1h"]);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut program = command.spawn().expect("it was built");
        let deadline = Instant::now() + Duration::from_secs(20);
        // One that was asked after another was answered.
        while world.vms.batches_total() < 20 && Instant::now() < deadline {
            thread::yield_now();
        }
        let pid = i32::try_from(program.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it has one"), signal).expect("it runs");
        let status = program.wait().expect("it was started here");
        assert_eq!(status.code(), Some(130));
        let report = world.report();
        assert_eq!(
            (&report["interrupted"], &report["failed"]),
            (&true.into(), &0.into())
        );
        assert!(report["answered"].as_u64() > Some(0));
    }
}
