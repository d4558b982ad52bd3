//! The certificates that TLS listeners show, and their exchange while they serve.
//!
//! Each listener has one configuration of the TLS library, which all threads share and which is exchanged as a whole: a
//! handshake sees the old certificates or the new ones. They are exchanged when the configuration is reloaded
//! ([`Certificates::apply`]), and when a file has another content than before ([`Certificates::look`]). A file that is of no
//! use changes nothing.
//!
//! What always holds: a session is resumed only on the listener that it began on, and only as long as that listener asks for
//! the same clients' certificates. Its ticket says that the client was let in, and nobody looks at its certificate again.

mod choice;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::listeners::tls::Acceptor;
use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, version};

use self::choice::Choice;
use crate::config::{
    ClientCa, ClientCertificate, Identity, MaterialError, Server, ServerTls, Validity,
};
use crate::ops::metrics::{CertificateReload, Metrics};

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The machine's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up for {address}: {source}")]
pub struct NoTls {
    /// The listener.
    pub address: SocketAddr,
    /// Why.
    pub source: rustls::Error,
}

/// The certificates of all listeners.
pub struct Certificates {
    listeners: Vec<Arc<Shown>>,
    /// The tables of the configuration, with what is shown of them.
    tables: Mutex<Vec<Table>>,
    metrics: Arc<Metrics>,
}

/// What one listener shows.
struct Shown {
    address: SocketAddr,
    config: ArcSwap<ServerConfig>,
}

/// What one table of the configuration brought.
struct Table {
    serving: ServerTls,
    /// What was last found wrong with its files, so that it is said once.
    refused: Option<String>,
}

impl Table {
    fn new(serving: ServerTls) -> Self {
        Self {
            serving,
            refused: None,
        }
    }
}

/// One listener's certificates, for its handshakes.
#[derive(Clone)]
pub struct TlsListener(Arc<Shown>);

impl TlsListener {
    /// What the next handshake is done with.
    pub(super) fn acceptor(&self) -> Acceptor {
        Acceptor::from_server_config(self.0.config.load_full())
    }
}

impl Certificates {
    /// Those of `server`.
    ///
    /// # Errors
    ///
    /// When the machine has no randomness to give.
    pub fn new(server: &Server, metrics: Arc<Metrics>) -> Result<Self, NoTls> {
        let shown = |address: SocketAddr| {
            let tables = of(address, &server.tls);
            let config = server_config(&tables, None);
            let config = config.map_err(|source| NoTls { address, source })?;
            let config = ArcSwap::from_pointee(config);
            Ok(Arc::new(Shown { address, config }))
        };
        let listeners = server.tls_listeners().into_iter().map(shown);
        let tables = server.tls.iter().cloned().map(Table::new);
        server.tls.iter().enumerate().for_each(warn_of_time);
        Ok(Self {
            listeners: listeners.collect::<Result<_, _>>()?,
            tables: Mutex::new(tables.collect()),
            metrics,
        })
    }

    /// The certificates of the listener at `address`, as the configuration names it.
    pub fn listener(&self, address: SocketAddr) -> Option<TlsListener> {
        let mut listeners = self.listeners.iter();
        let shown = listeners.find(|shown| shown.address == address)?;
        Some(TlsListener(Arc::clone(shown)))
    }

    /// Shows what `server` says from the next handshake on. Listeners stay as they are: one that it does not name shows what
    /// it showed, and one that is new is not there.
    pub fn apply(&self, server: &Server) {
        let mut tables = self.tables.lock();
        let before = serving(&tables);
        let mut refused = Vec::new();
        let after = server.tls.iter().enumerate().map(|(place, tls)| {
            let same = |table: &&ServerTls| {
                (table.listen, &table.certificate) == (tls.listen, &tls.certificate)
            };
            match before.iter().find(same) {
                Some(good) if is_worse(tls, good) => {
                    refused.push(place);
                    ServerTls {
                        identity: good.identity.clone(),
                        ..tls.clone()
                    }
                }
                _ => tls.clone(),
            }
        });
        let after: Vec<ServerTls> = after.collect();
        let is_new = |(place, tls): &(usize, &ServerTls)| {
            let before = before.get(*place);
            before.is_none_or(|before| before.identity != tls.identity)
        };
        for shown in &self.listeners {
            let (old, new) = (of(shown.address, &before), of(shown.address, &after));
            if !new.is_empty() && old != new {
                self.exchange(shown, &old, &new);
            }
        }
        for (place, tls) in after.iter().enumerate().filter(is_new) {
            self.took_over(place, tls);
        }
        let tables_now = after.iter().cloned().map(Table::new);
        *tables = tables_now.collect();
        for place in refused {
            self.refuse(&mut tables[place], place, NOT_VALID.to_owned());
        }
    }

    /// Looks whether the files hold something else than what is shown, and shows it if it is of use.
    pub fn look(&self) {
        // Files may be slow; nobody waits for the lock meanwhile.
        let looked_at = serving(&self.tables.lock());
        let found: Vec<_> = looked_at.iter().map(read_again).collect();
        let mut tables = self.tables.lock();
        if serving(&tables) != looked_at {
            // A reload has read them meanwhile.
            return;
        }
        for (place, found) in found.into_iter().enumerate() {
            match found {
                Ok(found) if found == looked_at[place] => tables[place].refused = None,
                Ok(found) if is_worse(&found, &looked_at[place]) => {
                    self.refuse(&mut tables[place], place, NOT_VALID.to_owned());
                }
                Ok(found) => self.take_over(&mut tables, place, found),
                Err(reason) => self.refuse(&mut tables[place], place, reason),
            }
        }
    }

    /// The days for which each certificate is good after `now`, in the order of their tables.
    pub fn days_left(&self, now: SystemTime) -> Vec<f64> {
        let tables = self.tables.lock();
        let days = tables
            .iter()
            .map(|table| table.serving.identity.days_left(now));
        days.collect()
    }

    fn take_over(&self, tables: &mut [Table], place: usize, found: ServerTls) {
        let address = found.listen;
        let before = serving(tables);
        tables[place] = Table::new(found);
        let after = serving(tables);
        let mut listeners = self.listeners.iter();
        if let Some(shown) = listeners.find(|shown| shown.address == address) {
            self.exchange(shown, &of(address, &before), &of(address, &after));
        }
        self.took_over(place, &after[place]);
    }

    fn refuse(&self, table: &mut Table, place: usize, reason: String) {
        if table.refused.as_ref() == Some(&reason) {
            return;
        }
        tracing::warn!(
            certificate = place,
            reason,
            "the new certificate is refused, the old one serves on"
        );
        let refused = CertificateReload::Refused;
        self.metrics.clients().certificate_reload(refused);
        table.refused = Some(reason);
    }

    fn exchange(&self, shown: &Shown, old: &[&ServerTls], new: &[&ServerTls]) {
        let clients = |tables: &[&ServerTls]| tables.first().map(|tls| tls.clients.clone());
        let same_clients = clients(old) == clients(new);
        let tickets = same_clients.then(|| Arc::clone(&shown.config.load().ticketer));
        match server_config(new, tickets) {
            Ok(config) => shown.config.store(Arc::new(config)),
            // What could be set up once can be again, unless the machine has lost its randomness.
            Err(error) => {
                tracing::error!(address = %shown.address, %error, "TLS cannot be set up, the old certificates serve on");
            }
        }
    }

    fn took_over(&self, place: usize, tls: &ServerTls) {
        tracing::info!(certificate = place, names = %tls.identity, "a new certificate serves");
        warn_of_time((place, tls));
        let applied = CertificateReload::Applied;
        self.metrics.clients().certificate_reload(applied);
    }
}

/// Looks at the files again and again.
pub async fn keep_watched(certificates: Arc<Certificates>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.tick().await;
    loop {
        tick.tick().await;
        let certificates = Arc::clone(&certificates);
        // Files may be slow to read.
        let looked = tokio::task::spawn_blocking(move || certificates.look()).await;
        if looked.is_err() {
            tracing::error!("looking at the certificates failed");
        }
    }
}

/// Why a certificate that could be read is refused.
const NOT_VALID: &str = "it is not valid now, and the one that serves is";

/// Whether clients would lose by `found` in place of `serving`.
fn is_worse(found: &ServerTls, serving: &ServerTls) -> bool {
    let now = SystemTime::now();
    let is_valid = |tls: &ServerTls| tls.identity.validity(now) == Validity::Valid;
    !is_valid(found) && is_valid(serving)
}

/// What is shown of all tables.
fn serving(tables: &[Table]) -> Vec<ServerTls> {
    let serving = tables.iter().map(|table| table.serving.clone());
    serving.collect()
}

/// The tables of one address.
fn of(address: SocketAddr, tables: &[ServerTls]) -> Vec<&ServerTls> {
    let here = tables.iter().filter(|tls| tls.listen == address);
    here.collect()
}

/// The same table with what its files hold now, or which file is wrong and why.
fn read_again(tls: &ServerTls) -> Result<ServerTls, String> {
    use crate::config::IdentityFault::{Certificate, Key};
    let identity = Identity::read(&tls.certificate, &tls.key).map_err(|fault| {
        let path = match &fault {
            Certificate(_) => &tls.certificate,
            Key(_) => &tls.key,
        };
        format!("{path:?} {fault}")
    })?;
    let again = |ca: &ClientCa| {
        ClientCa::read(&ca.path, ca.demand)
            .map_err(|error: MaterialError| format!("{:?} {error}", ca.path))
    };
    Ok(ServerTls {
        identity,
        clients: tls.clients.as_ref().map(again).transpose()?,
        ..tls.clone()
    })
}

/// What a listener with these tables does in a handshake. There is at least one, and they agree on all but certificates.
fn server_config(
    tables: &[&ServerTls],
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, rustls::Error> {
    let first = tables.first().expect("a listener has a table");
    let provider = Identity::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
    let builder = match &first.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let authorities = Arc::clone(clients.authorities());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(provider));
            let verifier = match clients.demand {
                ClientCertificate::Required => verifier,
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| rustls::Error::General(error.to_string()))?,
            )
        }
    };
    let identities = tables.iter().map(|tls| tls.identity.clone());
    let mut config = builder.with_cert_resolver(Arc::new(Choice::of(identities)));
    config.alpn_protocols = match first.http2 {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    match (&first.clients, tickets) {
        // A session that is resumed shows no certificate again, which may have expired meanwhile.
        (Some(_), _) => {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        (None, Some(tickets)) => config.ticketer = tickets,
        // Its keys are changed every few hours, and are in the memory of this process only.
        (None, None) => config.ticketer = Ticketer::new()?,
    }
    Ok(config)
}

fn warn_of_time((place, tls): (usize, &ServerTls)) {
    let problem = match tls.identity.validity(SystemTime::now()) {
        Validity::Valid => return,
        Validity::Early => "is not valid yet",
        Validity::Expired => "has expired",
    };
    let file = tls.certificate.display();
    tracing::warn!(certificate = place, %file, names = %tls.identity, "a certificate {problem}");
}
