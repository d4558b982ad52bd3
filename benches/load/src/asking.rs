//! What a widget sends: a batch of ids, and who asks from what.

use std::io::Write;

/// The path of a batch of intercoms.
pub(crate) const SHOWS: &str = "/api/v1/intercom/shows";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widget<'a> {
    pub(crate) host: &'a str,
    pub(crate) token: &'a str,
    /// The X-UUID.
    pub(crate) device: &'a str,
    /// The X-Client.
    pub(crate) client: &'a str,
    /// Further fields, each with its line end.
    pub(crate) more: &'a str,
}

impl Widget<'_> {
    /// Appends a GET for `ids` at `path`, byte for byte as phones spell it.
    pub(crate) fn asks(&self, path: &str, ids: &[u64], request: &mut Vec<u8>) {
        request.extend_from_slice(b"GET ");
        write_target(path, ids, request);
        let Self {
            host,
            token,
            device,
            client,
            more,
        } = self;
        let written = write!(
            request,
            " HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nX-Client: {client}\r\nX-UUID: {device}\r\n{more}\r\n"
        );
        written.expect("memory can be written to");
    }

    /// The same for HTTP/2.
    pub(crate) fn asks_http2(&self, path: &str, ids: &[u64]) -> http::Request<()> {
        let mut target = Vec::new();
        write_target(path, ids, &mut target);
        let target = String::from_utf8(target).expect("it is ASCII");
        let fields = [
            ("authorization", format!("Bearer {}", self.token)),
            ("accept", "application/json".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("x-client", self.client.to_owned()),
            ("x-uuid", self.device.to_owned()),
        ];
        let request = http::Request::get(format!("https://{}{target}", self.host));
        let request = fields.into_iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        request.body(()).expect("a widget's request is valid")
    }
}

fn write_target(path: &str, ids: &[u64], request: &mut Vec<u8>) {
    request.extend_from_slice(path.as_bytes());
    for (place, id) in ids.iter().enumerate() {
        let before = if place == 0 { '?' } else { '&' };
        write!(request, "{before}ids%5B%5D={id}").expect("memory can be written to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_widget_asks_as_phones_do() {
        let widget = Widget {
            host: "vms.local",
            token: "t",
            device: "phone",
            client: "ios",
            more: "Accept-Encoding: gzip\r\n",
        };
        let mut request = Vec::new();
        widget.asks(SHOWS, &[1, 23], &mut request);
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "GET /api/v1/intercom/shows?ids%5B%5D=1&ids%5B%5D=23 HTTP/1.1\r\nHost: vms.local\r\n\
             Authorization: Bearer t\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
             X-Client: ios\r\nX-UUID: phone\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        let uri = widget.asks_http2(SHOWS, &[1, 23]).uri().to_string();
        assert_eq!(
            uri,
            "https://vms.local/api/v1/intercom/shows?ids%5B%5D=1&ids%5B%5D=23"
        );
    }
}
