//! The header of a batch: what is refused, what is declined, and under which key the rest is stored.
//!
//! Input: the fields of a request as lines of `Name: value`, those of another one after a line `---`. A first line that begins
//! with a question mark is more of the query. The model is in [`Model`]: a list of reasons, and what a key is made of.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName};
use pingora_http::RequestHeader;
use vms_edge::config::Config;
use vms_edge::request::checks::{Fault, Refusal};
use vms_edge::request::decline::Bypass;
use vms_edge::request::key::KeyMaker;
use vms_edge::request::{BatchRequest, Declined, Endpoint, Scheme, examine, query};

use crate::message;

const PATH: &str = "/api/v1/intercom/shows?ids[]=1";

/// Runs one input.
///
/// # Panics
///
/// If the edge judges a request otherwise than the model, or two requests have one key that should have two, or two that
/// should have one.
pub fn headers(data: &[u8]) {
    let (first, second) = message::cut(data, b"\n---\n");
    let first = judged(first);
    let second = second.and_then(judged);
    if let (Some((one, a)), Some((other, b))) = (first, second) {
        assert_eq!(one.user == other.user, a.token == b.token, "the user");
        assert_eq!(
            one.key == other.key,
            a == b,
            "the key of {a:?} and of {b:?}"
        );
    }
}

/// What a key is made of, by the model.
#[derive(Debug, PartialEq)]
struct KeyParts {
    token: String,
    others: Vec<u8>,
    headers: Vec<(HeaderName, Vec<Vec<u8>>)>,
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let config = Config::parse("upstream.servers = [\"127.0.0.1:9\"]", "fuzz");
    config.expect("it is a good configuration")
});

static KEYS: LazyLock<KeyMaker> =
    LazyLock::new(|| KeyMaker::new().expect("the system has randomness"));

/// Judges a request, and holds the judgement against the model's. `None` if it is not understood.
fn judged(text: &[u8]) -> Option<(BatchRequest, KeyParts)> {
    let (more, fields) = match text.strip_prefix(b"?") {
        Some(rest) => {
            let (more, fields) = message::cut(rest, b"\n");
            (more, fields.unwrap_or_default())
        }
        None => (&b""[..], text),
    };
    let separator = if more.is_empty() { "" } else { "&" };
    let target = [PATH.as_bytes(), separator.as_bytes(), more].concat();
    let request = message::get(&target, &message::fields(fields))?;
    let model = Model::of(&request);
    match (understood(&request), model.refusal) {
        (Err(Declined::Refused(refusal)), expected) => {
            assert_eq!(Some(refusal), expected);
            None
        }
        (_, Some(refusal)) => panic!("it is to be refused: {refusal:?}"),
        (Err(Declined::Bypass(reason)), None) => {
            let may = model.must.contains(&reason) || model.may.contains(&reason);
            assert!(may, "{reason:?} is no reason of {:?}", model.must);
            None
        }
        (Ok(batch), None) => {
            assert!(
                model.must.is_empty(),
                "understood in spite of {:?}",
                model.must
            );
            Some((batch, key_parts(&request)))
        }
    }
}

fn understood(request: &RequestHeader) -> Result<BatchRequest, Declined> {
    let checked = examine(request, &CONFIG.headers)?;
    let endpoint = Endpoint {
        batch: &CONFIG.batches[0],
        vary: &CONFIG.headers.vary,
        peer_is_trusted: false,
        scheme: Scheme::Http,
        era: 0,
    };
    let batch = checked.read(request, b"", &endpoint, &KEYS);
    batch.map_err(Declined::Bypass)
}

fn key_parts(request: &RequestHeader) -> KeyParts {
    let names = [
        "host",
        "x-uuid",
        "x-client",
        "x-version",
        "hl",
        "accept-language",
        "origin",
    ];
    let headers = names.map(|name| {
        let lines = request.headers.get_all(name).iter();
        let lines = lines.map(|line| line.as_bytes().to_vec());
        (HeaderName::from_static(name), lines.collect())
    });
    let query = query(request);
    let others = query.split(|&byte| byte == b'&');
    let others: Vec<&[u8]> = others.filter(|parameter| !is_id(parameter)).collect();
    KeyParts {
        token: text(&request.headers, "authorization").concat(),
        // That parameters without anything in them go when ids stand before them makes no other request of it.
        others: others.join(&b'&').to_vec(),
        headers: headers.into(),
    }
}

fn is_id(parameter: &[u8]) -> bool {
    let parameter = String::from_utf8_lossy(parameter).to_ascii_lowercase();
    let parameter = parameter.replace("%5b", "[").replace("%5d", "]");
    parameter.starts_with("ids[")
}

/// What a request comes to, read word by word from the documentation.
struct Model {
    refusal: Option<Refusal>,
    /// Each of these is enough to pass it on.
    must: Vec<Bypass>,
    /// These may be, and here it is not said when.
    may: Vec<Bypass>,
}

impl Model {
    fn of(request: &RequestHeader) -> Self {
        let headers = &request.headers;
        let has = |name: &str| headers.contains_key(name);
        let mut must = Vec::new();
        let mut add = |holds: bool, reason| holds.then(|| must.push(reason));
        add(!is_plain_bearer(headers), Bypass::Authorization);
        add(has("cookie"), Bypass::Cookie);
        add(has("range") || has("if-range"), Bypass::Range);
        let preconditions = ["if-match", "if-modified-since", "if-unmodified-since"];
        add(preconditions.into_iter().any(has), Bypass::Conditional);
        let more_than_a_get = ["upgrade", "expect", "x-http-method-override"];
        add(more_than_a_get.into_iter().any(has), Bypass::Protocol);
        add(has("proxy-authorization"), Bypass::Credential);
        let says = |directive: &str| list(headers, "cache-control").contains(&directive.to_owned());
        add(
            says("no-store") || says("only-if-cached"),
            Bypass::CacheControl,
        );
        add(refuses_identity(headers), Bypass::Coding);
        let read = [
            "authorization",
            "content-type",
            "content-length",
            "accept",
            "if-none-match",
            "x-client",
            "x-uuid",
            "host",
            "x-version",
            "hl",
            "accept-language",
            "origin",
        ];
        let nominated = list(headers, "connection");
        add(
            read.iter()
                .any(|name| nominated.contains(&(*name).to_owned())),
            Bypass::Connection,
        );
        let mut may = vec![Bypass::Ids, Bypass::Credential];
        if has("if-none-match") {
            may.push(Bypass::Conditional);
        }
        if has("content-length") || has("transfer-encoding") {
            may.push(Bypass::Body);
        }
        Self {
            refusal: refusal(headers),
            must,
            may,
        }
    }
}

fn refusal(headers: &HeaderMap) -> Option<Refusal> {
    let is_blank = |field: &String| field.trim_matches(is_space).is_empty();
    let authorizations = text(headers, "authorization");
    if authorizations.iter().all(is_blank) {
        return Some(Refusal::Unauthenticated);
    }
    if authorizations.iter().any(|field| field.len() > 7 + 8192) {
        return Some(Refusal::AuthorizationTooLarge);
    }
    let mut faults = Vec::new();
    let clients = text(headers, "x-client");
    let listed = [
        "ios-cctv",
        "android-cctv",
        "thick-legal",
        "web",
        "ios",
        "android",
    ];
    if clients.first().is_none_or(String::is_empty) {
        faults.push(Fault::ClientMissing);
    } else if !clients
        .iter()
        .all(|client| listed.contains(&client.as_str()))
    {
        faults.push(Fault::ClientUnknown);
    }
    let uuids = text(headers, "x-uuid");
    let is_uuid = |uuid: &String| {
        !uuid.is_empty() && uuid.len() <= 128 && uuid.chars().all(|c| ('!'..='~').contains(&c))
    };
    if uuids.first().is_none_or(String::is_empty) {
        faults.push(Fault::UuidMissing);
    } else if !uuids.iter().all(is_uuid) {
        faults.push(Fault::UuidInvalid);
    }
    if !admits_json(headers) {
        faults.push(Fault::Accept);
    }
    (!faults.is_empty()).then_some(Refusal::Invalid(faults))
}

/// The most specific range decides; of several such, one that admits.
fn admits_json(headers: &HeaderMap) -> bool {
    if !headers.contains_key("accept") {
        return true;
    }
    let ranges = list(headers, "accept");
    for range in ["application/json", "application/*", "*/*"] {
        let named: Vec<&String> = ranges
            .iter()
            .filter(|other| essence(other) == range)
            .collect();
        if !named.is_empty() {
            return named.iter().any(|range| !is_weightless(range));
        }
    }
    false
}

fn essence(member: &str) -> &str {
    member
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_matches(is_space)
}

/// Whether any of its parameters is a weight of nothing.
fn is_weightless(member: &str) -> bool {
    let mut parameters = member
        .split(';')
        .skip(1)
        .map(|parameter| parameter.trim_matches(is_space));
    parameters.any(|parameter| {
        let value = parameter.strip_prefix("q=").unwrap_or_default();
        value.starts_with('0') && value[1..].chars().all(|c| c == '0' || c == '.')
    })
}

/// `identity;q=0`, or `*;q=0` where identity is not named; the first of its kind counts.
fn refuses_identity(headers: &HeaderMap) -> bool {
    let codings = list(headers, "accept-encoding");
    let first = |name| codings.iter().find(|coding| essence(coding) == name);
    let said = first("identity").or_else(|| first("*"));
    said.is_some_and(|coding| {
        let mut parameters = coding
            .split(';')
            .skip(1)
            .map(|parameter| parameter.trim_matches(is_space));
        let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
        weight.is_some_and(|weight| ["0", "0.", "0.0", "0.00", "0.000"].contains(&weight))
    })
}

fn is_plain_bearer(headers: &HeaderMap) -> bool {
    let fields = text(headers, "authorization");
    let [field] = &fields[..] else {
        return false;
    };
    let token = field.strip_prefix("Bearer ").unwrap_or_default();
    let is_plain = |c: char| ('!'..='~').contains(&c) && c != ',';
    (1..=8192).contains(&token.len()) && token.chars().all(is_plain)
}

/// The lines of a field, each byte a character.
fn text(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    let text = |line: &[u8]| line.iter().map(|&byte| char::from(byte)).collect();
    lines.map(|line| text(line.as_bytes())).collect()
}

/// The members of a list in small letters, over all its lines.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let all = text(headers, name).join(",").to_ascii_lowercase();
    all.split(',')
        .map(|member| member.trim_matches(is_space).to_owned())
        .collect()
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
