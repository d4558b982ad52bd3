//! What the process takes of the machine's memory while its cache is too small for all who come.

use std::fs;

use vms_edge::demo::vms::StandIn;

use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::world::SHOWS;

/// What the cache may take, in bytes.
const MAX_BYTES: u64 = 24 << 20;

/// How often the cache could be filled with what is answered.
const TIMES: u64 = 3;

/// Users who come before it counts, so that what is made once is there.
const FIRST_USERS: u64 = 100;

/// Bytes of the machine's memory that a process occupies.
fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mut words = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("every process has some")
        .split_whitespace();
    let kibibytes: u64 = words.next().unwrap().parse().unwrap();
    kibibytes << 10
}

#[tokio::test]
async fn the_process_stays_within_its_share_however_many_come() {
    let vms = StandIn::without_record();
    let serving = vms.start().await.unwrap();
    let settings = format!("[cache]\nmax_bytes = \"{MAX_BYTES}B\"\n");
    let edge = Service::before(serving.address(), &settings).await;
    let mut client = Client::connect(edge.address).await;
    let (mut before, mut answered_bytes, mut most) = (0, 0, 0);
    for user in 1.. {
        let ids = vms.owned(user).into_iter().take(25);
        let ids: Vec<String> = ids.map(|id| format!("ids[]={id}")).collect();
        let query = ids.join("&");
        let request = format!(
            "GET {SHOWS}?{query} HTTP/1.1\r\nHost: vms.local\r\nAuthorization: Bearer tok-{user}-ios\r\n\
             Accept: application/json\r\nX-Client: ios\r\nX-UUID: d\r\n\r\n"
        );
        client.send(request).await;
        let answer = client.response().await;
        assert_eq!(answer.status, 200);
        if user == FIRST_USERS {
            before = resident_bytes(edge.process());
        }
        answered_bytes += answer.text().len() as u64;
        most = most.max(resident_bytes(edge.process()));
        if answered_bytes > TIMES * MAX_BYTES {
            break;
        }
    }
    let bound = before + MAX_BYTES / 4 * 5;
    assert!(most <= bound, "{most} of {bound} bytes, {before} before");
    // All the same it was used.
    assert!(most > before + MAX_BYTES / 2, "{most} of {bound} bytes");
}
