//! The printed tour: the same few requests that a widget would send, what came back, and what the VMS was asked.

use std::io::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::vms::StandIn;

/// A request of the tour.
struct Stop {
    what: &'static str,
    target: &'static str,
    user: Option<u8>,
}

const TOUR: [Stop; 6] = [
    Stop {
        what: "a first batch",
        target: "/api/v1/intercom/shows?ids[]=1&ids[]=2&ids[]=3",
        user: Some(1),
    },
    Stop {
        what: "the same again",
        target: "/api/v1/intercom/shows?ids[]=1&ids[]=2&ids[]=3",
        user: Some(1),
    },
    Stop {
        what: "two ids more",
        target: "/api/v1/intercom/shows?ids[]=1&ids[]=2&ids[]=3&ids[]=4&ids[]=9",
        user: Some(1),
    },
    Stop {
        what: "another user",
        target: "/api/v1/intercom/shows?ids[]=1&ids[]=2&ids[]=3",
        user: Some(2),
    },
    Stop {
        what: "without a token",
        target: "/api/v1/intercom/shows?ids[]=1",
        user: None,
    },
    Stop {
        what: "anything else",
        target: "/api/v1/user",
        user: Some(1),
    },
];

/// Sends the tour's requests to the `edge` that stands before `vms`, and prints what happened as a table.
///
/// # Errors
///
/// When the edge cannot be reached, or `out` not be written to.
pub async fn walk(vms: &StandIn, edge: SocketAddr, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<16} {:<6} {:<13} {:<24} Cache-Status",
        "request", "status", "ids answered", "the VMS was asked for"
    )?;
    for stop in &TOUR {
        vms.forget_requests();
        let answer = ask(edge, stop).await?;
        let status = answer.status().as_u16();
        let cache_status = answer
            .headers()
            .get("cache-status")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("-")
            .to_owned();
        let ids = ids(answer.body());
        let asked = asked(vms);
        let what = stop.what;
        writeln!(
            out,
            "{what:<16} {status:<6} {ids:<13} {asked:<24} {cache_status}"
        )?;
    }
    Ok(())
}

/// A request that a newcomer can try, as a curl command.
pub fn curl(edge: SocketAddr) -> String {
    format!(
        "curl -gi 'http://{edge}/api/v1/intercom/shows?ids[]=1&ids[]=2' \\\n  \
         -H 'Authorization: Bearer tok-1-ios' -H 'Accept: application/json' \\\n  \
         -H 'X-Client: ios' -H 'X-UUID: my-phone'"
    )
}

async fn ask(edge: SocketAddr, stop: &Stop) -> io::Result<Response<Bytes>> {
    let stream = TcpStream::connect(edge).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(stop.target)
        .header("Host", edge.to_string())
        .header("Accept", "application/json")
        .header("X-Client", "ios")
        .header("X-UUID", "a-phone");
    if let Some(user) = stop.user {
        request = request.header("Authorization", format!("Bearer tok-{user}-ios"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .expect("the tour's requests are constant and valid");
    let (head, body) = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?
        .into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    driver.abort();
    Ok(Response::from_parts(head, body))
}

/// The ids of an answer, if it is a batch.
fn ids(body: &[u8]) -> String {
    crate::origin::answer::split(body, "id").map_or_else(
        |_| "-".to_owned(),
        |items| {
            let ids: Vec<String> = items.iter().map(|(id, _)| id.to_string()).collect();
            ids.join(" ")
        },
    )
}

fn asked(vms: &StandIn) -> String {
    let batches: Vec<String> = vms
        .batches()
        .iter()
        .map(|batch| {
            let ids: Vec<String> = batch.ids.iter().map(u64::to_string).collect();
            format!("ids {}", ids.join(" "))
        })
        .collect();
    match (batches.is_empty(), vms.requests_total()) {
        (false, _) => batches.join(", "),
        (true, 0) => "nothing".to_owned(),
        (true, _) => "the request as it came".to_owned(),
    }
}
