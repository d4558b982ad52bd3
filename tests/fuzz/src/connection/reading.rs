//! Requests and answers as HTTP/1.1 has them (RFC 9112), read strictly: whatever could be taken for two things is unclear.

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) method: String,
    pub(super) target: String,
    /// Whether the connection may be closed after its answer.
    pub(super) may_close: bool,
}

/// What stands at the beginning of some bytes.
pub(super) enum Step {
    /// Nothing, or empty lines.
    Nothing,
    /// A whole request, and how long it is.
    Whole(Asked, usize),
    /// A request that goes on, with what is clear of it.
    Cut(Option<Asked>),
    /// What is no request, or could be two; with what is clear of it.
    Unclear(Option<Asked>),
}

/// How the bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Clean,
    Cut,
    Unclear,
}

/// All that a client has sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) whole: Vec<Asked>,
    /// The one that is cut off or unclear, if its header is neither.
    pub(super) partial: Option<Asked>,
    pub(super) end: End,
}

/// The requests that these bytes are.
pub(super) fn requests(mut bytes: &[u8]) -> Sent {
    let mut whole: Vec<Asked> = Vec::new();
    let (end, partial) = loop {
        match request(bytes) {
            Step::Nothing => break (End::Clean, None),
            Step::Cut(partial) => break (End::Cut, partial),
            Step::Unclear(partial) => break (End::Unclear, partial),
            Step::Whole(asked, length) => {
                bytes = &bytes[length..];
                whole.push(asked);
            }
        }
    };
    Sent {
        whole,
        partial,
        end,
    }
}

/// The request that these bytes begin with.
pub(super) fn request(bytes: &[u8]) -> Step {
    let blank = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let blank = blank.count();
    let bytes = &bytes[blank..];
    if bytes.is_empty() {
        return Step::Nothing;
    }
    let escaped = with_escaped_target(bytes);
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut fields);
    let mut length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Step::Cut(None),
        Err(_) => 0,
    };
    if length == 0 {
        let Some(escaped) = &escaped else {
            return Step::Unclear(None);
        };
        fields = [httparse::EMPTY_HEADER; 128];
        parsed = httparse::Request::new(&mut fields);
        length = match parsed.parse(escaped) {
            Ok(httparse::Status::Complete(length)) => length - (escaped.len() - bytes.len()),
            Ok(httparse::Status::Partial) => return Step::Cut(None),
            Err(_) => return Step::Unclear(None),
        };
    }
    let (head, rest) = bytes.split_at(length);
    let mut asked = Asked {
        head: head.to_vec(),
        body: Vec::new(),
        method: parsed.method.unwrap_or_default().to_owned(),
        // What stands behind a `#` is the client's own, and goes no further.
        target: parsed.path.unwrap_or_default().split('#').take(1).collect(),
        may_close: false,
    };
    let is_old = parsed.version == Some(0);
    let closes = |value: &String| value.contains("close");
    // What follows a wish for a tunnel may be meant for that.
    asked.may_close = is_old
        || asked.method == "CONNECT"
        || !asked.values("upgrade").is_empty()
        || asked.values("connection").iter().any(closes);
    let values = |name| asked.values(name);
    let body = match (
        &values("content-length")[..],
        &values("transfer-encoding")[..],
    ) {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) => {
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let Some(length) = is_number.then(|| length.parse::<usize>().ok()).flatten() else {
                return Step::Unclear(None);
            };
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        ([], [coding]) if coding == "chunked" && !is_old => match chunks(rest) {
            Some(body) => body,
            None => return Step::Unclear(Some(asked)),
        },
        _ => return Step::Unclear(None),
    };
    match body {
        Some((body, further)) => {
            asked.body = body;
            Step::Whole(asked, blank + length + further)
        }
        None => Step::Cut(Some(asked)),
    }
}

/// The same with percent signs for what must not stand in a target, as the edge's server reads it; `None` if the first line
/// has no place for one.
fn with_escaped_target(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let (target, version) = rest.rsplit_once(" HTTP/")?;
    let mut escaped = format!("{method} ").into_bytes();
    for byte in target.bytes() {
        match byte {
            b'<' | b'>' | b'"' | 0..=b' ' | 0x7f.. => {
                escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            byte => escaped.push(byte),
        }
    }
    escaped.extend_from_slice(format!(" HTTP/{version}").as_bytes());
    escaped.extend_from_slice(&bytes[end..]);
    Some(escaped)
}

/// A chunked body and its length as it is framed: `None` if it is none, the inner one if it goes on.
#[expect(clippy::option_option, reason = "the two say different things")]
pub(super) fn chunks(bytes: &[u8]) -> Option<Option<(Vec<u8>, usize)>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(&bytes[at..]) else {
            let is_line = bytes[at..].len() < 64 && !bytes[at..].contains(&b'\n');
            return is_line.then_some(None);
        };
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        // No digit at all is read as a zero, by whoever reads with httparse: as Pingora does, and so the edge.
        let is_size = size.len() <= 8 && size.iter().all(u8::is_ascii_hexdigit);
        // Whatever stands behind it is dropped.
        if !is_size {
            return None;
        }
        let size = match size {
            [] => 0,
            size => usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?,
        };
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at + size + 2) else {
            return Some(None);
        };
        let (data, end) = data.split_at(size);
        if end != b"\r\n" {
            return None;
        }
        body.extend_from_slice(data);
        at += size + 2;
    }
    loop {
        let Some(trailer) = line(&bytes[at..]) else {
            let may_go_on = !bytes[at..].contains(&b'\n');
            return may_go_on.then_some(None);
        };
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some(Some((body, at)));
        }
    }
}

/// The first line, which must end as lines do.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = &bytes[..end];
    (!line.contains(&b'\n') && !line.contains(&b'\r')).then_some(line)
}

impl Asked {
    /// The values of a field, in small letters.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        values
            .map(|(_, value)| value.trim().to_ascii_lowercase())
            .collect()
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// All of it, as it came.
    pub(super) text: String,
    pub(super) closes: bool,
    /// Whether its end was seen.
    pub(super) is_whole: bool,
}

/// The final answer to a request with this method that these bytes begin with, and its length. `None` if more must come;
/// nothing more does once the connection `is_closed`.
///
/// # Errors
///
/// Why it is none.
pub(super) fn answer(
    bytes: &[u8],
    method: &str,
    is_closed: bool,
) -> Result<Option<(Answer, usize)>, String> {
    let mut at = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(&bytes[at..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if is_closed && at < bytes.len() => {
                return Err("a header without an end".to_owned());
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let status = parsed.code.unwrap_or_default();
        let head = at + length;
        if (100..200).contains(&status) && status != 101 {
            at = head;
            continue;
        }
        let values = |name: &str| -> Vec<String> {
            let named = parsed.headers.iter();
            let named = named.filter(|field| field.name.eq_ignore_ascii_case(name));
            let value = |bytes| String::from_utf8_lossy(bytes).to_ascii_lowercase();
            named.map(|field| value(field.value)).collect()
        };
        let closes = values("connection")
            .iter()
            .any(|value| value.contains("close"));
        let rest = &bytes[head..];
        let is_empty = method == "HEAD" || [204, 304].contains(&status);
        let body = match (
            &values("content-length")[..],
            &values("transfer-encoding")[..],
        ) {
            _ if is_empty => Some(0),
            ([length], []) => {
                let length: usize = length.parse().map_err(|_| "an odd length".to_owned())?;
                (rest.len() >= length).then_some(length)
            }
            ([], [coding]) if coding == "chunked" => {
                let chunks = chunks(rest).ok_or("odd chunks")?;
                chunks.map(|(_, length)| length)
            }
            ([], []) => is_closed.then_some(rest.len()),
            framing => return Err(format!("two lengths: {framing:?}")),
        };
        let Some(body) = body.or(is_closed.then_some(rest.len()).filter(|_| is_closed)) else {
            return Ok(None);
        };
        let is_cut = match (
            &values("content-length")[..],
            &values("transfer-encoding")[..],
        ) {
            _ if is_empty => false,
            ([length], _) => length.parse() != Ok(body),
            (_, [_]) => chunks(rest).flatten().is_none(),
            _ => false,
        };
        let answer = Answer {
            status,
            text: String::from_utf8_lossy(&bytes[..head + body]).into_owned(),
            closes,
            is_whole: !is_cut,
        };
        return Ok(Some((answer, head + body)));
    }
}
