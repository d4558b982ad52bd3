//! The configuration in effect, as a file that would bring it about.
//!
//! What is printed is what is used: the defaults filled in, 0 threads turned into a number. Reading it again gives the
//! same [`Config`], as long as the files it names stay as they are. A token is never printed.

mod server;
mod upstream;

use std::fmt::{Display, Write};
use std::path::Path;

use toml::Value;

use super::names::{CHECKS, FORMATS, LEVELS, ORDERS, name_of};
use super::units::{duration_text, size_text};
use super::{
    Admin, Batch, Canary, Collector, Compression, Config, Invalidate, Scopes, Tracing, WebOrigin,
};

impl Config {
    /// The configuration in effect as TOML, in the file's own spelling and order, secrets masked.
    pub fn effective(&self) -> String {
        let mut page = Page::default();
        server::server(&mut page, &self.server);
        upstream::upstream(&mut page, &self.upstream);
        for each in &self.batches {
            batch(&mut page, each);
        }
        page.table("[headers]");
        page.key("check", quote(name_of(CHECKS, &self.headers.check)));
        page.key("clients", list(&self.headers.clients));
        page.key("vary", list(&self.headers.vary));
        for each in &self.invalidate {
            invalidate(&mut page, each, &self.batches);
        }
        page.table("[cache]");
        page.key("max_bytes", quote(size_text(self.cache.max_bytes)));
        compression(&mut page, &self.compression);
        server::limits(&mut page, &self.limits);
        admin(&mut page, &self.admin);
        page.table("[log]");
        page.key("level", quote(name_of(LEVELS, &self.log.level)));
        page.key("format", quote(name_of(FORMATS, &self.log.format)));
        page.key("access", self.log.access);
        page.key("request_id", self.log.request_id);
        page.key("slow", quote(duration_text(self.log.slow)));
        tracing(&mut page, &self.tracing);
        canary(&mut page, &self.canary, &self.batches);
        page.text
    }
}

fn batch(page: &mut Page, batch: &Batch) {
    page.table("[[batch]]");
    page.key("path", quote(&batch.path));
    page.key("name", quote(&batch.name));
    page.key("ids", quote(&batch.ids));
    page.key("id", quote(&batch.id));
    page.key("max_ids", batch.max_ids);
    page.key("fresh", quote(duration_text(batch.fresh)));
    page.key(
        "stale_while_revalidate",
        quote(duration_text(batch.stale_while_revalidate)),
    );
    page.key("stale_if_error", quote(duration_text(batch.stale_if_error)));
    page.key("absent", quote(duration_text(batch.absent)));
    page.key("jitter", Value::Float(batch.jitter));
    page.key("order", quote(name_of(ORDERS, &batch.order)));
}

fn invalidate(page: &mut Page, rule: &Invalidate, batches: &[Batch]) {
    let Scopes { user, item, all } = rule.scope;
    let scopes = [(user, "user"), (item, "item"), (all, "all")];
    let scopes = scopes
        .iter()
        .filter(|(given, _)| *given)
        .map(|(_, name)| name);
    page.table("[[invalidate]]");
    page.key("methods", list(&rule.methods));
    page.key("path", quote(&rule.path));
    page.key("scope", list(scopes));
    if let Some(batch) = rule.batch {
        let known = batches.iter().find(|known| known.endpoint == batch);
        page.key(
            "batch",
            quote(&known.expect("a rule is about a batch").path),
        );
    }
}

fn compression(page: &mut Page, compression: &Compression) {
    page.table("[compression]");
    page.key("codings", list(&compression.codings));
    page.key("min_bytes", quote(size_text(compression.min_bytes)));
    page.key("max_bytes", quote(size_text(compression.max_bytes)));
}

fn tracing(page: &mut Page, tracing: &Tracing) {
    let endpoint = tracing.endpoint.as_ref().map(Collector::to_string);
    page.table("[tracing]");
    page.key("endpoint", quote(endpoint.unwrap_or_default()));
    page.key("sample", Value::Float(tracing.sample));
    page.key("service_name", quote(&tracing.service_name));
    page.key("timeout", quote(duration_text(tracing.timeout)));
}

fn admin(page: &mut Page, admin: &Admin) {
    page.table("[admin]");
    page.key("listen", quote(admin.listen));
    page.key("hosts", list(&admin.hosts));
    page.key("token_file", path_or_empty(admin.token_file.as_deref()));
    if let Some(token) = &admin.token {
        page.line(format_args!("# token: {token}"));
    }
}

fn canary(page: &mut Page, canary: &Canary, batches: &[Batch]) {
    let files = canary.users.iter().flatten();
    let files = files.map(|user| user.token_file.display());
    let asked = batches.iter().find(|batch| batch.endpoint == canary.batch);
    page.table("[canary]");
    page.key("token_files", list(files));
    if canary.users.is_some() {
        page.line("# tokens: ********");
    }
    page.key("ids", numbers(&canary.ids));
    page.key("batch", quote(&asked.expect("an endpoint is asked").path));
    page.key("interval", quote(duration_text(canary.interval)));
    page.key("client", quote(&canary.client));
    page.key("device", quote(&canary.device));
    let origin = canary.origin.as_ref().map(WebOrigin::to_string);
    page.key("origin", quote(origin.unwrap_or_default()));
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn table(&mut self, header: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(header);
    }

    fn key(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{line}").expect("writing to a String does not fail");
    }
}

fn quote(value: impl Display) -> Value {
    Value::String(value.to_string())
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(quote).collect())
}

fn numbers(items: &[u64]) -> Value {
    let number = |&item: &u64| Value::Integer(i64::try_from(item).expect("it was read as one"));
    Value::Array(items.iter().map(number).collect())
}

fn path_or_empty(path: Option<&Path>) -> Value {
    quote(path.unwrap_or(Path::new("")).display())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::super::tests::accepted;
    use super::super::{
        Check, Coding, EndpointId, LogFormat, Order, PathPattern, Scheme, Segment, ServerName,
    };
    use super::server::tests::any_limits;
    use super::upstream::tests::any_upstream;
    use super::*;

    #[test]
    fn the_default_configuration_is_shown_as_the_file_spells_it() {
        let shown = accepted("[server]\nthreads = 4").effective();
        assert_eq!(
            shown,
            r#"[server]
listen = ["0.0.0.0:8080"]
proxy_protocol = false
threads = 4
grace = "30s"
trusted_proxies = []

[upstream]
servers = ["127.0.0.1:9000"]
tls = false
host = ""
connect_timeout = "1s"
fetch_timeout = "5s"
idle_timeout = "1m"
max_fetches = 256
fetch_coding = "identity"

[upstream.breaker]
failures = 5
pause = "1s"
probes = 3

[upstream.health]
check = "auto"
path = "/api/v1/static/basic"
interval = "5s"
timeout = "2s"
unhealthy = 3
healthy = 2

[[batch]]
path = "/api/v1/intercom/shows"
name = "intercom_shows"
ids = "ids"
id = "id"
max_ids = 25
fresh = "30s"
stale_while_revalidate = "5m"
stale_if_error = "30m"
absent = "30s"
jitter = 0.1
order = "auto"

[headers]
check = "enforce"
clients = ["ios-cctv", "android-cctv", "thick-legal", "web", "ios", "android"]
vary = ["x-uuid", "x-client", "x-version", "hl", "accept-language", "origin"]

[cache]
max_bytes = "256MiB"

[compression]
codings = ["br", "zstd", "gzip"]
min_bytes = "1KiB"
max_bytes = "32MiB"

[limits]
connections = 0
address_connections = 0
address_connection_rate = 0
address_connection_burst = 0
header_timeout = "10s"
body_timeout = "5m"
user_rate = 0
user_burst = 0
address_rate = 0
address_burst = 0

[admin]
listen = "127.0.0.1:9090"
hosts = []
token_file = ""

[log]
level = "info"
format = "text"
access = true
request_id = false
slow = "1s"

[tracing]
endpoint = ""
sample = 0.01
service_name = "vms-edge"
timeout = "5s"

[canary]
token_files = []
ids = []
batch = "/api/v1/intercom/shows"
interval = "1m"
client = "ios"
device = "vms-edge-canary"
origin = ""
"#
        );
    }

    #[test]
    fn a_token_is_masked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "correct-horse-battery").unwrap();
        let config = accepted(&format!("[admin]\ntoken_file = '{}'", path.display()));
        let shown = config.effective();
        assert!(shown.contains("# token: ********\n"), "{shown}");
        assert!(
            !shown.contains("correct-horse") && !format!("{config:?}").contains("correct-horse")
        );
        assert_eq!(Config::parse(&shown, "shown"), Ok(config));
    }

    #[test]
    fn the_tokens_of_a_canary_are_masked() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["ann", "bob"].map(|user| directory.path().join(user));
        std::fs::write(&one, "correct-horse-battery").unwrap();
        std::fs::write(&other, "staple-correct-horse").unwrap();
        let config = accepted(&format!(
            "[canary]\ntoken_files = ['{}', '{}']\nids = [1]",
            one.display(),
            other.display()
        ));
        let shown = config.effective();
        assert!(shown.contains("# tokens: ********\n"), "{shown}");
        assert!(!format!("{shown}{config:?}").contains("correct-horse"));
        assert_eq!(Config::parse(&shown, "shown"), Ok(config));
    }

    pub(super) fn duration(least_ms: u64, most_ms: u64) -> impl Strategy<Value = Duration> {
        (least_ms..=most_ms).prop_map(Duration::from_millis)
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let words = ("[A-Za-z0-9_-]{1,8}", "[A-Za-z0-9_-]{1,8}", 1..=1_000_usize);
        let ages = (
            duration(0, 86_400_000),
            duration(0, 86_400_000),
            duration(0, 500_000_000),
        );
        let rest = (
            duration(0, 86_400_000),
            0.0..=0.5,
            select(vec![Order::Auto, Order::Id, Order::Request]),
        );
        (words, ages, rest).prop_map(
            |((ids, id, max_ids), (fresh, stale, more), (absent, jitter, order))| Batch {
                endpoint: EndpointId::of(""),
                path: String::new(),
                name: String::new(),
                ids: format!("x{ids}"),
                id,
                max_ids,
                fresh,
                stale_while_revalidate: stale,
                stale_if_error: stale + more,
                absent,
                jitter,
                order,
            },
        )
    }

    fn any_batches() -> impl Strategy<Value = Vec<Batch>> {
        let paths = btree_set("/[!\"$-)+->@-z|~]{0,12}", 1..4);
        (paths, prop::collection::vec(any_batch(), 3)).prop_map(|(paths, mut batches)| {
            batches.truncate(paths.len());
            for (place, (batch, path)) in batches.iter_mut().zip(paths).enumerate() {
                batch.endpoint = EndpointId::of(&path);
                batch.path = path;
                batch.name = format!("name_{place}");
            }
            batches
        })
    }

    fn any_tracing() -> impl Strategy<Value = Tracing> {
        let host = "[a-z]{1,8}\\.local|10\\.0\\.0\\.[1-9]|fd00::[1-9]";
        let endpoint = (host, 1..u16::MAX, "(/[a-z%.0-9]{1,8}){0,2}");
        let endpoint = endpoint.prop_map(|(host, port, path)| Collector {
            server: ServerName { host, port },
            path,
        });
        let rest = (0.0..=1.0, "[!-~]{1,128}", duration(10, 60_000));
        (proptest::option::of(endpoint), rest).prop_map(
            |(endpoint, (sample, service_name, timeout))| Tracing {
                endpoint,
                sample,
                service_name,
                timeout,
            },
        )
    }

    /// One without users, which have their tokens from files.
    fn any_canary(batch: EndpointId) -> impl Strategy<Value = Canary> {
        let ids = btree_set(1..=u64::MAX >> 1, 0..4);
        let scheme = select(vec![Scheme::Http, Scheme::Https]);
        let origin = (
            scheme,
            "[a-z]{1,8}\\.local(:80)?|10\\.0\\.0\\.[1-9]|\\[fd00::[1-9]\\]",
        );
        let origin = origin.prop_map(|(scheme, host)| WebOrigin {
            scheme,
            host: host.parse().unwrap(),
        });
        let rest = (
            duration(100, 900_000),
            "[!-~]{1,8}",
            "[!-~]{1,128}",
            proptest::option::of(origin),
        );
        (ids, rest).prop_map(move |(ids, (interval, client, device, origin))| Canary {
            users: None,
            ids: ids.into_iter().collect(),
            batch,
            interval,
            client,
            device,
            origin,
        })
    }

    fn any_compression() -> impl Strategy<Value = Compression> {
        let codings = subsequence(Coding::ALL.to_vec(), 0..=3).prop_shuffle();
        let sizes = (64..=(1_u64 << 20), (1_u64 << 20)..=(1_u64 << 36));
        (codings, sizes).prop_map(|(codings, (min_bytes, max_bytes))| Compression {
            codings,
            min_bytes,
            max_bytes,
        })
    }

    /// Rules, some of which are about `whose` ids.
    fn any_invalidate(whose: EndpointId) -> impl Strategy<Value = Vec<Invalidate>> {
        let methods = subsequence(vec!["POST", "PUT", "PATCH", "DELETE"], 1..=4);
        let which = (0..4_u8, any::<bool>());
        let rule = (methods, "[a-z]{1,8}", any::<bool>(), which);
        prop::collection::vec(rule, 0..4).prop_map(move |rules| {
            let rules = rules.into_iter().enumerate();
            rules
                .map(|(index, (methods, literal, rest, (scope, batch)))| {
                    let mut segments = vec![
                        Segment::Literal(format!("{literal}{index}")),
                        Segment::Name("id".to_owned()),
                    ];
                    segments.extend(rest.then_some(Segment::Rest));
                    Invalidate {
                        methods: methods.iter().map(|name| name.parse().unwrap()).collect(),
                        path: PathPattern { segments },
                        scope: Scopes {
                            user: scope == 1 || scope == 3,
                            item: scope == 2 || scope == 3,
                            all: scope == 0,
                        },
                        batch: (batch && scope >= 2).then_some(whose),
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back_the_same(
            upstream in any_upstream(),
            (batches, invalidate, canary) in any_batches().prop_flat_map(|batches| {
                let rules = any_invalidate(batches[0].endpoint);
                let canary = any_canary(batches[batches.len() - 1].endpoint);
                (Just(batches), rules, canary)
            }),
            threads in 1..=1_024_usize,
            max_bytes in 1_048_576..=(1_u64 << 40),
            clients in btree_set("[!-~]{1,8}", 1..4),
            hosts in btree_set("[a-z][a-z0-9]{0,8}(\\.[a-z]{1,4}){0,2}", 0..3),
            fields in btree_set("x-[a-z0-9]{1,8}", 0..4),
            networks in btree_set(0..=255_u8, 0..3),
            port in 0..8_000_u16,
            words in any::<(bool, bool, bool, bool)>(),
            (limits, tracing, slow) in (any_limits(), any_tracing(), duration(0, 3_600_000)),
            compression in any_compression(),
        ) {
            let mut config = accepted("");
            config.server.threads = threads;
            config.server.listen = vec![([127, 0, 0, 1], port).into(), "[::]:9999".parse().unwrap()];
            config.server.trusted_proxies =
                networks.into_iter().map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
            config.upstream = upstream;
            config.batches = batches;
            config.invalidate = invalidate;
            config.cache.max_bytes = max_bytes;
            config.compression = compression;
            config.limits = limits;
            config.server.proxy_protocol = words.2 && !config.server.trusted_proxies.is_empty();
            config.admin.hosts = hosts.into_iter().collect();
            config.headers.clients = clients.into_iter().collect();
            config.headers.vary = fields.into_iter().map(|name| name.parse().unwrap()).collect();
            config.headers.check = if words.0 { Check::Enforce } else { Check::Forward };
            config.log.format = if words.1 { LogFormat::Text } else { LogFormat::Json };
            config.log.access = words.2;
            config.log.request_id = words.3;
            config.log.slow = slow;
            config.limits = limits;
            config.tracing = tracing;
            config.canary = canary;
            let shown = config.effective();
            prop_assert_eq!(Config::parse(&shown, "shown").map_err(|error| error.to_string()), Ok(config), "{}", shown);
        }
    }
}
