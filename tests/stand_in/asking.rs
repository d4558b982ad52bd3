//! How the stand-in is asked, and what its answers tell.

use crate::client::{Client, Response};

impl Client {
    /// Sends a request with the fields as given, and a Host.
    pub(crate) async fn sends(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: vms.local\r\n");
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        self.send([request.as_bytes(), body].concat()).await;
    }

    /// The same, and its answer.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        self.sends(method, target, fields, body).await;
        self.response_to(method).await
    }

    /// The next chunk of an answer, which must come.
    pub(crate) async fn chunk(&mut self, answer: &mut Response) -> Vec<u8> {
        self.more(answer).await.expect("a chunk comes")
    }
}

impl Response {
    /// The fields of the header as text, in their order.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let fields = self.head.fields.iter();
        fields
            .map(|(name, value)| (name.clone(), text(value)))
            .collect()
    }

    /// The ids of the objects, as they are written.
    pub(crate) fn ids(&self) -> Vec<String> {
        let objects: Vec<serde_json::Value> =
            serde_json::from_slice(&self.body).expect("the body is an array");
        let ids = objects.iter().map(|object| object["id"].to_string());
        ids.collect()
    }
}
