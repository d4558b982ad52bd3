//! Users with their phones, an edge, and the stand-in VMS behind it: batch tests are told in these words.
//!
//! `world.user(1).asks([1, 2, 3]).await.gets([1, 2, 3]).is("fwd=miss").fetched([[1, 2, 3]])`

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use vms_edge::demo::vms::{self, StandIn};

use super::deployment::Deployment;
use super::edge::TestEdge;

pub(crate) const SHOWS: &str = "/api/v1/intercom/shows";

/// One VMS, one edge before it.
pub(crate) struct World {
    pub(crate) vms: StandIn,
    pub(crate) edge: TestEdge,
    pub(crate) vms_address: SocketAddr,
    _serving: Option<vms::Running>,
}

impl World {
    /// With the default configuration.
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With `settings` added to the configuration.
    pub(crate) async fn with(settings: &str) -> Self {
        let vms = StandIn::new();
        let serving = vms.start().await.expect("the loopback has free ports");
        let vms_address = serving.address();
        Self {
            edge: TestEdge::with(&[vms_address.to_string()], settings),
            vms,
            vms_address,
            _serving: Some(serving),
        }
    }

    /// With a VMS that goes down and comes back.
    pub(crate) fn before(deployment: &Deployment, settings: &str) -> Self {
        Self {
            edge: TestEdge::with(&[deployment.address.to_string()], settings),
            vms: deployment.vms.clone(),
            vms_address: deployment.address,
            _serving: None,
        }
    }

    /// A user with a phone that asks as the SDKs do.
    pub(crate) fn user(&self, user: u64) -> Widget<'_> {
        let mut headers = HeaderMap::new();
        let token = format!("Bearer tok-{user}-ios");
        for (name, value) in [
            ("authorization", token.as_str()),
            ("accept", "application/json"),
            ("x-client", "ios"),
            ("x-uuid", "b7f0c0de-1"),
            ("x-version", "24.03.0.0"),
            ("user-agent", "VMS/24.03"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        Widget {
            world: self,
            headers,
        }
    }

    /// Lets time pass for the edge.
    pub(crate) fn advance(&self, seconds: u64) {
        self.edge.advance(Duration::from_secs(seconds));
    }

    /// All metrics that are not zero, as `name{labels} value` lines.
    pub(crate) async fn metrics(&self) -> String {
        metrics(&self.edge).await
    }

    async fn observe(&self, request: Request<Full<Bytes>>) -> Answer {
        let before = (self.vms.batches().len(), self.vms.requests().len());
        let mut answer = send(self.edge.address, request).await;
        let batches = self.vms.batches();
        answer.fetched = batches[before.0..]
            .iter()
            .map(|batch| batch.ids.clone())
            .collect();
        answer.vms_requests = self.vms.requests().len() - before.1;
        answer
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.vms.assert_healthy();
        }
    }
}

/// Somebody who asks.
#[derive(Clone)]
pub(crate) struct Widget<'a> {
    world: &'a World,
    pub(crate) headers: HeaderMap,
}

impl Widget<'_> {
    /// With another value of a header, in place of any it had.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    /// With one more line of a header.
    pub(crate) fn adding(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(HeaderName::from_static(name));
        self
    }

    /// Asks for ids in the query, as the SDKs do.
    pub(crate) async fn asks(&self, ids: impl IntoIterator<Item = u64>) -> Answer {
        self.gets(&target(ids)).await
    }

    /// The same, to be waited for elsewhere; what the VMS was asked for it is not told.
    pub(crate) fn asks_apart(
        &self,
        ids: impl IntoIterator<Item = u64>,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let request = self.request(Method::GET, &target(ids), "");
        send(self.world.edge.address, request)
    }

    /// Asks for ids in a JSON body.
    pub(crate) async fn asks_in_body(&self, body: &str) -> Answer {
        let widget = self.clone().with("content-type", "application/json");
        widget.sends(Method::GET, SHOWS, body).await
    }

    /// Sends a GET for any target.
    pub(crate) async fn gets(&self, target: &str) -> Answer {
        self.sends(Method::GET, target, "").await
    }

    /// Sends any request.
    pub(crate) async fn sends(&self, method: Method, target: &str, body: &str) -> Answer {
        self.world.observe(self.request(method, target, body)).await
    }

    /// Sends the same request straight to the VMS.
    pub(crate) async fn straight(&self, target: &str) -> Answer {
        let request = self.request(Method::GET, target, "");
        send(self.world.vms_address, request).await
    }

    fn request(&self, method: Method, target: &str, body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(target);
        let headers = request.headers_mut().expect("method and target are valid");
        headers.extend(self.headers.clone());
        headers.insert("host", "vms.local".parse().unwrap());
        request.body(Full::from(body.to_owned())).unwrap()
    }
}

fn target(ids: impl IntoIterator<Item = u64>) -> String {
    let ids = ids.into_iter().map(|id| format!("ids%5B%5D={id}"));
    format!("{SHOWS}?{}", ids.collect::<Vec<_>>().join("&"))
}

/// What came back, and what the VMS was asked for it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    fetched: Vec<Vec<u64>>,
    vms_requests: usize,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A 200 with exactly these ids, in this order.
    #[track_caller]
    pub(crate) fn gets(self, ids: impl IntoIterator<Item = u64>) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        let items: Vec<serde_json::Value> = serde_json::from_slice(&self.body).expect("JSON");
        let got: Vec<u64> = items
            .iter()
            .map(|item| item["id"].as_u64().unwrap())
            .collect();
        assert_eq!(got, ids.into_iter().collect::<Vec<_>>(), "ids answered");
        self
    }

    /// `Cache-Status` says so.
    #[track_caller]
    pub(crate) fn is(self, said: &str) -> Self {
        let status = self.header("cache-status").unwrap_or("no Cache-Status");
        let parameters: Vec<&str> = status.split("; ").collect();
        assert!(parameters.contains(&said), "{said} is not in {status}");
        self
    }

    /// It passed through for this reason: the VMS got the one request, and `Cache-Status` says why.
    #[track_caller]
    pub(crate) fn bypassed(self, reason: &str) -> Self {
        assert_eq!(self.vms_requests, 1, "requests to the VMS");
        self.is("fwd=bypass").is(&format!("detail={reason}"))
    }

    /// The VMS was asked for exactly these ids, in these requests.
    #[track_caller]
    pub(crate) fn fetched<const N: usize>(self, batches: [&[u64]; N]) -> Self {
        let batches: Vec<Vec<u64>> = batches.iter().map(|ids| ids.to_vec()).collect();
        assert_eq!(self.fetched, batches, "ids asked of the VMS");
        assert_eq!(self.vms_requests, batches.len(), "requests to the VMS");
        self
    }

    /// Answered from memory alone.
    #[track_caller]
    pub(crate) fn hit(self) -> Self {
        self.is("hit").fetched([])
    }

    /// The VMS was not asked at all.
    #[track_caller]
    pub(crate) fn untold(self) -> Self {
        assert_eq!(self.vms_requests, 0, "requests to the VMS");
        self
    }

    #[track_caller]
    pub(crate) fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    #[track_caller]
    pub(crate) fn body_is(self, body: &str) -> Self {
        assert_eq!(self.text(), body);
        self
    }
}

/// All metrics of an edge that are not zero, as `name{labels} value` lines.
pub(crate) async fn metrics(edge: &TestEdge) -> String {
    let request = Request::get("/metrics").header("host", "edge");
    let request = request.body(Full::default()).unwrap();
    let text = send(edge.admin, request).await.text();
    let lines = text.lines();
    lines
        .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(to).await.expect("it listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let (head, body) = sender
        .send_request(request)
        .await
        .expect("an answer")
        .into_parts();
    let body = body.collect().await.expect("a whole answer").to_bytes();
    driver.abort();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
        fetched: Vec::new(),
        vms_requests: 0,
    }
}
