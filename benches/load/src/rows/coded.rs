//! What a compressed hit costs, against one that is not, and how small it is.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::{sleep, timeout};

use super::questions::{Prepared, Question, batches, over_and_over};
use super::rounds::{Contender, cpu_per_request};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::figure::{Figure, Unit, float};
use crate::generator::answer::Coding;
use crate::generator::connection::{Connection, Destination};
use crate::servers::{Door, HIT_LIFETIME, edge, nginx};

const COST: &str = "CPU time of the server per request for 10 items, as above, by clients that accept this coding, \
     once all answers were compressed; beside it nginx that compresses each answer anew, at level 1.";
const SIZE: &str =
    "Bytes of twenty answers of 10 items, against the same compressed by zlib at level 6.";

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[
        Row {
            name: "gzip",
            what: "CPU per hit with gzip accepted, against our own plain hit",
            goal: Goal::Most(1.10),
            says: COST,
        },
        Row {
            name: "br",
            what: "CPU per hit with br accepted, against our own plain hit",
            goal: Goal::Most(1.10),
            says: COST,
        },
        Row {
            name: "gzip-size",
            what: "size of a hit with gzip, against gzip -6",
            goal: Goal::Most(1.0),
            says: SIZE,
        },
        Row {
            name: "br-size",
            what: "size of a hit with br, against gzip -6",
            goal: Goal::Most(1.0),
            says: SIZE,
        },
    ],
    how: |bench| Box::pin(measure(bench)),
};

/// How long answers may take to be compressed, all of them, and how often they are asked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(5);

/// Answers whose sizes are compared.
const COMPARED: usize = 20;

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let edge = edge::start(bench, &vms, &edge::Settings::default())?;
    let nginx = nginx::start(bench, &vms, HIT_LIFETIME)?;
    let questions = batches(&vms.stand_in, 10);
    let asked = |server, name: &str, coding| Contender {
        name: name.to_owned(),
        ..Contender::at(server, Door::Gzip, over_and_over(&questions, coding))
    };
    let contenders = [
        asked(&edge, "vms-edge plain", Coding::Identity),
        asked(&edge, "vms-edge gzip", Coding::Gzip),
        asked(&edge, "vms-edge br", Coding::Brotli),
        asked(&nginx, "nginx gzip", Coding::Gzip),
    ];
    let to = edge.door(Door::Gzip);
    for coding in [Coding::Gzip, Coding::Brotli] {
        bench.tells("until all answers are compressed");
        let _ = timeout(PATIENCE, all_coded(&to, &questions, coding)).await;
    }
    let rounds = cpu_per_request(bench, &contenders).await;
    let [plain, gzip, br, beside] = rounds
        .try_into()
        .unwrap_or_else(|_| unreachable!("four were asked"));
    let sizes = [
        sizes(&to, &questions, Coding::Gzip).await,
        sizes(&to, &questions, Coding::Brotli).await,
    ];
    let cost = |coded: &super::rounds::Rounds| Measured {
        value: coded.cpu.value / plain.cpu.value,
        figures: vec![coded.cpu.clone(), plain.cpu.clone(), beside.cpu.clone()],
        failures: [&plain.failures[..], &coded.failures].concat(),
        plots: Vec::new(),
    };
    let costs = [cost(&gzip), cost(&br)];
    Ok(costs.into_iter().chain(sizes).collect())
}

/// Asks every question until its answer has the coding: the edge compresses beside its work, and once. Whoever waits in
/// vain finds answers without it in what is measured.
async fn all_coded(to: &Destination, questions: &[Question], coding: Coding) {
    let mut connection = Connection::new(to.clone());
    for question in questions {
        let prepared = question.prepared(coding);
        while !has_coding(&mut connection, &prepared, coding).await {
            sleep(STEP).await;
        }
    }
}

async fn has_coding(connection: &mut Connection, prepared: &Prepared, coding: Coding) -> bool {
    let answer = connection.ask(&prepared.request).await;
    answer.is_ok_and(|answer| answer.head.coding == coding)
}

/// How large answers in a coding are, against what gzip makes of them.
async fn sizes(to: &Destination, questions: &[Question], coding: Coding) -> Measured {
    let mut connection = Connection::new(to.clone());
    let (mut coded, mut zipped) = (0, 0);
    let mut failures = Vec::new();
    for question in &questions[..COMPARED] {
        match connection.ask(&question.prepared(coding).request).await {
            Ok(answer) if answer.head.coding == coding => {
                coded += answer.body.len();
                zipped += gzip_6(&question.answer).len();
            }
            Ok(answer) => failures.push(format!("the coding is {:?}", answer.head.coding)),
            Err(broken) => failures.push(broken.to_string()),
        }
    }
    failures.truncate(1);
    let [coded, zipped] = [coded, zipped].map(|bytes| float(bytes as u64));
    let per_answer =
        |of: &str, bytes| Figure::once(of, bytes / float(COMPARED as u64), Unit::Bytes);
    Measured {
        value: coded / zipped,
        figures: vec![per_answer("vms-edge", coded), per_answer("gzip -6", zipped)],
        failures,
        plots: Vec::new(),
    }
}

fn gzip_6(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let zipped = encoder.write_all(bytes).and_then(|()| encoder.finish());
    zipped.expect("memory can be written to")
}
