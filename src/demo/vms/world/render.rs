//! Intercoms and cameras as JSON, byte for byte as Laravel writes them.
//!
//! What never changes is text in this file, so an object costs little more than its copying.

use std::io::Write as _;

use super::{CAMERA_OFFSET, Intercom, Title};
use crate::demo::vms::php::json;

const TIMETABLE: &[u8] = br#"{"days":[{"to":"23:59:59+05:00","from":"00:00:00+05:00","type":"tuesday"},{"to":"23:59:59","from":"00:00:00+05:00","type":"saturday"}],"intervals":[]}"#;

/// Appends the intercom's object.
pub(crate) fn intercom(out: &mut Vec<u8>, intercom: &Intercom) {
    let id = intercom.id;
    put(out, format_args!("{{\"id\":{id},\"title\":"));
    title(out, intercom);
    put(
        out,
        format_args!(
            ",\"is_online\":{},\"is_enabled\":{},\"timetable\":",
            intercom.is_online, intercom.is_enabled
        ),
    );
    out.extend(intercom.timetable.as_deref().unwrap_or(TIMETABLE));
    put(
        out,
        format_args!(
            r#","department":{},"address":"\u0443\u043b. \u041b\u0435\u043d\u0438\u043d\u0430, {id}","camera":"#,
            100 + id % 9
        ),
    );
    camera(out, intercom);
    out.extend(br#","status":"confirmed","created_at":null,"updated_at":""#);
    put_time(out, intercom.writes);
    out.push(b'"');
    if let Some(viewer) = &intercom.viewer {
        out.extend(br#","viewer":"#);
        json::encode_text(out, viewer);
    }
    out.push(b'}');
}

/// Appends the object of the intercom's camera.
pub(crate) fn camera(out: &mut Vec<u8>, intercom: &Intercom) {
    let id = intercom.id + CAMERA_OFFSET;
    put(
        out,
        format_args!(
            r#"{{"id":{id},"group_id":124,"status":"active","type":"media_server_v2","start_at":"2022-04-19 16:43:15","created_at":"2022-02-18 15:05:53","billing_id":null,"pretty_name":"#
        ),
    );
    title(out, intercom);
    put(
        out,
        format_args!(
            r#","lat":null,"lng":null,"azimuth":null,"is_archive_recording":true,"is_bridge":false,"is_favorite":{},"user_status":"{}","name":"Intercom"}}"#,
            intercom.is_favorite, intercom.user_status
        ),
    );
}

fn title(out: &mut Vec<u8>, intercom: &Intercom) {
    match &intercom.title {
        Title::Written(title) => json::encode_text(out, title),
        Title::Default(language) => {
            out.push(b'"');
            if !language.is_empty() {
                out.push(b'[');
                json::encode_inner(out, language, true);
                out.extend(b"] ");
            }
            put(
                out,
                format_args!(
                    r#"\u041f\u043e\u0434\u044a\u0435\u0437\u0434 \u2116{} \/ \"A\"""#,
                    intercom.id
                ),
            );
        }
    }
}

/// The time of an intercom's last change: the recorded one, and a second later for every write.
fn put_time(out: &mut Vec<u8>, writes: u64) {
    let second_of_day = 12 * 3600 + 34 * 60 + 32 + writes;
    let (day, second) = (second_of_day / 86_400, second_of_day % 86_400);
    let (year, month, day) = date_after(day);
    put(
        out,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000000Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        ),
    );
}

/// The date so many days after 20 April 2022.
fn date_after(mut days: u64) -> (u64, usize, u64) {
    let (mut year, mut month, mut day) = (2022, 4, 20);
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        let length = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
        if day + days <= length {
            return (year, month, day + days);
        }
        days -= length - day + 1;
        day = 1;
        (year, month) = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_change_moves_with_every_write() {
        let time = |writes| {
            let mut out = Vec::new();
            put_time(&mut out, writes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(time(0), "2022-04-20T12:34:32.000000Z");
        assert_eq!(time(28), "2022-04-20T12:35:00.000000Z");
        assert_eq!(time(11 * 86_400), "2022-05-01T12:34:32.000000Z");
        assert_eq!(time(680 * 86_400), "2024-02-29T12:34:32.000000Z");
        assert_eq!(time(681 * 86_400), "2024-03-01T12:34:32.000000Z");
    }
}
