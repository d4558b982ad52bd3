//! `[headers]`: what a batch request must carry, and what its key holds.

use http::HeaderName;
use http::header;

use super::super::names::CHECKS;
use super::super::section::{Kind, Section};
use super::super::{Check, Headers};

const CLIENTS: [&str; 6] = [
    "ios-cctv",
    "android-cctv",
    "thick-legal",
    "web",
    "ios",
    "android",
];
const VARY: [&str; 6] = [
    "x-uuid",
    "x-client",
    "x-version",
    "hl",
    "accept-language",
    "origin",
];

const CLIENT: Kind<String> = Kind {
    allowed: "visible ASCII characters, such as ios-cctv",
    parse: |text| match text {
        "" => Err("is empty".to_owned()),
        text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err("holds other characters than visible ASCII".to_owned())
        }
        text => Ok(text.to_owned()),
    },
};

const FIELD: Kind<HeaderName> = Kind {
    allowed: "the name of a header field on which the VMS's answer depends, such as Accept-Language",
    parse: |text| {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| "is not the name of a header field")?;
        match unfit(&name) {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(name),
        }
    },
};

pub(super) fn headers(mut section: Section<'_>) -> Option<Headers> {
    let check = section.choice("check", Check::Enforce, CHECKS);
    let clients = section.filled_list("clients", CLIENTS.map(str::to_owned).to_vec(), &CLIENT);
    let vary = section.list("vary", VARY.map(HeaderName::from_static).to_vec(), &FIELD);
    section.finish();
    Some(Headers {
        check: check?,
        clients: clients?,
        vary: vary?,
    })
}

/// Why a field cannot be part of the key, if it cannot.
fn unfit(name: &HeaderName) -> Option<&'static str> {
    match *name {
        header::AUTHORIZATION => Some("belongs to the key in any case"),
        header::COOKIE => {
            Some("keeps a request from being answered from memory, so no key ever holds it")
        }
        header::RANGE => {
            Some("keeps a request from being answered from memory, so no key ever holds it")
        }
        header::CACHE_CONTROL | header::PRAGMA => {
            Some("speaks to caches and leaves the answer as it is")
        }
        header::HOST => Some("belongs to the key in any case"),
        header::CONTENT_LENGTH
        | header::CONTENT_TYPE
        | header::CONTENT_ENCODING
        | header::EXPECT => {
            Some("describes the request's body, which is read and keyed by its meaning")
        }
        header::CONNECTION
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => Some("belongs to one connection and is not sent on"),
        _ => match name.as_str() {
            "keep-alive" | "proxy-connection" => {
                Some("belongs to one connection and is not sent on")
            }
            "traceparent" | "tracestate" | "x-request-id" => {
                Some("tells one request from all others, so no two would share anything")
            }
            // To CGI and PHP an underscore is a hyphen.
            name if name.replace('_', "-") == "x-forwarded-for" => {
                Some("is written anew, so the VMS does not see what the client says there")
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};

    #[test]
    fn a_client_is_visible_ascii_and_listed_once() {
        assert_eq!(
            refused("[headers]\nclients = [\"\", \"my app\", \"web\", \"web\"]"),
            "edge.toml:2: headers.clients[0]: \"\" is empty; allowed: visible ASCII characters, such as ios-cctv\n\
             edge.toml:2: headers.clients[1]: \"my app\" holds other characters than visible ASCII; \
             allowed: visible ASCII characters, such as ios-cctv\n\
             edge.toml:2: headers.clients[3]: \"web\" repeats headers.clients[2]; allowed: each only once"
        );
        assert_eq!(
            refused("[headers]\nclients = []"),
            "edge.toml:2: headers.clients: the list is empty; \
             allowed: at least one of: visible ASCII characters, such as ios-cctv"
        );
    }

    #[test]
    fn a_field_that_cannot_be_keyed_says_why() {
        let allowed = "allowed: the name of a header field on which the VMS's answer depends, such as Accept-Language";
        for (name, problem) in [
            ("X UUID", "is not the name of a header field"),
            ("Authorization", "belongs to the key in any case"),
            (
                "Cookie",
                "keeps a request from being answered from memory, so no key ever holds it",
            ),
            (
                "range",
                "keeps a request from being answered from memory, so no key ever holds it",
            ),
            ("Host", "belongs to the key in any case"),
            ("Connection", "belongs to one connection and is not sent on"),
            ("Keep-Alive", "belongs to one connection and is not sent on"),
            (
                "Traceparent",
                "tells one request from all others, so no two would share anything",
            ),
            (
                "X-Forwarded-For",
                "is written anew, so the VMS does not see what the client says there",
            ),
            (
                "X_Forwarded-For",
                "is written anew, so the VMS does not see what the client says there",
            ),
            (
                "Content-Type",
                "describes the request's body, which is read and keyed by its meaning",
            ),
        ] {
            assert_eq!(
                refused(&format!("[headers]\nvary = [\"{name}\"]")),
                format!("edge.toml:2: headers.vary[0]: \"{name}\" {problem}; {allowed}")
            );
        }
    }

    #[test]
    fn fields_are_the_same_in_any_case_of_letters() {
        assert_eq!(
            refused("[headers]\nvary = [\"X-UUID\", \"x-uuid\"]"),
            "edge.toml:2: headers.vary[1]: \"x-uuid\" repeats headers.vary[0]; allowed: each only once"
        );
        assert!(accepted("[headers]\nvary = []").headers.vary.is_empty());
    }

    #[test]
    fn a_check_is_enforced_or_forwarded() {
        assert_eq!(
            refused("[headers]\ncheck = true"),
            "edge.toml:2: headers.check: true is a boolean, not a string; allowed: enforce, forward"
        );
    }
}
