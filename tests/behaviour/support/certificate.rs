//! A certificate of the edge's own, and clients who believe it.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

/// The name that certificates are for.
pub(crate) const NAME: &str = "vms.local";

/// A certificate that vouches for itself, in files.
pub(crate) struct SelfSigned {
    certificate: CertificateDer<'static>,
    directory: TempDir,
}

impl SelfSigned {
    /// For [`NAME`].
    pub(crate) fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        for (name, pem) in [
            ("certificate.pem", cert.pem()),
            ("key.pem", signing_key.serialize_pem()),
        ] {
            std::fs::write(directory.path().join(name), pem).expect("a file");
        }
        Self {
            certificate: cert.der().clone(),
            directory,
        }
    }

    /// The table of a listener that shows it.
    pub(crate) fn listener(&self) -> String {
        let path = |name| self.directory.path().join(name);
        format!(
            "[[server.tls]]\nlisten = \"127.0.0.1:0\"\ncertificate = {:?}\nkey = {:?}\n",
            path("certificate.pem"),
            path("key.pem")
        )
    }

    /// A client who believes it and speaks these protocols.
    pub(crate) fn believed(&self, protocols: &[&[u8]]) -> TlsConnector {
        believing(self.certificate.clone(), protocols)
    }
}

/// A client who believes whatever `authority` vouches for, and speaks these protocols.
pub(crate) fn believing(authority: CertificateDer<'static>, protocols: &[&[u8]]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(tls))
}
