//! Where a target is, and how its certificate is judged.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::cli::Target;
use crate::asking::SHOWS;
use crate::generator::connection::Destination;

/// A target's URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_encrypted: bool,
    /// As it stands in the URL, for the Host field.
    pub(super) authority: String,
    host: String,
    port: u16,
    pub(super) path: String,
}

/// Why a target cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("--target {url:?}: {why}")]
    Url { url: String, why: &'static str },
    #[error("--target: {host} has no address: {source}")]
    Address { host: String, source: io::Error },
    #[error("--ca: {path:?} {why}")]
    Authorities { path: PathBuf, why: String },
    #[error("the system's certificate authorities cannot be read: {0}; --ca can name others")]
    System(io::Error),
}

impl Place {
    /// # Errors
    /// If it is no URL of a place that can be asked.
    pub(super) fn parse(url: &str) -> Result<Self, NoTarget> {
        let bad = |why| NoTarget::Url {
            url: url.to_owned(),
            why,
        };
        let uri: http::Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        let (is_encrypted, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(bad("it should begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it has a user, who is not asked for"));
        }
        if uri.query().is_some() {
            return Err(bad("it has a query, which --ids makes"));
        }
        let path = match uri.path() {
            "/" | "" => SHOWS,
            path => path,
        };
        Ok(Self {
            is_encrypted,
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(usual_port),
            path: path.to_owned(),
        })
    }

    /// Its address, and whom to trust there.
    pub(super) async fn destination(&self, target: &Target) -> Result<Destination, NoTarget> {
        let no_address = |source| NoTarget::Address {
            host: self.host.clone(),
            source,
        };
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let address: Option<SocketAddr> = found.map_err(no_address)?.next();
        let address = address.ok_or_else(|| no_address(io::ErrorKind::NotFound.into()))?;
        let mut destination = Destination::plain(address);
        if self.is_encrypted {
            let name = ServerName::try_from(self.host.clone()).map_err(|_| NoTarget::Url {
                url: self.host.clone(),
                why: "no certificate can be for this name",
            })?;
            destination.tls = Some((Arc::new(trust(target)?), name));
        }
        Ok(destination)
    }
}

fn trust(target: &Target) -> Result<ClientConfig, NoTarget> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3");
    let mut config = if target.insecure {
        let anybody = Arc::new(Anybody(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth()
    } else {
        let roots = match &target.ca {
            Some(path) => named(path)?,
            None => systems()?,
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn named(path: &Path) -> Result<RootCertStore, NoTarget> {
    let bad = |why: String| NoTarget::Authorities {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path);
    for certificate in certificates.map_err(|error| bad(format!("cannot be read: {error}")))? {
        let certificate = certificate.map_err(|error| bad(format!("is no PEM: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| bad(format!("has a certificate that is no good: {error}")))?;
    }
    match roots.is_empty() {
        true => Err(bad("has no certificate".to_owned())),
        false => Ok(roots),
    }
}

fn systems() -> Result<RootCertStore, NoTarget> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().map_err(NoTarget::System)?;
    // A system may have some that nobody can read any more.
    roots.add_parsable_certificates(found);
    Ok(roots)
}

/// Believes whatever certificate it is shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_what() {
        let place = Place::parse("https://vms.example/api/v1/cameras/shows").unwrap();
        assert!(place.is_encrypted);
        assert_eq!((place.host.as_str(), place.port), ("vms.example", 443));
        assert_eq!(place.path, "/api/v1/cameras/shows");
        let place = Place::parse("http://[::1]:8080").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("::1", 8080));
        assert_eq!(
            (place.authority.as_str(), place.path.as_str()),
            ("[::1]:8080", SHOWS)
        );
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_with_the_reason() {
        for (url, why) in [
            ("vms.example", "should begin with http"),
            ("ftp://vms.example", "should begin with http"),
            ("http://", "no URL"),
            ("http://me@vms.example", "a user"),
            ("http://vms.example/shows?ids[]=1", "a query"),
            ("http://vms example", "no URL"),
        ] {
            let told = Place::parse(url).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }
}
