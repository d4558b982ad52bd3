//! The manifests for Kubernetes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::tool;
use crate::{own_tool, project, read, run};

fn manifests() -> Vec<PathBuf> {
    let directory = project().join("conf/kubernetes");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// What the check of the schemas says of `files`, and whether it found nothing wrong; `None` where it cannot be had.
fn check(files: &[PathBuf]) -> Option<(String, bool)> {
    let node = tool("node")?;
    own_tool("schemas/node_modules/.bin/tsc")?;
    let schemas = project().join("target/tools/schemas");
    // Beside the packages that it imports.
    let script = schemas.join("check.mjs");
    fs::write(&script, read("tests/packages/schemas/check.mjs")).unwrap();
    Some(run(Command::new(node).arg(script).args(files)))
}

#[test]
fn every_manifest_is_what_the_schema_of_its_kind_asks_for() {
    let Some((said, valid)) = check(&manifests()) else {
        return;
    };
    assert!(valid, "{said}");
    for kind in [
        "ConfigMap",
        "Secret",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceMonitor",
        "IngressRoute",
    ] {
        assert!(said.contains(&format!("{kind} vms-edge: valid")), "{said}");
    }
}

#[test]
fn a_manifest_with_a_wrong_value_or_an_unknown_member_is_told() {
    let directory = tempfile::tempdir().unwrap();
    for (file, right, wrong, fault) in [
        (
            "deployment.yaml",
            "replicas: 2",
            "replicas: two",
            "replicas",
        ),
        (
            "deployment.yaml",
            "readOnlyRootFilesystem",
            "readonlyRootFilesystem",
            "readonlyRootFilesystem",
        ),
        (
            "ingressroute.yaml",
            "strategy: hrw",
            "strategy: token",
            "strategy",
        ),
        ("servicemonitor.yaml", "jobLabel", "jobName", "jobName"),
        ("networkpolicy.yaml", "podSelector:", "pods:", "pods"),
    ] {
        let text = read(&format!("conf/kubernetes/{file}"));
        assert!(text.contains(right), "{file}: {right}");
        let path = directory.path().join(file);
        fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let Some((said, valid)) = check(&[path]) else {
            return;
        };
        assert!(!valid && said.contains(fault), "{wrong}: {said}");
    }
}

/// The configuration inside the ConfigMap.
fn configuration() -> String {
    let text = read("conf/kubernetes/configmap.yaml");
    let (_, block) = text.split_once("  edge.toml: |\n").unwrap();
    let lines = block
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_configuration_of_the_pods_is_valid() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("admin.token");
    fs::write(&token, "a-token-of-the-operators\n").unwrap();
    let mounted = "/etc/vms-edge-secret/admin.token";
    let text = configuration();
    assert!(text.contains(mounted));
    let path: &Path = &directory.path().join("edge.toml");
    fs::write(path, text.replace(mounted, token.to_str().unwrap())).unwrap();
    let (said, valid) = run(Command::new(env!("CARGO_BIN_EXE_vms-edge"))
        .args(["check", "--config"])
        .arg(path));
    assert!(valid, "{said}");
}

/// The number behind the first `name` in `text`.
fn number(text: &str, name: &str) -> u64 {
    let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{name}"));
    let digits: String = rest
        .trim_start_matches([' ', '"', '='])
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} {digits}"))
}

#[test]
fn a_pod_is_given_the_time_and_the_memory_that_its_configuration_needs() {
    let deployment = read("conf/kubernetes/deployment.yaml");
    let configuration = configuration();
    let (_, pre_stop) = deployment.split_once("sleep:").unwrap();
    let needed = number(&configuration, "grace") + number(pre_stop, "seconds:");
    assert!(number(&deployment, "terminationGracePeriodSeconds:") > needed);

    let (_, limits) = deployment.split_once("limits:").unwrap();
    let cache = number(&configuration, "max_bytes");
    // A quarter more than the cache, and a fixed part.
    assert!(number(limits, "memory:") >= cache * 5 / 4 + 256);
    let port = format!(
        "containerPort: {}",
        number(&configuration, "listen = \"0.0.0.0:")
    );
    assert!(deployment.contains(&port), "{port}");
}
