//! The phones of the model, and the configuration of the edge that they ask.

use std::fmt::Write as _;
use std::sync::LazyLock;

use pingora_http::RequestHeader;

use super::history::{DEVICES, USERS};
use crate::config::Config;

/// Known windows: no jitter, and an order that needs no learning.
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
pub(super) fn phone(user: u8, device: u8) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    let mut set = |name: &'static str, value: String| request.insert_header(name, value).unwrap();
    set("Authorization", format!("Bearer user-{user}"));
    set("X-UUID", format!("device-{device}"));
    set("X-Client", "ios".to_owned());
    set("Accept", "application/json".to_owned());
    request
}

/// The request of a phone for some intercoms.
pub(super) fn asking(user: u8, device: u8, ids: &[u64], no_cache: bool) -> RequestHeader {
    static PHONES: LazyLock<Vec<RequestHeader>> = LazyLock::new(|| {
        let of = |user| (0..DEVICES).map(move |device| phone(user, device));
        (0..USERS).flat_map(of).collect()
    });
    let mut request = PHONES[usize::from(user * DEVICES + device)].clone();
    let mut target = "/api/v1/intercom/shows".to_owned();
    for (place, id) in ids.iter().enumerate() {
        let separator = if place == 0 { '?' } else { '&' };
        write!(target, "{separator}ids[]={id}").expect("writing to a String cannot fail");
    }
    request
        .set_raw_path(target.as_bytes())
        .expect("it is a target");
    if no_cache {
        request
            .insert_header("Cache-Control", "no-cache")
            .expect("it is a field");
    }
    request
}
