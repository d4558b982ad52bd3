//! A cache that is too small for all who come: memory stays within what the configuration allows.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vms_edge::demo::vms::StandIn;

use super::{CONFIGURATION, Siege};
use crate::asking::SHOWS;
use crate::figure::{Figure, Unit, float};
use crate::generator::expected::Expected;
use crate::generator::tally::Tally;
use crate::generator::{Asked, Load, Script};
use crate::rows::questions::{FIRST_USER, widget};
use crate::rows::rounds::failures;
use crate::rows::{Fault, Goal, Measured, Row};
use crate::servers::{Door, edge};

pub(super) static ROW: Row = Row {
    name: "memory",
    what: "resident memory at its most, against 1.25 × max_bytes and what there was before",
    goal: Goal::Most(1.0),
    says: "New users ask for 25 items each over 64 connections until the cache, of 32 MiB, was filled many times. What the edge \
           occupied before, its 64 connections open and answered, is the fixed part and their buffers.",
};

/// The cache, as the configuration has it.
const MAX_BYTES: u64 = 32 << 20;

/// How often it is filled, by the bytes that were answered.
const TIMES: (u64, u64) = (2, 10);

const CONNECTIONS: usize = 64;

/// Items of a batch.
const ITEMS: usize = 25;

/// New users, one after the other.
struct Strangers {
    vms: StandIn,
    user: u64,
    left: u64,
}

pub(super) async fn measure(siege: &Siege) -> Result<Vec<Measured>, Fault> {
    let bench = &siege.bench;
    let vms = bench.vms()?;
    let edge = edge::start_as(bench, vms.address(), CONFIGURATION, 1)?;
    let load = Load::whole(&edge.door(Door::Cache), CONNECTIONS);
    let strangers = |user, left| Strangers {
        vms: vms.stand_in.clone(),
        user,
        left,
    };
    bench.tells("before memory is short");
    let few = CONNECTIONS as u64 * 4;
    let first = load.clone().run(strangers(FIRST_USER, few)).await;
    let before = edge.occupied_bytes();
    let each = first.body_bytes / few.max(1);
    let times = bench.of(TIMES.0, TIMES.1);
    let users = MAX_BYTES * times / each.max(1);
    bench.tells("memory is short");
    let most = std::cell::Cell::new(0);
    let watch = |_: &Tally| most.set(most.get().max(edge.occupied_bytes()));
    let began = Instant::now();
    let all = load
        .run_watched(strangers(FIRST_USER + few, users), watch)
        .await;
    let bound = before + MAX_BYTES / 4 * 5;
    let at_end = edge.occupied_bytes();
    let most = most.get().max(at_end);
    let mega = |of, bytes| Figure::once(of, float(bytes) / 1e6, Unit::MegaBytes);
    Ok(vec![Measured {
        value: float(most) / float(bound),
        figures: vec![
            mega("at most", most),
            mega("at the end", at_end),
            mega("before", before),
            mega("bound", bound),
            mega("answered", all.body_bytes),
            Figure::once("users", float(users), Unit::Count),
            Figure::once("asked", float(users) / seconds(began), Unit::PerSecond),
        ],
        failures: [failures("before", &first), failures("strangers", &all)].concat(),
        plots: Vec::new(),
    }])
}

fn seconds(began: Instant) -> f64 {
    began.elapsed().max(Duration::from_millis(1)).as_secs_f64()
}

impl Script for Strangers {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        self.left = self.left.checked_sub(1)?;
        self.user += 1;
        let ids = self.vms.owned(self.user);
        let ids = &ids[..ITEMS];
        let token = format!("tok-{}-x", self.user);
        widget(&token, "").asks(SHOWS, ids, request);
        Some(Asked {
            due: Duration::ZERO,
            expected: Expected::Ids(Arc::from(ids)),
        })
    }
}
