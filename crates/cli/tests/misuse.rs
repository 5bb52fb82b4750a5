//! Commands used wrongly: the exit status and the lines an operator reads.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use expect_test::{Expect, expect};

const GOOD: &str = include_str!("../../config/tests/good.yaml");

fn haarb(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haarb"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HAARB_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(dir).output().unwrap()
}

/// Runs a command and compares `STATUS` and standard error.
fn check(dir: &Path, arguments: &[&str], expected: &Expect) {
    let output = haarb(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.replace(&dir.display().to_string(), "DIR");
    let status = output.status.code().unwrap_or(-1);
    expected.assert_eq(&format!("status {status}\n{error}"));
}

#[test]
fn wrong_usage_is_status_2() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["stauts"][..],
        &["status", "--jsno"],
        &["switchover"],
        &["maintenance", "maybe"],
        &["events", "--since", "soon"],
        &["key"],
        &[],
    ] {
        let output = haarb(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_command_has_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "run",
        "status",
        "switchover",
        "promote",
        "demote",
        "maintenance",
        "clear",
        "events",
        "why",
        "conflicts",
        "sync",
        "config",
        "key",
    ] {
        let output = haarb(dir.path(), &[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Usage:"), "{command}: {text}");
    }
}

#[test]
fn commands_while_the_arbiter_is_down_say_so() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &[
            "status",
            "--run-dir",
            "run",
            "--config",
            "c.yaml",
            "--key",
            "k",
        ],
        &expect![[r#"
        status 1
        haarb: the arbiter does not answer on run/control.sock: No such file or directory (os error 2); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
        haarb: c.yaml: no configuration yet; write it (there is an example in /usr/share/doc/haarb/examples) and check it with `haarb config check`
        haarb: k: no cluster key yet; make it on one server with `haarb key generate k` and copy it to the others
    "#]],
    );
    check(
        dir.path(),
        &[
            "status",
            "--watch",
            "--run-dir",
            "run",
            "--config",
            "c.yaml",
            "--key",
            "k",
        ],
        &expect![[r#"
            status 1
            haarb: the arbiter does not answer on run/control.sock: No such file or directory (os error 2); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
            haarb: c.yaml: no configuration yet; write it (there is an example in /usr/share/doc/haarb/examples) and check it with `haarb config check`
            haarb: k: no cluster key yet; make it on one server with `haarb key generate k` and copy it to the others
        "#]],
    );
    check(
        dir.path(),
        &["switchover", "sip", "--run-dir", "run"],
        &expect![[r#"
            status 1
            haarb: the arbiter does not answer on run/control.sock: No such file or directory (os error 2); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
        "#]],
    );
    check(
        dir.path(),
        &["events", "--run-dir", "run"],
        &expect![[r#"
        status 1
        haarb: the arbiter does not answer on run/control.sock: No such file or directory (os error 2); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
    "#]],
    );
    check(
        dir.path(),
        &["why", "--run-dir", "run"],
        &expect![[r#"
        status 1
        haarb: the arbiter does not answer on run/control.sock: No such file or directory (os error 2); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
    "#]],
    );
    // A socket that nobody serves any more.
    let stale = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(stale).unwrap());
    check(
        dir.path(),
        &["maintenance", "on", "--run-dir", "."],
        &expect![[r#"
            status 1
            haarb: the arbiter does not answer on ./control.sock: Connection refused (os error 111); start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir
        "#]],
    );
}

#[test]
fn an_arbiter_that_stands_still_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let _listens_and_says_nothing = std::os::unix::net::UnixListener::bind(socket).unwrap();
    check(
        dir.path(),
        &["status", "--run-dir", "."],
        &expect![[r#"
        status 1
        haarb: the arbiter does not answer on ./control.sock in time; look at its log, or restart it: nothing that is held is lost by that
    "#]],
    );
}

#[test]
fn names_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &["promote", "a/b"],
        &expect![[r#"
        status 1
        haarb: reserve: "a/b" cannot be a name: use 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter or digit; `haarb status` lists them
    "#]],
    );
}

#[test]
fn commands_that_are_not_there_yet_say_so() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &["apply", "haarb.yaml"],
        &expect![[r#"
        status 1
        haarb: apply: this command is not there yet; until then edit the file on every server and restart haarb there, the standby first
    "#]],
    );
    check(
        dir.path(),
        &["resources", "add", "--service", "x"],
        &expect![[r#"
            status 1
            haarb: resources: this command is not there yet; until then edit `reserves` in the configuration and check it with `haarb config check`
        "#]],
    );
    check(
        dir.path(),
        &["setup"],
        &expect![[r#"
        status 1
        haarb: setup: this command is not there yet; until then write the configuration by hand and check it with `haarb config check`
    "#]],
    );
}

#[test]
fn a_key_is_made_once_and_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    check(
        dir.path(),
        &["key", "generate", "k"],
        &expect![[r#"
        status 0
    "#]],
    );
    let file = dir.path().join("k");
    let mode = file.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.len(), 65);
    assert!(text.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
    check(
        dir.path(),
        &["key", "generate", "k"],
        &expect![[r#"
        status 1
        haarb: k: exists already and was not touched; the servers of a cluster share one key, so move it away only if you mean to replace it on all of them
    "#]],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    check(
        dir.path(),
        &["key", "generate", "no/such/k"],
        &expect![[r#"
            status 1
            haarb: no/such/k: the cluster key cannot be written (No such file or directory (os error 2)); check that the directory exists and may be written
        "#]],
    );
}

#[test]
fn configurations_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("good.yaml", GOOD);
    let output = haarb(dir.path(), &["config", "check", "good.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    expect![[r#"
        good.yaml: good; cluster telecom-7, 2 nodes, 2 networks, 2 reserves, profile telecom, digest 7e666614ebbf0c6c
        times, with jitter 500us, delay 500us, drop 500us, give way 500us, granularity 50ms, misses 2:
          three replies                     30ms >= 30ms     holds   dead-after >= 3 x probe-interval
          cut off without carrier loss      38ms >  27.5ms   holds   dead-after + vip-probe > probe-interval + jitter + (misses + 1) x switch-interval + 2 x jitter + drop + delay
          one-way loss                      38ms >  37.5ms   holds   dead-after + vip-probe > not-heard-after + probe-interval + 2 x jitter + delay + give way + drop
          software dead, kernel alive      808ms >  561ms    holds   software-dead-after + vip-probe > probe-interval + jitter + lease + granularity + delay
          one lost datagram                 25ms >= 20ms     holds   not-heard-after >= 2 x probe-interval
          eligible only after letting go   600ms >  500ms    holds   lead > lease
          granularity holds for a dead vip-agent too where `haarb status` shows ebpf or nftables; with address-lifetime alone it is up to 2.5s, and the probe of the VIPs holds a takeover back
    "#]].assert_eq(&String::from_utf8_lossy(&output.stdout));
    write(
        "bad.yaml",
        &GOOD
            .replace("dead-after: 30ms", "dead-after: 30")
            .replace("name: beta", "name: alpha"),
    );
    check(
        dir.path(),
        &["config", "check", "bad.yaml"],
        &expect![[r#"
        status 1
        haarb: bad.yaml:5:15: dead-after "30" has no unit; write a number with a unit from 100us to 24h, such as 10ms, 2.5s or 1m
        haarb: bad.yaml:16:11: a second node is named "alpha"; give every node its own name
    "#]],
    );
    check(
        dir.path(),
        &["config", "show", "--config", "absent.yaml"],
        &expect![[r#"
            status 1
            haarb: absent.yaml: cannot read the configuration: No such file or directory (os error 2); name the file with --config or HAARB_CONFIG, and check that this user may read it
        "#]],
    );
    check(
        dir.path(),
        &["config", "check", "good.yaml", "--node", "gamma"],
        &expect![[r#"
            status 1
            haarb: good.yaml: gamma is not among its nodes (alpha, beta); give --node NAME
        "#]],
    );
    let missing = GOOD
        .replace("eth0", "no-such-if0")
        .replace("eth1", "no-such-if1");
    write("missing.yaml", &missing);
    let output = haarb(
        dir.path(),
        &["config", "check", "missing.yaml", "--node", "beta"],
    );
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("haarb: missing.yaml:18:26: the interface \"no-such-if0\" does not exist on this server; write one of "), "{error}");
    // The shown form is a configuration again, and the same one.
    let shown = haarb(dir.path(), &["config", "show", "good.yaml"]).stdout;
    std::fs::write(dir.path().join("shown.yaml"), &shown).unwrap();
    assert_eq!(
        haarb(dir.path(), &["config", "show", "shown.yaml"]).stdout,
        shown
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("good.yaml"), GOOD).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_haarb"))
        .args(["config", "show", "good.yaml"])
        .current_dir(dir.path())
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
