//! The edge's certificates with their keys, and the authorities of clients' certificates, read and found to fit.
//!
//! What is read is kept, so that what was checked is what is used. A key is never shown: not in an error, not in what is
//! printed for debugging.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::ClientCertificate;
use super::material::{self, MaterialError, read_authorities};

/// The cryptography of all TLS with clients.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// A certificate with its key: what the edge shows to be who its clients look for.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// DNS names, in lower case; a wildcard begins with `*.`.
    names: Vec<String>,
    not_before: ASN1Time,
    not_after: ASN1Time,
    /// Of both files.
    digest: blake3::Hash,
}

/// Why two files make no identity. Reads on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFault {
    /// The file with the certificate.
    #[error(transparent)]
    Certificate(MaterialError),
    /// The file with the key.
    #[error(transparent)]
    Key(MaterialError),
}

/// Whether a certificate is good at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Not yet.
    Early,
    /// Yes.
    Valid,
    /// No longer.
    Expired,
}

impl Identity {
    /// The cryptography that keys are used with.
    pub fn provider() -> &'static Arc<CryptoProvider> {
        &PROVIDER
    }

    /// Reads the certificate and its key.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, does not hold what it should, or the key is another certificate's.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, IdentityFault> {
        let pem = material::read(certificate).map_err(IdentityFault::Certificate)?;
        let key = material::read(key).map_err(IdentityFault::Key)?;
        Self::parse(&pem, &key)
    }

    fn parse(pem: &[u8], key: &[u8]) -> Result<Self, IdentityFault> {
        let chain = chain(pem).map_err(IdentityFault::Certificate)?;
        let leaf = chain.first().ok_or(MaterialError::NoCertificate);
        let leaf = leaf
            .and_then(|leaf| parsed(leaf, 1))
            .map_err(IdentityFault::Certificate)?;
        let (names, validity) = (names(&leaf), leaf.validity().clone());

        let private = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            IdentityFault::Key(match error {
                pem::Error::NoItemsFound => MaterialError::NoKey,
                _ => MaterialError::BadKey,
            })
        })?;
        let signer = PROVIDER.key_provider.load_private_key(private);
        let signer = signer.map_err(|_| IdentityFault::Key(MaterialError::BadKey))?;
        let certified = CertifiedKey::new(chain, signer);
        use rustls::{Error, InconsistentKeys};
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(IdentityFault::Key(MaterialError::OtherKey));
            }
            Err(error) => {
                return Err(IdentityFault::Certificate(MaterialError::BadCertificate {
                    number: 1,
                    reason: error.to_string(),
                }));
            }
        }
        let mut digest = blake3::Hasher::new();
        digest.update(blake3::hash(pem).as_bytes());
        digest.update(blake3::hash(key).as_bytes());
        Ok(Self {
            certified: Arc::new(certified),
            names,
            not_before: validity.not_before,
            not_after: validity.not_after,
            digest: digest.finalize(),
        })
    }

    /// Certificate and key, for a handshake.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The DNS names that the certificate is for, in lower case; a wildcard begins with `*.`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How long the certificate is good after `now`, in days; negative if it is so no longer.
    pub fn days_left(&self, now: SystemTime) -> f64 {
        (seconds(&self.not_after) - since_epoch(now)) / 86_400.0
    }

    /// Whether it is good at `now`.
    pub fn validity(&self, now: SystemTime) -> Validity {
        if since_epoch(now) < seconds(&self.not_before) {
            Validity::Early
        } else if since_epoch(now) > seconds(&self.not_after) {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

impl fmt::Display for Identity {
    /// Its names, and until when it is good.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = match self.names.is_empty() {
            true => "no name".to_owned(),
            false => self.names.join(", "),
        };
        write!(f, "{names}, until {}", self.not_after)
    }
}

/// Whose certificates clients show.
#[derive(Clone)]
pub struct ClientCa {
    /// PEM file with the authorities.
    pub path: PathBuf,
    /// Whether a client must show one. Default required.
    pub demand: ClientCertificate,
    authorities: Arc<RootCertStore>,
    digest: blake3::Hash,
}

impl ClientCa {
    /// Reads the authorities.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds no authority.
    pub fn read(path: &Path, demand: ClientCertificate) -> Result<Self, MaterialError> {
        let mut authorities = RootCertStore::empty();
        let mut digest = blake3::Hasher::new();
        for certificate in read_authorities(path)? {
            digest.update(blake3::hash(&certificate).as_bytes());
            authorities
                .add(certificate)
                .expect("what was read as an authority is one");
        }
        Ok(Self {
            path: path.to_owned(),
            demand,
            authorities: Arc::new(authorities),
            digest: digest.finalize(),
        })
    }

    /// The same authorities, with another demand.
    pub(super) fn with(self, demand: ClientCertificate) -> Self {
        Self { demand, ..self }
    }

    /// The authorities.
    pub fn authorities(&self) -> &Arc<RootCertStore> {
        &self.authorities
    }
}

impl PartialEq for ClientCa {
    fn eq(&self, other: &Self) -> bool {
        let parts = |ca: &Self| (ca.path.clone(), ca.demand, ca.digest);
        parts(self) == parts(other)
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCa({:?}, {:?})", self.path, self.demand)
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let mut chain = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(|error| bad(index + 1, &error))?;
        parsed(&certificate, index + 1)?;
        chain.push(certificate);
    }
    Ok(chain)
}

fn parsed<'a>(
    certificate: &'a CertificateDer<'_>,
    number: usize,
) -> Result<X509Certificate<'a>, MaterialError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed
        .map(|(_, certificate)| certificate)
        .map_err(|error| bad(number, &error))
}

fn bad(number: usize, reason: &dyn fmt::Display) -> MaterialError {
    MaterialError::BadCertificate {
        number,
        reason: reason.to_string(),
    }
}

/// Clients look for names among the alternative ones only (RFC 9525, 6.3).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative
        .iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

/// Since the epoch. A certificate's time has whole seconds, and more years than a float has doubts about.
fn seconds(time: &ASN1Time) -> f64 {
    time.timestamp() as f64
}

fn since_epoch(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs_f64()
}
