//! TLS of the test: a certificate that signs itself, those who show it, and those who trust it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::generator::connection::Destination;

/// The name that the certificate is for.
pub(crate) const NAME: &str = "vms.local";

/// A certificate and its key.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let made = generate_simple_self_signed([NAME.to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("the name is a DNS name");
        Self {
            certificate: cert.der().clone(),
            certificate_pem: cert.pem(),
            key_pem: signing_key.serialize_pem(),
        }
    }

    /// Writes both to a server's working folder.
    pub(crate) fn write_to(&self, folder: &Path) -> io::Result<()> {
        std::fs::write(folder.join("certificate.pem"), &self.certificate_pem)?;
        std::fs::write(folder.join("key.pem"), &self.key_pem)
    }

    /// The same place, asked with HTTP/2 in TLS 1.3.
    pub(crate) fn http2(&self, to: Destination) -> Destination {
        let mut roots = RootCertStore::empty();
        let added = roots.add(self.certificate.clone());
        added.expect("what was just made can be read");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(NAME).expect("the name is a DNS name");
        Destination {
            tls: Some((Arc::new(config), name)),
            ..to
        }
    }
}
