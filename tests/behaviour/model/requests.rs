//! What the clients of a schedule send, as text.

use super::history::Scope;
use super::schedule::{Question, Who, Write};
use crate::support::world::SHOWS;

/// How much the number of a camera is above its intercom's.
const CAMERAS: u64 = 653;

/// The operators' token.
pub(super) const OPERATOR: &str = "operators-of-the-model";

/// A write, ready to be sent.
pub(super) struct Writing {
    pub(super) method: &'static str,
    pub(super) text: String,
    /// What it changes; `None` if it ends the token.
    pub(super) id: Option<u64>,
    /// What the rules mark for it.
    pub(super) scope: Scope,
}

/// A batch as the SDKs send it, or with its ids in a JSON body.
pub(super) fn batch(token: &str, question: &Question) -> String {
    let Question {
        who,
        ids,
        in_body,
        no_cache,
    } = question;
    let (query, body) = match in_body {
        true => (String::new(), format!("{{\"ids\":{ids:?}}}")),
        false => {
            let ids: Vec<String> = ids.iter().map(|id| format!("ids%5B%5D={id}")).collect();
            (format!("?{}", ids.join("&")), String::new())
        }
    };
    let cache_control = match no_cache {
        true => "Cache-Control: no-cache\r\n",
        false => "",
    };
    request(
        token,
        *who,
        "GET",
        &format!("{SHOWS}{query}"),
        cache_control,
        &body,
    )
}

/// A write of what nobody wrote before: `serial` is in it.
pub(super) fn write(token: &str, who: Who, write: &Write, serial: u64) -> Writing {
    let intercom = |id: u64| format!("/api/v1/intercom/{id}");
    let title = format!("{{\"title\":\"title {serial}\"}}");
    let (method, target, body, id, scope) = match *write {
        Write::Title(id) => ("PATCH", intercom(id), title, Some(id), Scope::Writer(who)),
        Write::Timetable(id) => {
            let timetable = format!("{{\"timetable\":[\"hour {serial}\"]}}");
            (
                "PATCH",
                intercom(id),
                timetable,
                Some(id),
                Scope::Writer(who),
            )
        }
        Write::TitleForAll(id) => ("PUT", intercom(id), title, Some(id), Scope::Item(id)),
        Write::Favourite(id, on) => {
            let method = if on { "POST" } else { "DELETE" };
            let target = format!("/api/v1/cameras/{}/favorites", id + CAMERAS);
            (method, target, String::new(), Some(id), Scope::Everything)
        }
        Write::Delete(id) => {
            let nothing = String::new();
            (
                "DELETE",
                intercom(id),
                nothing,
                Some(id),
                Scope::Writer(who),
            )
        }
        Write::Logout => {
            let target = "/api/v1/logout".to_owned();
            ("POST", target, String::new(), None, Scope::Writer(who))
        }
    };
    Writing {
        method,
        text: request(token, who, method, &target, "", &body),
        id,
        scope,
    }
}

/// An operator's purge.
pub(super) fn purge(body: &str) -> String {
    format!(
        "POST /purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn request(token: &str, who: Who, method: &str, target: &str, more: &str, body: &str) -> String {
    let Who {
        device,
        language,
        client,
        region,
        ..
    } = who;
    let content = match body.is_empty() && method == "GET" {
        true => String::new(),
        false => format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
         X-Client: {client}\r\nX-UUID: {device}\r\nHl: {language}\r\nX-Region: {region}\r\n{more}{content}\r\n{body}"
    )
}
