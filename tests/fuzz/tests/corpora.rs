//! Every input that is kept is run again: the seeds that people wrote, and what the fuzzer found.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use vms_edge_fuzz::{TARGETS, Target};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The inputs of a target, in the order of their names.
fn inputs(name: &str) -> Vec<PathBuf> {
    let mut inputs = Vec::new();
    for kind in ["seeds", "corpus"] {
        let directory = here().join(kind).join(name);
        let files = fs::read_dir(&directory);
        let files = files.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        inputs.extend(files.map(|file| file.expect("a directory can be listed").path()));
    }
    inputs.sort();
    inputs
}

#[track_caller]
fn replay(name: &str) {
    let (_, run) = target(name);
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "nothing is kept for {name}");
    let mut failed = Vec::new();
    for input in &inputs {
        let data = fs::read(input).expect("it was listed");
        if catch_unwind(|| run(&data)).is_err() {
            failed.push(input);
        }
    }
    assert!(
        failed.is_empty(),
        "these inputs of {name} fail: {failed:#?}"
    );
}

fn target(name: &str) -> Target {
    let mut targets = TARGETS.into_iter();
    targets
        .find(|target| target.0 == name)
        .expect("it is a target")
}

#[test]
fn ids_are_understood_as_the_vms_understands_them() {
    replay("ids");
}

#[test]
fn headers_are_judged_as_the_documentation_says_and_keys_are_as_different_as_requests() {
    replay("headers");
}

#[test]
fn answers_are_stored_only_if_they_may_be() {
    replay("answer");
}

#[test]
fn items_are_found_as_another_parser_finds_them() {
    replay("split");
}

#[test]
fn what_was_split_and_composed_again_is_what_the_vms_would_send() {
    replay("compose_split");
}

#[test]
fn what_is_said_in_cache_status_is_read_by_a_parser_of_structured_fields() {
    replay("cache_status");
}

#[test]
fn the_configuration_that_is_printed_is_the_one_in_effect() {
    replay("configuration");
}

#[test]
fn what_operators_send_is_done_as_it_was_said_or_refused_without_being_quoted() {
    replay("admin");
}

#[test]
fn a_connection_has_an_answer_to_each_request_and_nobody_gets_what_is_anothers() {
    replay("connection");
}

/// A target that is in one of these lists and not in the others would never be run by somebody.
#[test]
fn every_target_has_a_program_seeds_and_a_replay() {
    let manifest = fs::read_to_string(here().join("Cargo.toml")).expect("cargo has read it");
    let this = include_str!("corpora.rs");
    let mut programs = Vec::new();
    for part in manifest.split("[[bin]]\nname = \"").skip(1) {
        programs.push(part.split('"').next().unwrap_or_default());
    }
    let names = TARGETS.map(|(name, _)| name);
    assert_eq!(programs, names);
    for name in names {
        assert!(
            here().join("targets").join(format!("{name}.rs")).exists(),
            "{name}"
        );
        assert!(this.contains(&format!("replay(\"{name}\");")), "{name}");
    }
}
