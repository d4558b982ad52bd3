//! What a request costs that is none of the edge's business.

use http::{HeaderMap, Method};
use vms_edge::demo::vms::StandIn;

use super::questions::{FIRST_USER, Prepared, answer, at_random, widget};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::asking::SHOWS;
use crate::bench::Bench;
use crate::generator::answer::Coding;
use crate::generator::expected::Expected;
use crate::servers::{Door, HIT_LIFETIME, Server, edge, nginx};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "passing",
        what: "CPU per passed-through request, against nginx proxying",
        goal: Goal::Most(1.05),
        says: "CPU time of the server per GET of a small JSON object on another path, 16 connections in a closed loop; \
               both keep their connections to the stand-in VMS, which answers at once. Beside it a batch of 10 items that \
               passes through since it has a cookie.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// A path that is no batch's, and answered without much ado.
const PATH: &str = "/api/v1/static/basic";

const TOKEN: &str = "tok-3-ios";

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let edge = edge::start(bench, &vms, &edge::Settings::default())?;
    let nginx = nginx::start(bench, &vms, HIT_LIFETIME)?;
    let small = small(&vms.stand_in);
    let batch = batch_with_cookie(&vms.stand_in);
    let contenders = [
        asked(&edge, "", &small),
        asked(&nginx, "", &small),
        asked(&edge, " with 10 items", &batch),
        asked(&nginx, " with 10 items", &batch),
    ];
    let rounds = cpu_per_request(bench, &contenders).await;
    Ok(vec![Measured::ratio_of_first_two(rounds)])
}

fn asked<'a>(server: &'a Server, what: &str, prepared: &Prepared) -> Contender<'a> {
    Contender {
        name: format!("{}{what}", server.name()),
        ..Contender::at(server, Door::Proxy, at_random([prepared.clone()].into()))
    }
}

fn small(vms: &StandIn) -> Prepared {
    let answer = vms.answer(&Method::GET, PATH, &HeaderMap::new(), b"");
    let mut request = Vec::new();
    widget(TOKEN, "").asks(PATH, &[], &mut request);
    Prepared {
        request,
        expected: Expected::Exactly(answer.body, Coding::Identity),
    }
}

fn batch_with_cookie(vms: &StandIn) -> Prepared {
    let owned = vms.owned(FIRST_USER);
    let ids = &owned[..10];
    let mut request = Vec::new();
    widget(TOKEN, "Cookie: a=b\r\n").asks(SHOWS, ids, &mut request);
    Prepared {
        request,
        expected: Expected::Exactly(answer(vms, TOKEN, ids), Coding::Identity),
    }
}
