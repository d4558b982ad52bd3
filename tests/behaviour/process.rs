//! The program itself: its exit status, and the one line that says why.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::client::Client;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::soon;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn run(directory: &Path, text: &str, environment: &[(&str, &str)]) -> Child {
    let path = directory.join("edge.toml");
    std::fs::write(&path, text).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_vms-edge"))
        .arg("run")
        .arg("--config")
        .arg(&path)
        .env_remove("SSL_CERT_DIR")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program can be run")
}

/// What a program that cannot start says before it exits, and its exit status.
async fn refused(text: &str, environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = run(directory.path(), text, environment);
    let mut said = String::new();
    let stderr = child.stderr.as_mut().expect("it is piped");
    let read = soon("the end of the program", stderr.read_to_string(&mut said)).await;
    read.expect("it writes text");
    let status = soon("the exit status", child.wait())
        .await
        .expect("a child");
    (said, status.code())
}

/// A serving edge, its log and its two addresses.
struct Serving {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Serving {
    async fn start(upstream: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nserver.grace = \"1h\"\n{upstream}"
        );
        let mut child = run(directory.path(), &text, environment);
        let stderr = child.stderr.take().expect("it is piped");
        let mut log = BufReader::new(stderr).lines();
        let line = soon("the first line", log.next_line()).await;
        let line = line
            .expect("it writes text")
            .expect("it says that it serves");
        let (_, rest) = line.split_once("addresses=[").expect("its addresses");
        let (address, _) = rest.split_once(']').expect("one address");
        Self {
            child,
            log,
            address: address.parse().expect("an address"),
            _directory: directory,
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("it lives").to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &id])
            .status();
        assert!(sent.expect("kill is there").success());
    }

    /// Everything that it still says, and its exit status.
    async fn end(mut self) -> (Vec<String>, Option<i32>) {
        let mut lines = Vec::new();
        while let Some(line) = soon("a line", self.log.next_line()).await.expect("text") {
            lines.push(line);
        }
        let status = soon("the exit status", self.child.wait()).await;
        (lines, status.expect("a child").code())
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let server = "upstream.servers = [\"127.0.0.1:9\"]";
    let free = "\"127.0.0.1:0\"";
    for (key, listen) in [
        (
            "server.listen",
            format!("server.listen = [\"{address}\"]\nadmin.listen = {free}"),
        ),
        (
            "admin.listen",
            format!("server.listen = [{free}]\nadmin.listen = \"{address}\""),
        ),
    ] {
        let (said, status) = refused(&format!("{server}\n{listen}"), &[]).await;
        let line = format!(
            "vms-edge: {key}: cannot listen on {address}: Address already in use (os error 98)\n"
        );
        assert_eq!((said, status), (line, Some(1)));
    }
}

#[tokio::test]
async fn a_server_without_an_address_is_said_in_one_line() {
    let text = "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
                upstream.servers = [\"no-such-host.invalid:80\"]";
    let (said, status) = refused(text, &[]).await;
    let start = "vms-edge: upstream.servers: no-such-host.invalid:80 does not resolve: ";
    assert!(
        said.starts_with(start) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(status, Some(1));
}

#[tokio::test]
async fn a_bad_configuration_binds_no_port() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    // Were the port bound first, it would be what is complained about.
    let text = format!(
        "server.listen = [\"{address}\"]\nupstream.servers = [\"127.0.0.1:9\"]\nupstream.hots = \"\""
    );
    let (said, status) = refused(&text, &[]).await;
    assert!(
        said.contains("upstream.hots") && !said.contains("in use"),
        "{said}"
    );
    assert_eq!(status, Some(78));
}

#[tokio::test]
async fn a_check_prints_a_valid_file_and_how_long_a_revoked_token_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("edge.toml");
    let mut text = include_str!("../../conf/edge.toml").to_owned();
    let mut last = None;
    for _ in 0..2 {
        std::fs::write(&path, &text).expect("a file");
        let check = Command::new(env!("CARGO_BIN_EXE_vms-edge"))
            .args(["check", "--config"])
            .arg(&path)
            .output();
        let output = soon("the end of the program", check)
            .await
            .expect("it runs");
        assert!(output.status.success());
        text = String::from_utf8(output.stdout).expect("text");
        let bound = "\n#   330s (batch[0].fresh + batch[0].stale_while_revalidate) while the VMS answers\n\
                     #   1830s (batch[0].fresh + batch[0].stale_if_error) while the VMS fails\n";
        assert!(text.ends_with(bound), "{text}");
        assert!(
            last.is_none_or(|last| last == text),
            "printed again, it is the same"
        );
        last = Some(text.clone());
    }
}

#[tokio::test]
async fn an_unreadable_authority_is_said_in_one_line() {
    let text = "upstream.servers = [\"127.0.0.1:9\"]\nupstream.tls = true\nupstream.ca = \"/no/such/ca.pem\"";
    let (said, status) = refused(text, &[]).await;
    assert!(
        said.contains("upstream.ca") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(status, Some(78));
}

#[tokio::test]
async fn a_system_without_authorities_is_said_in_one_line_where_they_are_needed() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing.pem");
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").expect("a file");
    let text = "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
                upstream.servers = [\"127.0.0.1:9\"]\nupstream.tls = true";
    for file in [missing, empty] {
        let file = file.to_str().expect("a path of text");
        let (said, status) = refused(text, &[("SSL_CERT_FILE", file)]).await;
        let start = "vms-edge: upstream.tls: the system";
        assert!(
            said.starts_with(start) && said.lines().count() == 1,
            "{said}"
        );
        assert!(said.contains("upstream.ca"), "{said}");
        assert_eq!(status, Some(1));
    }
}

#[tokio::test]
async fn a_system_without_authorities_serves_where_none_are_needed() {
    let vms = Scripted::answering(EMPTY).await;
    let server = format!("upstream.servers = [\"{}\"]", vms.address);
    let none = [("SSL_CERT_FILE", "/no/such/file.pem")];
    let edge = Serving::start(&server, &none).await;
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        200
    );

    let tls = format!("{server}\nupstream.tls = true\nupstream.verify = false");
    let edge = Serving::start(&tls, &none).await;
    // This VMS speaks no TLS; that the edge tells so shows that it got as far as asking.
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        502
    );
    edge.signal("TERM");
    let (lines, status) = edge.end().await;
    assert!(
        !lines.iter().any(|line| line.contains("panicked")),
        "{lines:?}"
    );
    assert_eq!(status, Some(0));
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_in_order() {
    let vms = Scripted::answering(EMPTY).await;
    for signal in ["TERM", "INT"] {
        let server = format!("upstream.servers = [\"{}\"]", vms.address);
        let edge = Serving::start(&server, &[]).await;
        assert_eq!(
            Client::connect(edge.address).await.get("/").await.status,
            200
        );
        edge.signal(signal);
        let (lines, status) = edge.end().await;
        let said = lines.iter().any(|line| line.contains("shutting down"));
        assert!(said, "{lines:?}");
        assert_eq!(status, Some(0));
    }
}

#[tokio::test]
async fn no_bytes_of_an_answer_make_it_panic_at_any_log_level() {
    let vms =
        Scripted::answering(b"HTTP/1.1 200 OK\r\nX-A: \xff\xfe\r\nContent-Length: 0\r\n\r\n").await;
    for level in ["trace", "debug"] {
        let server = format!(
            "upstream.servers = [\"{}\"]\nlog.level = \"{level}\"",
            vms.address
        );
        let edge = Serving::start(&server, &[]).await;
        assert_eq!(
            Client::connect(edge.address).await.get("/").await.status,
            200
        );
        edge.signal("TERM");
        let (lines, status) = edge.end().await;
        assert!(
            !lines.iter().any(|line| line.contains("panicked")),
            "{lines:?}"
        );
        assert_eq!(status, Some(0));
    }
}

#[tokio::test]
async fn a_reload_changes_how_lines_are_written() {
    let vms = Scripted::answering(EMPTY).await;
    let text = format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\nupstream.servers = [\"{}\"]\n",
        vms.address
    );
    let mut service = Service::start(&text).await;
    for (format, reloaded) in [
        ("json", "\"message\":\"reloaded\""),
        ("text", "vms_edge::app::reload: reloaded"),
    ] {
        service.configure(&format!("{text}log.format = \"{format}\""));
        service.signal("HUP");
        service.says(reloaded).await;
        let mut client = Client::connect(service.addresses[0]).await;
        assert_eq!(client.get("/a").await.status, 200);
        let line = service.says("vms_edge::access").await;
        let is_json = serde_json::from_str::<serde_json::Value>(&line).is_ok();
        assert_eq!(is_json, format == "json", "{line}");
    }
}
