//! How much later a full miss is answered than the VMS would have answered it.

use std::time::Duration;

use vms_edge::demo::vms::StandIn;

use super::questions::{FIRST_USER, InOrder, Prepared, widget};
use super::rounds::failures;
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::asking::SHOWS;
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::generator::Load;
use crate::generator::connection::Destination;
use crate::generator::expected::Expected;
use crate::generator::tally::Tally;
use crate::plot::Plot;
use crate::servers::{Door, HIT_LIFETIME, edge, nginx};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "miss",
        what: "added latency of a full miss over asking the stand-in directly, p50, against nginx proxying",
        goal: Goal::Most(1.0),
        says: "One connection asks for 10 items of a user nobody has asked for yet, one request after the other: the \
               stand-in VMS directly, through the edge, and through nginx as a plain proxy. The stand-in answers at once, \
               so that its own time does not hide theirs.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let edge = edge::start(bench, &vms, &edge::Settings::default())?;
    let nginx = nginx::start(bench, &vms, HIT_LIFETIME)?;
    let contenders = [
        ("directly", Destination::plain(vms.address())),
        ("vms-edge", edge.door(Door::Proxy)),
        ("nginx", nginx.door(Door::Proxy)),
    ];
    let requests = bench.of(300, 3000);
    let mut newcomer = FIRST_USER;
    let mut tallies = contenders.each_ref().map(|_| Tally::default());
    let mut p50_us = contenders.each_ref().map(|_| Vec::new());
    for _ in 0..bench.effort().rounds {
        for (place, (_, to)) in contenders.iter().enumerate() {
            let users = newcomer..newcomer + requests;
            newcomer = users.end;
            let stand_in = vms.stand_in.clone();
            let script = users.map(move |user| (Duration::ZERO, first_batch(&stand_in, user)));
            let tally = Load::whole(to, 1).run(InOrder(script)).await;
            p50_us[place].push(tally.percentile_us(0.5));
            tallies[place].merge(&tally);
        }
    }
    let figure = |(place, rounds): (usize, Vec<f64>)| {
        Figure::median_of(
            format!("{} p50", contenders[place].0),
            rounds,
            Unit::Microseconds,
        )
    };
    let figures: Vec<Figure> = p50_us.into_iter().enumerate().map(figure).collect();
    let added = |place: usize| figures[place].value - figures[0].value;
    let named = |place: usize| (contenders[place].0, &tallies[place]);
    let named = [named(0), named(1), named(2)];
    Ok(vec![Measured {
        value: added(1) / added(2),
        failures: named
            .iter()
            .flat_map(|(name, tally)| failures(name, tally))
            .collect(),
        plots: vec![Plot::of_latencies("Latency of a full miss", &named)],
        figures,
    }])
}

fn first_batch(vms: &StandIn, user: u64) -> Prepared {
    let owned = vms.owned(user);
    let ids = &owned[..10];
    let mut request = Vec::new();
    widget(&format!("tok-{user}-ios"), "").asks(SHOWS, ids, &mut request);
    let expected = Expected::Ids(ids.into());
    Prepared { request, expected }
}
