//! Whom the admin listener lets in: no page of anybody else, by whatever name it was made to lead here.

use http::Method;

use super::world;
use crate::support::operator::{ask, bearer};
use crate::support::world::{Answer, World};

async fn come(world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
    let bearer = bearer();
    let fields = [fields, &[("authorization", bearer.as_str())]].concat();
    ask(world.edge.admin, Method::GET, path, &fields, "").await
}

#[tokio::test]
async fn whoever_comes_by_a_name_that_is_not_ours_is_refused_everything_but_probes() {
    let world = world("admin.hosts = [\"edge.internal\"]").await;
    for (host, status) in [
        ("127.0.0.1:9090", 200),
        ("localhost", 200),
        ("[::1]:9090", 200),
        ("edge.internal", 200),
        ("evil.example:9090", 403),
        ("edge.internal.evil.example", 403),
    ] {
        for path in ["/status", "/history", "/", "/page/page.js"] {
            let answer = come(&world, path, &[("host", host)]).await;
            assert_eq!(answer.status, status, "{host} {path}");
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            come(&world, path, &[("host", host)]).await.status(200);
        }
    }
    for fields in [&[][..], &[("host", "localhost"), ("host", "localhost")]] {
        assert!(!come(&world, "/status", fields).await.status.is_success());
    }
}

#[tokio::test]
async fn only_pages_from_here_are_answered() {
    let world = world("").await;
    for (host, origin, status) in [
        ("127.0.0.1:9090", "http://127.0.0.1:9090", 200),
        ("127.0.0.1:9090", "https://127.0.0.1:9090", 200),
        ("127.0.0.1:9090", "http://127.0.0.1:9091", 403),
        ("127.0.0.1:9090", "http://localhost:9090", 403),
        ("127.0.0.1:9090", "http://evil.example", 403),
        ("127.0.0.1:9090", "null", 403),
        ("evil.example", "http://evil.example", 403),
    ] {
        let fields = [("host", host), ("origin", origin)];
        let answer = come(&world, "/status", &fields).await;
        assert_eq!(answer.status, status, "{host} {origin}");
    }
    let two = [
        ("host", "localhost"),
        ("origin", "http://localhost"),
        ("origin", "http://evil.example"),
    ];
    come(&world, "/status", &two).await.status(403);
}
