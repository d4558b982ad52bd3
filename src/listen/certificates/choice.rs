//! Which certificate a client is shown: one for the name it asks for.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Identity;

/// The certificates of one listener, in the order of their tables.
#[derive(Debug)]
pub(super) struct Choice(Vec<Identity>);

impl Choice {
    pub(super) fn of(identities: impl Iterator<Item = Identity>) -> Self {
        Self(identities.collect())
    }

    /// One that is for exactly this name, else one whose wildcard it is, else the first of all. Of several, as a name may
    /// have with keys of different kinds, the first one that `fits`.
    fn choose(&self, name: Option<&str>, fits: impl Fn(&Identity) -> bool) -> Option<&Identity> {
        // A name that is asked for has no end dot, and may have capitals (RFC 6066, 3).
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = name
            .split_once('.')
            .map(|(_, domain)| format!("*.{domain}"));
        let candidates = |wanted: &str| {
            let is_for = |identity: &&Identity| identity.names().iter().any(|n| n == wanted);
            let mut candidates = self.0.iter().filter(is_for);
            let first = candidates.clone().next();
            candidates.find(|identity| fits(identity)).or(first)
        };
        candidates(&name)
            .or_else(|| candidates(&wildcard?))
            .or(self.0.first())
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |identity: &Identity| {
            let key = &identity.certified().key;
            key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let identity = self.choose(hello.server_name(), fits)?;
        Some(Arc::clone(identity.certified()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(names: &[&str]) -> Identity {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c"), directory.path().join("k"));
        let pair = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        std::fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        Identity::read(&certificate, &key).unwrap()
    }

    #[test]
    fn a_name_is_shown_its_own_certificate_then_a_wildcard_then_the_first() {
        let choice = Choice(vec![
            identity(&["first.example"]),
            identity(&["*.example.com"]),
            identity(&["Exact.example.com", "*.deep.example.com"]),
        ]);
        let shown = |name: Option<&str>| choice.choose(name, |_| true).unwrap().names()[0].clone();
        for (name, certificate) in [
            (Some("first.example"), "first.example"),
            (Some("exact.example.com"), "exact.example.com"),
            (Some("EXACT.example.com"), "exact.example.com"),
            (Some("other.example.com"), "*.example.com"),
            (Some("a.deep.example.com"), "exact.example.com"),
            // A wildcard is for one label (RFC 9525, 6.3).
            (Some("b.a.deep.example.com"), "first.example"),
            (Some("example.com"), "first.example"),
            (None, "first.example"),
        ] {
            assert_eq!(shown(name), certificate, "{name:?}");
        }
    }

    #[test]
    fn of_two_for_one_name_the_client_is_shown_one_that_it_understands() {
        let choice = Choice(vec![
            identity(&["a.example", "old"]),
            identity(&["a.example", "new"]),
        ]);
        let is_new = |identity: &Identity| identity.names()[1] == "new";
        assert!(is_new(choice.choose(Some("a.example"), is_new).unwrap()));
        assert!(!is_new(
            choice.choose(Some("a.example"), |_| false).unwrap()
        ));
    }
}
