//! Whether a second core is worth its while, as far as CPU time tells.

use super::questions::{batches, over_and_over};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::figure::{Figure, Unit};
use crate::generator::answer::Coding;
use crate::servers::{Door, edge};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "cores",
        what: "two cores against one, by the CPU time of a hit",
        goal: Goal::Least(1.8),
        says: "Twice the CPU time of a hit of 10 items with one thread on one core, over that with two threads on two. On two \
               cores the generator needs one of them, so that requests per second would tell of it instead. What two threads \
               do to each other's caches and lines of memory shows here, as does a lock that is waited for busily; one that \
               is slept for takes no CPU time and would not. Both threads must have been busy.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// Share of the work that the less busy of two threads must have done at the least, in percent.
const BUSY_PERCENT: f64 = 25.0;

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let of = |threads| {
        let settings = edge::Settings {
            threads,
            ..edge::Settings::default()
        };
        edge::start(bench, &vms, &settings)
    };
    let (one, two) = (of(1)?, of(2)?);
    let questions = batches(&vms.stand_in, 10);
    let contender = |server, name: &str| Contender {
        name: name.to_owned(),
        ..Contender::at(
            server,
            Door::Cache,
            over_and_over(&questions, Coding::Identity),
        )
    };
    let contenders = [
        contender(&one, "one thread"),
        contender(&two, "two threads"),
    ];
    let mut rounds = cpu_per_request(bench, &contenders).await;
    let mut threads: Vec<f64> = two
        .cpu_of_threads()
        .iter()
        .map(|cpu| cpu.as_secs_f64())
        .collect();
    threads.sort_by(|one, other| other.total_cmp(one));
    let less_busy_percent = 100.0 * threads[1] / (threads[0] + threads[1]);
    let mut failures: Vec<String> = rounds
        .iter_mut()
        .flat_map(|of| of.failures.drain(..))
        .collect();
    if less_busy_percent < BUSY_PERCENT {
        failures.push(format!(
            "one of the two threads did {less_busy_percent:.0} % of the work"
        ));
    }
    let [one, two] = [&rounds[0].cpu, &rounds[1].cpu];
    Ok(vec![Measured {
        value: 2.0 * one.value / two.value,
        figures: vec![
            one.clone(),
            two.clone(),
            Figure::once(
                "share of the less busy thread",
                less_busy_percent,
                Unit::Percent,
            ),
        ],
        failures,
        plots: Vec::new(),
    }])
}
