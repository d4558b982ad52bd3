//! What a request costs that is none of the edge's business.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::questions::{Prepared, at_random, widget};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::generator::answer::Coding;
use crate::generator::expected::Expected;
use crate::servers::{Door, HIT_LIFETIME, edge, nginx};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "passing",
        what: "CPU per passed-through request, against nginx proxying",
        goal: Goal::Most(1.05),
        says: "CPU time of the server per GET of a small JSON object on another path, 16 connections in a closed loop; \
               both keep their connections to the stand-in VMS, which answers at once.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// A path that is no batch's, and answered without much ado.
const PATH: &str = "/api/v1/static/basic";

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
    ];
    let answer = vms
        .stand_in
        .answer(&Method::GET, PATH, &HeaderMap::new(), b"");
    let asks = |server| {
        Contender::at(
            server,
            Door::Proxy,
            at_random([request(&answer.body)].into()),
        )
    };
    let rounds = cpu_per_request(bench, &servers.each_ref().map(asks)).await;
    Ok(vec![Measured::ratio_of_first_two(rounds)])
}

fn request(answer: &Bytes) -> Prepared {
    let mut request = Vec::new();
    widget("tok-3-ios", "").asks(PATH, &[], &mut request);
    Prepared {
        request,
        expected: Expected::Exactly(answer.clone(), Coding::Identity),
    }
}
