//! An authority and its certificates, in files, and clients that trust it.

use std::net::SocketAddr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, DnValue, IsCa,
    KeyPair,
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::certificate::believing;
use super::client::Client;
use super::soon;
use super::wire::{Stream, Wire};

/// Whoever vouches for edges and clients.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names are valid names");
        // Its own name: what has the name of its issuer is taken for self-signed.
        params.distinguished_name = DistinguishedName::new();
        let name = DnValue::from("an authority");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
            directory: tempfile::tempdir().expect("a directory"),
        };
        let pem = authority.issuer.pem();
        std::fs::write(authority.ca(), pem).expect("a file");
        authority
    }

    /// The file with its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The files with the certificate and the key of `name`.
    pub(crate) fn files(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = |kind| self.directory.path().join(format!("{name}.{kind}"));
        (path("pem"), path("key"))
    }

    /// Makes a certificate for `name`, in place of any that it had.
    pub(crate) fn certify(&self, name: &str) {
        self.certify_as(name, |_| {});
    }

    /// The same, with something special about it.
    pub(crate) fn certify_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (certificate_file, key_file) = self.files(name);
        std::fs::write(certificate_file, certificate.pem()).expect("a file");
        std::fs::write(key_file, key.serialize_pem()).expect("a file");
    }

    /// A `[[server.tls]]` with a new certificate for `name`.
    pub(crate) fn table(&self, name: &str) -> String {
        self.table_at("127.0.0.1:0", name)
    }

    /// The same at this address.
    pub(crate) fn table_at(&self, listen: &str, name: &str) -> String {
        self.certify(name);
        self.table_again(listen, name)
    }

    /// A `[[server.tls]]` with the certificate that `name` has.
    pub(crate) fn table_again(&self, listen: &str, name: &str) -> String {
        let (certificate, key) = self.files(name);
        format!(
            "[[server.tls]]\nlisten = \"{listen}\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
        )
    }

    /// A connection that speaks the first of `protocols` that the edge speaks too.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        name: &str,
        protocols: &[&str],
    ) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(to).await.expect("the edge accepts");
        self.shake_hands(stream, name, protocols)
            .await
            .expect("the edge shakes hands")
    }

    /// The same on a connection that there is.
    pub(crate) async fn shake_hands(
        &self,
        stream: TcpStream,
        name: &str,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        stream.set_nodelay(true).expect("a socket has options");
        let protocols: Vec<&[u8]> = protocols.iter().map(|name| name.as_bytes()).collect();
        let connector = believing(self.issuer.der().clone(), &protocols);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        soon("a handshake", connector.connect(name, stream)).await
    }

    /// A client of HTTP/1.1 over TLS.
    pub(crate) async fn client(&self, to: SocketAddr, name: &str) -> Client {
        let stream = self.connect(to, name, &["http/1.1"]).await;
        Client {
            wire: Wire::new(Stream::TlsClient(Box::new(stream))),
        }
    }

    /// A client of HTTP/2 over TLS; what it does is done beside the test.
    pub(crate) async fn h2_client(
        &self,
        to: SocketAddr,
        name: &str,
    ) -> h2::client::SendRequest<bytes::Bytes> {
        let stream = self.connect(to, name, &["h2"]).await;
        let (client, connection) = soon("a greeting", h2::client::handshake(stream))
            .await
            .expect("it speaks HTTP/2");
        tokio::spawn(connection);
        client
    }
}
