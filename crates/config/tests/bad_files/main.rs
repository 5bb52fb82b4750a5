//! What an operator reads for each kind of mistake: the exact lines. Each case is the good
//! file with one place changed.

mod form;
mod reserves;

use expect_test::{Expect, expect};
use haarb_config::Config;

const GOOD: &str = include_str!("../good.yaml");

/// Replaces every pair in the good file and compares the report.
fn check(changes: &[(&str, &str)], expected: &Expect) {
    let mut text = GOOD.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the good file");
        text = text.replacen(from, to, 1);
    }
    report(&text, expected);
}

fn report(text: &str, expected: &Expect) {
    let report = match Config::parse(text, "h.yaml") {
        Ok(_) => "accepted".to_owned(),
        Err(errors) => errors.to_string(),
    };
    expected.assert_eq(&report);
}

#[test]
fn watchdogs() {
    let with = |watchdog: &str| format!("watchdog: {watchdog}\ncluster: telecom-7");
    let check_one = |watchdog: &str, expected: &Expect| {
        check(&[("cluster: telecom-7", &with(watchdog))], expected);
    };
    check_one("{ device: /dev/watchdog }", &expect!["accepted"]);
    check_one(
        "{ timeout: 5s }",
        &expect![[r#"h.yaml:1:11: watchdog has no "device"; add `device: /dev/watchdog`"#]],
    );
    check_one(
        "{ device: watchdog }",
        &expect![[
            r#"h.yaml:1:21: device "watchdog" is not an absolute path; write an absolute path without . and .., such as /dev/watchdog"#
        ]],
    );
    check_one(
        "{ device: /dev/watchdog, timeout: 1500ms }",
        &expect![
            "h.yaml:1:45: the watchdog's timeout is out of range or has a fraction of a second; devices count whole seconds: write 1s to 10m"
        ],
    );
    check_one(
        "{ device: /dev/watchdog, timeout: 11m }",
        &expect![
            "h.yaml:1:45: the watchdog's timeout is out of range or has a fraction of a second; devices count whole seconds: write 1s to 10m"
        ],
    );
    let wan = [
        ("profile: telecom ", "profile: wan "),
        ("probe-interval: 10ms", ""),
        ("dead-after: 30ms ", ""),
    ];
    let watchdog = with("{ device: /dev/watchdog, timeout: 5s }");
    let changes = [&wan[..], &[("cluster: telecom-7", watchdog.as_str())]].concat();
    check(
        &changes,
        &expect![
            "h.yaml:1:45: the watchdog's timeout of 5s is shorter than two leases (6s); make it longer"
        ],
    );
}

#[test]
fn names_and_addresses_that_clash() {
    check(
        &[("name: beta", "name: alpha")],
        &expect![[r#"h.yaml:16:11: a second node is named "alpha"; give every node its own name"#]],
    );
    check(
        &[("name: blue", "name: red")],
        &expect![[r#"
        h.yaml:9:11: a second network is named "red"; give every network its own name
        h.yaml:15:7: unknown network "blue" in a node; the nearest known network is "red"
        h.yaml:19:7: unknown network "blue" in a node; the nearest known network is "red""#]],
    );
    check(
        &[("name: second", "name: sip")],
        &expect![[
            r#"h.yaml:32:11: a second reserve is named "sip"; give every reserve its own name"#
        ]],
    );
    check(
        &[("name: trunk", "name: relay")],
        &expect![[
            r#"h.yaml:29:15: a second service of this reserve is named "relay"; give every service its own name"#
        ]],
    );
    check(
        &[("10.77.1.2 }", "10.77.1.1 }")],
        &expect![[
            r#"h.yaml:18:41: the address 10.77.1.1 is already that of node "alpha", network "red"; give every server and switch its own address"#
        ]],
    );
    check(
        &[("10.77.1.2 }", "fd00::2 }")],
        &expect![[
            r#"h.yaml:18:41: the address fd00::2 is of another family than the others in network "red"; use IPv4 or IPv6 for the whole network; virtual IPs may be of either"#
        ]],
    );
    check(
        &[(
            "interface: eth1, address: 10.77.2.1",
            "interface: eth0, address: 10.77.2.1",
        )],
        &expect![[r#"
            h.yaml:15:26: the interface "eth0" is already used for another network; give every network its own interface: one switch, one cable
            h.yaml:23:20: the virtual IP 10.77.1.100/24 is outside the network "blue" of its interface eth0, where node "alpha" is 10.77.2.1; choose an address of that network, its prefix length, or another interface
            h.yaml:34:20: the virtual IP 10.77.1.101/24 is outside the network "blue" of its interface eth0, where node "alpha" is 10.77.2.1; choose an address of that network, its prefix length, or another interface"#]],
    );
}

#[test]
fn times_that_break_an_inequality() {
    check(
        &[("dead-after: 30ms", "dead-after: 20ms")],
        &expect![[r#"
        h.yaml:5:15: the times break "three replies": dead-after >= 3 x probe-interval is 20ms against 30ms; raise dead-after to at least 30ms, or change probe-interval
        h.yaml:5:15: the times break "one-way loss": dead-after + vip-probe > not-heard-after + probe-interval + 2 x jitter + delay + give way + drop is 28ms against 37.5ms; raise dead-after above 29.5ms, or change not-heard-after, vip-probe, probe-interval"#]],
    );
    check(
        &[("dead-after: 30ms", "lease: 1s")],
        &expect![[r#"
        h.yaml:5:10: the times break "software dead, kernel alive": software-dead-after + vip-probe > probe-interval + jitter + lease + granularity + delay is 808ms against 1061ms; raise software-dead-after above 1053ms, or change lease, vip-probe, probe-interval
        h.yaml:5:10: the times break "eligible only after letting go": lead > lease is 600ms against 1s; raise lead above 1s, or change lease"#]],
    );
    check(
        &[("probe-interval: 10ms", "probe-interval: 40ms")],
        &expect![[r#"
            h.yaml:4:19: the times break "one lost datagram": not-heard-after >= 2 x probe-interval is 25ms against 80ms; raise not-heard-after to at least 80ms, or change probe-interval
            h.yaml:5:15: the times break "three replies": dead-after >= 3 x probe-interval is 30ms against 120ms; raise dead-after to at least 120ms, or change probe-interval
            h.yaml:5:15: the times break "cut off without carrier loss": dead-after + vip-probe > probe-interval + jitter + (misses + 1) x switch-interval + 2 x jitter + drop + delay is 38ms against 57.5ms; raise dead-after above 49.5ms, or change switch-interval, vip-probe, probe-interval
            h.yaml:5:15: the times break "one-way loss": dead-after + vip-probe > not-heard-after + probe-interval + 2 x jitter + delay + give way + drop is 38ms against 67.5ms; raise dead-after above 59.5ms, or change not-heard-after, vip-probe, probe-interval"#]],
    );
}

#[test]
fn all_problems_of_a_file_are_reported_together() {
    check(
        &[
            ("dead-after:", "dead-afer:"),
            ("10.77.1.254", "switch-1"),
            ("name: beta", "name: alpha"),
            ("path: /srv/other", "path: other"),
        ],
        &expect![[r#"
            h.yaml:5:3: unknown key "dead-afer" in timing; the nearest known key is "dead-after"
            h.yaml:8:13: switch "switch-1" is not an IP address; write one IPv4 or IPv6 address of a host, such as 10.77.1.1
            h.yaml:16:11: a second node is named "alpha"; give every node its own name
            h.yaml:36:17: path "other" is not an absolute path; write an absolute path without . and .., not / and not under /proc, /sys or /dev"#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let error = Config::load(std::path::Path::new("/nonexistent/haarb.yaml")).unwrap_err();
    expect!["/nonexistent/haarb.yaml: cannot read the configuration: No such file or directory (os error 2); name the file with --config or HAARB_CONFIG, and check that this user may read it"].assert_eq(&error.to_string());
    let error = Config::load(std::path::Path::new("/")).unwrap_err();
    expect!["/: is not a file; name a YAML file"].assert_eq(&error.to_string());
}
