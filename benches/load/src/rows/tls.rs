//! What a hit costs over TLS 1.3 and HTTP/2, beside nginx.

use super::questions::{batches, over_http2};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::servers::{Door, HIT_LIFETIME, edge, nginx};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "tls",
        what: "CPU per hit over TLS 1.3 and HTTP/2, against nginx",
        goal: Goal::Most(0.80),
        says: "CPU time of the server per hit of 10 items, over 4 connections of 8 streams each, in a closed loop; the \
               handshakes do not count.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
    ];
    let questions = batches(&vms.stand_in, 10);
    let contender = |server| {
        let contender = Contender::at(server, Door::Tls, over_http2(&questions));
        let to = bench.authority().http2(contender.to);
        Contender { to, ..contender }
    };
    let rounds = cpu_per_request(bench, &servers.each_ref().map(contender)).await;
    Ok(vec![Measured::ratio_of_first_two(rounds)])
}
