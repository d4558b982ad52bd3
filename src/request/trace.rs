//! The trace that a request belongs to: W3C Trace Context (<https://www.w3.org/TR/trace-context/>), continued towards the
//! VMS.
//!
//! What cannot be read is no context: the trace begins anew, and what tools had noted along the old one (`tracestate`)
//! goes with it. Nothing of this belongs to a key, and nothing of it is stored: it tells one request from all others.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use super::fields;

/// Which request caused this one, and in which trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What tools note along a trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Most members of a `tracestate`; one with more is malformed.
const MAX_MEMBERS: usize = 32;

/// Bytes of `tracestate` that are passed on.
const MAX_STATE_BYTES: usize = 512;

/// Bytes of a member of `tracestate` above which it goes before others.
const MAX_MEMBER_BYTES: usize = 128;

/// Length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// Whether the caller may have recorded it.
const SAMPLED: u8 = 1;

/// Whether the trace's id was drawn at random.
const RANDOM: u8 = 2;

/// A trace: 128 bits, never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// One span of a trace: 64 bits, never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// A `traceparent`, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The span that caused the request.
    pub span: SpanId,
    flags: u8,
}

/// What a request says of the trace that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nothing.
    Absent,
    /// What cannot be read.
    Malformed,
    /// This.
    Of(Parent),
}

/// The edge's own place in a trace: the span of a request that it answers or sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: TraceId,
    /// What caused this span; `None` where the trace begins.
    pub parent: Option<SpanId>,
    /// This span.
    pub span: SpanId,
    flags: u8,
    /// Whether what tools noted goes on.
    keeps_state: bool,
}

impl TraceId {
    fn draw() -> Self {
        loop {
            let drawn = fastrand::u128(..);
            if drawn != 0 {
                return Self(drawn.to_be_bytes());
            }
        }
    }

    /// Its bytes, as they are exported.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl SpanId {
    fn draw() -> Self {
        loop {
            let drawn = fastrand::u64(..);
            if drawn != 0 {
                return Self(drawn.to_be_bytes());
            }
        }
    }

    /// Its bytes, as they are exported.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Parent {
    /// Reads the value of a `traceparent`; `None` if it is none.
    ///
    /// Of a version that is not known yet, the beginning means what it means in version 00, and more may follow it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let [version] = hex(value.get(..2)?)?;
        let is_long_enough = match version {
            0xff => false,
            0 => value.len() == PARENT_BYTES,
            _ => value.len() == PARENT_BYTES || value.get(PARENT_BYTES) == Some(&b'-'),
        };
        let are_apart = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
        if !is_long_enough || !are_apart {
            return None;
        }
        let (trace, span) = (hex(&value[3..35])?, hex(&value[36..52])?);
        let [flags] = hex(&value[53..PARENT_BYTES])?;
        (trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            flags,
        })
    }

    /// Whether the caller says that it may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl Context {
    /// What the header of a request says.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let Some(line) = lines.next() else {
            return Self::Absent;
        };
        match (Parent::parse(line.as_bytes()), lines.next()) {
            (Some(parent), None) => Self::Of(parent),
            _ => Self::Malformed,
        }
    }
}

impl Place {
    /// A span below `parent`, with what it says of sampling; the first of a trace of its own that is not sampled, where
    /// there is none.
    pub fn below(parent: Option<Parent>) -> Self {
        match parent {
            Some(parent) => Self {
                trace: parent.trace,
                parent: Some(parent.span),
                span: SpanId::draw(),
                // Those that are not known yet are not passed on.
                flags: parent.flags & (SAMPLED | RANDOM),
                keeps_state: true,
            },
            None => Self {
                trace: TraceId::draw(),
                parent: None,
                span: SpanId::draw(),
                flags: RANDOM,
                keeps_state: false,
            },
        }
    }

    /// The same, sampled or not.
    pub fn sampled(mut self, is_sampled: bool) -> Self {
        self.flags = self.flags & !SAMPLED | if is_sampled { SAMPLED } else { 0 };
        self
    }

    /// A span that this one causes.
    pub fn child(&self) -> Self {
        Self {
            parent: Some(self.span),
            span: SpanId::draw(),
            ..*self
        }
    }

    /// Its flags, as a `traceparent` has them.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether it is to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Says in a request that goes to the VMS that this span causes it; what tools noted along the trace is what the request
    /// still has of its client's.
    pub fn stamp(&self, request: &mut RequestHeader) -> pingora_core::Result<()> {
        let parent = format!("00-{}-{}-{:02x}", self.trace, self.span, self.flags);
        request.insert_header(TRACEPARENT, parent)?;
        let state = match self.keeps_state {
            true => state(&request.headers),
            false => None,
        };
        match state {
            Some(state) => request.insert_header(TRACESTATE, state)?,
            None => drop(request.remove_header(&TRACESTATE)),
        }
        Ok(())
    }
}

/// Continues in a request on its way to the VMS the trace that it came with, if it came with one.
pub fn continue_in(request: &mut RequestHeader) -> pingora_core::Result<()> {
    match Context::of(&request.headers) {
        Context::Absent => Ok(()),
        Context::Malformed => Place::below(None).stamp(request),
        Context::Of(parent) => Place::below(Some(parent)).stamp(request),
    }
}

/// Reads lower-case hexadecimal digits, as many as it takes.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (digits.len() == 2 * N).then_some(bytes)
}

/// The `tracestate` to pass on, all lines as one; `None` if there is none, or if it is malformed.
///
/// Of one that is too long, large members go first, then the last ones, which are the oldest.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let members = fields::members(headers, TRACESTATE).filter(|member| !member.is_empty());
    let mut members: Vec<&[u8]> = members.collect();
    let mut keys: Vec<&[u8]> = Vec::with_capacity(members.len());
    for member in members.iter().take(MAX_MEMBERS + 1) {
        let key = key(member)?;
        if keys.contains(&key) || keys.len() == MAX_MEMBERS {
            return None;
        }
        keys.push(key);
    }
    let length = |members: &[&[u8]]| {
        let bytes: usize = members.iter().map(|member| member.len() + 1).sum();
        bytes.saturating_sub(1)
    };
    while length(&members) > MAX_STATE_BYTES {
        let is_large = |member: &&[u8]| member.len() > MAX_MEMBER_BYTES;
        let goes = members.iter().rposition(is_large);
        members.remove(goes.unwrap_or(members.len() - 1));
    }
    let state = members.join(&b',');
    (!state.is_empty())
        .then(|| HeaderValue::from_bytes(&state).ok())
        .flatten()
}

/// The key of a member of `tracestate`, if that is well-formed (Trace Context, 3.3.1.3).
fn key(member: &[u8]) -> Option<&[u8]> {
    let equals = member.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: &u8| begins(byte) || b"_-*/@".contains(byte);
    let tenants = key.iter().filter(|&&byte| byte == b'@').count();
    let is_key = key.len() <= 256
        && key.first().is_some_and(begins)
        && key.iter().all(goes_on)
        && (tenants == 0 || tenants == 1 && !key.ends_with(b"@"));
    let is_value = (1..=256).contains(&value.len())
        && value
            .iter()
            .all(|byte| (b' '..=b'~').contains(byte) && *byte != b'=');
    (is_key && is_value).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn passed_on(states: &[&str]) -> Option<String> {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let mut fields = vec![("traceparent", parent.as_str())];
        fields.extend(states.iter().map(|state| ("tracestate", *state)));
        let mut request = request(&fields);
        continue_in(&mut request).unwrap();
        let state = request.headers.get(TRACESTATE);
        state.map(|state| state.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_parent_is_read_as_the_recommendation_has_it() {
        let of = |version: &str, rest: &str| format!("{version}-{TRACE}-{SPAN}-01{rest}");
        for good in [
            of("00", ""),
            of("01", ""),
            of("cc", "-what-will-be"),
            of("fe", "-"),
        ] {
            let parent = Parent::parse(good.as_bytes());
            let parent = parent.unwrap_or_else(|| panic!("{good}"));
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(parent.span.to_string(), SPAN);
            assert!(parent.is_sampled());
        }
        let zero_trace = format!("00-{}-{SPAN}-01", "0".repeat(32));
        let zero_span = format!("00-{TRACE}-{}-01", "0".repeat(16));
        for bad in [
            of("ff", ""),
            of("00", "-"),
            of("00", "-more"),
            of("01", "more"),
            of("0", ""),
            of("000", ""),
            of("0A", ""),
            of("00", "").to_uppercase(),
            format!(" {}", of("00", "")),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            zero_trace,
            zero_span,
            String::new(),
            "00".to_owned(),
        ] {
            assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_trace_goes_on_below_a_new_span() {
        let parent = format!("00-{TRACE}-{SPAN}-ff");
        let mut continued = request(&[("traceparent", &parent), ("tracestate", "a=1")]);
        continue_in(&mut continued).unwrap();
        let Context::Of(passed) = Context::of(&continued.headers) else {
            panic!("it is not continued");
        };
        assert_eq!(passed.trace.to_string(), TRACE);
        assert_ne!(passed.span.to_string(), SPAN);
        assert_eq!(passed.flags, SAMPLED | RANDOM);
        assert_eq!(continued.headers["tracestate"], "a=1");
    }

    #[test]
    fn what_cannot_be_read_begins_anew_and_what_is_not_there_stays_so() {
        for lines in [&["rubbish"][..], &["00-a-b-c"], &["", ""]] {
            let mut fields: Vec<_> = lines.iter().map(|line| ("traceparent", *line)).collect();
            fields.push(("tracestate", "a=1"));
            let mut restarted = request(&fields);
            continue_in(&mut restarted).unwrap();
            let context = Context::of(&restarted.headers);
            assert!(matches!(context, Context::Of(parent) if !parent.is_sampled()));
            assert!(!restarted.headers.contains_key(TRACESTATE));
        }
        let twice = format!("00-{TRACE}-{SPAN}-01");
        let twice = request(&[("traceparent", &twice), ("traceparent", &twice)]);
        assert_eq!(Context::of(&twice.headers), Context::Malformed);
        let mut none = request(&[("tracestate", "a=1")]);
        continue_in(&mut none).unwrap();
        assert!(!none.headers.contains_key(TRACEPARENT));
        assert_eq!(none.headers["tracestate"], "a=1");
    }

    #[test]
    fn what_tools_noted_is_passed_on_if_it_is_well_formed() {
        assert_eq!(
            passed_on(&["a=1, b=2", "c@d=x y"]).as_deref(),
            Some("a=1,b=2,c@d=x y")
        );
        assert_eq!(passed_on(&["1a=1,,"]).as_deref(), Some("1a=1"));
        for bad in [
            "a", "A=1", "a=1,a=2", "a==", "=1", "a=", "a@=1", "a@b@c=1", "a=\u{e9}",
        ] {
            assert_eq!(passed_on(&[bad]), None, "{bad}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(passed_on(&[&many.join(",")]), None);
        assert!(passed_on(&[&many[1..].join(",")]).is_some());
    }

    #[test]
    fn of_what_is_too_long_large_members_go_first_then_the_last() {
        let member = |key: &str, length: usize| format!("{key}={}", "v".repeat(length));
        let state = [
            member("a", 200),
            member("b", 100),
            member("c", 150),
            member("d", 100),
        ];
        let passed = passed_on(&[&state.join(",")]).unwrap();
        let keys: Vec<&str> = passed.split(',').map(|member| &member[..1]).collect();
        assert_eq!(keys, ["a", "b", "d"]);
        let state: Vec<String> = (0..8).map(|n| member(&format!("k{n}"), 100)).collect();
        let passed = passed_on(&[&state.join(",")]).unwrap();
        assert_eq!(passed, state[..4].join(","));
    }

    proptest! {
        #[test]
        fn what_is_stamped_is_read_back_the_same(trace in 1..u128::MAX, span in 1..u64::MAX, flags: u8) {
            let value = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let parent = Parent::parse(value.as_bytes()).unwrap();
            prop_assert_eq!((parent.trace.0, parent.span.0), (trace.to_be_bytes(), span.to_be_bytes()));
            let place = Place::below(Some(parent));
            let mut request = request(&[]);
            place.stamp(&mut request).unwrap();
            let passed = Parent { trace: place.trace, span: place.span, flags: flags & 3 };
            prop_assert_eq!(Context::of(&request.headers), Context::Of(passed));
        }

        #[test]
        fn whatever_comes_what_goes_is_well_formed(
            parent in prop_oneof![
                "[0-9a-fA-F]{2}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-[a-z]{0,4})?",
                "[!-~]{0,80}",
            ],
            states in prop::collection::vec("[ -~]{0,300}|([a-z]{1,3}=[a-z]{0,200},?){0,40}", 0..4),
        ) {
            let mut fields = vec![("traceparent", parent.as_str())];
            fields.extend(states.iter().map(|state| ("tracestate", state.as_str())));
            let mut request = request(&fields);
            continue_in(&mut request).unwrap();
            let read = Parent::parse(parent.as_bytes());
            let context = Context::of(&request.headers);
            prop_assert!(matches!(context, Context::Of(_)));
            if let (Some(read), Context::Of(passed)) = (read, context) {
                prop_assert_eq!(read.trace, passed.trace);
                prop_assert_eq!(read.is_sampled(), passed.is_sampled());
            }
            let states: Vec<_> = request.headers.get_all(TRACESTATE).iter().collect();
            prop_assert!(states.len() <= 1 && (read.is_some() || states.is_empty()));
            for state in states {
                prop_assert!((1..=MAX_STATE_BYTES).contains(&state.len()));
                prop_assert!(state.as_bytes().split(|&byte| byte == b',').all(|member| key(member).is_some()));
            }
        }
    }
}
