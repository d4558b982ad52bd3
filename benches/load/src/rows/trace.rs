//! What the VMS is asked in the course of a trace, against what it must be asked.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::questions::{FIRST_USER, InOrder, Prepared};
use super::rounds::failures;
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::asking::{SHOWS, Widget};
use crate::authority;
use crate::bench::{Bench, Vms};
use crate::figure::{Figure, Unit, float};
use crate::generator::connection::Destination;
use crate::generator::expected::Expected;
use crate::generator::tally::Tally;
use crate::generator::{Load, Pace};
use crate::plot::{Axis, Curve, Plot};
use crate::servers::{Door, NotStarted, Server, edge, nginx, varnish};
use crate::trace::ideal::{Ideal, ideal};
use crate::trace::{Batch, INTERCOMS, Settings, trace};

const SAYS: &str = "A trace of widgets, the same for each server: 2,000 users with one to three devices, overlapping \
     batches of 10 of 20 intercoms, bursts after a push; the VMS takes 20 ms and attends to 16 requests at once, and what it \
     answered is fresh for 5 s. It is asked directly, too. The ideal asks for each id of each device once in a window, and sends a request only for a \
     batch that needs one. A quick run is shorter, with windows of 2 s.";

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[
        Row {
            name: "ids",
            what: "ids asked of the VMS on a trace of overlapping batches, against the ideal",
            goal: Goal::Most(1.02),
            says: SAYS,
        },
        Row {
            name: "requests",
            what: "requests sent to the VMS on that trace, against the fewest",
            goal: Goal::Most(1.02),
            says: SAYS,
        },
    ],
    how: |bench| Box::pin(measure(bench)),
};

const LATENCY: Duration = Duration::from_millis(20);
const WORKERS: usize = 16;

/// Batches that can be under way at once: a burst has many.
const CONNECTIONS: usize = 256;

/// How far apart the points of the curves are.
const BIN: Duration = Duration::from_millis(500);

/// What the VMS was asked in the course of a trace.
struct Asked {
    ids: u64,
    requests: u64,
    /// Requests per second, bin by bin.
    rates: Vec<f64>,
    tally: Tally,
}

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let (lasting, fresh) = bench.of((8, 2), (45, 5));
    let (lasting, fresh) = (Duration::from_secs(lasting), Duration::from_secs(fresh));
    let batches = trace(&Settings {
        seed: 5,
        users: 2000,
        lasting,
        wakes_per_second: 120.0,
        pushes: &[0.25, 0.6, 0.85],
        reached: 0.15,
        exponent: 0.9,
    });
    let ideal = ideal(&batches, fresh);
    let settings = edge::Settings {
        fresh,
        ..edge::Settings::default()
    };
    let nobody = |_: &Vms| Ok(None);
    let edge = |vms: &Vms| edge::start(bench, vms, &settings).map(Some);
    let nginx = |vms: &Vms| nginx::start(bench, vms, fresh).map(Some);
    let varnish = |vms: &Vms| varnish::start(bench, vms, fresh).map(Some);
    let asked = [
        replay(bench, &batches, lasting, edge).await?,
        replay(bench, &batches, lasting, nginx).await?,
        replay(bench, &batches, lasting, varnish).await?,
        replay(bench, &batches, lasting, nobody).await?,
    ];
    let names = ["vms-edge", "nginx", "varnish", "directly"];
    let named = |place: usize| (names[place], &asked[place]);
    let named = [named(0), named(1), named(2), named(3)];
    let against = |count: fn(&Asked) -> u64, fewest: u64| {
        let figure =
            |(name, asked): &(&str, &Asked)| Figure::once(*name, float(count(asked)), Unit::Count);
        let mut figures: Vec<Figure> = named.iter().map(figure).collect();
        figures.push(Figure::once("ideal", float(fewest), Unit::Count));
        Measured {
            value: float(count(&asked[0])) / float(fewest),
            figures,
            failures: named
                .iter()
                .flat_map(|(name, asked)| failures(name, &asked.tally))
                .collect(),
            plots: Vec::new(),
        }
    };
    let mut ids = against(|asked| asked.ids, ideal.ids);
    let requests = against(|asked| asked.requests, ideal.requests.len() as u64);
    let latencies = named.map(|(name, asked)| (name, &asked.tally));
    ids.plots = vec![
        over_time(&named, &ideal, lasting),
        Plot::of_latencies("Latency of a batch on the trace", &latencies),
    ];
    Ok(vec![ids, requests])
}

/// Asks a server, started before a VMS of its own, all of a trace; or that VMS, where nobody is before it.
async fn replay(
    bench: &Bench,
    batches: &[Batch],
    lasting: Duration,
    start: impl Fn(&Vms) -> Result<Option<Server>, NotStarted>,
) -> Result<Asked, Fault> {
    let vms = bench.vms()?;
    vms.stand_in.set_latency(LATENCY);
    vms.stand_in.set_workers(WORKERS);
    let server = start(&vms)?;
    let name = server.as_ref().map_or("directly", Server::name);
    bench.tells(&format!("{name}: {} batches", batches.len()));
    let to = match &server {
        Some(server) => server.door(Door::Cache),
        None => Destination::plain(vms.address()),
    };
    let load = Load {
        to,
        connections: CONNECTIONS,
        pace: Pace::Open,
        lasting: None,
    };
    let script = InOrder(prepared(&vms, batches).into_iter());
    let began = Instant::now();
    let seen = RefCell::new(vec![(Duration::ZERO, 0)]);
    let watch = |_: &Tally| {
        seen.borrow_mut()
            .push((began.elapsed(), vms.stand_in.batches_total()))
    };
    let tally = load.run_watched(script, watch).await;
    vms.stand_in.assert_healthy();
    Ok(Asked {
        ids: vms.stand_in.ids_total(),
        requests: vms.stand_in.batches_total(),
        rates: rates(&seen.borrow(), lasting),
        tally,
    })
}

/// The requests of a trace.
fn prepared(vms: &Vms, batches: &[Batch]) -> Vec<(Duration, Prepared)> {
    let users = batches
        .iter()
        .map(|batch| batch.widget.user)
        .max()
        .unwrap_or_default()
        + 1;
    let intercoms: Vec<Arc<[u64]>> = (0..users).map(|user| intercoms(vms, user)).collect();
    let prepared = batches.iter().map(|batch| {
        let (user, device) = (batch.widget.user, format!("phone-{}", batch.widget.device));
        let token = format!("tok-{}-ios", user as u64 + FIRST_USER);
        let widget = Widget {
            host: authority::NAME,
            token: &token,
            device: &device,
            client: "ios",
            more: "",
        };
        let ids = &intercoms[user][batch.places.clone()];
        let mut request = Vec::new();
        widget.asks(SHOWS, ids, &mut request);
        let expected = Expected::Ids(ids.into());
        (batch.due, Prepared { request, expected })
    });
    prepared.collect()
}

fn intercoms(vms: &Vms, user: usize) -> Arc<[u64]> {
    let owned = vms.stand_in.owned(user as u64 + FIRST_USER);
    owned[..INTERCOMS].into()
}

/// Requests per second in each bin, from how many there had been when they were counted.
fn rates(seen: &[(Duration, u64)], lasting: Duration) -> Vec<f64> {
    let rate =
        |bin: &Duration| (count_at(seen, *bin + BIN) - count_at(seen, *bin)) / BIN.as_secs_f64();
    bins(lasting).iter().map(rate).collect()
}

/// How many there had been by then, if they came evenly between two counts.
fn count_at(seen: &[(Duration, u64)], then: Duration) -> f64 {
    let next = seen.partition_point(|(at, _)| *at <= then);
    let Some((before, count)) = next.checked_sub(1).map(|last| seen[last]) else {
        return 0.0;
    };
    let Some((after, more)) = seen.get(next) else {
        return float(count);
    };
    let share = (then - before).div_duration_f64(*after - before);
    float(count) + share * float(more - count)
}

fn bins(lasting: Duration) -> Vec<Duration> {
    let bins = (0..).map(|bin| BIN * bin);
    bins.take_while(|bin| *bin < lasting).collect()
}

fn over_time(asked: &[(&str, &Asked)], ideal: &Ideal, lasting: Duration) -> Plot {
    let curve = |name: &str, rates: Vec<f64>| Curve {
        name: name.to_owned(),
        values: rates.into_iter().map(Some).collect(),
    };
    let counted = ideal
        .requests
        .iter()
        .zip(1..)
        .map(|(at, count)| (*at, count));
    let mut curves: Vec<Curve> = asked
        .iter()
        .map(|(name, asked)| curve(name, asked.rates.clone()))
        .collect();
    curves.push(curve("ideal", rates(&counted.collect::<Vec<_>>(), lasting)));
    Plot {
        title: "Requests to the VMS on the trace".to_owned(),
        x: Axis::linear("seconds"),
        y: Axis::linear("requests per second"),
        places: bins(lasting).iter().map(Duration::as_secs_f64).collect(),
        curves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_came_within_a_bin() {
        let seen = [
            (0, 0),
            (250, 3),
            (500, 10),
            (900, 12),
            (1300, 20),
            (1500, 20),
        ];
        let seen = seen.map(|(ms, count)| (Duration::from_millis(ms), count));
        let rates = rates(&seen, Duration::from_millis(1500));
        // A quarter of what came between 0.9 and 1.3 s came by 1 s.
        assert_eq!(rates, [20.0, 8.0, 12.0]);
    }
}
