//! Whether a second core is worth its while.

use super::questions::{batches, over_and_over};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Figure, Goal, Measured, Measurement, Row, Unit};
use crate::bench::Bench;
use crate::generator::answer::Coding;
use crate::servers::{Door, edge};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "cores",
        what: "two cores against one",
        goal: Goal::Least(1.8),
        says: "Hits of 10 items per CPU second: twice the CPU time of a hit with one thread on one core, over that with two \
               threads on two. This is what two cores would answer if nobody else needed them; here the generator needs one, \
               so requests per second would tell of it instead. Both threads must have been busy.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

/// Share of the work that the less busy of two threads must have done at the least, in percent.
const BUSY_PERCENT: f64 = 25.0;

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    if bench.cores().generator == [bench.cores().server] {
        return Ok(vec![Measured::impossible("the machine has one core")]);
    }
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
