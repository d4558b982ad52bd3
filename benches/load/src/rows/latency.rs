//! How long a hit takes at half of what saturates the server.

use std::time::Duration;

use super::questions::{batches, over_and_over};
use super::rounds::{Asks, CONNECTIONS, failures};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::figure::{Figure, Unit, float, median};
use crate::generator::answer::Coding;
use crate::generator::connection::Destination;
use crate::generator::tally::Tally;
use crate::generator::{Asked, Load, Pace, Script};
use crate::plot::Plot;
use crate::servers::{Door, HIT_LIFETIME, edge, nginx, varnish};
use crate::trace::exponential;

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "p99",
        what: "p99 of a hit at half of saturation, open loop, against nginx",
        goal: Goal::Most(1.0),
        says: "Hits of 10 items come at Poisson times, at half the rate that a closed loop gets from the slower of the \
               two; latency counts from when a request was due, and each server is asked at the same rate. Whoever waits to be sent \
               when a round ends counts with the time that he has waited.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// Connections in an open loop: as many requests can wait for the server at once.
const WAITING: usize = 64;

/// How much longer than others a round lasts, so that one in a hundred is many.
const LONGER: u32 = 2;

/// Requests of another script at Poisson times.
struct Poisson {
    script: Box<dyn Script>,
    random: fastrand::Rng,
    per_second: f64,
    due: Duration,
}

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
        varnish::start(bench, &vms, HIT_LIFETIME)?,
    ];
    let doors = servers.each_ref().map(|server| server.door(Door::Cache));
    let Asks::Http1(script) = over_and_over(&batches(&vms.stand_in, 10), Coding::Identity) else {
        unreachable!("they are asked over HTTP/1.1")
    };
    let mut saturated = doors.each_ref().map(|_| Vec::new());
    for round in 0..bench.effort().rounds {
        for (door, rates) in doors.iter().zip(&mut saturated) {
            rates.push(saturation(bench, door, script(round as u64)).await);
        }
    }
    let saturation = saturated.each_ref().map(|rates| median(rates));
    let per_second = saturation[0].min(saturation[1]) / 2.0;
    let mut tallies = doors.each_ref().map(|_| Tally::default());
    let mut p99_us = doors.each_ref().map(|_| Vec::new());
    for round in 0..bench.effort().rounds {
        for (place, door) in doors.iter().enumerate() {
            bench.tells(&format!(
                "{} at {per_second:.0}/s, round {}",
                servers[place].name(),
                round + 1
            ));
            let tally = at_rate(bench, door, script(round as u64), per_second).await;
            p99_us[place].push(tally.percentile_us(0.99));
            tallies[place].merge(&tally);
        }
    }
    let named = |place: usize| (servers[place].name(), &tallies[place]);
    let named = [named(0), named(1), named(2)];
    let p99 = |(place, rounds): (usize, Vec<f64>)| {
        Figure::median_of(
            format!("{} p99", servers[place].name()),
            rounds,
            Unit::Microseconds,
        )
    };
    let mut figures: Vec<Figure> = p99_us.into_iter().enumerate().map(p99).collect();
    let value = figures[0].value / figures[1].value;
    figures.push(Figure::once("each asked", per_second, Unit::PerSecond));
    for (server, rates) in servers.iter().zip(saturated) {
        figures.push(Figure::median_of(
            format!("{} saturated", server.name()),
            rates,
            Unit::PerSecond,
        ));
    }
    Ok(vec![Measured {
        value,
        figures,
        failures: named
            .iter()
            .flat_map(|(name, tally)| failures(name, tally))
            .collect(),
        plots: vec![Plot::of_latencies(
            format!("Latency of a hit at {per_second:.0} requests per second"),
            &named,
        )],
    }])
}

/// Requests per second that a closed loop gets answered.
async fn saturation(bench: &Bench, door: &Destination, script: Box<dyn Script>) -> f64 {
    let tally = Load::closed(door, CONNECTIONS, bench.round())
        .run(script)
        .await;
    float(tally.answered) / bench.round().as_secs_f64()
}

async fn at_rate(
    bench: &Bench,
    door: &Destination,
    script: Box<dyn Script>,
    per_second: f64,
) -> Tally {
    let load = Load {
        to: door.clone(),
        connections: WAITING,
        pace: Pace::OpenExact,
        lasting: Some(bench.round() * LONGER),
    };
    let poisson = Poisson {
        script,
        random: fastrand::Rng::with_seed(99),
        per_second,
        due: Duration::ZERO,
    };
    load.run(poisson).await
}

impl Script for Poisson {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        let asked = self.script.next(request)?;
        self.due += exponential(&mut self.random, self.per_second);
        Some(Asked {
            due: self.due,
            ..asked
        })
    }
}
