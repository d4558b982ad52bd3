//! Whether a hit costs more when a million users are in memory.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::questions::widget;
use super::rounds::{Asks, CONNECTIONS, Contender, cpu_per_request, failures};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::asking::SHOWS;
use crate::bench::Bench;
use crate::generator::connection::Destination;
use crate::generator::expected::Expected;
use crate::generator::{Asked, Load, Script};
use crate::servers::{Door, Server, edge};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "users",
        what: "CPU per hit with 1,000,000 users stored, against 1,000",
        goal: Goal::Most(1.15),
        says: "CPU time of the server per hit of 1 item, as above, of a user taken at random from all who are stored; a \
               quick run stores 20,000. What is asked for of so many is seldom in the processor's caches.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// The one item that everyone has.
const ID: u64 = 1;

/// Users, each asked for once in turn, or at random for ever.
struct Users {
    next: Next,
    token: String,
    ids: Arc<[u64]>,
}

enum Next {
    InTurn(RangeInclusive<u64>),
    AtRandom(Rng, u64),
}

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let (few, many) = (1000, bench.of(20_000, 1_000_000));
    let day = Duration::from_secs(24 * 3600);
    let settings = edge::Settings {
        fresh: day,
        ..edge::Settings::default()
    };
    let servers = [many, few].map(|users| (users, edge::start(bench, &vms, &settings)));
    let mut failures = Vec::new();
    let mut filled = Vec::new();
    for (users, server) in servers {
        let server = server?;
        bench.tells(&format!("storing {users} users"));
        failures.extend(fill(&server.door(Door::Cache), users).await);
        filled.push((users, server));
    }
    let contenders: Vec<Contender> = filled
        .iter()
        .map(|(users, server)| asked_at_random(server, *users))
        .collect();
    let rounds = cpu_per_request(bench, &contenders).await;
    let mut measured = Measured::ratio_of_first_two(rounds);
    measured.failures.extend(failures);
    Ok(vec![measured])
}

fn asked_at_random(server: &Server, users: u64) -> Contender<'_> {
    let script = move |seed| -> Box<dyn Script> {
        Box::new(Users::new(Next::AtRandom(Rng::with_seed(seed), users)))
    };
    Contender {
        name: format!("vms-edge with {users} users"),
        ..Contender::at(server, Door::Cache, Asks::Http1(Box::new(script)))
    }
}

/// Stores the item of so many users.
async fn fill(to: &Destination, users: u64) -> Vec<String> {
    let script = Users::new(Next::InTurn(1..=users));
    let tally = Load::whole(to, CONNECTIONS * 2).run(script).await;
    failures("storing", &tally)
}

impl Users {
    fn new(next: Next) -> Self {
        Self {
            next,
            token: String::new(),
            ids: [ID].into(),
        }
    }
}

impl Script for Users {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        let user = match &mut self.next {
            Next::InTurn(users) => users.next()?,
            Next::AtRandom(random, users) => random.u64(1..=*users),
        };
        self.token.clear();
        write!(self.token, "tok-{user}-ios").expect("memory can be written to");
        widget(&self.token, "").asks(SHOWS, &self.ids, request);
        Some(Asked {
            due: Duration::ZERO,
            expected: Expected::Ids(Arc::clone(&self.ids)),
        })
    }
}
