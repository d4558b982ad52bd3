//! TLS towards the VMS: whom the edge believes, and what it asks for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::scrape::Scrape;
use crate::support::scripted::{Connection, Scripted};
use crate::support::soon;

/// A VMS with a certificate, and the authority behind it in a file.
struct Vms {
    scripted: Scripted,
    /// The server names that clients asked for.
    asked: Arc<Mutex<Vec<Option<String>>>>,
    ca: PathBuf,
    _directory: tempfile::TempDir,
}

impl Vms {
    /// A VMS whose certificate is for `name`.
    async fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .and_then(|params| params.signed_by(&key, &authority))
            .expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("the key is the certificate's");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let scripted = Scripted::start_tls(tls, {
            let asked = Arc::clone(&asked);
            move |mut connection: Connection| {
                let tls = connection.wire.tls().expect("a TLS connection");
                let name = tls.server_name().map(str::to_owned);
                asked.lock().expect("not held").push(name);
                async move {
                    while connection.request().await.is_some() {
                        connection.answer("ok").await;
                    }
                }
            }
        })
        .await;
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca.pem");
        // Operators put the key of a self-signed certificate into the same file.
        let pem = format!("{}{}", key.serialize_pem(), authority.pem());
        std::fs::write(&ca, pem).expect("a file");
        Self {
            scripted,
            asked,
            ca,
            _directory: directory,
        }
    }

    /// An edge before this VMS, with these settings.
    fn edge(&self, server: &str, settings: &str) -> TestEdge {
        let server = format!("{server}:{}", self.scripted.address.port());
        TestEdge::with(&[server], &format!("upstream.tls = true\n{settings}"))
    }

    fn trusted(&self) -> String {
        format!("upstream.ca = {:?}\n", self.ca)
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.asked.lock().expect("not held").clone()
    }
}

async fn status(edge: &TestEdge) -> u16 {
    Client::connect(edge.address).await.get("/").await.status
}

#[tokio::test]
async fn a_certificate_of_a_configured_authority_is_believed() {
    let vms = Vms::named("localhost").await;
    let edge = vms.edge("localhost", &vms.trusted());
    assert_eq!(status(&edge).await, 200);
    assert_eq!(status(&edge).await, 200);
    assert_eq!(vms.asked(), [Some("localhost".to_owned())]);
}

#[tokio::test]
async fn an_address_in_the_certificate_is_believed() {
    let vms = Vms::named("127.0.0.1").await;
    let edge = vms.edge("127.0.0.1", &vms.trusted());
    assert_eq!(status(&edge).await, 200);
    assert_eq!(vms.asked(), [None]);
}

#[tokio::test]
async fn the_configured_name_is_asked_for_and_verified() {
    let vms = Vms::named("vms.local").await;
    let settings = format!("{}upstream.server_name = \"vms.local\"", vms.trusted());
    let edge = vms.edge("127.0.0.1", &settings);
    assert_eq!(status(&edge).await, 200);
    assert_eq!(vms.asked(), [Some("vms.local".to_owned())]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let vms = Vms::named("other.local").await;
    assert_eq!(status(&vms.edge("127.0.0.1", &vms.trusted())).await, 502);
    let settings = format!("{}upstream.server_name = \"vms.local\"", vms.trusted());
    assert_eq!(status(&vms.edge("127.0.0.1", &settings)).await, 502);
    assert_eq!(vms.scripted.requests().len(), 0);
}

#[tokio::test]
async fn an_unknown_authority_is_not_believed() {
    let (vms, other) = (Vms::named("localhost").await, Vms::named("localhost").await);
    let edge = vms.edge("localhost", &other.trusted());
    let response = Client::connect(edge.address).await.get("/").await;
    response.assert_edge_error(502, "Bad Gateway");
    assert_eq!(vms.scripted.requests().len(), 0);
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let vms = Vms::named("other.local").await;
    let edge = vms.edge("localhost", "upstream.verify = false");
    assert_eq!(status(&edge).await, 200);
    assert_eq!(vms.asked(), [Some("localhost".to_owned())]);
}

#[tokio::test]
async fn a_batch_is_fetched_over_tls_too() {
    let vms = Vms::named("localhost").await;
    for settings in [vms.trusted(), "upstream.verify = false".to_owned()] {
        let edge = vms.edge("localhost", &settings);
        let mut client = Client::connect(edge.address).await;
        client
            .send(
                "GET /api/v1/intercom/shows?ids[]=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\
                 X-Client: ios\r\nX-UUID: 1\r\n\r\n",
            )
            .await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_health_check_believes_whom_a_fetch_believes() {
    let vms = Vms::named("localhost").await;
    let checks = "upstream.health = { check = \"always\", interval = \"100ms\", timeout = \"1m\", unhealthy = 1 }";
    // Checked to the end of the test: whoever stops an edge, or gives up a check, cuts it off, and its VMS's answer with it.
    let trusting = vms.edge("localhost", &format!("{}{checks}", vms.trusted()));
    let checked = async {
        while vms.scripted.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("a check", checked).await;
    let closed = "vms_edge_upstream_servers{state=\"closed\"}";
    Scrape::once(trusting.admin, closed, 1.0).await;

    let other = Vms::named("localhost").await;
    let wary = other.edge("localhost", &format!("{}{checks}", vms.trusted()));
    let unhealthy = "vms_edge_upstream_servers{state=\"unhealthy\"}";
    Scrape::once(wary.admin, unhealthy, 1.0).await;
    assert_eq!(other.scripted.requests().len(), 0);
}

#[tokio::test]
async fn a_vms_that_does_not_speak_tls_is_a_bad_gateway() {
    let vms = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let settings = "upstream.tls = true\nupstream.verify = false";
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    assert_eq!(status(&edge).await, 502);
}

#[tokio::test]
async fn a_handshake_that_never_ends_ends_after_connect_timeout() {
    let vms = Scripted::start(|_kept| std::future::pending()).await;
    let settings =
        "upstream.tls = true\nupstream.verify = false\nupstream.connect_timeout = \"50ms\"";
    let edge = TestEdge::with(&[vms.address.to_string()], settings);
    let response = Client::connect(edge.address).await.get("/").await;
    response.assert_edge_error(502, "Bad Gateway");
}
