//! Whose answer it is: the key under which items are remembered.
//!
//! Two requests share a key only if the VMS could not tell them apart but for their ids: same path, token, `vary`
//! headers, addressed host and scheme, and other parameters. Keys are made by HMAC-SHA-256 under a secret that is drawn
//! anew for each process, so neither a key nor a memory dump of keys tells a token, and nobody outside can search for two
//! requests with one key. Of what is as strong it is the fastest for a token of a kilobyte: processors have instructions
//! for it. Half of what it gives is kept (RFC 2104, 5): 128 bits that nobody can compute, of which a billion differ but
//! for one chance in 10²⁰. A key can be made only here, from a request that was checked.

use http::{HeaderName, header};
use pingora_http::RequestHeader;
use ring::hmac;

use super::ids::Form;
use super::{Endpoint, Scheme};

/// The identity of one requester's view: 128 bits, unguessable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 16]);

/// The identity of one user, that is of one token: 128 bits, unguessable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId([u8; 16]);

impl Key {
    /// A number that is spread evenly over keys.
    pub fn spread(&self) -> u8 {
        self.0[15]
    }
}

impl UserId {
    /// A number that is spread evenly over users.
    pub fn spread(&self) -> u8 {
        self.0[0]
    }
}

/// Makes keys under the secret of this process.
pub struct KeyMaker {
    users: hmac::Key,
    keys: hmac::Key,
}

impl KeyMaker {
    /// A maker under a fresh secret.
    ///
    /// # Errors
    ///
    /// When the operating system has no randomness to give.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self::with_secret(&secret))
    }

    fn with_secret(secret: &[u8; 32]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |purpose| hmac::Key::new(hmac::HMAC_SHA256, &digest(&secret, purpose));
        Self {
            users: derived(b"user"),
            keys: derived(b"key"),
        }
    }

    /// The user who holds `token`.
    pub fn holder(&self, token: &[u8]) -> UserId {
        UserId(half(&digest(&self.users, token)))
    }

    /// The user whose token a request carries, if it carries one in the form that is understood.
    pub fn holder_of(&self, request: &RequestHeader) -> Option<UserId> {
        super::bearer(&request.headers).map(|token| self.holder(token))
    }

    pub(super) fn key(
        &self,
        user: &UserId,
        request: &RequestHeader,
        form: &Form,
        endpoint: &Endpoint<'_>,
    ) -> Key {
        let mut parts = Parts(Vec::with_capacity(512));
        if !planted!(KeyWithoutToken) {
            parts.add(&user.0);
        }
        // What a reload may change of how a request is read, so that nothing is taken for what it was before.
        let batch = endpoint.batch;
        for read_by in [&batch.path, &batch.ids, &batch.id] {
            if !planted!(KeyWithoutEndpoint) {
                parts.add(read_by.as_bytes());
            }
        }
        if !planted!(KeyWithoutEndpoint, KeyWithoutEra) {
            parts.0.extend_from_slice(&endpoint.era.to_le_bytes());
        }
        match form {
            _ if planted!(KeyWithoutParameters, KeyWithoutForm) => {}
            Form::Query { others } => parts.add(others),
            Form::Body { query, others } => {
                parts.add(query);
                parts.add(others);
            }
        }
        parts.0.push(match form {
            Form::Body { .. } if !planted!(KeyWithoutForm) => 1,
            Form::Query { .. } | Form::Body { .. } => 0,
        });
        parts.0.push(match endpoint.scheme {
            Scheme::Https if !planted!(KeyWithoutScheme) => 1,
            Scheme::Http | Scheme::Https => 0,
        });
        for name in covered(endpoint).filter(|name| !is_forgotten(name)) {
            parts.add_header(request, name);
        }
        Key(half(&digest(&self.keys, &parts.0)))
    }
}

/// Whether a planted fault has a header forgotten.
fn is_forgotten(name: &HeaderName) -> bool {
    cfg!(test)
        && match name.as_str() {
            "x-uuid" => planted!(KeyWithoutDevice),
            "hl" => planted!(KeyWithoutLanguage),
            "x-client" => planted!(KeyWithoutClient),
            "x-zone" => planted!(KeyWithoutLearnt),
            "host" => planted!(KeyWithoutHost),
            _ => planted!(KeyWithoutForwarded) && FORWARDED.contains(name),
        }
}

fn digest(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(key, message);
    tag.as_ref()
        .try_into()
        .expect("a tag of HMAC-SHA-256 has 32 bytes")
}

fn half(digest: &[u8; 32]) -> [u8; 16] {
    let (half, _) = digest.split_at(16);
    half.try_into().expect("half of 32 bytes are 16")
}

/// The headers that a key covers, beside the token.
pub fn covered<'a>(endpoint: &Endpoint<'a>) -> impl Iterator<Item = &'a HeaderName> {
    let forwarded: &[HeaderName] = if endpoint.peer_is_trusted {
        &FORWARDED
    } else {
        &[]
    };
    std::iter::once(&HOST).chain(forwarded).chain(endpoint.vary)
}

static HOST: HeaderName = header::HOST;

/// What a trusted proxy says of the request's first hop, from which a VMS makes absolute addresses. An untrusted peer's
/// word is replaced before it reaches the VMS, and then says nothing that `Host` does not.
static FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
];

/// Input of the hash: each part behind its length, so that no two lists of parts are the same bytes.
struct Parts(Vec<u8>);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("a request that is read is far below 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(part);
    }

    /// Adds the name of a header, and every line of it or its absence.
    fn add_header(&mut self, request: &RequestHeader, name: &HeaderName) {
        self.add(name.as_str().as_bytes());
        let lines = request.headers.get_all(name);
        let count_at = self.0.len();
        self.0.push(0);
        let mut count = 0u64;
        for line in lines {
            count += 1;
            self.add(line.as_bytes());
        }
        self.0[count_at] = u8::try_from(count).unwrap_or(u8::MAX);
    }
}

#[cfg(test)]
impl Key {
    /// Some key, for tests of what only compares them.
    pub(crate) fn of_test(number: u8) -> Self {
        Self([number; 16])
    }
}

#[cfg(test)]
impl UserId {
    /// Some user, for tests of what only compares them.
    pub(crate) fn of_test(number: u8) -> Self {
        Self([number; 16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    struct Asker {
        keys: KeyMaker,
        batch: config::Batch,
        vary: Vec<HeaderName>,
    }

    impl Asker {
        fn new() -> Self {
            Self {
                keys: KeyMaker::with_secret(&[7; 32]),
                batch: config::Batch::default(),
                vary: vec![
                    HeaderName::from_static("x-uuid"),
                    HeaderName::from_static("hl"),
                ],
            }
        }

        fn key(&self, token: &str, headers: &[(&'static str, &str)], others: &str) -> Key {
            self.key_behind(token, headers, others, false)
        }

        fn key_behind(
            &self,
            token: &str,
            headers: &[(&'static str, &str)],
            others: &str,
            peer_is_trusted: bool,
        ) -> Key {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in headers {
                request.append_header(*name, *value).unwrap();
            }
            let endpoint = Endpoint {
                batch: &self.batch,
                vary: &self.vary,
                peer_is_trusted,
                scheme: Scheme::Http,
                era: 0,
            };
            let form = Form::Query {
                others: others.as_bytes().to_vec(),
            };
            let user = self.keys.holder(token.as_bytes());
            self.keys.key(&user, &request, &form, &endpoint)
        }
    }

    #[test]
    fn a_key_differs_in_everything_that_may_change_the_answer() {
        let asker = Asker::new();
        let device = [("x-uuid", "d")];
        let keys = [
            asker.key("ann", &device, ""),
            asker.key("bob", &device, ""),
            asker.key("ann", &[("x-uuid", "e")], ""),
            asker.key("ann", &[], ""),
            asker.key("ann", &[("x-uuid", "")], ""),
            asker.key("ann", &[("hl", "d")], ""),
            asker.key("ann", &[("x-uuid", "d"), ("x-uuid", "d")], ""),
            asker.key("ann", &[("x-uuid", "d"), ("hl", "ru")], ""),
            asker.key("ann", &[("x-uuid", "d"), ("host", "other")], ""),
            asker.key("ann", &device, "hl=ru"),
            asker.key_behind(
                "ann",
                &[("x-uuid", "d"), ("x-forwarded-proto", "https")],
                "",
                true,
            ),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_key_differs_in_how_the_configuration_has_a_request_read() {
        let asker = Asker::new();
        let key = |asker: &Asker| asker.key("ann", &[("x-uuid", "d"), ("hl", "d")], "");
        let mut others = [Asker::new(), Asker::new(), Asker::new(), Asker::new()];
        others[0].batch.path = "/other".to_owned();
        others[1].batch.ids = "list".to_owned();
        others[2].batch.id = "uuid".to_owned();
        others[3].vary.reverse();
        for other in others {
            assert_ne!(key(&asker), key(&other));
        }
    }

    #[test]
    fn a_key_differs_in_the_scheme_in_where_the_ids_stand_and_in_since_when_the_endpoint_is_there()
    {
        let asker = Asker::new();
        let request = RequestHeader::build("GET", b"/", None).unwrap();
        let user = asker.keys.holder(b"ann");
        let key = |scheme: Scheme, form: &Form, era: u64| {
            let endpoint = Endpoint {
                batch: &asker.batch,
                vary: &asker.vary,
                peer_is_trusted: false,
                scheme,
                era,
            };
            asker.keys.key(&user, &request, form, &endpoint)
        };
        let query = |others: &[u8]| Form::Query {
            others: others.to_vec(),
        };
        let body = |query: &[u8], others: &[u8]| Form::Body {
            query: query.to_vec(),
            others: others.to_vec(),
        };
        let keys = [
            key(Scheme::Http, &query(b""), 0),
            key(Scheme::Https, &query(b""), 0),
            key(Scheme::Http, &query(b""), 1),
            key(Scheme::Http, &query(b"a"), 0),
            key(Scheme::Http, &body(b"", b""), 0),
            key(Scheme::Http, &body(b"a", b""), 0),
            key(Scheme::Http, &body(b"", b"a"), 0),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_holder_of_a_request_is_whoever_its_plain_bearer_names() {
        let asker = Asker::new();
        let holder_of = |authorization: &str| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request
                .insert_header("Authorization", authorization)
                .unwrap();
            asker.keys.holder_of(&request)
        };
        assert_eq!(holder_of("Bearer ann"), Some(asker.keys.holder(b"ann")));
        assert_ne!(holder_of("Bearer bob"), Some(asker.keys.holder(b"ann")));
        assert_eq!(holder_of("Basic ann"), None);
    }

    #[test]
    fn a_key_is_the_same_whatever_other_headers_say() {
        let asker = Asker::new();
        assert_eq!(
            asker.key("ann", &[("x-uuid", "d")], ""),
            asker.key(
                "ann",
                &[
                    ("user-agent", "x"),
                    ("x-uuid", "d"),
                    ("x-forwarded-proto", "https")
                ],
                ""
            )
        );
    }

    #[test]
    fn a_new_process_makes_other_keys() {
        let one = KeyMaker::new().unwrap();
        let two = KeyMaker::new().unwrap();
        assert_ne!(one.holder(b"ann"), two.holder(b"ann"));
    }
}
