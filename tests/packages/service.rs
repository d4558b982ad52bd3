//! The installed package under systemd, in a machine of its own: real dpkg, real unit, real sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::debian::{package, repacked};
use crate::machine::{BATCH, Machine};

/// A machine with the package installed, not yet started.
fn installed() -> Option<Machine> {
    Machine::with(package()?)
}

/// A machine that serves.
fn serving() -> Option<Machine> {
    let machine = installed()?;
    machine.does("systemctl start vms-edge");
    // The service is ready a moment before systemd has its sockets: that for clients and that for operators.
    machine
        .does("until [ \"$(systemctl show -P NFileDescriptorStore vms-edge)\" = 2 ]; do :; done");
    Some(machine)
}

#[test]
fn an_installed_package_serves_when_it_is_told_to_and_not_before() {
    let Some(machine) = installed() else { return };
    // Its configuration names no VMS yet, and whatever listens on port 9000 would be shown to everyone.
    assert_eq!(machine.property("ActiveState"), "inactive");
    assert_eq!(machine.property("UnitFileState"), "disabled");
    machine.does(
        "systemd-analyze verify --recursive-errors=no /usr/lib/systemd/system/vms-edge.service",
    );

    machine.does("systemctl enable --now vms-edge");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("StatusText"), "serving");
    let answer = machine.does(&format!("{BATCH} -i"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("Cache-Status: vms-edge; fwd=miss"),
        "{answer}"
    );
}

#[test]
fn the_operators_token_is_made_by_the_package_and_is_nobody_elses() {
    let Some(machine) = serving() else { return };
    let token = machine.does("stat -c '%U:%G %a' /etc/vms-edge/admin.token");
    assert_eq!(token.trim(), "root:vms-edge 640");
    let purge = |token: &str| {
        machine.does(&format!(
            "curl -sS -o /dev/null -w '%{{http_code}}' http://127.0.0.1:9090/purge \
             -H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' -d '{{\"everything\":true}}'"
        ))
    };
    assert_eq!(purge("$(cat /etc/vms-edge/admin.token)"), "200");
    assert_eq!(purge("a-token-of-somebody-else"), "401");

    // What is there at an upgrade is the operators'.
    machine.does("echo an-operators-own-token >/etc/vms-edge/admin.token");
    machine.install(package().unwrap());
    let kept = machine.does("cat /etc/vms-edge/admin.token");
    assert_eq!(kept, "an-operators-own-token\n");
}

#[test]
fn the_process_may_do_what_it_must_and_nothing_else() {
    let Some(machine) = serving() else { return };
    let status = machine.does("cat /proc/$(systemctl show -P MainPID vms-edge)/status");
    let line = |name: &str| {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        value.unwrap_or_else(|| panic!("{name} in {status}"))
    };
    // CAP_NET_BIND_SERVICE, and nothing that could be had besides.
    for capabilities in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(line(capabilities), "0000000000000400", "{capabilities}");
    }
    assert_eq!(line("NoNewPrivs"), "1");
    assert_eq!(line("Seccomp"), "2");
    assert!(!line("Uid").starts_with("0\t"), "{}", line("Uid"));
    // Which is why it may listen where web servers do.
    machine.does("sed -i 's/0.0.0.0:8080/0.0.0.0:443/' /etc/vms-edge/edge.toml");
    machine.does("systemctl restart vms-edge");
    machine.does("curl -sS http://127.0.0.1:443/");
}

#[test]
fn a_reload_takes_a_good_configuration_and_fails_with_a_bad_one_while_it_serves_on() {
    let Some(machine) = serving() else { return };
    let process = machine.property("MainPID");
    machine.does("sed -i 's/^check = \"enforce\"/check = \"forward\"/' /etc/vms-edge/edge.toml");
    machine.does("systemctl reload vms-edge");
    let bare = "curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/api/v1/intercom/shows \
                -H 'Authorization: Bearer tok-1-ios'";
    // Refused by the VMS, which asks for ids, and no longer by the edge, which asks for a widget's headers.
    machine.does(bare);
    assert_eq!(
        machine.metric("vms_edge_bypass_total{reason=\"headers\"}"),
        "1"
    );

    machine.does("echo 'colour = true' >>/etc/vms-edge/edge.toml");
    let (_, reloaded) = machine.tries("systemctl reload vms-edge");
    assert!(!reloaded, "a bad configuration is no success");
    let log = machine.does("cat /machine/log");
    assert!(log.contains("colour: unknown key"), "{log}");
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("MainPID"), process);
    assert_eq!(machine.metric("vms_edge_config_last_reload_success"), "0");
}

#[test]
fn a_restart_refuses_nobody() {
    let Some(machine) = serving() else { return };
    let process = machine.property("MainPID");
    let clients = [machine.client(), machine.client()];
    for _ in 0..3 {
        machine.does("systemctl restart vms-edge");
    }
    assert_ne!(machine.property("MainPID"), process);
    for answer in clients.map(|client| client.ends(&machine)).concat() {
        assert_eq!(answer, "200 0");
    }
}

#[test]
fn an_upgrade_hands_over_and_loses_no_request() {
    let Some(machine) = serving() else { return };
    let process = machine.property("MainPID");
    let clients = [machine.client(), machine.client()];
    let directory = tempfile::tempdir().unwrap();
    let newer = repacked(package().unwrap(), directory.path(), |root| {
        let control = root.join("DEBIAN/control");
        let text = fs::read_to_string(&control).unwrap();
        fs::write(&control, text.replace("\nVersion: 0", "\nVersion: 1")).unwrap();
    });
    machine.install(&newer);
    let successor = machine.property("MainPID");
    assert_ne!(successor, process);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.property("NRestarts"), "0", "nothing was stopped");
    let program = machine.does(&format!("readlink /proc/{successor}/exe"));
    assert_eq!(program, "/usr/bin/vms-edge\n", "it runs what was installed");
    for answer in clients.map(|client| client.ends(&machine)).concat() {
        assert_eq!(answer, "200 0");
    }
    // The successor is a service like any other.
    machine
        .does("systemctl reload vms-edge && systemctl restart vms-edge && systemctl stop vms-edge");
    assert_eq!(machine.property("Result"), "success");
}

#[test]
fn an_upgrade_to_a_program_that_does_not_start_leaves_the_old_one_serving() {
    let Some(machine) = serving() else { return };
    let process = machine.property("MainPID");
    let directory = tempfile::tempdir().unwrap();
    let broken = repacked(package().unwrap(), directory.path(), |root| {
        let program = root.join("usr/bin/vms-edge");
        fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    });
    let said = machine.install(&broken);
    assert!(said.contains("the old one serves on"), "{said}");
    assert_eq!(machine.property("MainPID"), process);
    assert_eq!(machine.property("StatusText"), "serving; not handed over");
    assert_eq!(
        machine.metric("vms_edge_upgrades_total{result=\"failed\"}"),
        "1"
    );
    let answer = machine.does(&format!("{BATCH} -o /dev/null -w '%{{http_code}}'"));
    assert_eq!(answer, "200");
}

#[test]
fn a_bad_configuration_is_not_tried_again_and_a_crash_is() {
    let Some(machine) = serving() else { return };
    machine.does("systemctl kill --signal=KILL vms-edge");
    // Whoever connects meanwhile waits: the sockets are still there.
    let answer = machine.does(&format!("{BATCH} -o /dev/null -w '%{{http_code}}'"));
    assert_eq!(answer, "200");
    assert_eq!(machine.property("NRestarts"), "1");

    machine.does("echo 'colour = true' >>/etc/vms-edge/edge.toml");
    let (_, started) = machine.tries("systemctl restart vms-edge");
    assert!(!started);
    assert_eq!(machine.property("ExecMainStatus"), "78");
    assert_eq!(machine.property("ActiveState"), "failed");
    assert_eq!(
        machine.property("SubState"),
        "failed",
        "and not about to be restarted"
    );
}

#[test]
fn a_removed_package_serves_no_more_and_a_purged_one_leaves_nothing() {
    let Some(machine) = serving() else { return };
    machine.does("dpkg --no-triggers --remove vms-edge");
    let (_, answered) = machine.tries(BATCH);
    assert!(!answered);
    machine.does("test -e /etc/vms-edge/edge.toml && test -e /etc/vms-edge/admin.token");
    machine.does("dpkg --no-triggers --purge vms-edge");
    let (left, _) = machine.tries("find /etc /usr /var /run /opt -xdev -name '*vms-edge*'");
    assert_eq!(left, "");
}
