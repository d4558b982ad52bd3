//! What a hit costs, beside nginx and Varnish.

use super::questions::{batches, over_and_over};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::generator::answer::Coding;
use crate::servers::{Door, HIT_LIFETIME, edge, nginx, varnish};

const SAYS: &str = "CPU time of the server per request, 16 connections in a closed loop; 200 users \
     with 900-byte tokens ask for one of two overlapping batches each, at random.";

pub(super) const OF_10: Measurement = Measurement {
    rows: &[Row {
        name: "hit-10",
        what: "CPU per hit of 10 items, against nginx proxy_cache",
        goal: Goal::Most(0.70),
        says: SAYS,
    }],
    how: |bench| Box::pin(measure(bench, 10)),
};

pub(super) const OF_25: Measurement = Measurement {
    rows: &[Row {
        name: "hit-25",
        what: "CPU per hit of 25 items, against nginx proxy_cache",
        goal: Goal::Most(0.70),
        says: SAYS,
    }],
    how: |bench| Box::pin(measure(bench, 25)),
};

pub(super) const OF_1: Measurement = Measurement {
    rows: &[Row {
        name: "hit-1",
        what: "CPU per hit of 1 item, against nginx proxy_cache",
        goal: Goal::Most(0.70),
        says: SAYS,
    }],
    how: |bench| Box::pin(measure(bench, 1)),
};

async fn measure(bench: &Bench, items: usize) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
        varnish::start(bench, &vms, HIT_LIFETIME)?,
    ];
    let questions = batches(&vms.stand_in, items);
    let asks = || over_and_over(&questions, Coding::Identity);
    let [edge, nginx, varnish] = &servers;
    let contenders = [
        Contender::at(edge, Door::Cache, asks()),
        Contender::at(nginx, Door::Cache, asks()),
        Contender::at(varnish, Door::Cache, asks()),
        Contender {
            name: "nginx with open_file_cache".to_owned(),
            ..Contender::at(nginx, Door::OpenFiles, asks())
        },
    ];
    let rounds = cpu_per_request(bench, &contenders).await;
    Ok(vec![Measured::ratio_of_first_two(rounds)])
}
