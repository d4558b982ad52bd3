//! An edge that has no descriptor left: whoever is there is served, nothing turns in circles, and it recovers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Siege;
use super::beside::{Stage, Waited};
use crate::figure::{Figure, Unit};
use crate::generator::connection::Connection;
use crate::hostile::{Attack, Harm};
use crate::rows::{Fault, Goal, Measured, Row};

pub(super) static ROWS: [Row; 2] = [
    Row {
        name: "descriptors",
        what: "p99 of a hit on an edge without free descriptors, against undisturbed",
        goal: Goal::Most(2.0),
        says: "The edge may have 256 descriptors, and 400 clients take what there are; those who were there before ask on.",
    },
    Row {
        name: "circles",
        what: "CPU of an edge without free descriptors that nobody asks, in cores",
        goal: Goal::Most(0.05),
        says: "The CPU time of the process for as long as it has no descriptor and no request. Once some are free, it accepts \
               again.",
    },
];

/// What the edge may have, and how many want some.
const DESCRIPTORS: u64 = 256;
const CLIENTS: usize = 400;

/// How long it may take to notice that some are free.
const RECOVERY: Duration = Duration::from_secs(10);

/// What an edge says that has none.
const SAID: &str = "no connection can be accepted now";

pub(super) async fn measure(siege: &Siege) -> Result<Vec<Measured>, Fault> {
    let mut stage = Stage::set(siege, "").await?;
    stage.neighbour.stays();
    siege.bench.tells("undisturbed, before descriptors are few");
    let quiet = Waited::by(siege, &mut stage.neighbour).await;
    stage.edge.limit_descriptors(DESCRIPTORS)?;
    siege.bench.tells("without free descriptors");
    let harm = Arc::new(Harm::default());
    let attacking = siege.attacks(Attack::Idle, &stage.victim, CLIENTS, &harm);
    let mut failures = Vec::new();
    let said = async {
        while !stage.edge.output().contains(SAID) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(RECOVERY, said).await.is_err() {
        failures.push("the edge never ran out of descriptors".to_owned());
    }
    let (cpu, began) = (stage.edge.cpu(), Instant::now());
    sleep(siege.bench.round()).await;
    let idle = (stage.edge.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let full = Waited::by(siege, &mut stage.neighbour).await;
    attacking.abort();
    let freed = Instant::now();
    let recovered = timeout(RECOVERY, async {
        let mut newcomer = Connection::new(stage.victim.plain.clone());
        while newcomer.ask(&stage.victim.request).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    if recovered.await.is_err() {
        failures.push("the edge does not accept again".to_owned());
    }
    let recovery = freed.elapsed().as_secs_f64() * 1e6;
    failures.extend(quiet.failures("undisturbed"));
    failures.extend(full.failures("without descriptors"));
    let (quiet, full) = (
        quiet.figures("undisturbed"),
        full.figures("without descriptors"),
    );
    let recovery = Figure::once("accepts again after", recovery, Unit::Microseconds);
    Ok(vec![
        Measured {
            value: full[1].value / quiet[1].value,
            figures: [quiet, full].concat(),
            failures: failures.clone(),
            ..Measured::default()
        },
        Measured {
            value: idle,
            figures: vec![
                Figure::once("CPU of the edge", idle * 100.0, Unit::Percent),
                recovery,
            ],
            failures,
            ..Measured::default()
        },
    ])
}
