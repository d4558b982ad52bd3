//! The phones of the model, and the configuration of the edge that they ask.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use http::HeaderName;
use pingora_http::RequestHeader;

use super::history::{Asker, DEVICES, LANGUAGES, USERS};
use super::schedule::Ask;
use crate::config::Config;

/// The header that says in which language a phone wants to be answered. The edge is told of it, or has to learn it.
pub(super) const LANGUAGE: HeaderName = HeaderName::from_static("hl");

/// Known windows: no jitter, and an order that needs no learning. Two items and more are worth a coding.
pub(super) static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = r#"
        upstream.servers = ["127.0.0.1:9"]
        [[batch]]
        path = "/api/v1/intercom/shows"
        fresh = "15s"
        stale_while_revalidate = "15s"
        stale_if_error = "60s"
        absent = "12s"
        jitter = 0.0
        order = "id"
        [compression]
        codings = ["gzip"]
        min_bytes = "64B"
        [[invalidate]]
        path = "/api/v1/intercom/{id}"
        scope = ["user"]
        [[invalidate]]
        path = "/api/admin/v1/intercoms/{id}"
        scope = ["item"]
        [[invalidate]]
        path = "/api/v1/billing/**"
        scope = ["all"]
    "#;
    Config::parse(text, "the model").expect("it is a good configuration")
});

/// The request of a phone, but for its target.
pub(super) fn phone(asker: Asker) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    let mut set = |name: &'static str, value: String| request.insert_header(name, value).unwrap();
    set("Authorization", format!("Bearer user-{}", asker.user));
    set("X-UUID", format!("device-{}", asker.device));
    set("Hl", format!("language-{}", asker.language));
    set("X-Client", "ios".to_owned());
    set("Accept", "application/json".to_owned());
    request
}

/// The request of a phone for some intercoms, of which it holds the answers with these tags.
pub(super) fn asking(ask: Ask, ids: &[u64], held: &[String]) -> RequestHeader {
    static PHONES: LazyLock<HashMap<Asker, RequestHeader>> = LazyLock::new(|| {
        let askers = (0..USERS * DEVICES * LANGUAGES).map(|number| Asker {
            user: number % USERS,
            device: number / USERS % DEVICES,
            language: number / USERS / DEVICES,
        });
        askers.map(|asker| (asker, phone(asker))).collect()
    });
    const FIELD: &str = "it is a field";
    let mut request = PHONES[&ask.asker].clone();
    let mut target = "/api/v1/intercom/shows".to_owned();
    for (place, id) in ids.iter().enumerate() {
        let separator = if place == 0 { '?' } else { '&' };
        write!(target, "{separator}ids[]={id}").expect("writing to a String cannot fail");
    }
    request
        .set_raw_path(target.as_bytes())
        .expect("it is a target");
    let mut set = |name: &'static str, value: &str| {
        request.insert_header(name, value).expect(FIELD);
    };
    if ask.no_cache {
        set("Cache-Control", "no-cache");
    }
    if ask.takes_gzip {
        set("Accept-Encoding", "gzip");
    }
    if !held.is_empty() {
        set("If-None-Match", &held.join(", "));
    }
    request
}
