//! Whose certificates the VMS may show: the configured authorities, the system's, or anybody's.
//!
//! Everything is read before the edge serves. Pingora would read the same files by itself, the system's even where no
//! TLS is spoken, and would panic if it could not; so it is given nothing to read but what was found good here.

use std::path::PathBuf;
use std::sync::Arc;

use pingora_core::tls::{RootCertStore, load_platform_certs_incl_env_into_store};
use pingora_core::utils::tls::{WrappedX509, parse_x509};

use crate::config::{self, MaterialError};

/// A certificate whose key nobody has. Pingora makes no verifier without an authority, not even one that verifies
/// nothing.
const NOBODY: &[u8] = include_bytes!("nobody.der");

/// A file without a certificate, for a connector that is to read none.
const NO_CERTIFICATES: &str = "/dev/null";

/// Authorities that vouch for the VMS; `None`: those of the system, if any are needed.
pub type Authorities = Option<Arc<[WrappedX509]>>;

/// There is nobody to vouch for the VMS.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// The configured file was good when the configuration was read, and is so no longer.
    #[error("upstream.ca: {path:?} {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: MaterialError,
    },
    /// The system's authorities cannot be read.
    #[error(
        "upstream.tls: the system's certificate authorities cannot be read: {0}; upstream.ca can name others"
    )]
    System(String),
    /// The system has no authorities.
    #[error(
        "upstream.tls: the system has no certificate authorities (package ca-certificates); upstream.ca can name some"
    )]
    Nobody,
}

/// Reads the authorities for `upstream`.
///
/// # Errors
///
/// When certificates are to be verified and there is nothing to verify them with.
pub fn authorities(upstream: &config::Upstream) -> Result<Authorities, Untrusted> {
    let Some(tls) = &upstream.tls else {
        return Ok(None);
    };
    if !tls.verify {
        return Ok(Some([wrapped(NOBODY)].into()));
    }
    let Some(path) = &tls.ca else {
        return look_for_system_authorities().map(|()| None);
    };
    let found = config::read_authorities(path).map_err(|reason| Untrusted::File {
        path: path.clone(),
        reason,
    })?;
    Ok(Some(found.iter().map(|found| wrapped(found)).collect()))
}

/// Whether two are the same certificates.
pub fn are_same(one: &Authorities, other: &Authorities) -> bool {
    let raw = |authorities: &Authorities| -> Option<Vec<Vec<u8>>> {
        let authorities = authorities.as_ref()?.iter();
        Some(
            authorities
                .map(|found| found.borrow_raw_cert().clone())
                .collect(),
        )
    };
    raw(one) == raw(other)
}

/// The file from which a connector to `upstream` is to read authorities; `None`: the system's.
pub fn connector_file(upstream: &config::Upstream) -> Option<String> {
    let needs_system = upstream
        .tls
        .as_ref()
        .is_some_and(|tls| tls.verify && tls.ca.is_none());
    (!needs_system).then(|| NO_CERTIFICATES.to_owned())
}

/// The same for a connector that outlives configurations: it knows the system's authorities if there are any, since the
/// next configuration may need them.
pub fn lasting_connector_file() -> Option<String> {
    let found = look_for_system_authorities();
    found.is_err().then(|| NO_CERTIFICATES.to_owned())
}

fn wrapped(certificate: &[u8]) -> WrappedX509 {
    WrappedX509::new(certificate.to_vec(), parse_x509)
}

fn look_for_system_authorities() -> Result<(), Untrusted> {
    let mut store = RootCertStore::empty();
    load_platform_certs_incl_env_into_store(&mut store)
        .map_err(|error| Untrusted::System(reason(&error)))?;
    if store.is_empty() {
        return Err(Untrusted::Nobody);
    }
    Ok(())
}

/// An error of Pingora's in one line.
fn reason(error: &pingora_core::Error) -> String {
    match (&error.cause, &error.context) {
        (Some(cause), _) => cause.to_string(),
        (None, Some(context)) => context.as_str().to_owned(),
        (None, None) => error.etype().as_str().to_owned(),
    }
}
