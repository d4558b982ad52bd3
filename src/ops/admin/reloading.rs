//! `POST /reload`: the configuration file is read again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Office;
use super::answer::{error, json};
use crate::ops::moment::Moment;
use crate::ops::reload::{ReloadResult, Reloaded};

pub(super) async fn reload(State(office): State<Arc<Office>>) -> Response {
    // Files are read, which takes as long as their disk does.
    let reload = tokio::task::spawn_blocking(move || {
        let reload = office.admin.reload.as_ref();
        reload.expect("without one there is no such route")()
    });
    match reload.await {
        Ok(reloaded) => json(status(reloaded.result), &Told::of(&reloaded)),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "The reload panicked."),
    }
}

/// A reload, as operators are told it.
#[derive(Serialize)]
pub(super) struct Told {
    when: Moment,
    by: &'static str,
    result: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl Told {
    pub(super) fn of(reloaded: &Reloaded) -> Self {
        let lines = reloaded.lines.clone();
        let (changed, reasons) = match reloaded.result {
            ReloadResult::Applied => (lines, Vec::new()),
            ReloadResult::Refused => (Vec::new(), lines),
        };
        Self {
            when: Moment::on_the_wall(reloaded.at),
            by: reloaded.by.name(),
            result: reloaded.result.name(),
            changed,
            reasons,
        }
    }
}

fn status(result: ReloadResult) -> StatusCode {
    match result {
        ReloadResult::Applied => StatusCode::OK,
        ReloadResult::Refused => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ops::reload::Asker;

    #[test]
    fn what_changed_and_why_nothing_did_are_told_apart() {
        for (result, code, key) in [
            (ReloadResult::Applied, 200, "changed"),
            (ReloadResult::Refused, 422, "reasons"),
        ] {
            let told = Told::of(&Reloaded {
                at: SystemTime::UNIX_EPOCH,
                by: Asker::Signal,
                result,
                lines: vec!["log.level: info, now debug".to_owned()],
            });
            let told = serde_json::to_value(&told).unwrap();
            assert_eq!(status(result), code);
            assert_eq!(told[key][0], "log.level: info, now debug");
            assert_eq!(told["when"]["at"], "1970-01-01T00:00:00.000Z");
            assert_eq!(told.as_object().unwrap().len(), 4, "{told}");
        }
    }
}
