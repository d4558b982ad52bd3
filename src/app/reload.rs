//! Another configuration in place of the one in effect, without a request noticing.
//!
//! A reload is done as a whole or not at all: the file is read and checked as at a start, a new site is built beside the
//! one in effect, and only then put in its place. Requests under way end with the site that they began with. What must
//! fit together with memory is changed first, in the order in which nothing that was invalidated can come back.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::followers::Followers;
use super::lasting::{Lasting, Upkeep};
use crate::config::{self, Change};
use crate::edge::site::Site;
use crate::ops::metrics::ReloadResult;
use crate::ops::reload::{Asker, MAX_REMEMBERED, Outcome, Reload};

/// Reloads the configuration from its file.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    lasting: Arc<Lasting>,
    site: Arc<ArcSwap<Site>>,
    /// Of the site in effect. Held for the whole of a reload, so that there is one at a time.
    upkeep: tokio::sync::Mutex<Upkeep>,
    runtime: Handle,
    followers: Followers,
    last: Mutex<VecDeque<Reload>>,
}

impl Reloader {
    /// For the configuration in `file`, if it came from one; `upkeep` is that of the site in effect.
    pub(super) fn new(
        file: Option<PathBuf>,
        lasting: Arc<Lasting>,
        site: Arc<ArcSwap<Site>>,
        upkeep: Upkeep,
        runtime: Handle,
        followers: Followers,
    ) -> Self {
        Self {
            file,
            lasting,
            site,
            upkeep: tokio::sync::Mutex::new(upkeep),
            runtime,
            followers,
            last: Mutex::default(),
        }
    }

    /// Reads the file again, and puts what it says into effect.
    pub(super) async fn reload(&self, by: Asker) -> Reload {
        let mut upkeep = self.upkeep.lock().await;
        let outcome = match self.prepare().await {
            Ok((site, changes, waiting)) => {
                *upkeep = self.put_into_effect(Arc::new(site)).await;
                Outcome::Applied { changes, waiting }
            }
            Err(reasons) => Outcome::Refused { reasons },
        };
        let reload = Reload {
            at: SystemTime::now(),
            by,
            outcome,
        };
        self.tell(&reload);
        let mut last = self.last.lock();
        last.truncate(MAX_REMEMBERED - 1);
        last.push_front(reload.clone());
        reload
    }

    /// The last reloads, the latest first.
    pub(super) fn last(&self) -> Vec<Reload> {
        self.last.lock().iter().cloned().collect()
    }

    /// All that can fail.
    async fn prepare(&self) -> Result<(Site, Vec<Change>, Vec<Change>), Vec<String>> {
        let file = self.file.as_ref();
        let file = file.ok_or_else(|| lines("the configuration came from no file"))?;
        // Files may be slow to read, and the runtime has others to serve.
        let file = file.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let loaded = loaded.expect("reading a configuration does not panic");
        let mut config = loaded.map_err(|error| lines(&error.to_string()))?;
        let before = self.site.load_full();
        let waiting = config.keep_what_is_fixed(&before.config);
        let changes = config.changes_since(&before.config);
        let site = self.lasting.site(Arc::new(config), Some(&before)).await;
        let site = site.map_err(|error| lines(&error.to_string()))?;
        Ok((site, changes, waiting))
    }

    async fn put_into_effect(&self, site: Arc<Site>) -> Upkeep {
        // Another memory takes over what may be a million shelves.
        let (lasting, next) = (Arc::clone(&self.lasting), Arc::clone(&site));
        let room = tokio::task::spawn_blocking(move || lasting.make_room(&next)).await;
        room.expect("making room does not panic");
        self.followers.apply(&site.config);
        let upkeep = Upkeep::of(&site, &self.runtime);
        self.site.store(site);
        upkeep
    }

    fn tell(&self, reload: &Reload) {
        let (by, file) = (reload.by.name(), self.file.as_deref());
        let result = match &reload.outcome {
            Outcome::Applied { changes, waiting } => {
                for change in changes {
                    tracing::info!(%change, "configuration");
                }
                for change in waiting {
                    tracing::warn!(%change, "configuration, from the next start on");
                }
                tracing::info!(by, ?file, changes = changes.len(), "reloaded");
                ReloadResult::Applied
            }
            Outcome::Refused { reasons } => {
                for reason in reasons {
                    tracing::error!(%reason, "configuration");
                }
                tracing::error!(by, ?file, "not reloaded, nothing changed");
                ReloadResult::Refused
            }
        };
        self.lasting.metrics.reloaded(result);
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
