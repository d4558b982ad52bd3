//! Real clients beside the test client: curl and Python's own HTTP client.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::world::{SHOWS, World};

async fn output(mut command: Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.expect("`make test` installs curl and python3");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn curl(world: &World, arguments: &[&str], target: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--globoff", "--include"]);
    for header in [
        "Authorization: Bearer tok-1-ios",
        "Accept: application/json",
        "X-Client: ios-cctv",
        "X-UUID: unique device id",
    ] {
        // The documentation's own example has spaces in its device id; a real one has none.
        curl.args([
            "--header",
            &header.replace("unique device id", "unique-device-id"),
        ]);
    }
    curl.args(arguments)
        .arg(format!("http://{}{target}", world.edge.address));
    curl
}

#[tokio::test]
async fn curl_asks_as_the_documentation_says_and_is_answered_from_memory_the_second_time() {
    let world = World::new().await;
    let target = format!("{SHOWS}?ids[]=1&ids[]=2");
    let first = output(curl(&world, &["--location", "--request", "GET"], &target)).await;
    let second = output(curl(&world, &["--location", "--request", "GET"], &target)).await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(
        first.contains("fwd=miss") && second.contains("; hit; "),
        "{first}{second}"
    );
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).map(str::to_owned);
    assert_eq!(body(&first), body(&second));
    assert_eq!(world.vms.batches().len(), 1);
}

#[tokio::test]
async fn curl_sends_ids_in_a_json_body_of_a_get() {
    let world = World::new().await;
    let arguments = [
        "--request",
        "GET",
        "--header",
        "Content-Type: application/json",
        "--data",
        r#"{"ids":[1,2]}"#,
    ];
    for said in ["fwd=miss", "; hit; "] {
        let answer = output(curl(&world, &arguments, SHOWS)).await;
        assert!(
            answer.contains(said) && answer.contains("\"id\":2"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn curl_uploads_a_chunked_body_with_expect_through_the_edge() {
    let world = World::new().await;
    let arguments = [
        "--request",
        "POST",
        "--header",
        "Transfer-Encoding: chunked",
        "--header",
        "Expect: 100-continue",
        "--data",
        "hello through the edge",
    ];
    let answer = output(curl(&world, &arguments, "/api/v1/echo")).await;
    assert!(answer.ends_with("hello through the edge"), "{answer}");
}

#[tokio::test]
async fn pythons_http_client_keeps_its_connection_over_hits_refusals_and_pass_throughs() {
    const SCRIPT: &str = r#"
import http.client, json, sys
connection = http.client.HTTPConnection(sys.argv[1])
headers = {"Authorization": "Bearer tok-1-ios", "Accept": "application/json", "X-Client": "android", "X-UUID": "p"}
def ask(method, target, headers, body=None):
    connection.request(method, target, body, headers)
    sockets.add(connection.sock.getsockname())
    answer = connection.getresponse()
    return answer.status, answer.getheader("Cache-Status"), answer.read()
sockets = set()
shows = "/api/v1/intercom/shows?ids[]=1&ids[]=3"
status, said, first = ask("GET", shows, headers)
assert status == 200 and "fwd=miss" in said, (status, said)
status, said, second = ask("GET", shows, headers)
assert status == 200 and "hit" in said and first == second, (status, said)
assert [item["id"] for item in json.loads(second)] == [1, 3]
assert ask("GET", shows, {})[0] == 401
assert ask("GET", "/api/v1/user", headers)[::2] == (200, b'{"id":1,"login":"user1"}')
json_headers = {**headers, "Content-Type": "application/json"}
status, _, body = ask("PATCH", "/api/v1/intercom/1", json_headers, json.dumps({"title": "x" * 50_000}))
assert status == 200 and b"x" * 50_000 in body, status
body = json.dumps({"ids": [1, 9]})
status, said, _ = ask("GET", "/api/v1/intercom/shows", json_headers, body)
assert status == 200 and "fwd=miss" in said, (status, said)
assert len(sockets) == 1, sockets
print("done")
"#;
    let world = World::new().await;
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, &world.edge.address.to_string()]);
    assert_eq!(output(python).await, "done\n");
}
