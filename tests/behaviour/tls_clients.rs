//! TLS with clients: which certificate they are shown, what they must show, and how both change while the edge serves.

use std::path::Path;
use std::process::Command;

use http::Request;
use http_body_util::Full;

use crate::support::authority::Authority;
use crate::support::edge::TestEdge;
use crate::support::program::{run, said};
use crate::support::scrape::Scrape;
use crate::support::scripted::Scripted;
use crate::support::soon;
use crate::support::tools::tool;
use crate::support::world::{SHOWS, World, send};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An edge with these listeners before a VMS that answers `ok`.
async fn edge(listeners: &str) -> (Scripted, TestEdge) {
    let vms = Scripted::answering(OK).await;
    let edge = TestEdge::with(&[vms.address.to_string()], listeners);
    (vms, edge)
}

/// A handshake of OpenSSL's, in which the edge must show a certificate for `name`.
fn openssl(
    authority: &Authority,
    to: std::net::SocketAddr,
    name: &str,
    arguments: &[&str],
) -> Option<Command> {
    let mut openssl = Command::new(tool("openssl")?);
    openssl
        .args(["s_client", "-connect", &to.to_string(), "-CAfile"])
        .arg(authority.ca())
        .args(["-verify_return_error", "-verify_hostname", name])
        .args(arguments);
    Some(openssl)
}

/// What OpenSSL says of a handshake that must succeed.
async fn shakes_hands(command: Command) -> String {
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Whether an alert comes back although the handshake seemed done, as in TLS 1.3.
async fn is_refused(command: Command) -> bool {
    let mut command = command;
    // A request is what makes it wait for an answer, or for the alert.
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        use std::process::Stdio;
        command.arg("-ign_eof");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        // One that was refused reads nothing more.
        let _ = stdin.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        child.wait_with_output().expect("it ends")
    });
    let output = soon("the end of openssl", output).await.expect("no abort");
    !said(&output).contains("HTTP/1.1 200 OK")
}

#[tokio::test]
async fn clients_are_shown_the_certificate_for_the_name_that_they_ask_for() {
    let authority = Authority::new();
    let names = ["first.example", "*.example.com", "exact.example.com"];
    let tables = names.map(|name| authority.table(name)).concat();
    let (_vms, edge) = edge(&tables).await;
    for (asked, shown) in [
        (Some("first.example"), "first.example"),
        (Some("exact.example.com"), "exact.example.com"),
        (Some("other.example.com"), "other.example.com"),
        (Some("unknown.example.org"), "first.example"),
        (None, "first.example"),
    ] {
        let sni: &[&str] = match &asked {
            Some(name) => &["-servername", name],
            None => &["-noservername"],
        };
        let Some(openssl) = openssl(&authority, edge.tls[0], shown, sni) else {
            return;
        };
        let said = shakes_hands(openssl).await;
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    let scrape = Scrape::of(edge.admin).await;
    assert_eq!(
        scrape.value("vms_edge_tls_handshakes_total{result=\"ok\"}"),
        5.0
    );
}

#[tokio::test]
async fn only_modern_versions_and_ciphers_are_spoken() {
    let authority = Authority::new();
    let (_vms, edge) = edge(&authority.table("a.example")).await;
    let weak = "DEFAULT:@SECLEVEL=0";
    for (arguments, works) in [
        (&["-tls1_3"][..], true),
        (&["-tls1_2"], true),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            true,
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
            false,
        ),
        (&["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], false),
        (&["-tls1_1", "-cipher", weak], false),
        (&["-tls1", "-cipher", weak], false),
    ] {
        let Some(openssl) = openssl(&authority, edge.tls[0], "a.example", arguments) else {
            return;
        };
        let output = run(openssl).await;
        assert_eq!(
            output.status.success(),
            works,
            "{arguments:?} {}",
            said(&output)
        );
    }
    let scrape = Scrape::of(edge.admin).await;
    let handshakes = |result| {
        let series = format!("vms_edge_tls_handshakes_total{{result=\"{result}\"}}");
        scrape.value(&series)
    };
    assert_eq!((handshakes("ok"), handshakes("failed")), (3.0, 4.0));
}

#[tokio::test]
async fn http_2_is_offered_unless_it_is_switched_off() {
    let authority = Authority::new();
    for (http2, protocol) in [(true, "h2"), (false, "http/1.1")] {
        let table = authority.table("a.example") + &format!("http2 = {http2}\n");
        let (_vms, edge) = edge(&table).await;
        let offer = ["-alpn", "h2,http/1.1"];
        let Some(openssl) = openssl(&authority, edge.tls[0], "a.example", &offer) else {
            return;
        };
        let said = shakes_hands(openssl).await;
        assert!(
            said.contains(&format!("ALPN protocol: {protocol}")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_session_is_resumed_whichever_thread_gets_the_connection() {
    let authority = Authority::new();
    let settings = format!("server.threads = 4\n{}", authority.table("a.example"));
    let (_vms, edge) = edge(&settings).await;
    let Some(openssl) = openssl(
        &authority,
        edge.tls[0],
        "a.example",
        &["-tls1_2", "-reconnect"],
    ) else {
        return;
    };
    let said = shakes_hands(openssl).await;
    assert_eq!(said.matches("\nReused, ").count(), 5, "{said}");
    assert_eq!(said.matches("\nNew, ").count(), 1, "{said}");
}

/// Whether a client with the session in this file is let in.
async fn comes_in_with(
    authority: &Authority,
    to: std::net::SocketAddr,
    session: &Path,
) -> Option<bool> {
    let session = session.to_str().expect("a path of text");
    let arguments = ["-tls1_2", "-sess_in", session];
    let openssl = openssl(authority, to, "a.example", &arguments)?;
    Some(!is_refused(openssl).await)
}

#[tokio::test]
async fn a_session_opens_no_listener_that_asks_for_more() {
    let authority = Authority::new();
    let session = authority.ca().with_file_name("session");
    let open = authority.table("a.example");
    let strict = authority.table_again("127.0.0.2:0", "a.example");
    let strict = format!("{strict}client_ca = {:?}\n", authority.ca());
    let (_vms, edge) = edge(&format!("{open}{strict}")).await;
    let out = ["-tls1_2", "-sess_out", session.to_str().expect("text")];
    let Some(openssl) = openssl(&authority, edge.tls[0], "a.example", &out) else {
        return;
    };
    shakes_hands(openssl).await;
    assert_eq!(
        comes_in_with(&authority, edge.tls[0], &session).await,
        Some(true)
    );
    assert_eq!(
        comes_in_with(&authority, edge.tls[1], &session).await,
        Some(false)
    );

    // The same listener, once it asks for a certificate.
    let asking = format!(
        "{}client_ca = {:?}\n",
        authority.table_again("127.0.0.1:0", "a.example"),
        authority.ca()
    );
    let outcome = edge.reload(&format!("{asking}{strict}"));
    assert!(matches!(
        outcome,
        vms_edge::ops::reload::Outcome::Applied { .. }
    ));
    assert_eq!(
        comes_in_with(&authority, edge.tls[0], &session).await,
        Some(false)
    );
}

#[tokio::test]
async fn where_a_certificate_is_asked_for_it_is_shown_each_time() {
    let authority = Authority::new();
    authority.certify("phone");
    let (certificate, key) = authority.files("phone");
    let table = authority.table("a.example");
    let table = format!("{table}client_ca = {:?}\n", authority.ca());
    let (_vms, edge) = edge(&table).await;
    let reconnecting = ["-tls1_2", "-reconnect"];
    let Some(mut openssl) = openssl(&authority, edge.tls[0], "a.example", &reconnecting) else {
        return;
    };
    openssl.arg("-cert").arg(certificate).arg("-key").arg(key);
    let said = shakes_hands(openssl).await;
    assert_eq!(said.matches("\nNew, ").count(), 6, "{said}");
}

#[tokio::test]
async fn clients_show_certificates_of_the_authority_that_the_configuration_names() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.certify("phone");
    stranger.certify("stranger");
    for (demand, without) in [("required", false), ("optional", true)] {
        let table = format!(
            "{}client_ca = {:?}\nclient_certificate = \"{demand}\"\n",
            authority.table("a.example"),
            authority.ca()
        );
        let (_vms, edge) = edge(&table).await;
        for (who, comes_in) in [
            (None, without),
            (Some(authority.files("phone")), true),
            (Some(stranger.files("stranger")), false),
        ] {
            let Some(mut openssl) = openssl(&authority, edge.tls[0], "a.example", &[]) else {
                return;
            };
            if let Some((certificate, key)) = &who {
                openssl.arg("-cert").arg(certificate).arg("-key").arg(key);
            }
            let refused = is_refused(openssl).await;
            assert_eq!(!refused, comes_in, "{demand} {who:?}");
        }
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let table = authority.table("a.example") + &authority.table("b.example");
    let (_vms, edge) = edge(&table).await;
    let shown = async || {
        let stream = authority.connect(edge.tls[0], "a.example", &[]).await;
        let certificates = stream.get_ref().1.peer_certificates();
        certificates.expect("the edge shows one")[0].to_vec()
    };
    let reloads = async |result: &str| {
        let scrape = Scrape::of(edge.admin).await;
        scrape.value(&format!(
            "vms_edge_tls_reloads_total{{result=\"{result}\"}}"
        ))
    };
    let first = shown().await;
    edge.look_at_certificates();
    assert_eq!(shown().await, first);
    assert_eq!(
        (reloads("applied").await, reloads("refused").await),
        (0.0, 0.0)
    );

    // A key of another certificate, then a half of one.
    let (certificate, key) = authority.files("a.example");
    let good = std::fs::read(&key).expect("a file");
    std::fs::copy(authority.files("b.example").1, &key).expect("a file");
    edge.look_at_certificates();
    edge.look_at_certificates();
    assert_eq!(
        (reloads("applied").await, reloads("refused").await),
        (0.0, 1.0)
    );
    std::fs::write(&key, &good[..good.len() / 2]).expect("a file");
    edge.look_at_certificates();
    assert_eq!(shown().await, first);
    assert_eq!(
        (reloads("applied").await, reloads("refused").await),
        (0.0, 2.0)
    );

    authority.certify_as("a.example", |params| {
        params.not_after = rcgen::date_time_ymd(2999, 1, 1);
    });
    edge.look_at_certificates();
    let second = shown().await;
    assert_ne!(second, first);
    assert_eq!(
        (reloads("applied").await, reloads("refused").await),
        (1.0, 2.0)
    );
    let scrape = Scrape::of(edge.admin).await;
    let days = scrape.value("vms_edge_tls_certificate_expiry_days{certificate=\"0\"}");
    assert!(days > 300_000.0, "{days}");

    // One that has expired takes no good one's place, neither by itself nor by a reload.
    authority.certify_as("a.example", |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    edge.look_at_certificates();
    assert_eq!(shown().await, second);
    assert_eq!(
        (reloads("applied").await, reloads("refused").await),
        (1.0, 3.0)
    );
    let again = authority.table_again("127.0.0.1:0", "a.example")
        + &authority.table_again("127.0.0.1:0", "b.example");
    let outcome = edge.reload(&again);
    let applied = matches!(outcome, vms_edge::ops::reload::Outcome::Applied { .. });
    assert!(applied, "{outcome:?}");
    assert_eq!(shown().await, second);

    // The file that is gone is no reason to stop either.
    std::fs::remove_file(certificate).expect("it was there");
    edge.look_at_certificates();
    assert_eq!(shown().await, second);
}

#[tokio::test]
async fn a_reload_exchanges_certificates_but_no_listeners() {
    let authority = Authority::new();
    let (_vms, edge) = edge(&authority.table("a.example")).await;
    let address = edge.tls[0];
    let more = authority.table("b.example") + &authority.table_at("127.0.0.3:0", "c.example");
    let outcome = edge.reload(&more);
    let vms_edge::ops::reload::Outcome::Applied { waiting, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        waiting
            .iter()
            .any(|change| change.key.contains("c.example")),
        "{waiting:?}"
    );
    drop(authority.connect(address, "b.example", &[]).await);
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
    let gone = authority.shake_hands(stream, "a.example", &[]).await;
    assert!(gone.is_err(), "a certificate that the file has no more");

    // Without any table the listener goes on as it is.
    edge.reload("");
    drop(authority.connect(address, "b.example", &[]).await);
}

#[tokio::test]
async fn the_vms_is_told_that_the_client_spoke_tls() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority.table("a.example")).await;
    let mut client = authority.client(edge.tls[0], "a.example").await;
    assert_eq!(client.get("/").await.text(), "ok");
    let request = vms.only_request();
    assert_eq!(request.head.one("x-forwarded-proto"), Some("https"));
    assert_eq!(request.head.one("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn what_was_fetched_for_plain_http_is_not_answered_over_tls() {
    let authority = Authority::new();
    let world = World::with(&authority.table("a.example")).await;
    world.user(1).asks([1]).await.gets([1]).is("fwd=miss");
    world.user(1).asks([1]).await.hit();
    let ask = "GET /api/v1/intercom/shows?ids%5B%5D=1 HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-1-ios\r\n\
               Accept: application/json\r\nX-Client: ios\r\nX-UUID: b7f0c0de-1\r\nX-Version: 24.03.0.0\r\n\r\n";
    let mut client = authority.client(world.edge.tls[0], "a.example").await;
    for said in ["fwd=miss", "hit"] {
        client.send(ask).await;
        let response = client.response().await;
        let status = response.head.one("cache-status").expect("it says so");
        assert!(status.contains(said), "{status}");
    }
    assert_eq!(world.vms.batches().len(), 2);
}

#[tokio::test]
async fn an_edge_may_speak_tls_only() {
    let vms = Scripted::answering(OK).await;
    let authority = Authority::new();
    let edge = TestEdge::with_text(&format!(
        "server.listen = []\nadmin.listen = \"127.0.0.1:0\"\nupstream.servers = [\"{}\"]\n{}",
        vms.address,
        authority.table("a.example")
    ));
    let mut client = authority.client(edge.tls[0], "a.example").await;
    assert_eq!(client.get("/").await.text(), "ok");
}

#[tokio::test]
async fn plain_http_to_a_tls_listener_is_a_failed_handshake() {
    let authority = Authority::new();
    let (vms, edge) = edge(&authority.table("a.example")).await;
    let mut client = crate::support::client::Client::connect(edge.tls[0]).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.wire.rest().await;
    let failed = "vms_edge_tls_handshakes_total{result=\"failed\"}";
    Scrape::once(edge.admin, failed, 1.0).await;
    assert!(vms.requests().is_empty());
    let request = Request::get(SHOWS).header("host", "edge");
    send(edge.address, request.body(Full::default()).expect("valid")).await;
}
