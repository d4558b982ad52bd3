//! CPU time of a request, of several servers in turn: one round of each, then the next round of each.
//!
//! Times are the processes' own, so that a busy machine disturbs them less than requests per second, and what disturbs a
//! round disturbs its neighbours too.

use std::sync::Arc;
use std::time::Duration;

use super::Measured;
use crate::bench::Bench;
use crate::figure::float;
use crate::figure::{Figure, Unit};
use crate::generator::connection::Destination;
use crate::generator::http2::{self, Question};
use crate::generator::tally::Tally;
use crate::generator::{Asked, Load, Script};
use crate::servers::{Door, Server};

/// Connections of a closed loop: more than one server core answers at once.
pub(super) const CONNECTIONS: usize = 16;

/// Connections over HTTP/2, and streams of each.
const HTTP2: (usize, usize) = (4, 8);

/// How long a round lasts before it counts: by then everything is in memory that can be.
const BEGINNING: Duration = Duration::from_millis(500);

/// A server, and what it is asked.
pub(super) struct Contender<'a> {
    pub(super) name: String,
    pub(super) server: &'a Server,
    pub(super) to: Destination,
    pub(super) asks: Asks,
}

/// What is asked.
pub(super) enum Asks {
    /// Scripts, each from a number of its own.
    Http1(Box<dyn Fn(u64) -> Box<dyn Script>>),
    Http2(Arc<[Question]>),
}

/// What came of a contender.
pub(super) struct Rounds {
    pub(super) cpu: Figure,
    pub(super) failures: Vec<String>,
}

/// Measures contenders in turn.
pub(super) async fn cpu_per_request(bench: &Bench, contenders: &[Contender<'_>]) -> Vec<Rounds> {
    let mut cpu_us: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    let mut tallies = vec![Tally::default(); contenders.len()];
    for round in 0..bench.effort().rounds {
        for (place, contender) in contenders.iter().enumerate() {
            bench.tells(&format!("{}, round {}", contender.name, round + 1));
            contender.asked(BEGINNING, 0).await;
            let before = contender.server.cpu();
            let tally = contender.asked(bench.round(), round as u64 + 1).await;
            let used = contender.server.cpu() - before;
            cpu_us[place].push(used.as_secs_f64() * 1e6 / float(tally.asked()));
            tallies[place].merge(&tally);
        }
    }
    let results = contenders.iter().zip(cpu_us).zip(&tallies);
    let results = results.map(|((contender, cpu_us), tally)| Rounds {
        cpu: Figure::median_of(contender.name.clone(), cpu_us, Unit::Microseconds),
        failures: failures(&contender.name, tally),
    });
    results.collect()
}

/// What failed, in words.
pub(crate) fn failures(name: &str, tally: &Tally) -> Vec<String> {
    let first = tally.first_failure.as_deref().unwrap_or_default();
    match (tally.failed(), tally.answered) {
        (0, 0) => vec![format!("{name}: nothing was answered")],
        (0, _) => Vec::new(),
        (failed, _) => vec![format!(
            "{name}: {failed} of {} requests failed, first: {first}",
            tally.asked()
        )],
    }
}

impl Contender<'_> {
    async fn asked(&self, lasting: Duration, seed: u64) -> Tally {
        match &self.asks {
            Asks::Http1(script) => {
                let load = Load::closed(&self.to, CONNECTIONS, lasting);
                load.run(script(seed)).await
            }
            Asks::Http2(questions) => {
                let (connections, streams) = HTTP2;
                let load = http2::Load {
                    to: self.to.clone(),
                    connections,
                    streams,
                    lasting,
                };
                load.run(Arc::clone(questions)).await
            }
        }
    }
}

impl Script for Box<dyn Script> {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Asked> {
        (**self).next(request)
    }
}

impl<'a> Contender<'a> {
    /// A server that is asked at one of its addresses.
    pub(super) fn at(server: &'a Server, door: Door, asks: Asks) -> Self {
        Self {
            name: server.name().to_owned(),
            server,
            to: server.door(door),
            asks,
        }
    }
}

impl Measured {
    /// The first one's CPU time against the second's; the others stand beside them.
    pub(super) fn ratio_of_first_two(rounds: Vec<Rounds>) -> Self {
        Self {
            value: rounds[0].cpu.value / rounds[1].cpu.value,
            failures: rounds.iter().flat_map(|of| of.failures.clone()).collect(),
            figures: rounds.into_iter().map(|of| of.cpu).collect(),
            plots: Vec::new(),
        }
    }
}
