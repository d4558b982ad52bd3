//! Faults of the file as a whole, and the reference file. The faults of each table are told where it is read.

use std::fs;

use proptest::prelude::*;

use super::*;

const UPSTREAM: &str = "\n[upstream]\nservers = [\"127.0.0.1:9000\"]\n";

/// `text`, with a VMS added below it if it has none, so that a test speaks only of its own table.
fn complete(text: &str) -> String {
    if text.contains("upstream") {
        text.to_owned()
    } else {
        format!("{text}{UPSTREAM}")
    }
}

/// The report on `text`.
pub(super) fn refused(text: &str) -> String {
    match Config::parse(&complete(text), "edge.toml") {
        Err(error) => error.to_string(),
        Ok(config) => panic!("accepted: {config:?}"),
    }
}

/// The configuration in `text`.
pub(super) fn accepted(text: &str) -> Config {
    match Config::parse(&complete(text), "edge.toml") {
        Ok(config) => config,
        Err(error) => panic!("refused: {error}"),
    }
}

#[test]
fn the_reference_file_holds_the_defaults_a_second_batch_and_the_rules_for_writes() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/edge.toml"));
    let mut reference = load(path).unwrap_or_else(|error| panic!("{error}"));
    let batches = reference.batches.clone();
    let rules: Vec<String> = reference
        .invalidate
        .drain(..)
        .map(
            |Invalidate {
                 methods,
                 path,
                 scope,
                 batch,
             }| {
                let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
                let scopes = [
                    (scope.user, " user"),
                    (scope.item, " item"),
                    (scope.all, " all"),
                ];
                let scopes: String = scopes
                    .iter()
                    .filter(|(given, _)| *given)
                    .map(|(_, name)| *name)
                    .collect();
                let whose = batches.iter().find(|known| Some(known.endpoint) == batch);
                let whose = whose.map_or(String::new(), |batch| format!(" of {}", batch.path));
                format!("{} {path}:{scopes}{whose}", methods.join(","))
            },
        )
        .collect();
    let cameras = Batch {
        endpoint: EndpointId::of("/api/v1/cameras/shows"),
        name: "cameras_shows".to_owned(),
        path: "/api/v1/cameras/shows".to_owned(),
        ..Batch::default()
    };
    assert_eq!(reference.batches.pop(), Some(cameras));
    assert_eq!(reference, accepted(""));
    assert_eq!(
        rules,
        [
            "POST,PUT,PATCH,DELETE /api/v1/intercom/{id}: user item of /api/v1/intercom/shows",
            "POST /api/v1/intercom/{id}/flat: user",
            "DELETE /api/v1/intercom: user",
            "POST,DELETE /api/v1/cameras/{camera}/favorites: user",
            "POST /api/v1/cameras/{camera}/rename: user",
            "PATCH /api/v1/cameras/{camera}: user",
            "POST /api/v1/logout: user",
            "POST /api/v1/sessions/{session}: user",
            "PUT /api/v1/users/self: user",
            "POST,PUT,PATCH,DELETE /api/admin/v1/intercoms/{id}/**: item of /api/v1/intercom/shows",
            "POST,PUT,PATCH,DELETE /api/v1/billing/**: all",
        ]
    );
}

#[test]
fn the_reference_file_shows_every_key() {
    let reference = include_str!("../../conf/edge.toml");
    let files = file::tls::tests::Files::new();
    let tls = format!(
        "{}client_ca = {:?}\n",
        files.table(8443, "a.example"),
        files.ca()
    );
    let every = "[upstream]\nservers = [\"vms:1\"]\ntls = true\n[[invalidate]]\npath = \"/{id}\"\nscope = [\"item\"]\n\
                 batch = \"/api/v1/intercom/shows\"";
    let effective = accepted(&format!("{tls}{every}")).effective();
    for key in effective.lines().filter_map(|line| line.split_once(" = ")) {
        let shown = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{} = ", key.0))
        };
        assert!(
            reference.lines().any(shown),
            "{} is not in conf/edge.toml",
            key.0
        );
    }
}

#[test]
fn every_fault_is_told_in_file_order_and_what_is_missing_comes_last() {
    let text = "[log]\nlevel = \"loud\"\n[server]\nthreads = 1.5\n[cache]\nmax_byte = 1\n[admin]\nlisten = 9090\n\
                [upstreams]\n";
    let error = Config::parse(text, "conf/edge.toml").expect_err("it is full of faults");
    assert_eq!(
        error.to_string(),
        "conf/edge.toml:2: log.level: \"loud\" is none of the choices; allowed: trace, debug, info, warn, error\n\
         conf/edge.toml:4: server.threads: 1.5 is a float, not an integer; allowed: a whole number, 0 to 1024\n\
         conf/edge.toml:6: cache.max_byte: unknown key, did you mean max_bytes?; allowed: max_bytes\n\
         conf/edge.toml:8: admin.listen: 9090 is an integer, not a string; \
         allowed: IP:PORT, such as 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080\n\
         conf/edge.toml:9: upstreams: unknown key, did you mean upstream?; \
         allowed: server, upstream, batch, headers, invalidate, cache, compression, limits, admin, log, tracing, canary\n\
         conf/edge.toml: upstream.servers: is required; \
         allowed: a list of: HOST:PORT, such as 10.0.0.5:9000, [fd00::5]:9000 or vms.local:9000"
    );
    assert_eq!(error.faults.len(), 6);
}

#[test]
fn an_unknown_key_lists_the_known_ones() {
    assert_eq!(
        refused("[server]\nhttps = []\nTreads = 2"),
        "edge.toml:2: server.https: unknown key; \
         allowed: listen, tls, proxy_protocol, threads, grace, trusted_proxies\n\
         edge.toml:3: server.Treads: unknown key, did you mean threads?; \
         allowed: listen, tls, proxy_protocol, threads, grace, trusted_proxies"
    );
    assert_eq!(
        refused("[[batch]]\npath = \"/a\"\nfrehs = \"1s\""),
        "edge.toml:3: batch[0].frehs: unknown key, did you mean fresh?; allowed: path, name, ids, id, max_ids, fresh, \
         stale_while_revalidate, stale_if_error, absent, jitter, order"
    );
}

#[test]
fn a_strange_key_stays_on_its_line() {
    assert_eq!(
        refused("[cache]\n\"a\\nb\" = 1\n\"\" = 2"),
        "edge.toml:2: cache.\"a\\nb\": unknown key; allowed: max_bytes\n\
         edge.toml:3: cache.\"\": unknown key; allowed: max_bytes"
    );
}

#[test]
fn a_table_is_not_a_list_of_tables_nor_a_value() {
    assert_eq!(
        refused("[batch]\npath = \"/a\""),
        "edge.toml:1: batch: this is a table, not a list of tables; allowed: [[batch]] tables, in two brackets each"
    );
    assert_eq!(
        refused("[[server]]\nthreads = 1"),
        "edge.toml:1: server: this is a list, not a table; allowed: one [server] table"
    );
    assert_eq!(
        refused("batch = []\ninvalidate = [1]\nlog = \"info\""),
        "edge.toml:1: batch: the list is empty; allowed: [[batch]] tables, in two brackets each, or none at all\n\
         edge.toml:2: invalidate[0]: 1 is an integer, not a table; \
         allowed: [[invalidate]] tables, in two brackets each\n\
         edge.toml:3: log: \"info\" is a string, not a table; allowed: one [log] table"
    );
}

#[test]
fn what_is_not_toml_has_a_line_and_a_column() {
    assert_eq!(
        refused("[server]\ngrace = 30s\nthreads 4\n"),
        "edge.toml:2:9: not TOML: string values must be quoted, expected literal string\n\
         edge.toml:3:9: not TOML: key with no value, expected `=`"
    );
    assert_eq!(
        refused("# größer\n\"ä\" = \"x\n"),
        "edge.toml:2:9: not TOML: invalid basic string, expected `\"`"
    );
}

#[test]
fn a_key_or_table_given_twice_is_named() {
    assert_eq!(
        refused("[server]\nthreads = 1\nthreads = 2\n[log]\n[server]\n"),
        "edge.toml:3:1: threads is given twice; allowed: each key and each [table] once\n\
         edge.toml:5:2: server is given twice; allowed: each key and each [table] once"
    );
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("edge.toml");
    let report = |path: &Path| load(path).expect_err("no such configuration").to_string();
    assert_eq!(
        report(&missing),
        format!(
            "{}: the file cannot be read: No such file or directory (os error 2)",
            missing.display()
        )
    );
    assert_eq!(
        report(directory.path()),
        format!(
            "{}: the file cannot be read: Is a directory (os error 21)",
            directory.path().display()
        )
    );
    fs::write(&missing, b"# caf\xe9\n").unwrap();
    assert_eq!(
        report(&missing),
        format!("{}:1:6: not UTF-8 text", missing.display())
    );
}

#[test]
fn a_file_that_can_be_read_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("edge.toml");
    fs::write(&path, UPSTREAM).unwrap();
    assert_eq!(load(&path), Ok(accepted("")));
}

#[test]
fn the_smallest_file_names_only_the_vms() {
    let config = accepted("upstream.servers = [\"[fd00::5]:9000\"]");
    assert_eq!(config.upstream.servers[0].to_string(), "[fd00::5]:9000");
    assert_eq!(config.batches.len(), 1);
    assert_eq!(config.batches[0].path, "/api/v1/intercom/shows");
    assert!(config.invalidate.is_empty());
}

proptest! {
    #[test]
    fn a_file_with_a_wrong_line_is_read_or_refused_with_reasons(
        at in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just(String::new()),
            prop::sample::select(vec![
                "0", "-1", "1e9", "nan", "0x1F", "true", "1979-05-27", "[]", "[1]", "[\"\"]", "[[]]", "{}", "\"\"",
                "\"0s\"", "\"99999999999999999999d\"", "\"/\"", "[\"a\", \"a\"]", "[\"all\"]", "[{}]",
            ]).prop_map(str::to_owned),
            "\\PC{0,16}",
        ],
    ) {
        let reference = include_str!("../../conf/edge.toml");
        let mut lines: Vec<String> = reference.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|&line| lines[line].contains(" = ")).collect();
        let line = &mut lines[*at.get(&keys)];
        let key = line.split_once(" = ").expect("chosen for it").0.trim_start_matches("# ");
        *line = if value.is_empty() { String::new() } else { format!("{key} = {value}") };

        if let Err(error) = Config::parse(&lines.join("\n"), "edge.toml") {
            prop_assert!(!error.faults.is_empty());
            prop_assert_eq!(error.to_string().lines().count(), error.faults.len());
            prop_assert!(error.faults.iter().all(|fault| fault.line.is_some() && !fault.problem.is_empty()));
        }
    }
}
