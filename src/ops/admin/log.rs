//! `GET` and `PUT /log`: the level of the log, until it is changed again. `ops::log` is the log itself.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tracing::Level;

use super::Office;
use super::answer::{error, json, json_body};
use crate::ops::body::{Fields, NotUnderstood, shown};
use crate::ops::log::Control;

const MAX_BODY_BYTES: usize = 1 << 10;

/// Each level, and its name in the configuration.
const LEVELS: [(Level, &str); 5] = [
    (Level::TRACE, "trace"),
    (Level::DEBUG, "debug"),
    (Level::INFO, "info"),
    (Level::WARN, "warn"),
    (Level::ERROR, "error"),
];

pub(super) async fn show(State(office): State<Arc<Office>>) -> Response {
    told(&office)
}

pub(super) async fn change(State(office): State<Arc<Office>>, request: Request) -> Response {
    let body = match json_body(request, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let level = match read(&body) {
        Ok(level) => level,
        Err(fault) => return error(StatusCode::UNPROCESSABLE_ENTITY, &fault.to_string()),
    };
    let log = control(&office);
    let before = log.level();
    log.set_level(level);
    tracing::warn!(from = name(before), to = name(level), "log level");
    told(&office)
}

/// The level in effect, and the one that the configuration has.
#[derive(Serialize)]
struct Told {
    level: &'static str,
    configured: &'static str,
}

fn told(office: &Office) -> Response {
    let told = Told {
        level: name(control(office).level()),
        configured: name((office.admin.config)().log.level),
    };
    json(StatusCode::OK, &told)
}

fn control(office: &Office) -> &Control {
    let log = office.admin.log.as_ref();
    log.expect("without a log there is no such route")
}

fn read(body: &[u8]) -> Result<Level, NotUnderstood> {
    const ALLOWED: &str = "trace, debug, info, warn, error";
    let Fields::<Value>(fields) = Fields::read(body, r#"{"level":"debug"}"#)?;
    let mut wanted = None;
    for (name, value) in &fields {
        if name != "level" {
            return Err(NotUnderstood::new(shown(name), "is unknown", "level"));
        }
        let known = LEVELS.iter().find(|(_, name)| value == name);
        let wrong = || NotUnderstood::new("level", "is none of the choices", ALLOWED);
        wanted = Some(known.ok_or_else(wrong)?.0);
    }
    wanted.ok_or_else(|| NotUnderstood::new("level", "is missing", ALLOWED))
}

fn name(level: Level) -> &'static str {
    let known = LEVELS.iter().find(|(other, _)| *other == level);
    known.expect("every level has a name").1
}
