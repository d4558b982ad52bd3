//! The program itself: its exit status, and the one line that says why.

use std::net::TcpListener;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::client::Client;
use crate::support::edge::configuration;
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::service::Service;
use crate::support::soon;

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a program that cannot start says before it exits, and its exit status.
async fn refused(text: &str, environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("edge.toml");
    std::fs::write(&path, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vms-edge"));
    command
        .args(["run", "--config"])
        .arg(&path)
        .env_remove("SSL_CERT_DIR")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = soon("the end of the program", command.output()).await;
    let output = output.expect("the program can be run");
    let said = String::from_utf8(output.stderr).expect("it writes text");
    (said, output.status.code())
}

/// An edge before `vms` that never cuts off whoever is there at its end, on a system without authorities.
async fn without_authorities(vms: &Scripted, settings: &str) -> Service {
    let settings = format!("server.grace = \"1h\"\n{settings}");
    let text = configuration(&[vms.address.to_string()], &settings);
    Service::start_with(&text, |command| {
        command
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", "/no/such/file.pem");
    })
    .await
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
    let edge = without_authorities(&vms, "").await;
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        200
    );

    let edge = without_authorities(&vms, "upstream.tls = true\nupstream.verify = false").await;
    // This VMS speaks no TLS; that the edge tells so shows that it got as far as asking.
    assert_eq!(
        Client::connect(edge.address).await.get("/").await.status,
        502
    );
    let log = edge.stops().await;
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_in_order() {
    let vms = Scripted::answering(EMPTY).await;
    for signal in ["TERM", "INT"] {
        let edge = Service::before(vms.address, "server.grace = \"1h\"").await;
        assert_eq!(
            Client::connect(edge.address).await.get("/").await.status,
            200
        );
        edge.signal(signal);
        let log = edge.ends().await;
        assert!(log.contains("shutting down"), "{log}");
    }
}

#[tokio::test]
async fn a_full_disk_under_the_log_is_felt_by_nobody_and_each_line_is_counted() {
    let vms = Scripted::answering(EMPTY).await;
    let edge = Service::on_a_full_disk_before(vms.address, "log.access = true");
    for asked in 1..=20 {
        let answer = Client::connect(edge.address).await.get("/").await;
        assert_eq!(answer.status, 200, "{asked}");
    }
    // Two of them say that it serves, and as what; all others are of the requests.
    let counted = async {
        while Scrape::of(edge.admin)
            .await
            .value("vms_edge_log_dropped_lines_total")
            < 20.0
        {
            tokio::task::yield_now().await;
        }
    };
    soon("each line to be counted", counted).await;
    edge.stops().await;
}

#[tokio::test]
async fn no_bytes_of_an_answer_make_it_panic_at_any_log_level() {
    let vms =
        Scripted::answering(b"HTTP/1.1 200 OK\r\nX-A: \xff\xfe\r\nContent-Length: 0\r\n\r\n").await;
    for level in ["trace", "debug"] {
        let settings = format!("server.grace = \"1h\"\nlog.level = \"{level}\"");
        let edge = Service::before(vms.address, &settings).await;
        assert_eq!(
            Client::connect(edge.address).await.get("/").await.status,
            200
        );
        let log = edge.stops().await;
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[tokio::test]
async fn a_reload_changes_how_lines_are_written() {
    let vms = Scripted::answering(EMPTY).await;
    let text = configuration(&[vms.address.to_string()], "");
    let mut service = Service::start(&text).await;
    for (format, reloaded) in [
        ("json", "\"message\":\"reloaded\""),
        ("text", "vms_edge::app::reload: reloaded"),
    ] {
        service.configure(&format!("{text}log.format = \"{format}\""));
        service.signal("HUP");
        service.says(reloaded).await;
        let mut client = Client::connect(service.address).await;
        assert_eq!(client.get("/a").await.status, 200);
        let line = service.says("vms_edge::access").await;
        let is_json = serde_json::from_str::<serde_json::Value>(&line).is_ok();
        assert_eq!(is_json, format == "json", "{line}");
    }
}
