//! Families whose values are kept elsewhere, and are read when somebody looks.
//!
//! They need no place of their own between two readings, so nothing has to keep them in step, and two who look at once
//! cannot disturb each other.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A gauge without a label.
pub(super) fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge_of(value)])
}

/// A gauge for each value of a label.
pub(super) fn gauge_per<'a>(
    name: &str,
    help: &str,
    label: &str,
    samples: impl IntoIterator<Item = (&'a str, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter();
    let samples = samples.map(|(of, value)| labelled(gauge_of(value), label, of));
    family(name, help, MetricType::GAUGE, samples.collect())
}

/// A counter without a label.
pub(super) fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counter_of(value)])
}

/// A counter for each value of a label.
pub(super) fn counter_per<'a>(
    name: &str,
    help: &str,
    label: &str,
    samples: impl IntoIterator<Item = (&'a str, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter();
    let samples = samples.map(|(of, value)| labelled(counter_of(value), label, of));
    family(name, help, MetricType::COUNTER, samples.collect())
}

fn family(name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

fn gauge_of(value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

fn counter_of(value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut sample = Metric::default();
    sample.set_counter(counter);
    sample
}

fn labelled(mut sample: Metric, label: &str, value: &str) -> Metric {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(value.to_owned());
    sample.set_label(vec![pair]);
    sample
}
