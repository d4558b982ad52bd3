//! What outlives every configuration, and how one configuration is put to work on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::StartError;
use crate::batch::BatchEndpoint;
use crate::batch::canary::{self, Canary};
use crate::batch::fill::{Filler, Landed};
use crate::batch::invalidate::Invalidator;
use crate::cache::clock::Clock;
use crate::cache::freshness::Windows;
use crate::cache::marks::Marks;
use crate::cache::store::Store;
use crate::config::{Config, HealthCheck};
use crate::edge::rate::RateLimits;
use crate::edge::site::Site;
use crate::ops::metrics::Metrics;
use crate::ops::spans::{Span, Spans};
use crate::origin::checker::{self, Checker};
use crate::origin::collapse::Flights;
use crate::origin::fetch::{Fetcher, Origin, Queue};
use crate::origin::resolve::{RESOLVE_EVERY, SystemResolver};
use crate::origin::servers::Servers;
use crate::origin::trust;
use crate::reply::answers::{self, Answers};
use crate::request::key::KeyMaker;

/// How much later than requests answers are coded: as much as there is.
const LEAST_URGENT: i32 = 19;

/// How long shelves of which nothing is of use may take room, unless it is needed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What is remembered, counted and kept secret for as long as the process lives.
pub(super) struct Lasting {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    spans: Arc<Spans>,
    pub(super) store: Arc<Store>,
    pub(super) marks: Arc<Marks>,
    flights: Arc<Flights<Landed>>,
    answers: Arc<Answers>,
    keys: Arc<KeyMaker>,
}

/// What is done for a site beside its requests, until it is dropped: its names are resolved again, its servers checked, and
/// its canaries sent.
pub(super) struct Upkeep {
    _tasks: JoinSet<()>,
}

/// Whom a site asks, and how.
struct Upstream {
    servers: Arc<Servers>,
    origin: Arc<dyn Origin>,
    queue: Arc<Queue>,
}

impl Lasting {
    /// Nothing yet, with room as `config` has it; and where the spans come out that will be made.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness or no thread to give.
    pub(super) fn new(
        config: &Config,
        clock: Clock,
    ) -> Result<(Self, mpsc::Receiver<Span>), StartError> {
        let metrics = Arc::new(Metrics::new());
        let (spans, made) = Spans::new(Arc::clone(&metrics));
        let answers = answers(config)?;
        metrics.watch_answers(Arc::clone(&answers));
        let lasting = Self {
            clock,
            metrics,
            spans: Arc::new(spans),
            store: Arc::new(Store::new(config.cache.max_bytes, longest(config))),
            marks: Arc::new(Marks::new(longest_with_fetch(config))),
            flights: Arc::default(),
            answers,
            keys: Arc::new(KeyMaker::new().map_err(StartError::Secret)?),
        };
        Ok((lasting, made))
    }

    /// A site for `config`, which goes on with what it can of the one `before`.
    ///
    /// Nothing is changed by it yet.
    ///
    /// # Errors
    ///
    /// A server without an address, or authorities that cannot be read.
    pub(super) async fn site(
        &self,
        config: Arc<Config>,
        before: Option<&Site>,
    ) -> Result<Site, StartError> {
        let Upstream {
            servers,
            origin,
            queue,
        } = self.upstream(&config, before).await?;
        let filler = Arc::new(Filler {
            store: Arc::clone(&self.store),
            marks: Arc::clone(&self.marks),
            flights: Arc::clone(&self.flights),
            detach: Box::new(|fill| drop(tokio::spawn(fill))),
            origin,
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            spans: Arc::clone(&self.spans),
            keys: Arc::clone(&self.keys),
            answers: Arc::clone(&self.answers),
            fetch_coding: config.upstream.fetch_coding,
            compression: config.compression.clone(),
            host: config.upstream.host.clone(),
        });
        let endpoint = |batch| {
            let endpoint = BatchEndpoint::new(batch, &config.headers.vary, &self.metrics);
            let before = before.into_iter().flat_map(|site| &site.endpoints);
            let mut before = before.filter(|before| before.config.path == batch.path);
            Arc::new(match before.next() {
                Some(before) => endpoint.knowing(before),
                None => endpoint,
            })
        };
        let keys = Arc::clone(&self.keys);
        let invalidator = Invalidator::new(Arc::clone(&filler), keys, &config);
        let limits_before = before.map(|site| &site.limits);
        Ok(Site {
            limits: RateLimits::new(&config.limits.rates, &self.clock, limits_before),
            endpoints: config.batches.iter().map(endpoint).collect(),
            filler,
            servers,
            queue,
            invalidator: Arc::new(invalidator),
            keys: Arc::clone(&self.keys),
            config,
        })
    }

    /// The servers and the way to fetch from them: those of the site before, if nothing about them changed.
    async fn upstream(
        &self,
        config: &Config,
        before: Option<&Site>,
    ) -> Result<Upstream, StartError> {
        let upstream = &config.upstream;
        let authorities = trust::authorities(upstream)?;
        if let Some(site) = before
            && site.servers.are_of(upstream, &authorities)
        {
            return Ok(Upstream {
                servers: Arc::clone(&site.servers),
                origin: Arc::clone(&site.filler.origin),
                queue: Arc::clone(&site.queue),
            });
        }
        let servers = Servers::resolve(
            upstream,
            authorities,
            Box::new(SystemResolver),
            self.clock.clone(),
            before.map(|site| &*site.servers),
        );
        let servers = Arc::new(servers.await?);
        let fetcher = Fetcher::new(upstream, Arc::clone(&servers), self.clock.clone());
        Ok(Upstream {
            servers,
            queue: Arc::clone(fetcher.queue()),
            origin: Arc::new(fetcher),
        })
    }

    /// Makes room for what `site` remembers, before its first request and after the last that knows nothing of it.
    pub(super) fn make_room(&self, site: &Site) {
        let config = &site.config;
        // Before anything is kept for longer: a mark must be remembered for as long as what it covers.
        self.marks.lengthen(longest_with_fetch(config), &self.clock);
        self.store.resize(config.cache.max_bytes, longest(config));
        let coded_bytes = config.compression.max_bytes;
        self.answers.resize(config.cache.max_bytes, coded_bytes);
        self.metrics.watch_upstream(&site.servers, &site.queue);
    }
}

impl Upkeep {
    /// Begins it.
    pub(super) fn of(site: &Site, runtime: &Handle) -> Self {
        let mut tasks = JoinSet::new();
        let (store, clock) = (&site.filler.store, &site.filler.clock);
        tasks.spawn_on(keep_swept(Arc::clone(store), clock.clone()), runtime);
        tasks.spawn_on(keep_resolved(Arc::clone(&site.servers)), runtime);
        let upstream = &site.config.upstream;
        if upstream.health.check != HealthCheck::Never {
            let checker = Arc::new(Checker::new(upstream, Arc::clone(&site.servers)));
            tasks.spawn_on(checker::keep_checked(checker), runtime);
        }
        let metrics = &site.filler.metrics;
        metrics.canary_configured(site.config.canary.users.is_some());
        if let Some(canary) = Canary::of(&site.config, &site.endpoints, &site.filler) {
            tasks.spawn_on(canary::keep_asking(canary), runtime);
        }
        Self { _tasks: tasks }
    }
}

/// Drops what is of no use any more, now and then.
async fn keep_swept(store: Arc<Store>, clock: Clock) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tick.tick().await;
        let (store, now) = (Arc::clone(&store), clock.now());
        let swept = tokio::task::spawn_blocking(move || store.sweep(now));
        if swept.await.is_err() {
            tracing::error!("sweeping panicked");
        }
    }
}

async fn keep_resolved(servers: Arc<Servers>) {
    let mut tick = tokio::time::interval(RESOLVE_EVERY);
    tick.tick().await;
    loop {
        tick.tick().await;
        for failure in servers.refresh().await {
            tracing::warn!(%failure, "the addresses it had are kept");
        }
    }
}

/// Room for answers, and the thread that codes them.
fn answers(config: &Config) -> Result<Arc<Answers>, StartError> {
    let (answers, waiting) = Answers::new(config.cache.max_bytes, config.compression.max_bytes);
    let answers = Arc::new(answers);
    let coded = Arc::downgrade(&answers);
    let coder = std::thread::Builder::new().name("vms-edge-coder".to_owned());
    let coder = coder.spawn(move || {
        // Requests come first. Of this thread alone, as Linux has it; where it is refused, all have the same turn.
        let _ = rustix::process::nice(LEAST_URGENT);
        answers::work(&coded, &waiting);
    });
    coder.map_err(StartError::Threads)?;
    Ok(answers)
}

/// The longest time for which anything stored is of use.
fn longest(config: &Config) -> Duration {
    let batches = config.batches.iter();
    let longest = batches.map(|batch| Windows::new(batch).longest()).max();
    longest.unwrap_or_default()
}

/// The longest time from when a fetch begins to when nothing that it brought is of use: what is in the air when a mark
/// is set is younger than the longest fetch.
fn longest_with_fetch(config: &Config) -> Duration {
    longest(config) + config.upstream.longest_fetch()
}
