//! The file as a whole: which tables and keys there are, their defaults and limits, and what must fit together.
//!
//! This and the modules below are the only place that knows how the file spells things. `conf/edge.toml` is the same
//! list for people, and [`Config::effective`] prints it; tests hold the three together.

mod batch;
mod canary;
mod compression;
mod headers;
mod invalidate;
mod limits;
mod server;
mod taken;
pub(super) mod tls;
mod tracing;
mod upstream;

use std::time::Duration;

use ::tracing::Level;
use toml::de::DeTable;

use super::fault::Faults;
use super::names::{FORMATS, LEVELS};
use super::section::Section;
use super::{Cache, Config, ConfigError, Log, LogFormat};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Reads `text`, the content of the file called `name`.
pub(super) fn read(text: &str, name: &str) -> Result<Config, ConfigError> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(ConfigError::not_toml(name, text, &errors));
    }
    let faults = Faults::default();
    let config = config(Section::top(tree.get_ref(), &faults));
    match faults.report(name, text) {
        Some(error) => Err(error),
        None => Ok(config.expect("a part is missing only if a fault was added")),
    }
}

fn config(mut top: Section<'_>) -> Option<Config> {
    let server = top.section("server").and_then(server::server);
    let listen = server.as_ref().map(taken::taken).unwrap_or_default();
    let upstream = top
        .section("upstream")
        .and_then(|section| upstream::upstream(section, &listen));
    let batches = batch::batches(&mut top);
    let headers = top.section("headers").and_then(headers::headers);
    let invalidate = invalidate::rules(&mut top, batches.as_deref());
    let cache = top.section("cache").and_then(cache);
    let compression = top
        .section("compression")
        .and_then(compression::compression);
    let limits = top.section("limits").and_then(limits::limits);
    let admin = top
        .section("admin")
        .and_then(|section| server::admin(section, &listen));
    let log = top.section("log").and_then(log);
    let tracing = top.section("tracing").and_then(tracing::tracing);
    let canary = top
        .section("canary")
        .and_then(|section| canary::canary(section, batches.as_deref(), headers.as_ref()));
    top.finish();
    Some(Config {
        upstream: upstream?,
        batches: batches?,
        headers: headers?,
        invalidate: invalidate?,
        cache: cache?,
        compression: compression?,
        limits: limits?,
        admin: admin?,
        log: log?,
        tracing: tracing?,
        canary: canary?,
        server: server?,
    })
}

/// 1 to 128 visible ASCII characters.
fn visible(text: &str) -> Result<String, String> {
    match text {
        "" => Err("is empty".to_owned()),
        text if text.len() > 128 => Err("is longer than 128 characters".to_owned()),
        text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("holds other characters than visible ASCII".to_owned())
        }
        text => Ok(text.to_owned()),
    }
}

fn cache(mut section: Section<'_>) -> Option<Cache> {
    let max_bytes = section.size("max_bytes", 256 * MIB, MIB..=1024 * GIB);
    section.finish();
    Some(Cache {
        max_bytes: max_bytes?,
    })
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let level = section.choice("level", Level::INFO, LEVELS);
    let format = section.choice("format", LogFormat::Text, FORMATS);
    let access = section.flag("access", true);
    let request_id = section.flag("request_id", false);
    let slow = section.duration(
        "slow",
        Duration::from_secs(1),
        Duration::ZERO..=Duration::from_secs(3_600),
    );
    section.finish();
    Some(Log {
        level: level?,
        format: format?,
        access: access?,
        request_id: request_id?,
        slow: slow?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;

    #[test]
    fn a_cache_has_a_sensible_size() {
        assert_eq!(
            refused("[cache]\nmax_bytes = \"256MB\""),
            "edge.toml:2: cache.max_bytes: \"256MB\" is not a size; \
             allowed: a whole number and a unit of B, KiB, MiB or GiB, such as 256MiB"
        );
        assert_eq!(
            refused("[cache]\nmax_bytes = 268435456"),
            "edge.toml:2: cache.max_bytes: 268435456 is an integer, not a string; \
             allowed: a whole number and a unit of B, KiB, MiB or GiB, such as 256MiB"
        );
        for size in ["1023KiB", "99999999GiB"] {
            assert_eq!(
                refused(&format!("[cache]\nmax_bytes = \"{size}\"")),
                format!(
                    "edge.toml:2: cache.max_bytes: {size} is out of range; allowed: 1MiB to 1024GiB"
                )
            );
        }
    }

    #[test]
    fn a_log_setting_is_one_of_its_words() {
        assert_eq!(
            refused(
                "[log]\nlevel = \"verbose\"\nformat = \"xml\"\naccess = \"yes\"\nrequest_id = 1\nslow = 1"
            ),
            "edge.toml:2: log.level: \"verbose\" is none of the choices; allowed: trace, debug, info, warn, error\n\
             edge.toml:3: log.format: \"xml\" is none of the choices; allowed: text, json\n\
             edge.toml:4: log.access: \"yes\" is a string, not a boolean; allowed: true or false, without quotes\n\
             edge.toml:5: log.request_id: 1 is an integer, not a boolean; allowed: true or false, without quotes\n\
             edge.toml:6: log.slow: 1 is an integer, not a string; \
             allowed: a whole number and a unit, such as 300ms, 30s, 5m, 1h"
        );
    }
}
