//! Whoever runs the edge: reloads, purges, and looks at what it says of itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::news;
use super::phone::Place;
use crate::generator::connection::{Connection, Destination};
use crate::servers::{Server, edge};

/// Between changes that pass no edge.
const RENAMES: Duration = Duration::from_millis(700);

/// One rename in so many is followed by a purge of a user, of everything, and by a reload.
const PURGES_A_USER: u64 = 7;
const PURGES_ALL: u64 = 53;
const RELOADS: u64 = 19;

/// The two forms of a line of the configuration that reloads change.
const FORMS: [&str; 2] = ["absent = \"2s\"", "absent = \"1s\""];

pub(super) struct Operator {
    place: Arc<Place>,
    admin: Connection,
    reloads: usize,
}

impl Operator {
    pub(super) fn new(place: &Arc<Place>, admin: Destination) -> Self {
        Self {
            place: Arc::clone(place),
            admin: Connection::new(admin),
            reloads: 0,
        }
    }

    /// Goes about the work, until it is dropped; users are numbered so.
    pub(super) async fn works(mut self, edge: &Server, users: std::ops::Range<u64>) {
        for turn in 1_u64.. {
            sleep(RENAMES).await;
            let id = fastrand::u64(news::IDS);
            let number = self.place.news.rename(&self.place.vms, id);
            // What is not purged has to be known once it is too old.
            if fastrand::bool() && self.purges(&format!("{{\"items\":[{id}]}}")).await {
                self.place.news.purged(id, number);
            }
            if turn.is_multiple_of(PURGES_A_USER) {
                let user = fastrand::u64(users.clone());
                self.purges(&format!("{{\"user\":\"tok-{user}-s0\"}}"))
                    .await;
            }
            if turn.is_multiple_of(PURGES_ALL) {
                self.purges("{\"everything\":true,\"mode\":\"soft\"}").await;
            }
            if turn.is_multiple_of(RELOADS) {
                let [from, to] = [self.reloads, self.reloads + 1].map(|form| FORMS[form % 2]);
                edge::reconfigure(edge, from, to).expect("the edge's folder is there");
                self.reloads += 1;
                self.orders("/reload", "").await;
            }
        }
    }

    async fn purges(&mut self, what: &str) -> bool {
        self.orders("/purge", what).await
    }

    async fn orders(&mut self, path: &str, body: &str) -> bool {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            edge::TOKEN,
            body.len()
        );
        let sent = Instant::now();
        let counted = &self.place.counted;
        match self.admin.ask(request.as_bytes()).await {
            Ok(answer) if answer.head.status == 200 => {
                counted.count(|numbers| numbers.orders += 1);
                true
            }
            Ok(answer) => {
                counted.failed(sent, || format!("{path}: {}", answer.head.status));
                false
            }
            Err(broken) => {
                counted.failed(sent, || format!("{path}: {broken}"));
                false
            }
        }
    }
}
