//! Families whose values are kept elsewhere, and are read when somebody looks.
//!
//! They need no place of their own between two readings, so nothing has to keep them in step, and two who look at once
//! cannot disturb each other.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A gauge without a label.
pub(super) fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, [(None, value)])
}

/// A gauge for each value of a label.
pub(super) fn gauge_per<'a>(
    name: &str,
    help: &str,
    label: &str,
    samples: impl IntoIterator<Item = (&'a str, f64)>,
) -> MetricFamily {
    family(name, help, MetricType::GAUGE, labelled(label, samples))
}

/// A counter without a label.
pub(super) fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, [(None, value)])
}

/// A counter for each value of a label.
pub(super) fn counter_per<'a>(
    name: &str,
    help: &str,
    label: &str,
    samples: impl IntoIterator<Item = (&'a str, f64)>,
) -> MetricFamily {
    family(name, help, MetricType::COUNTER, labelled(label, samples))
}

/// These samples, each with its label.
fn labelled<'a>(
    label: &str,
    samples: impl IntoIterator<Item = (&'a str, f64)>,
) -> impl Iterator<Item = (Option<LabelPair>, f64)> {
    samples.into_iter().map(move |(of, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(label.to_owned());
        pair.set_value(of.to_owned());
        (Some(pair), value)
    })
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = (Option<LabelPair>, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(label, value)| {
        let mut sample = sample(kind, value);
        sample.set_label(label.into_iter().collect());
        sample
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples.collect());
    family
}

fn sample(kind: MetricType, value: f64) -> Metric {
    let mut sample = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        sample.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        sample.set_gauge(gauge);
    }
    sample
}
