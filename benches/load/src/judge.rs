//! Makes the measurements, one after the other, and judges what came out.

use crate::bench::Bench;
use crate::interrupt::Interrupt;
use crate::report::{Judged, Report};
use crate::rows::{Fault, Measured, Measurement, Row};

/// Makes `measurements` until an interrupt comes, which stops what the one under way has started; of one that cannot be
/// made, its rows say why.
pub(crate) async fn judge(
    bench: &Bench,
    measurements: &[&'static Measurement],
    interrupt: &mut Interrupt,
) -> Report {
    bench.begins(measurements.len());
    let mut rows = Vec::new();
    let mut interrupted = false;
    for measurement in measurements {
        bench.tells(measurement.rows[0].what);
        let Some(measured) = interrupt.or(measurement.measure(bench)).await else {
            interrupted = true;
            break;
        };
        rows.extend(judged(measurement.rows, measured));
        bench.is_done_with_one();
    }
    Report::new(bench, rows, interrupted)
}

/// Rows with what came out of them; of what could not be measured, they say why.
pub(crate) fn judged(rows: &'static [Row], measured: Result<Vec<Measured>, Fault>) -> Vec<Judged> {
    match measured {
        Ok(measured) => {
            assert_eq!(rows.len(), measured.len(), "a measurement fills its rows");
            let judged = rows.iter().zip(measured);
            judged
                .map(|(row, measured)| Judged::new(row, measured))
                .collect()
        }
        Err(fault) => {
            let why = fault.to_string();
            let fails = |row| Judged::new(row, Measured::impossible(&why));
            rows.iter().map(fails).collect()
        }
    }
}
