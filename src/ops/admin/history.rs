//! `GET /history?minutes=60`: what happened in each step of the last hour, in columns, as charts want it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Office;
use super::answer::{error, json};
use super::status::milliseconds;
use crate::cache::clock::Time;
use crate::ops::history::{History, STEP, Sample};

/// The longest that can be asked for, in minutes.
const MAX_MINUTES: u64 = 60;

pub(super) async fn show(State(office): State<Arc<Office>>, request: Request) -> Response {
    let Some(minutes) = minutes(request.uri().query()) else {
        let message = "The query must be minutes=N, a whole number from 1 to 60, or nothing.";
        return error(StatusCode::UNPROCESSABLE_ENTITY, message);
    };
    office.look();
    let now = office.admin.clock.now();
    let length = Duration::from_secs(60 * minutes);
    json(
        StatusCode::OK,
        &Columns::of(&office.history.lock(), length, now),
    )
}

fn minutes(query: Option<&str>) -> Option<u64> {
    let Some(query) = query else {
        return Some(MAX_MINUTES);
    };
    let minutes = query.strip_prefix("minutes=")?.parse().ok()?;
    (1..=MAX_MINUTES).contains(&minutes).then_some(minutes)
}

/// One place of each list for one step; null where there was nothing.
#[derive(Default, Serialize)]
struct Columns {
    step_seconds: u64,
    /// When the step ended, in seconds since 1970 (UTC).
    time: Vec<f64>,
    requests_per_second: Vec<f64>,
    passed_through_per_second: Vec<f64>,
    batches_per_second: Vec<f64>,
    fetches_per_second: Vec<f64>,
    hit_ratio_requests: Vec<Option<f64>>,
    hit_ratio_items: Vec<Option<f64>>,
    latency_p50_ms: Vec<Option<f64>>,
    latency_p99_ms: Vec<Option<f64>>,
}

impl Columns {
    fn of(history: &History, length: Duration, now: Time) -> Self {
        let mut columns = Self {
            step_seconds: STEP.as_secs(),
            ..Self::default()
        };
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let today = today.unwrap_or_default();
        for (before, after) in history.steps(length, now) {
            columns.add(before, after, today.saturating_sub(now.since(after.at)));
        }
        columns
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "what was counted in seconds is far from 2^53"
    )]
    fn add(&mut self, before: &Sample, after: &Sample, ended: Duration) {
        let seconds = after.at.since(before.at).as_secs_f64();
        let rate = |count: u64| (count as f64 / seconds * 1_000.0).round() / 1_000.0;
        let counts = after.counts.since(&before.counts);
        self.time.push(ended.as_secs_f64().round());
        self.requests_per_second.push(rate(counts.requests));
        self.passed_through_per_second.push(rate(counts.passed));
        self.batches_per_second.push(rate(counts.batches()));
        self.fetches_per_second.push(rate(counts.fetches));
        self.hit_ratio_requests.push(counts.hit_ratio());
        self.hit_ratio_items.push(counts.item_hit_ratio());
        let latency = after.latency.as_ref();
        self.latency_p50_ms
            .push(latency.map(|it| milliseconds(it.p50)));
        self.latency_p99_ms
            .push(latency.map(|it| milliseconds(it.p99)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_shown_unless_less_is_asked_for() {
        assert_eq!(minutes(None), Some(60));
        assert_eq!(minutes(Some("minutes=5")), Some(5));
        for wrong in [
            "",
            "minutes=",
            "minutes=0",
            "minutes=61",
            "minutes=5&x=1",
            "hours=1",
        ] {
            assert_eq!(minutes(Some(wrong)), None, "{wrong}");
        }
    }
}
