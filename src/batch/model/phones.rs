//! Who asks, and how: the phones of the model, the requests that they send, and the configurations of the edge that they ask.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use bytes::Bytes;
use http::header;
use pingora_http::RequestHeader;

use crate::config::Config;
use crate::request::peer::Peer;
use crate::request::{self, Scheme};

/// Paths of the endpoints.
pub(super) const PATHS: [&str; 2] = ["/api/v1/intercom/shows", "/api/v1/cameras/shows"];

/// Known windows: no jitter, and an order that needs no learning. One coding is enough, which is made of small answers too.
const SETTINGS: &str = r#"
upstream.servers = ["127.0.0.1:9"]
compression.codings = ["gzip"]
compression.min_bytes = "64B"
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

/// What the edge begins with, and what it may be reloaded with: other keys, and no second endpoint.
pub(super) static CONFIGS: LazyLock<[Config; 3]> = LazyLock::new(|| {
    let usual = ["X-UUID", "X-Client", "X-Version", "Hl", "Accept-Language"];
    let others = ["X-UUID", "X-Client", "Hl"];
    [
        config(&usual, &PATHS),
        config(&others, &PATHS),
        config(&usual, &PATHS[..1]),
    ]
});

fn config(vary: &[&str], paths: &[&str]) -> Config {
    let mut text = format!("headers.vary = {vary:?}\n{SETTINGS}");
    for path in paths {
        let windows = "fresh = \"15s\"\nstale_while_revalidate = \"15s\"\nstale_if_error = \"60s\"\nabsent = \"12s\"";
        write!(
            text,
            "[[batch]]\npath = {path:?}\n{windows}\njitter = 0.0\norder = \"id\"\n"
        )
        .expect("writing to a String cannot fail");
    }
    Config::parse(&text, "the model").expect("it is a good configuration")
}

/// What a request may differ in, beside its user, its device and its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    Client,
    Language,
    /// A header that is in the key once the VMS has named it in `Vary`.
    Zone,
    /// The name, the scheme and what a proxy says of them.
    Way,
    /// Ids in the query or in the body, with another parameter or without.
    Form,
    Path,
}

impl Trait {
    pub(super) const ALL: [Self; 6] = [
        Self::Client,
        Self::Language,
        Self::Zone,
        Self::Way,
        Self::Form,
        Self::Path,
    ];

    /// How many there are of it. The first is what most have.
    pub(super) fn kinds(self) -> u8 {
        match self {
            Self::Client | Self::Language | Self::Path => 2,
            Self::Zone => 3,
            Self::Way | Self::Form => 4,
        }
    }
}

/// Who asks, and by all that the VMS sees: two of whom are the same only if it cannot tell them apart but for their ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) user: u8,
    pub(super) device: u8,
    traits: [u8; Trait::ALL.len()],
}

impl Who {
    /// A user with a device, and nothing special about them.
    pub(super) fn plain(user: u8, device: u8) -> Self {
        Self {
            user,
            device,
            traits: Default::default(),
        }
    }

    pub(super) fn with(mut self, of: Trait, kind: u8) -> Self {
        self.traits[of as usize] = kind;
        self
    }

    pub(super) fn is(&self, of: Trait) -> u8 {
        self.traits[of as usize]
    }

    /// What the VMS calls one who asks so.
    pub(super) fn seen(&self) -> String {
        let language = ["en", "kk"][usize::from(self.is(Trait::Language))];
        let way = match self.is(Trait::Way) {
            0 => "http://vms.local",
            1 => "http://other.local",
            2 => "https://vms.local",
            _ => "http://first.local/prefix",
        };
        let form = ["query ", "query tz=1", "body ", "body \"tz\":1"];
        format!(
            "user-{} device-{} {} {language} {way} {} {}",
            self.user,
            self.device,
            CLIENTS[usize::from(self.is(Trait::Client))],
            PATHS[usize::from(self.is(Trait::Path))],
            form[usize::from(self.is(Trait::Form))]
        )
    }

    /// What it says of its zone.
    pub(super) fn zone(&self) -> &'static str {
        ZONES[usize::from(self.is(Trait::Zone))].unwrap_or("none")
    }

    /// Where it comes from.
    pub(super) fn peer(&self) -> Peer {
        let way = self.is(Trait::Way);
        Peer {
            address: "127.0.0.1".parse().expect("it is an address"),
            is_trusted: way == 3,
            scheme: if way == 2 {
                Scheme::Https
            } else {
                Scheme::Http
            },
        }
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} device {}", self.user, self.device)?;
        let others = Trait::ALL.into_iter().filter(|of| self.is(*of) != 0);
        others
            .into_iter()
            .try_for_each(|of| write!(f, " {of:?} {}", self.is(of)))
    }
}

const CLIENTS: [&str; 2] = ["ios", "android"];
const ZONES: [Option<&str>; 3] = [None, Some("east"), Some("west")];

/// The request of somebody, but for its target.
pub(super) fn phone(who: Who) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).expect("it is a request line");
    let mut set = |name: &'static str, value: &str| {
        request
            .insert_header(name, value)
            .expect("it is a header field");
    };
    set("Authorization", &format!("Bearer user-{}", who.user));
    set("X-UUID", &format!("device-{}", who.device));
    set("X-Client", CLIENTS[usize::from(who.is(Trait::Client))]);
    set("Accept", "application/json");
    set(
        "Host",
        if who.is(Trait::Way) == 1 {
            "other.local"
        } else {
            "vms.local"
        },
    );
    if who.is(Trait::Language) == 1 {
        set("Hl", "kk");
    }
    if let Some(zone) = ZONES[usize::from(who.is(Trait::Zone))] {
        set("X-Zone", zone);
    }
    if who.is(Trait::Way) == 3 {
        set("X-Forwarded-Host", "first.local");
        set("X-Forwarded-Prefix", "/prefix");
    }
    request
}

/// What a request for some ids says beside who asks and for what.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    /// Nothing from memory.
    pub(super) no_cache: bool,
    /// Not what it holds already, by these tags.
    pub(super) held: Vec<String>,
    /// Compressed, if that may be.
    pub(super) gzip: bool,
}

/// The request of somebody for some intercoms, and its body.
pub(super) fn asking(who: Who, ids: &[u64], wishes: &Wishes) -> (RequestHeader, Bytes) {
    thread_local! {
        static PHONES: RefCell<HashMap<Who, RequestHeader>> = RefCell::default();
    }
    const VALID: &str = "it is a header field";
    let mut request = PHONES.with_borrow_mut(|phones| {
        let known = phones.entry(who);
        known.or_insert_with(|| phone(who)).clone()
    });
    let mut target = PATHS[usize::from(who.is(Trait::Path))].to_owned();
    let mut body = Bytes::new();
    match who.is(Trait::Form) {
        form @ 0..2 => {
            let ids: Vec<String> = ids.iter().map(|id| format!("ids[]={id}")).collect();
            target = format!("{target}?{}", ids.join("&"));
            if form == 1 {
                target.push_str("&tz=1");
            }
        }
        form => {
            let others = if form == 3 { ",\"tz\":1" } else { "" };
            body = format!("{{\"ids\":{ids:?}{others}}}").into();
            let length = body.len().to_string();
            request
                .insert_header("Content-Length", length)
                .expect(VALID);
            request
                .insert_header("Content-Type", "application/json")
                .expect(VALID);
        }
    }
    request
        .set_raw_path(target.as_bytes())
        .expect("it is a target");
    if wishes.no_cache {
        request
            .insert_header("Cache-Control", "no-cache")
            .expect(VALID);
    }
    if !wishes.held.is_empty() {
        let held = wishes.held.join(", ");
        request.insert_header("If-None-Match", held).expect(VALID);
    }
    if wishes.gzip {
        request
            .insert_header("Accept-Encoding", "gzip")
            .expect(VALID);
    }
    (request, body)
}

/// What the VMS reads of a request.
pub(super) struct Read {
    pub(super) user: u8,
    /// As [`Who::seen`] has it.
    pub(super) seen: String,
    /// As [`Who::zone`] has it.
    pub(super) zone: String,
    pub(super) ids: Vec<u64>,
    pub(super) no_cache: bool,
}

/// Reads a request as the VMS does: from what is really sent.
pub(super) fn read(request: &RequestHeader, body: &Bytes) -> Read {
    let field = |name: &str| {
        let value = request.headers.get(name)?;
        Some(value.to_str().expect("it is text"))
    };
    let one = |name: &str| field(name).unwrap_or_else(|| panic!("no {name}"));
    let user = one("authorization").strip_prefix("Bearer ");
    let user = user.expect("it is a bearer's");
    let path = str::from_utf8(request::path(request)).expect("it is text");
    let query = str::from_utf8(request::query(request)).expect("it is text");
    let (ids, form) = match body.is_empty() {
        true => {
            let mut parameters: Vec<&str> = query.split('&').collect();
            let ids = parameters.extract_if(.., |parameter| parameter.starts_with("ids"));
            let ids: Vec<u64> = ids.map(|id| number_after(id, '=')).collect();
            (ids, format!("query {}", parameters.join("&")))
        }
        false => {
            let body = str::from_utf8(body).expect("it is text");
            let (_, list) = body.split_once('[').expect("there is a list");
            let (ids, others) = list.split_once(']').expect("it ends");
            let ids = ids.split(',').map(|id| number_after(id, ' ')).collect();
            let others = others.trim_start_matches(',').trim_end_matches('}');
            (ids, format!("body {others}"))
        }
    };
    let (scheme, host) = (one("x-forwarded-proto"), one("x-forwarded-host"));
    let prefix = field("x-forwarded-prefix").unwrap_or_default();
    let language = field("hl").unwrap_or("en");
    let seen = format!(
        "{user} {} {} {language} {scheme}://{host}{prefix} {path} {form}",
        one("x-uuid"),
        one("x-client")
    );
    Read {
        user: u8::try_from(number_after(user, '-')).expect("there are few"),
        seen,
        zone: field("x-zone").unwrap_or("none").to_owned(),
        ids,
        no_cache: request.headers.contains_key(header::CACHE_CONTROL),
    }
}

fn number_after(text: &str, mark: char) -> u64 {
    let digits = text.rsplit(mark).next().unwrap_or(text);
    digits.parse().expect("it is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vms_sees_each_as_what_he_is() {
        for of in Trait::ALL {
            for kind in 0..of.kinds() {
                let who = Who::plain(1, 0).with(of, kind);
                let (mut request, body) = asking(who, &[1, 12], &Wishes::default());
                crate::origin::forward::describe_hop(&mut request, who.peer(), None)
                    .expect("its fields are good");
                let read = read(&request, &body);
                assert_eq!(read.seen, who.seen(), "{who:?}");
                assert_eq!((read.zone.as_str(), read.user), (who.zone(), 1));
                assert_eq!(read.ids, [1, 12]);
            }
        }
    }
}
