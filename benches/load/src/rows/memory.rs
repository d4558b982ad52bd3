//! How much memory users take, against what they were answered.

use std::time::Duration;

use vms_edge::demo::vms::StandIn;

use super::questions::{FIRST_USER, InOrder, Prepared, answer, widget};
use super::rounds::{CONNECTIONS, failures};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::asking::SHOWS;
use crate::bench::{Bench, Vms};
use crate::figure::{Figure, Unit, float};
use crate::generator::Load;
use crate::generator::expected::Expected;
use crate::plot::{Axis, Curve, Plot};
use crate::servers::{Door, HIT_LIFETIME, Server, edge, nginx, varnish};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "memory",
        what: "resident growth for 20,000 users of 4 overlapping batches each, against the payload",
        goal: Goal::Most(1.15),
        says: "Growth of resident memory while each user asks for four overlapping batches of 10 of his 11 intercoms; the \
               payload is each user's distinct items, once. To nginx, which keeps answers in files, these are added. A quick \
               run has 2,000 users.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// Intercoms of a user that his widgets ask for, one more than a batch does.
const INTERCOMS: usize = 11;

/// Which of them each batch leaves out.
const LEFT_OUT: [usize; 4] = [10, 0, 4, 8];

/// Users are stored in so many steps.
const STEPS: u64 = 10;

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let users: u64 = bench.of(2000, 20_000);
    let mut payload_bytes = vec![0];
    let mut curves = Vec::new();
    let mut growth = Vec::new();
    let mut failed = Vec::new();
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
        varnish::start(bench, &vms, HIT_LIFETIME)?,
    ];
    for step in 0..STEPS {
        let users = users_of(step, users);
        let bytes: u64 = users.map(|user| payload(&vms.stand_in, user)).sum();
        payload_bytes.push(payload_bytes[payload_bytes.len() - 1] + bytes);
    }
    for server in &servers {
        // What connections take is not what users take.
        failed.extend(fill(server, &vms, others(users)).await);
        let mut occupied = vec![server.occupied_bytes()];
        for step in 0..STEPS {
            bench.tells(&format!(
                "{} stores users, step {}",
                server.name(),
                step + 1
            ));
            failed.extend(fill(server, &vms, users_of(step, users)).await);
            occupied.push(server.occupied_bytes());
        }
        let grown = occupied.iter().map(|now| now.saturating_sub(occupied[0]));
        let grown: Vec<u64> = grown.collect();
        growth.push((server.name(), grown[grown.len() - 1]));
        curves.push(curve(server.name(), &grown));
    }
    let payload = payload_bytes[payload_bytes.len() - 1];
    curves.push(curve("payload", &payload_bytes));
    let megabytes =
        |(of, bytes): &(&str, u64)| Figure::once(*of, float(*bytes) / 1e6, Unit::MegaBytes);
    let mut figures: Vec<Figure> = growth.iter().map(megabytes).collect();
    figures.push(megabytes(&("payload", payload)));
    Ok(vec![Measured {
        value: float(growth[0].1) / float(payload),
        figures,
        failures: failed,
        plots: vec![Plot {
            title: "Memory over users stored".to_owned(),
            x: Axis::linear("users"),
            y: Axis::linear("MB"),
            places: (0..=STEPS)
                .map(|step| float(users / STEPS * step))
                .collect(),
            curves,
        }],
    }])
}

fn curve(name: &str, bytes: &[u64]) -> Curve {
    Curve {
        name: name.to_owned(),
        values: bytes
            .iter()
            .map(|bytes| Some(float(*bytes) / 1e6))
            .collect(),
    }
}

fn users_of(step: u64, users: u64) -> std::ops::Range<u64> {
    let count = users / STEPS;
    let first = FIRST_USER + step * count;
    first..first + count
}

/// A few users who are stored before it counts.
fn others(users: u64) -> std::ops::Range<u64> {
    let first = FIRST_USER + users;
    first..first + 2 * CONNECTIONS as u64
}

/// Bytes of a user's distinct items, as they are served.
fn payload(vms: &StandIn, user: u64) -> u64 {
    let owned = vms.owned(user);
    let all = answer(vms, &token(user), &owned[..INTERCOMS]);
    // Two brackets, and commas between.
    let framing = 2 + INTERCOMS - 1;
    (all.len() - framing) as u64
}

async fn fill(server: &Server, vms: &Vms, users: std::ops::Range<u64>) -> Vec<String> {
    let vms = vms.stand_in.clone();
    let batches = users.flat_map(move |user| four_batches(&vms, user));
    let script = InOrder(batches.map(|prepared| (Duration::ZERO, prepared)));
    let load = Load::whole(&server.door(Door::Cache), CONNECTIONS);
    failures(server.name(), &load.run(script).await)
}

fn four_batches(vms: &StandIn, user: u64) -> [Prepared; 4] {
    let owned = vms.owned(user);
    LEFT_OUT.map(|left_out| {
        let is_asked = |(place, id): (usize, &u64)| (place != left_out).then_some(*id);
        let ids: Vec<u64> = owned[..INTERCOMS]
            .iter()
            .enumerate()
            .filter_map(is_asked)
            .collect();
        let mut request = Vec::new();
        widget(&token(user), "").asks(SHOWS, &ids, &mut request);
        let expected = Expected::Ids(ids.into());
        Prepared { request, expected }
    })
}

fn token(user: u64) -> String {
    format!("tok-{user}-ios")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn batches_overlap_and_have_all_intercoms_among_them() {
        let batches = LEFT_OUT.map(|left_out| {
            let asked = (0..INTERCOMS).filter(|place| *place != left_out);
            asked.collect::<Vec<usize>>()
        });
        assert!(batches.iter().all(|batch| batch.len() == 10));
        let all: HashSet<usize> = batches.concat().into_iter().collect();
        assert_eq!(all.len(), INTERCOMS);
    }

    #[test]
    fn the_payload_is_the_bytes_of_the_items_alone() {
        let vms = StandIn::new();
        let owned = vms.owned(5);
        let items = owned[..INTERCOMS]
            .iter()
            .map(|id| answer(&vms, &token(5), &[*id]).len() - 2);
        assert_eq!(payload(&vms, 5), items.sum::<usize>() as u64);
    }
}
