//! `[server]` and `[admin]`: where the edge itself listens.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::super::address::{LISTEN, NAME, NETWORK};
use super::super::material::{Token, read_token};
use super::super::section::{Kind, Section};
use super::super::{Admin, Server};
use super::taken::{Taken, clash};
use super::tls;

const MAX_THREADS: usize = 1024;

const TOKEN_FILE: Kind<(PathBuf, Token)> = Kind {
    allowed: "a readable file of one line with a token of 16 to 1024 visible ASCII characters, or \"\" for no token",
    parse: |text| match read_token(Path::new(text)) {
        Ok(token) => Ok((text.into(), token)),
        Err(error) => Err(error.to_string()),
    },
};

pub(super) fn server(mut section: Section<'_>) -> Option<Server> {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080));
    let listen = section.list("listen", vec![everywhere], &LISTEN);
    let tables = section.sections("tls");
    let proxy_protocol = section.flag("proxy_protocol", false);
    let threads = section.whole("threads", 0, 0..=MAX_THREADS);
    let grace = section.duration(
        "grace",
        Duration::from_secs(30),
        Duration::ZERO..=Duration::from_secs(3_600),
    );
    let trusted_proxies = section.list("trusted_proxies", Vec::new(), &NETWORK);
    let mut taken = Vec::new();
    for (index, address) in listen.iter().flatten().enumerate() {
        if let Some(problem) = clash(&taken, *address) {
            let allowed = "addresses of which none covers another";
            section.fault_item("listen", index, problem, allowed);
        }
        taken.push(Taken {
            key: format!("server.listen[{index}]"),
            address: *address,
        });
    }
    if listen.as_ref().is_some_and(Vec::is_empty) && tables.as_ref().is_some_and(Vec::is_empty) {
        section.fault(
            "listen",
            "the list is empty",
            format!(
                "at least one of: {}; or none beside a [[server.tls]]",
                LISTEN.allowed
            ),
        );
    }
    if let (Some(true), Some([])) = (proxy_protocol, trusted_proxies.as_deref()) {
        section.fault(
            "proxy_protocol",
            "believes nobody without trusted_proxies, so that every connection would be closed",
            "only together with trusted_proxies",
        );
    }
    section.finish();
    let tls = tables.and_then(|tables| tls::listeners(tables, &taken));
    Some(Server {
        listen: listen?,
        tls: tls?,
        proxy_protocol: proxy_protocol?,
        threads: match threads? {
            0 => thread::available_parallelism()
                .map_or(1, NonZero::get)
                .min(MAX_THREADS),
            threads => threads,
        },
        grace: grace?,
        trusted_proxies: trusted_proxies?,
    })
}

/// `taken` is what `[server]` listens on.
pub(super) fn admin(mut section: Section<'_>, taken: &[Taken]) -> Option<Admin> {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
    let listen = section.text("listen", local, &LISTEN);
    let hosts = section.list("hosts", Vec::new(), &NAME);
    let token_file = section.optional_text("token_file", &TOKEN_FILE);
    if let Some(listen) = listen
        && let Some(problem) = clash(taken, listen)
    {
        let allowed = "an address that [server] does not listen on";
        section.fault("listen", problem, allowed);
    }
    section.finish();
    let (token_file, token) = token_file?.unzip();
    Some(Admin {
        listen: listen?,
        hosts: hosts?,
        token_file,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{accepted, refused};

    #[test]
    fn a_listener_is_an_ip_address_and_a_port() {
        assert_eq!(
            refused("[server]\nlisten = [\n  \":8080\",\n  \"localhost:8080\",\n  8080,\n]"),
            "edge.toml:3: server.listen[0]: \":8080\" is not an address to listen on; \
             allowed: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080\n\
             edge.toml:4: server.listen[1]: \"localhost:8080\" is not an address to listen on; \
             allowed: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080\n\
             edge.toml:5: server.listen[2]: 8080 is an integer, not a string; \
             allowed: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080"
        );
        let config = accepted("[server]\nlisten = [\"[::]:8080\", \"127.0.0.1:0\"]");
        assert_eq!(config.server.listen.len(), 2);
    }

    #[test]
    fn listeners_are_at_least_one_and_in_a_list() {
        assert_eq!(
            refused("[server]\nlisten = []"),
            "edge.toml:2: server.listen: the list is empty; \
             allowed: at least one of: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080; \
             or none beside a [[server.tls]]"
        );
        assert_eq!(
            refused("[server]\nlisten = \"0.0.0.0:8080\""),
            "edge.toml:2: server.listen: \"0.0.0.0:8080\" is a string, not a list; \
             allowed: a list of: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080"
        );
    }

    #[test]
    fn no_listener_takes_the_address_of_another() {
        assert_eq!(
            refused("[server]\nlisten = [\"[::1]:80\", \"127.0.0.1:80\", \"127.0.0.1:80\"]"),
            "edge.toml:2: server.listen[2]: \"127.0.0.1:80\" repeats server.listen[1]; allowed: each only once"
        );
        assert_eq!(
            refused("[server]\nlisten = [\"0.0.0.0:80\", \"127.0.0.1:80\"]"),
            "edge.toml:2: server.listen[1]: 127.0.0.1:80 is already taken by server.listen[0], 0.0.0.0:80; \
             allowed: addresses of which none covers another"
        );
        assert_eq!(
            refused("[admin]\nlisten = \"127.0.0.1:8080\""),
            "edge.toml:2: admin.listen: 127.0.0.1:8080 is already taken by server.listen[0], 0.0.0.0:8080; \
             allowed: an address that [server] does not listen on"
        );
        accepted("[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"");
    }

    #[test]
    fn threads_and_grace_have_limits() {
        assert_eq!(
            refused("[server]\nthreads = 1025\ngrace = \"2h\""),
            "edge.toml:2: server.threads: 1025 is out of range; allowed: a whole number, 0 to 1024\n\
             edge.toml:3: server.grace: 2h is out of range; allowed: 0s to 1h"
        );
        assert_eq!(
            refused("[server]\nthreads = \"4\""),
            "edge.toml:2: server.threads: \"4\" is a string, not an integer; allowed: a whole number, 0 to 1024"
        );
        assert_eq!(
            refused("[server]\nthreads = -1"),
            "edge.toml:2: server.threads: -1 is out of range; allowed: a whole number, 0 to 1024"
        );
        assert!(accepted("").server.threads > 0);
    }

    #[test]
    fn a_trusted_proxy_is_a_network_or_an_address() {
        assert_eq!(
            refused(
                "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"traefik\", \"10.0.0.0/8\"]"
            ),
            "edge.toml:2: server.trusted_proxies[1]: \"10.0.0.1/8\" has bits beyond its prefix: \
             10.0.0.0/8 is the network, 10.0.0.1 the address; \
             allowed: a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8\n\
             edge.toml:2: server.trusted_proxies[2]: \"traefik\" is not a network; \
             allowed: a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8\n\
             edge.toml:2: server.trusted_proxies[3]: \"10.0.0.0/8\" repeats server.trusted_proxies[0]; \
             allowed: each only once"
        );
    }

    #[test]
    fn a_proxy_protocol_needs_proxies_that_are_believed() {
        assert_eq!(
            refused("[server]\nproxy_protocol = true"),
            "edge.toml:2: server.proxy_protocol: believes nobody without trusted_proxies, so that every connection \
             would be closed; allowed: only together with trusted_proxies"
        );
        let text = "[server]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]";
        assert!(accepted(text).server.proxy_protocol);
    }

    #[test]
    fn a_token_file_must_hold_a_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let text = format!("[admin]\ntoken_file = '{}'", path.display());
        let allowed = "allowed: a readable file of one line with a token of 16 to 1024 visible ASCII characters, \
                       or \"\" for no token";
        let expected =
            |problem: &str| format!("edge.toml:2: admin.token_file: {path:?} {problem}; {allowed}");

        assert_eq!(
            refused(&text),
            expected("cannot be read: No such file or directory (os error 2)")
        );
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(refused(&text), expected("holds a token of 5 characters"));

        std::fs::write(&path, "correct-horse-battery\n").unwrap();
        let admin = accepted(&text).admin;
        assert_eq!(admin.token_file.as_deref(), Some(path.as_path()));
        assert!(
            admin
                .token
                .expect("a token")
                .matches(b"correct-horse-battery")
        );
    }

    #[test]
    fn an_empty_token_file_means_no_token() {
        let admin = accepted("[admin]\ntoken_file = \"\"").admin;
        assert_eq!((admin.token_file, admin.token), (None, None));
    }
}
