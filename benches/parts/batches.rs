//! What phones ask and the VMS answers, in the sizes that were seen: 750 bytes an item, a token of 900.

use async_trait::async_trait;
use bytes::Bytes;
use pingora_http::{RequestHeader, ResponseHeader};
use vms_edge::cache::clock::Clock;
use vms_edge::origin::fetch::{Answer, Course, FetchError, Origin};
use vms_edge::request;

const ITEM_BYTES: usize = 750;
const TOKEN_BYTES: usize = 900;
const PATH: &str = "/api/v1/intercom/shows";
const VALID: &str = "these names and values make a header";

/// The request of a phone for these ids in its query. It takes the answer as it is.
pub(crate) fn in_query(ids: &[u64]) -> RequestHeader {
    let ids: Vec<String> = ids.iter().map(|id| format!("ids[]={id}")).collect();
    request(&format!("{PATH}?{}", ids.join("&")))
}

/// The request of a phone for these ids in its body, and that.
pub(crate) fn in_body(ids: &[u64]) -> (RequestHeader, Bytes) {
    let body = format!("{{\"ids\":{ids:?}}}");
    let mut request = request(PATH);
    for (name, value) in [
        ("Content-Type", "application/json".to_owned()),
        ("Content-Length", body.len().to_string()),
    ] {
        request.insert_header(name, value).expect(VALID);
    }
    (request, body.into())
}

fn request(target: &str) -> RequestHeader {
    let mut request = RequestHeader::build("GET", target.as_bytes(), None).expect(VALID);
    let token: String = "eyJ0eXAi.".chars().cycle().take(TOKEN_BYTES).collect();
    for (name, value) in [
        ("Host", "vms.example"),
        ("User-Agent", "VMS/24.03 (iPhone; iOS 17.4)"),
        ("Accept", "application/json"),
        ("Accept-Language", "ru-RU,ru;q=0.9"),
        ("Authorization", &format!("Bearer {token}")),
        ("X-Client", "ios"),
        ("X-UUID", "b7f0c0de-1d2c-4e5f-8a9b-0c1d2e3f4a5b"),
        ("X-Version", "24.03.0.0"),
        ("Hl", "ru"),
        ("Connection", "keep-alive"),
    ] {
        request.append_header(name, value).expect(VALID);
    }
    request
}

/// The same request, to be answered by the VMS whatever is stored.
pub(crate) fn without_cache(mut request: RequestHeader) -> RequestHeader {
    let field = request.insert_header("Cache-Control", "no-cache");
    field.expect(VALID);
    request
}

/// The VMS's answer to these ids.
pub(crate) fn answer(ids: &[u64]) -> (ResponseHeader, Bytes) {
    let items: Vec<String> = ids.iter().map(|id| item(*id)).collect();
    let mut header = ResponseHeader::build(200, None).expect(VALID);
    for (name, value) in [
        ("Server", "nginx/1.25.3"),
        ("Content-Type", "application/json"),
        ("Vary", "Accept-Encoding"),
        ("X-Powered-By", "PHP/8.2.12"),
        ("Cache-Control", "no-cache, private"),
        ("Date", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("Access-Control-Allow-Origin", "*"),
    ] {
        header.append_header(name, value).expect(VALID);
    }
    (header, format!("[{}]", items.join(",")).into())
}

fn item(id: u64) -> String {
    let beginning = format!(
        "{{\"id\":{id},\"name\":\"\\u041f\\u043e\\u0434\\u044a\\u0435\\u0437\\u0434 {id}\",\"is_online\":true,\"entrance\":\
         {{\"id\":{id},\"floor\":1,\"flats\":[1,2,3,4]}},\"video\":[{{\"type\":\"hls\",\"url\":\"https:\\/\\/vms.example\\/"
    );
    let end = "\"}],\"updated_at\":\"2024-01-01T00:00:00Z\"}";
    let filling = ITEM_BYTES - beginning.len() - end.len();
    format!(
        "{beginning}{}{end}",
        "stream/".repeat(filling).split_at(filling).0
    )
}

/// A VMS that answers every question at once with the same.
pub(crate) struct Vms {
    pub(crate) header: ResponseHeader,
    pub(crate) body: Bytes,
    pub(crate) clock: Clock,
}

#[async_trait]
impl Origin for Vms {
    async fn fetch(
        &self,
        request: &RequestHeader,
        _: &Bytes,
        _: &mut Course,
    ) -> Result<Answer, FetchError> {
        assert_eq!(request::path(request), PATH.as_bytes());
        Ok(Answer {
            header: Box::new(self.header.clone()),
            body: self.body.clone(),
            started: self.clock.now(),
        })
    }

    async fn patience(&self) {
        std::future::pending().await
    }
}
