//! What a connection costs that was used and is kept.

use super::questions::{Prepared, batches};
use super::{Fault, Goal, Measured, Measurement, Row};
use crate::bench::Bench;
use crate::figure::{Figure, Unit, float};
use crate::generator::answer::Coding;
use crate::generator::connection::Connection;
use crate::servers::{Door, HIT_LIFETIME, Server, edge, nginx};

pub(super) const MEASUREMENT: Measurement = Measurement {
    rows: &[Row {
        name: "idle",
        what: "memory per idle keep-alive connection",
        goal: Goal::MostKib(32.0),
        says: "Growth of resident memory by 2,000 connections, each of which was answered one hit of 10 items and is kept \
               open; what the kernel keeps is not counted.",
    }],
    how: |bench| Box::pin(measure(bench)),
};

const CONNECTIONS: u64 = 2000;

/// Connections that are opened before it counts, so that what a server takes once is taken.
const BEFORE: usize = 50;

async fn measure(bench: &Bench) -> Result<Vec<Measured>, Fault> {
    let vms = bench.vms()?;
    let servers = [
        edge::start(bench, &vms, &edge::Settings::default())?,
        nginx::start(bench, &vms, HIT_LIFETIME)?,
    ];
    let questions = batches(&vms.stand_in, 10);
    let prepared: Vec<Prepared> = questions
        .iter()
        .map(|question| question.prepared(Coding::Identity))
        .collect();
    let mut measured = Measured::default();
    for server in &servers {
        bench.tells(server.name());
        match kib_per_connection(server, &prepared).await {
            Ok(kib) => measured
                .figures
                .push(Figure::once(server.name(), kib, Unit::Kib)),
            Err(why) => {
                return Ok(vec![Measured::impossible(&format!(
                    "{}: {why}",
                    server.name()
                ))]);
            }
        }
    }
    measured.value = measured.figures[0].value;
    Ok(vec![measured])
}

async fn kib_per_connection(server: &Server, prepared: &[Prepared]) -> Result<f64, String> {
    let mut kept = Vec::new();
    for question in prepared.iter().cycle().take(prepared.len().max(BEFORE)) {
        kept.push(asked(server, question).await?);
    }
    let before = server.occupied_bytes();
    for (_, question) in (0..CONNECTIONS).zip(prepared.iter().cycle()) {
        kept.push(asked(server, question).await?);
    }
    let grown = server.occupied_bytes().saturating_sub(before);
    Ok(float(grown) / float(CONNECTIONS) / 1024.0)
}

/// A new connection that was answered one request.
async fn asked(server: &Server, question: &Prepared) -> Result<Connection, String> {
    let mut connection = Connection::new(server.door(Door::Cache));
    let answer = connection
        .ask(&question.request)
        .await
        .map_err(|broken| broken.to_string())?;
    question
        .expected
        .judge(&answer)
        .map_err(|wrong| wrong.to_string())?;
    Ok(connection)
}
