//! The operator's configuration, as the rest of the program sees it: every value parsed, bounded and cross-checked.
//!
//! `file` is the only place that knows how the TOML file spells things; past [`load`] there are no strings to
//! interpret and nothing left to doubt. [`Config::effective`] prints the configuration in effect in the file's own
//! spelling. Nothing here knows what the values are used for, and nothing here binds a port or asks the VMS.
//!
//! What always holds: a [`Config`] exists only if the file had no fault. All faults of a file are found in one pass and
//! reported together, in file order ([`ConfigError`]), so that an operator repairs it once.
//!
//! Relative paths in the file (`server.tls.certificate`, `upstream.ca`, `admin.token_file` and the like) are relative to
//! the working directory.

mod address;
mod bound;
mod change;
mod fault;
mod file;
mod identity;
mod material;
mod names;
mod route;
mod section;
mod show;
mod suggest;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

pub use bound::{Bound, Revocation};
pub use change::Change;
pub use fault::{ConfigError, Fault};
pub use identity::{ClientCa, Identity, IdentityFault, Validity};
pub use material::{MaterialError, Token, UserToken, read_authorities};
pub use route::{PathPattern, Segment};

/// Reads a duration as the file spells it, for the command line.
///
/// # Errors
///
/// What a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).ok_or_else(|| format!("a duration is {}", units::DURATION))
}

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`: towards the clients.
    pub server: Server,
    /// `[upstream]`: towards the VMS.
    pub upstream: Upstream,
    /// `[[batch]]`, in file order: 1 to 16, with distinct paths. A file with none has the default one.
    pub batches: Vec<Batch>,
    /// `[headers]`: what a batch request must carry, and what its key holds.
    pub headers: Headers,
    /// `[[invalidate]]`, in file order: the writes that make items stale. Default: none.
    pub invalidate: Vec<Invalidate>,
    /// `[cache]`: the memory.
    pub cache: Cache,
    /// `[compression]`: the codings of what is answered from memory.
    pub compression: Compression,
    /// `[limits]`: what clients may take up.
    pub limits: Limits,
    /// `[admin]`: the operators' listener.
    pub admin: Admin,
    /// `[log]`: what is written, and how.
    pub log: Log,
    /// `[tracing]`: where spans are sent.
    pub tracing: Tracing,
    /// `[canary]`: two test users whose answers are held against each other.
    pub canary: Canary,
}

/// `[server]`: towards the clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Plain HTTP listeners: at least one, unless there is one of `tls`; none takes the address of another. Port 0 lets
    /// the system choose. Default `0.0.0.0:8080`.
    pub listen: Vec<SocketAddr>,
    /// `[[server.tls]]`, in file order. Default: none.
    pub tls: Vec<ServerTls>,
    /// Whether each connection begins with a PROXY protocol header, which tells the client's address; only with
    /// `trusted_proxies`. Default false.
    pub proxy_protocol: bool,
    /// Worker threads, 1 to 1024; the file's 0, the default, has become the number of cores.
    pub threads: usize,
    /// Longest wait for requests in flight at shutdown, 0s to 1h. Default 30s.
    pub grace: Duration,
    /// Peers whose X-Forwarded-For is believed; distinct, no bits beyond the prefix. Default: none.
    pub trusted_proxies: Vec<IpNet>,
}

/// One `[[server.tls]]`: a certificate, and where it is shown.
///
/// Several may have one address: they agree on client certificates and HTTP/2, and the client's SNI chooses the
/// certificate; the first is shown to whoever asks for none of the names.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTls {
    /// Where it listens; always given. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// PEM file with the certificate, and those that lead to an authority; always given.
    pub certificate: PathBuf,
    /// PEM file with its private key; always given.
    pub key: PathBuf,
    /// What was in the two files.
    pub identity: Identity,
    /// Whose certificates clients show; `None`, the default: they are not asked.
    pub clients: Option<ClientCa>,
    /// Whether HTTP/2 is offered. Default true.
    pub http2: bool,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None without a valid one.
    Required,
    /// One that it shows must be valid.
    Optional,
}

/// `[upstream]`: towards the VMS.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// At least one, distinct, none of them the edge itself; several are balanced. The only key without a default.
    pub servers: Vec<ServerName>,
    /// `None`, the default: plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// Host to send, a valid `host` or `host:port`; `None`, the default: the client's own.
    pub host: Option<HeaderValue>,
    /// Longest wait for a connection, TLS handshake included, 1ms to 1m. Default 1s.
    pub connect_timeout: Duration,
    /// Longest fetch, from its start to its last byte, `connect_timeout` to 5m. Default 5s.
    pub fetch_timeout: Duration,
    /// Longest silence of a pass-through stream, both ways, 1ms to 1d; WebSockets are exempt. Default 1m.
    pub idle_timeout: Duration,
    /// The edge's own fetches in flight, 1 to 65536; more wait. Default 256.
    pub max_fetches: usize,
    /// The content coding in which the edge's own fetches ask for their answers. Default identity.
    pub fetch_coding: FetchCoding,
    /// `[upstream.breaker]`: when a server that fails is left alone.
    pub breaker: Breaker,
    /// `[upstream.health]`: how servers are looked after while nobody asks them.
    pub health: Health,
}

/// A content coding in which a fetch may ask for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCoding {
    /// None.
    Identity,
    /// gzip, which is taken off before anything is stored or relayed.
    Gzip,
}

impl FetchCoding {
    /// The name in `Accept-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
        }
    }
}

/// `[upstream.breaker]`: when a server that fails is left alone, and how it is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row after which a server is left alone, 0 to 1000; 0: it never is. Default 5.
    pub failures: usize,
    /// How long it is left alone before it is probed, 10ms to 1m. Default 1s.
    pub pause: Duration,
    /// Fetches at once while it is probed, 1 to 100. Default 3.
    pub probes: usize,
}

/// `[upstream.health]`: requests of the edge's own that find out which servers are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Default auto.
    pub check: HealthCheck,
    /// What is asked for: an absolute path. Default `/api/v1/static/basic`.
    pub path: String,
    /// Time from one round to the next, 100ms to 1h. Default 5s.
    pub interval: Duration,
    /// Longest wait for a complete answer, 10ms to 1m. Default 2s.
    pub timeout: Duration,
    /// Failures in a row after which a server is passed over, 1 to 100. Default 3.
    pub unhealthy: usize,
    /// Passes in a row after which it is asked again, 1 to 100. Default 2.
    pub healthy: usize,
}

/// Whether servers are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// While there is more than one address, so that another can be asked instead.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where one VMS server is reached: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerName {
    /// An IP address (IPv6 without brackets) or a DNS name in lower case.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for ServerName {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How TLS towards the VMS is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Whether the VMS's certificate must be valid for its name. Default true.
    pub verify: bool,
    /// PEM file with the authorities to trust instead of the system's, never with `verify` off; it could be read and
    /// parsed when the configuration was. [`read_authorities`] reads it again. Default: none.
    pub ca: Option<PathBuf>,
    /// Name to ask for (SNI) and to verify; `None`, the default: the server's own host.
    pub server_name: Option<String>,
}

/// Which `[[batch]]` something belongs to: made of its path, so that it is the same one after a reload, whatever tables
/// came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u128);

impl EndpointId {
    /// Of the table with this path. No two paths have the same, as far as anybody can find out.
    pub fn of(path: &str) -> Self {
        let mut id = [0; 16];
        blake3::Hasher::new()
            .update(path.as_bytes())
            .finalize_xof()
            .fill(&mut id);
        Self(u128::from_le_bytes(id))
    }
}

/// One `[[batch]]`: requests for several items, which the edge takes apart and answers from memory.
///
/// Ages count from the start of the fetch. The two stale windows open when an item stops being fresh, and the first
/// is never longer than the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Which one this is.
    pub endpoint: EndpointId,
    /// What metrics call it: 1 to 40 lower-case letters, digits and `_`; distinct. Default: the last two segments of
    /// the path, such as `intercom_shows`.
    pub name: String,
    /// Path of the request, compared byte for byte. Default `/api/v1/intercom/shows`; a table must give it.
    pub path: String,
    /// Parameter that carries the ids: letters, digits, `_` and `-`; not a credential's name. Default `ids`.
    pub ids: String,
    /// Member of each object that carries its id: letters, digits, `_` and `-`. Default `id`.
    pub id: String,
    /// Most ids in one request, 1 to 1000; a request with more passes through. Default 25.
    pub max_ids: usize,
    /// How long an item is answered without asking, 0s to 1d. Default 30s.
    ///
    /// 0s: no item is ever fresh. Items are then still answered while they are refreshed, unless
    /// `stale_while_revalidate` is 0s too: then every request asks the VMS, and memory serves only when it fails.
    pub fresh: Duration,
    /// How long after `fresh` an item is answered at once and refreshed in the background, 0s to 1d. Default 5m.
    pub stale_while_revalidate: Duration,
    /// How long after `fresh` an item is answered when the VMS fails, `stale_while_revalidate` to 7d. Default 30m.
    pub stale_if_error: Duration,
    /// How long an absent id is answered as absent, 0s to 1d; never stale. Default 30s.
    pub absent: Duration,
    /// Share of `fresh` by which lifetimes are spread, 0.0 to 0.5. Default 0.1.
    pub jitter: f64,
    /// The order of the answer. Default auto.
    pub order: Order,
}

/// In which order the VMS puts the items of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Learnt from the VMS's own answers.
    Auto,
    /// Ascending by id.
    Id,
    /// As the request asked.
    Request,
}

/// `[headers]`: what a batch request must carry, and what its key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// What becomes of a batch request that lacks them. Default enforce.
    pub check: Check,
    /// Values of X-Client that are known: at least one, distinct, visible ASCII.
    pub clients: Vec<String>,
    /// Fields whose values belong to the key: distinct, end-to-end, and none that the key or the rules for batches
    /// already cover. The fewer, the more users of one account share; a field the VMS's answer depends on must stay.
    pub vary: Vec<HeaderName>,
}

/// What becomes of a batch request whose headers do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Refused by the edge, as the VMS would.
    Enforce,
    /// Passed through uncached, and counted.
    Forward,
}

/// One `[[invalidate]]`: a write that passes through and, answered 2xx, makes items stale.
///
/// No two rules name the same method and the same paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidate {
    /// At least one of POST, PUT, PATCH, DELETE, distinct. Default: all four.
    pub methods: Vec<Method>,
    /// Which paths; always given.
    pub path: PathPattern,
    /// What becomes stale; always given.
    pub scope: Scopes,
    /// Whose ids `{id}` is one of, only where the scope has `item`; `None`, the default: any endpoint's.
    pub batch: Option<EndpointId>,
}

/// What a write makes stale: at least one, and `all` alone, since it covers the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// All items of the user who wrote.
    pub user: bool,
    /// The item whose id stands at `{id}` in the path, for every user.
    pub item: bool,
    /// Everything.
    pub all: bool,
}

/// `[cache]`: the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Most bytes of items held, 1MiB to 1024GiB. Default 256MiB.
    pub max_bytes: u64,
}

/// `[compression]`: the codings in which answers from memory may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// In the order in which they are made for a client that takes several equally gladly: distinct. Default: br, zstd,
    /// gzip. None: no answer is coded.
    pub codings: Vec<Coding>,
    /// Length from which on an answer is coded, in bytes, 64B to 1MiB. Default 1KiB.
    pub min_bytes: u64,
    /// Most bytes of coded answers held, beside `cache.max_bytes`, 1MiB to 64GiB. Default 32MiB.
    pub max_bytes: u64,
}

/// A content coding (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

impl Coding {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// The name in fields, in the configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Coding {
    /// Its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[limits]`: what clients may take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients, 0 to 1000000; 0, the default: no limit.
    pub connections: usize,
    /// Connections of one client address, 0 to 1000000; 0, the default: no limit. An IPv6 address is its /64 network.
    pub address_connections: usize,
    /// How often one client address may connect. An IPv6 address is its /64 network.
    pub connecting: Rate,
    /// Longest time from a connection, or from the first byte of a further request, to the end of a request's header,
    /// 100ms to 1h. Default 10s.
    pub header_timeout: Duration,
    /// Longest time from a request's header to the last byte of its body, up to 1d; `None`, the file's 0s: no limit.
    /// Default 5m.
    pub body_timeout: Option<Duration>,
    /// How often clients may ask.
    pub rates: Rates,
}

/// How often one token, and one client address, may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests of one token.
    pub user: Rate,
    /// Requests of one client address.
    pub address: Rate,
}

/// How often something may be done: a bucket of `burst`, into which `per_second` flow back. By default as often as anybody
/// likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The file's `…_rate`, 0 to 1000000; 0: as often as anybody likes.
    pub per_second: usize,
    /// The file's `…_burst`, how often at once, 0 to 1000000; 0: as often as in one second. 0 without a rate.
    pub burst: usize,
}

/// `[admin]`: the operators' listener, plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Never an address that `[server]` listens on. Port 0 lets the system choose. Default `127.0.0.1:9090`.
    pub listen: SocketAddr,
    /// Names, beside `localhost` and addresses, under which it is reached, in lower case and without port. Default: none.
    pub hosts: Vec<String>,
    /// Where the token came from; `None`, the default: none.
    pub token_file: Option<PathBuf>,
    /// The token that was in `token_file`. Without one, nothing is told or done beyond /healthz, /readyz and /metrics.
    pub token: Option<Token>,
}

/// `[log]`: what is written, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written. Default info.
    pub level: tracing::Level,
    /// Default text.
    pub format: LogFormat,
    /// Whether each request gets a line. Default true.
    pub access: bool,
    /// Whether every answer tells its request's id in `X-Request-Id`; errors of the edge's own always do. Default false.
    pub request_id: bool,
    /// How long a request may take before a line says where the time went, 0s to 1h; 0s: none does. Default 1s.
    pub slow: Duration,
}

/// `[tracing]`: where spans are sent, and of how many requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// `None`, the default: no span is made.
    pub endpoint: Option<Collector>,
    /// Share of the traces that begin here of which spans are made, 0.0 to 1.0. Default 0.01.
    pub sample: f64,
    /// What the edge is called in them: 1 to 128 visible ASCII characters. Default `vms-edge`.
    pub service_name: String,
    /// Longest wait until the collector has taken a batch of spans, 10ms to 1m; also the longest that a shutdown waits
    /// for the last of them. Default 5s.
    pub timeout: Duration,
}

/// Where spans are sent: a collector that takes OTLP over HTTP, without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Where it listens.
    pub server: ServerName,
    /// What stands before `/v1/traces`: empty, or an absolute path that does not end in a slash.
    pub path: String,
}

impl fmt::Display for Collector {
    /// Its URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.server, self.path)
    }
}

/// `[canary]`: two test users, and what they ask the edge for now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The two, with different tokens; `None`, the default: there is no canary.
    pub users: Option<[TestUser; 2]>,
    /// What both ask for: distinct, 1 to 2⁶³ − 1; with users at least one and no more than the endpoint's `max_ids`.
    /// Default: none.
    pub ids: Vec<u64>,
    /// The endpoint that they ask. Default: the first.
    pub batch: EndpointId,
    /// Time from one round to the next, 100ms to 15m. Default 1m.
    pub interval: Duration,
    /// Their X-Client; with users, one of `headers.clients`. Default `ios`.
    pub client: String,
    /// Their X-UUID: 1 to 128 visible ASCII characters. Default `vms-edge-canary`.
    pub device: String,
    /// How they address the VMS; `None`, the default: without TLS, by `upstream.host` or the first server's address.
    pub origin: Option<WebOrigin>,
}

/// How clients address the VMS: what stands in a URL before the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin {
    /// What stands before `://`.
    pub scheme: Scheme,
    /// A valid `host` or `host:port`.
    pub host: HeaderValue,
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = String::from_utf8_lossy(self.host.as_bytes());
        write!(f, "{}://{host}", self.scheme.name())
    }
}

/// How a client's connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// It is not.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// As an address has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A user of the VMS who is there to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestUser {
    /// Where the token came from.
    pub token_file: PathBuf,
    /// The token that was in it.
    pub token: UserToken,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads and checks the file at `path`, and the files it names.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let bytes = match material::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Err(ConfigError::whole_file(name, format!("the file {error}")));
        }
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) => Config::parse(text, &name),
        Err(error) => Err(ConfigError::not_text(name, &bytes, error.valid_up_to())),
    }
}

impl Server {
    /// The addresses of the TLS listeners, each once, in file order.
    pub fn tls_listeners(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for tls in &self.tls {
            if !addresses.contains(&tls.listen) {
                addresses.push(tls.listen);
            }
        }
        addresses
    }
}

impl Upstream {
    /// The longest time from when a fetch is wanted to its end: it waits for its turn as long as for a connection.
    pub fn longest_fetch(&self) -> Duration {
        self.connect_timeout + self.fetch_timeout
    }
}

impl Config {
    /// Everywhere that the edge listens.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let plain = self.server.listen.iter().copied();
        let all = plain.chain(self.server.tls_listeners());
        all.chain([self.admin.listen]).collect()
    }

    /// Checks `text` as if it were the file `name`, which only appears in errors. The files it names are read.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        file::read(text, name)
    }
}

#[cfg(test)]
mod tests;

impl Default for Batch {
    /// What a file without any `[[batch]]` gets.
    fn default() -> Self {
        let path = "/api/v1/intercom/shows";
        Self {
            endpoint: EndpointId::of(path),
            name: "intercom_shows".to_owned(),
            path: path.to_owned(),
            ids: "ids".to_owned(),
            id: "id".to_owned(),
            max_ids: 25,
            fresh: Duration::from_secs(30),
            stale_while_revalidate: Duration::from_secs(5 * 60),
            stale_if_error: Duration::from_secs(30 * 60),
            absent: Duration::from_secs(30),
            jitter: 0.1,
            order: Order::Auto,
        }
    }
}
