//! Figures: what was measured of one server, in which unit.

use std::fmt;

use serde::Serialize;

/// A figure of one server, or of one way to ask it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) of: String,
    /// The median, if there were rounds.
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(crate) rounds: Vec<f64>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Microseconds,
    PerSecond,
    Bytes,
    MegaBytes,
    Kib,
    Count,
    Percent,
}

impl Figure {
    /// The median of rounds.
    pub(crate) fn median_of(of: impl Into<String>, rounds: Vec<f64>, unit: Unit) -> Self {
        Self {
            of: of.into(),
            value: median(&rounds),
            unit,
            rounds,
        }
    }

    /// What was measured once.
    pub(crate) fn once(of: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self {
            of: of.into(),
            value,
            unit,
            rounds: Vec::new(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of, value, unit, ..
        } = self;
        write!(f, "{of} ")?;
        match unit {
            Unit::Microseconds => write!(f, "{value:.1} µs"),
            Unit::PerSecond => write!(f, "{value:.0}/s"),
            Unit::Bytes => write!(f, "{value:.0} B"),
            Unit::MegaBytes => write!(f, "{value:.1} MB"),
            Unit::Kib => write!(f, "{value:.1} KiB"),
            Unit::Count => write!(f, "{value:.0}"),
            Unit::Percent => write!(f, "{value:.1} %"),
        }
    }
}

/// The middle one; of an even number the lower of two. No number of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// A count as a number with a fraction; none here is large enough to lose any of its digits.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts here are far below what a double counts exactly"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_a_noisy_round_is_that_of_the_others() {
        assert!((median(&[3.0, 900.0, 2.0]) - 3.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
