//! `[[server.tls]]`: certificates, and where they are shown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::super::address::LISTEN;
use super::super::identity::{ClientCa, Identity, IdentityFault};
use super::super::names::CLIENT_CERTIFICATES;
use super::super::section::{Kind, Section};
use super::super::{ClientCertificate, ServerTls};
use super::taken::{Taken, clash};

/// More would be a mistake, and each is looked at in every handshake.
const MAX_TABLES: usize = 1_000;

const CERTIFICATE: Kind<PathBuf> = Kind {
    allowed: "a readable PEM file with a certificate and those that lead to an authority",
    parse: |text| Ok(text.into()),
};

const KEY: Kind<PathBuf> = Kind {
    allowed: "a readable PEM file with the certificate's private key, not encrypted",
    parse: |text| Ok(text.into()),
};

const CLIENT_CA: Kind<(PathBuf, ClientCa)> = Kind {
    allowed: "a readable PEM file with at least one certificate, or \"\" to ask no client for one",
    parse: |text| {
        let path = Path::new(text);
        match ClientCa::read(path, ClientCertificate::Required) {
            Ok(ca) => Ok((text.into(), ca)),
            Err(error) => Err(error.to_string()),
        }
    },
};

/// `taken` are the addresses of plain HTTP.
pub(super) fn listeners(tables: Vec<Section<'_>>, taken: &[Taken]) -> Option<Vec<ServerTls>> {
    let mut listeners: Vec<Option<ServerTls>> = Vec::with_capacity(tables.len());
    for section in tables {
        let index = listeners.len();
        if index == MAX_TABLES {
            let allowed = format!("{MAX_TABLES} [[server.tls]] tables at the most");
            section.fault("listen", "is of one table too many", allowed);
            return None;
        }
        let listener = listener(section, &listeners, taken);
        listeners.push(listener);
    }
    listeners.into_iter().collect()
}

fn listener(
    mut section: Section<'_>,
    earlier: &[Option<ServerTls>],
    taken: &[Taken],
) -> Option<ServerTls> {
    let listen = section.required_text("listen", &LISTEN);
    let certificate = section.required_text("certificate", &CERTIFICATE);
    let key = section.required_text("key", &KEY);
    let ca = section.optional_text("client_ca", &CLIENT_CA);
    let strict = ClientCertificate::Required;
    let demand = match ca {
        Some(None) => {
            // Whoever sets it believes that clients are asked.
            section.idle("client_certificate", "client_ca");
            Some(strict)
        }
        _ => section.choice("client_certificate", strict, CLIENT_CERTIFICATES),
    };
    let http2 = section.flag("http2", true);

    let identity = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Identity::read(certificate, key)
            .map_err(|fault| tell(&section, certificate, key, &fault))
            .ok(),
        _ => None,
    };
    if let Some(listen) = listen
        && let Some(problem) = clash(&in_the_way(listen, earlier, taken), listen)
    {
        let allowed = "an address that no other listener covers";
        section.fault("listen", problem, allowed);
    }
    let listener = match (listen, certificate, key, identity, ca, demand, http2) {
        (
            Some(listen),
            Some(certificate),
            Some(key),
            Some(identity),
            Some(ca),
            Some(demand),
            Some(http2),
        ) => Some(ServerTls {
            listen,
            certificate,
            key,
            identity,
            clients: ca.map(|(_, ca)| ca.with(demand)),
            http2,
        }),
        _ => None,
    };
    let agrees = listener
        .as_ref()
        .is_none_or(|listener| agrees(&section, listener, earlier));
    section.finish();
    listener.filter(|_| agrees)
}

/// What may be in the way of `listen`. The same address is shared by tables; one that covers it is not.
fn in_the_way(listen: SocketAddr, earlier: &[Option<ServerTls>], taken: &[Taken]) -> Vec<Taken> {
    let others = earlier.iter().enumerate().filter_map(|(index, other)| {
        let address = other.as_ref()?.listen;
        (address != listen).then(|| Taken {
            key: format!("server.tls[{index}].listen"),
            address,
        })
    });
    taken.iter().cloned().chain(others).collect()
}

/// Says what is wrong with the two files, at the key that it is about.
fn tell(section: &Section<'_>, certificate: &Path, key: &Path, fault: &IdentityFault) {
    let (name, path, allowed) = match fault {
        IdentityFault::Certificate(_) => ("certificate", certificate, CERTIFICATE.allowed),
        IdentityFault::Key(_) => ("key", key, KEY.allowed),
    };
    section.fault(name, format!("{path:?} {fault}"), allowed);
}

/// Whether a table says of its address what the first one with that address said; if not, what it does is told.
fn agrees(section: &Section<'_>, listener: &ServerTls, earlier: &[Option<ServerTls>]) -> bool {
    let known = earlier.iter().enumerate();
    let mut known = known.filter_map(|(index, other)| Some((index, other.as_ref()?)));
    let Some((index, first)) = known.find(|(_, other)| other.listen == listener.listen) else {
        return true;
    };
    let (ours, theirs) = (&listener.clients, &first.clients);
    let file = |ca: &Option<ClientCa>| ca.as_ref().map(|ca| ca.path.clone());
    let demand = |ca: &Option<ClientCa>| ca.as_ref().map(|ca| ca.demand);
    let faults = [
        ("client_ca", file(ours) != file(theirs)),
        (
            "client_certificate",
            file(ours) == file(theirs) && demand(ours) != demand(theirs),
        ),
        ("http2", listener.http2 != first.http2),
    ];
    for (key, _) in faults.iter().filter(|(_, differs)| *differs) {
        section.fault(
            key,
            format!(
                "differs from server.tls[{index}], which has the same address, {}",
                first.listen
            ),
            "the same for all tables of one address",
        );
    }
    faults.iter().all(|(_, differs)| !differs)
}

#[cfg(test)]
pub(in crate::config) mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::super::super::tests::{accepted, refused};
    use super::super::super::{Config, Validity};
    use super::*;

    /// Certificates and keys, in a directory of their own.
    pub(in crate::config) struct Files(TempDir);

    impl Files {
        pub(in crate::config) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, content: &str) -> PathBuf {
            std::fs::write(self.path(name), content).unwrap();
            self.path(name)
        }

        /// A table with a new certificate for `name`.
        pub(in crate::config) fn table(&self, port: u16, name: &str) -> String {
            self.table_of(port, name, |_| {})
        }

        fn table_of(
            &self,
            port: u16,
            name: &str,
            change: impl Fn(&mut CertificateParams),
        ) -> String {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            change(&mut params);
            let certificate = params.self_signed(&key).unwrap();
            let certificate = self.write(&format!("{name}.pem"), &certificate.pem());
            let key = self.write(&format!("{name}.key"), &key.serialize_pem());
            format!(
                "[[server.tls]]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
            )
        }

        /// A file with an authority.
        pub(in crate::config) fn ca(&self) -> PathBuf {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
            self.write("ca.pem", &params.self_signed(&key).unwrap().pem())
        }
    }

    #[test]
    fn a_certificate_with_its_key_is_taken_and_shown_without_the_key() {
        let files = Files::new();
        let text = files.table(8443, "Edge.example") + &files.table(8443, "*.example.com");
        let config = accepted(&text);
        let [first, second] = &config.server.tls[..] else {
            panic!("two tables");
        };
        assert_eq!(first.identity.names(), ["edge.example"]);
        assert_eq!(second.identity.names(), ["*.example.com"]);
        assert_eq!(config.server.tls_listeners(), [first.listen]);
        let shown = config.effective();
        assert!(shown.contains("\n# for edge.example, until "), "{shown}");
        assert!(!format!("{config:?}{shown}").contains("PRIVATE"));
        assert_eq!(Config::parse(&shown, "shown"), Ok(config));
    }

    #[test]
    fn plain_http_may_be_left_out_where_there_is_tls() {
        let files = Files::new();
        let config = accepted(&format!(
            "server.listen = []\n{}",
            files.table(8443, "a.example")
        ));
        assert!(config.server.listen.is_empty());
    }

    #[test]
    fn a_file_that_is_of_no_use_is_told_with_its_key() {
        let files = Files::new();
        let table = files.table(8443, "a.example");
        let (certificate, key) = (files.path("a.example.pem"), files.path("a.example.key"));
        let good = (
            std::fs::read_to_string(&certificate).unwrap(),
            std::fs::read_to_string(&key).unwrap(),
        );
        let report = |certificate_text: &str, key_text: &str| {
            files.write("a.example.pem", certificate_text);
            files.write("a.example.key", key_text);
            refused(&table)
        };
        let of_certificate = |problem: &str| {
            format!(
                "edge.toml:3: server.tls[0].certificate: {certificate:?} {problem}; \
                 allowed: a readable PEM file with a certificate and those that lead to an authority"
            )
        };
        let of_key = |problem: &str| {
            format!(
                "edge.toml:4: server.tls[0].key: {key:?} {problem}; \
                 allowed: a readable PEM file with the certificate's private key, not encrypted"
            )
        };
        assert_eq!(
            report("", &good.1),
            of_certificate("holds no PEM certificate")
        );
        assert_eq!(
            report(&good.1, &good.1),
            of_certificate("holds no PEM certificate")
        );
        assert_eq!(report(&good.0, ""), of_key("holds no PEM private key"));
        assert_eq!(report(&good.0, &good.0), of_key("holds no PEM private key"));
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(
            report(&good.0, &other),
            of_key("holds the key of another certificate")
        );
        let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(report(&good.0, damaged).starts_with("edge.toml:4: server.tls[0].key: "));
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let report_of_odd = report(odd, &good.1);
        assert!(
            report_of_odd.contains("a certificate that cannot be parsed, number 1"),
            "{report_of_odd}"
        );
        std::fs::remove_file(&key).unwrap();
        std::fs::write(&certificate, &good.0).unwrap();
        assert_eq!(
            refused(&table),
            of_key("cannot be read: No such file or directory (os error 2)")
        );
    }

    #[test]
    fn an_expired_certificate_is_taken() {
        let files = Files::new();
        let text = files.table_of(8443, "old.example", |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        let identity = accepted(&text).server.tls.remove(0).identity;
        let now = std::time::SystemTime::now();
        assert_eq!(identity.validity(now), Validity::Expired);
        assert!(identity.days_left(now) < -5_000.0);
    }

    #[test]
    fn listeners_of_other_kinds_and_the_vms_are_elsewhere() {
        let files = Files::new();
        let table = files.table(8443, "a.example");
        assert_eq!(
            refused(&format!("server.listen = [\"0.0.0.0:8443\"]\n{table}")),
            "edge.toml:3: server.tls[0].listen: 127.0.0.1:8443 is already taken by server.listen[0], 0.0.0.0:8443; \
             allowed: an address that no other listener covers"
        );
        let wide = files
            .table(8443, "b.example")
            .replace("127.0.0.1", "0.0.0.0");
        assert_eq!(
            refused(&format!("{table}{wide}")),
            "edge.toml:6: server.tls[1].listen: 0.0.0.0:8443 is already taken by server.tls[0].listen, 127.0.0.1:8443; \
             allowed: an address that no other listener covers"
        );
        assert_eq!(
            refused(&format!("{table}[admin]\nlisten = \"127.0.0.1:8443\"")),
            "edge.toml:6: admin.listen: 127.0.0.1:8443 is already taken by server.tls[0].listen, 127.0.0.1:8443; \
             allowed: an address that [server] does not listen on"
        );
        assert!(
            refused(&format!(
                "{table}[upstream]\nservers = [\"127.0.0.1:8443\"]"
            ))
            .contains("is the edge itself")
        );
    }

    #[test]
    fn tables_of_one_address_agree_on_all_but_the_certificate() {
        let files = Files::new();
        let (first, second) = (
            files.table(8443, "a.example"),
            files.table(8443, "b.example"),
        );
        let ca = files.ca();
        assert_eq!(
            refused(&format!("{first}{second}client_ca = {ca:?}\nhttp2 = false")),
            "edge.toml:9: server.tls[1].client_ca: differs from server.tls[0], which has the same address, \
             127.0.0.1:8443; allowed: the same for all tables of one address\n\
             edge.toml:10: server.tls[1].http2: differs from server.tls[0], which has the same address, \
             127.0.0.1:8443; allowed: the same for all tables of one address"
        );
        let asked = format!("client_ca = {ca:?}\n");
        assert_eq!(
            refused(&format!(
                "{first}{asked}{second}{asked}client_certificate = \"optional\""
            )),
            "edge.toml:11: server.tls[1].client_certificate: differs from server.tls[0], which has the same address, \
             127.0.0.1:8443; allowed: the same for all tables of one address"
        );
        let config = accepted(&format!("{first}{asked}{second}{asked}"));
        let demand = config.server.tls[1].clients.as_ref().map(|ca| ca.demand);
        assert_eq!(demand, Some(ClientCertificate::Required));
    }

    #[test]
    fn clients_certificates_need_an_authority() {
        let files = Files::new();
        let table = files.table(8443, "a.example");
        assert_eq!(
            refused(&format!("{table}client_certificate = \"optional\"")),
            "edge.toml:5: server.tls[0].client_certificate: has no effect without client_ca; \
             allowed: only together with client_ca"
        );
        let empty = files.write("empty.pem", "");
        assert_eq!(
            refused(&format!("{table}client_ca = {empty:?}")),
            format!(
                "edge.toml:5: server.tls[0].client_ca: {empty:?} holds no PEM certificate; \
                 allowed: a readable PEM file with at least one certificate, or \"\" to ask no client for one"
            )
        );
    }

    #[test]
    fn a_table_names_its_address_and_its_files() {
        assert_eq!(
            refused("[[server.tls]]\ncert = \"a.pem\""),
            "edge.toml:1: server.tls[0].listen: is required; \
             allowed: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080\n\
             edge.toml:1: server.tls[0].certificate: is required; \
             allowed: a readable PEM file with a certificate and those that lead to an authority\n\
             edge.toml:1: server.tls[0].key: is required; \
             allowed: a readable PEM file with the certificate's private key, not encrypted\n\
             edge.toml:2: server.tls[0].cert: unknown key; \
             allowed: listen, certificate, key, client_ca, client_certificate, http2"
        );
    }
}
