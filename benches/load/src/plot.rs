//! Plots, as data: the page draws them.

use serde::Serialize;

use crate::figure::float;
use crate::generator::tally::Tally;

/// Curves over the same places.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) places: Vec<f64>,
    pub(crate) curves: Vec<Curve>,
}

/// What stands along an edge of a plot.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

/// How far apart places are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
    /// Places are 1 / (1 - quantile), and shown as percentiles.
    Percentiles,
}

/// A curve; where it has no value, it has a gap.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) values: Vec<Option<f64>>,
}

impl Plot {
    /// Latencies by percentile, up to what so many answers can tell.
    pub(crate) fn of_latencies(title: impl Into<String>, tallies: &[(&str, &Tally)]) -> Self {
        let most = tallies.iter().map(|(_, tally)| tally.latency.len()).max();
        let last = float(most.unwrap_or(0).max(10));
        let places = (0..).map(|step| 10_f64.powf(f64::from(step) / 10.0));
        let places: Vec<f64> = places.take_while(|&place| place <= last).collect();
        let curve = |(name, tally): &(&str, &Tally)| {
            let values = places.iter().map(|place| {
                let is_told = *place <= float(tally.latency.len());
                is_told.then(|| tally.percentile_us(1.0 - 1.0 / place))
            });
            Curve {
                name: (*name).to_owned(),
                values: values.collect(),
            }
        };
        Self {
            title: title.into(),
            x: Axis {
                label: "percentile",
                scale: Scale::Percentiles,
            },
            y: Axis {
                label: "latency, µs",
                scale: Scale::Logarithmic,
            },
            curves: tallies.iter().map(curve).collect(),
            places,
        }
    }
}

impl Axis {
    pub(crate) fn linear(label: &'static str) -> Self {
        let scale = Scale::Linear;
        Self { label, scale }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_curve_ends_where_there_are_no_more_answers_to_tell_it() {
        let (mut many, mut few) = (Tally::default(), Tally::default());
        for us in 1..=1000 {
            many.answers(Duration::from_micros(us), Duration::ZERO);
        }
        for us in 1..=100 {
            few.answers(Duration::from_micros(us), Duration::ZERO);
        }
        let plot = Plot::of_latencies("a", &[("many", &many), ("few", &few)]);
        assert!((plot.places.last().unwrap() - 1000.0).abs() < 1e-6);
        let median = plot.curves[0].values[3].unwrap();
        assert!((490.0..510.0).contains(&median), "{median}");
        assert!(plot.curves[0].values.iter().all(Option::is_some));
        assert!(plot.curves[1].values.last().unwrap().is_none());
    }
}
