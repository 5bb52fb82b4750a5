//! What an operator reads for each kind of mistake: the exact lines. Each case is the good
//! file with one place changed.

use expect_test::{Expect, expect};
use haarb_config::Config;

const GOOD: &str = include_str!("good.yaml");

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
fn deletion_limits() {
    let check_one = |limit: &str, expected: &Expect| {
        let directory = format!("- {{ path: /srv/sip, deletion-limit: {limit} }}");
        check(&[("- { path: /srv/sip }", &directory)], expected);
    };
    for good in ["none", "1%", "99%", "1", "5000"] {
        check_one(good, &expect!["accepted"]);
        let directory = format!("- {{ path: /srv/sip, deletion-limit: {good} }}");
        let text = GOOD.replacen("- { path: /srv/sip }", &directory, 1);
        let config = Config::parse(&text, "h.yaml").unwrap();
        assert_eq!(Config::parse(&config.to_yaml(), "shown").unwrap(), config);
        let limit = config.reserves[0].directories[0].deletion_limit;
        assert_eq!(limit.to_string(), good);
    }
    check_one(
        "100%",
        &expect![[
            r#"h.yaml:25:43: deletion-limit "100%" is not between 1% and 99%; write a part such as 50%, a number of files such as 200, or none"#
        ]],
    );
    check_one(
        "0",
        &expect![[
            r#"h.yaml:25:43: deletion-limit "0" is neither a part of the files, nor a number of them, nor none; write a part such as 50%, a number of files such as 200, or none"#
        ]],
    );
    check_one(
        "many",
        &expect![[
            r#"h.yaml:25:43: deletion-limit "many" is neither a part of the files, nor a number of them, nor none; write a part such as 50%, a number of files such as 200, or none"#
        ]],
    );
}

#[test]
fn scrub_rates() {
    let directory = |rate: &str| format!("- {{ path: /srv/sip, scrub-rate: {rate} }}");
    for good in ["none", "1MB/s", "65535MB/s"] {
        let text = GOOD.replacen("- { path: /srv/sip }", &directory(good), 1);
        let config = Config::parse(&text, "h.yaml").unwrap();
        assert_eq!(Config::parse(&config.to_yaml(), "shown").unwrap(), config);
        let rate = config.reserves[0].directories[0].scrub_rate;
        assert_eq!(rate.to_string(), good);
    }
    for bad in ["4", "0MB/s", "65536MB/s", "-1MB/s"] {
        let text = GOOD.replacen("- { path: /srv/sip }", &directory(bad), 1);
        let said = Config::parse(&text, "h.yaml").unwrap_err().to_string();
        assert!(said.contains("such as 4MB/s"), "{said}");
    }
}

#[test]
fn excludes() {
    let check_one = |exclude: &str, expected: &Expect| {
        let directory = format!("- {{ path: /srv/sip, exclude: {exclude} }}");
        check(&[("- { path: /srv/sip }", &directory)], expected);
    };
    check_one(r#"["*.tmp", "/cache/", "!keep.tmp"]"#, &expect!["accepted"]);
    check_one(
        r##"["*.tmp", "# all"]"##,
        &expect![[
            r##"h.yaml:25:46: the pattern "# all" matches nothing; write a pattern as in a .gitignore file, such as "*.tmp" or "/cache/""##
        ]],
    );
    check_one(
        r#"["a{b"]"#,
        &expect![[
            r#"h.yaml:25:37: the pattern "a{b" is no pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?); write a pattern as in a .gitignore file, such as "*.tmp" or "/cache/""#
        ]],
    );
    check_one(
        "[]",
        &expect![
            "h.yaml:25:36: exclude is an empty list; add an entry, or remove the key where it is optional"
        ],
    );
    check_one(
        "'*.tmp'",
        &expect![
            "h.yaml:25:36: exclude must be a list, not a single value; write the entries with `- ` in front, or in [ ]"
        ],
    );
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
fn keys() {
    check(
        &[("dead-after:", "dead_aftr:")],
        &expect![[
            r#"h.yaml:5:3: unknown key "dead_aftr" in timing; the nearest known key is "dead-after""#
        ]],
    );
    check(
        &[("cluster: telecom-7", "")],
        &expect![[r#"h.yaml:2:1: the configuration has no "cluster"; add `cluster: NAME`"#]],
    );
    check(
        &[("cluster:", "cluster: x\ncluster:")],
        &expect![[
            r#"h.yaml:2:1: the key "cluster" is there twice, first in line 1; remove one of them"#
        ]],
    );
    check(
        &[("    vips:", "    vip:")],
        &expect![[r#"
        h.yaml:21:5: a reserve has no "vips"; add `vips: [{ address: 10.77.1.100/24, interface: eth0 }]`
        h.yaml:22:5: unknown key "vip" in a reserve; the nearest known key is "vips""#]],
    );
    check(
        &[(
            "{ interface: eth0, address: 10.77.1.1 }",
            "{ interfaces: eth0, address: 10.77.1.1 }",
        )],
        &expect![[r#"
            h.yaml:14:13: a node's network has no "interface"; add `interface: eth0`
            h.yaml:14:15: unknown key "interfaces" in a node's network; the nearest known key is "interface""#]],
    );
    check(
        &[("      blue: { interface: eth1, address: 10.77.2.2 }\n", "")],
        &expect![[
            r#"h.yaml:18:7: this node is not attached to the network "blue"; add `blue: { interface: …, address: … }`"#
        ]],
    );
    check(
        &[(
            "      blue: { interface: eth1, address: 10.77.2.2 }",
            "      bleu: { interface: eth1, address: 10.77.2.2 }",
        )],
        &expect![[r#"
            h.yaml:18:7: this node is not attached to the network "blue"; add `blue: { interface: …, address: … }`
            h.yaml:19:7: unknown network "bleu" in a node; the nearest known network is "blue""#]],
    );
}

#[test]
fn types() {
    check(
        &[("dead-after: 30ms", "dead-after: 30")],
        &expect![[
            r#"h.yaml:5:15: dead-after "30" has no unit; write a number with a unit from 100us to 24h, such as 10ms, 2.5s or 1m"#
        ]],
    );
    check(
        &[("dead-after: 30ms", "dead-after: [30ms]")],
        &expect![
            "h.yaml:5:15: dead-after must be a single value, not a list; write one value, quoted if it has special characters"
        ],
    );
    check(
        &[("dead-after: 30ms", "dead-after: 0ms")],
        &expect![[
            r#"h.yaml:5:15: dead-after "0ms" is too short; write a number with a unit from 100us to 24h, such as 10ms, 2.5s or 1m"#
        ]],
    );
    check(
        &[("profile: telecom", "profile: telekom")],
        &expect![[
            r#"h.yaml:3:12: profile "telekom" is unknown, the nearest is "telecom"; write one of telecom, lan, wan"#
        ]],
    );
    check(
        &[("cluster: telecom-7", "cluster: tele com")],
        &expect![[
            r#"h.yaml:1:10: cluster "tele com" cannot be a name; use 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', beginning with a letter or digit"#
        ]],
    );
    check(
        &[("10.77.1.254", "10.77.1.256")],
        &expect![[
            r#"h.yaml:8:13: switch "10.77.1.256" is not an IP address; write one IPv4 or IPv6 address of a host, such as 10.77.1.1"#
        ]],
    );
    check(
        &[("10.77.1.1 }", "10.77.1.1/24 }")],
        &expect![[
            r#"h.yaml:14:41: address "10.77.1.1/24" has a prefix length, which does not belong here; write one IPv4 or IPv6 address of a host, such as 10.77.1.1"#
        ]],
    );
    check(
        &[("10.77.1.1 }", "127.0.0.1 }")],
        &expect![[
            r#"h.yaml:14:41: address "127.0.0.1" is a loopback address; write one IPv4 or IPv6 address of a host, such as 10.77.1.1"#
        ]],
    );
    check(
        &[(
            "interface: eth0, address: 10.77.1.1 ",
            "interface: a-name-that-is-too-long, address: 10.77.1.1 ",
        )],
        &expect![[
            r#"h.yaml:14:26: interface "a-name-that-is-too-long" cannot be an interface; write the name of a network interface, at most 15 bytes, such as eth0"#
        ]],
    );
    check(
        &[("cluster: telecom-7", "cluster: telecom-7\nport: 70000")],
        &expect![[r#"h.yaml:2:7: port "70000" is not a port; write a port from 1 to 65535"#]],
    );
    check(
        &[(
            "cluster: telecom-7",
            "cluster: telecom-7\nport: 900\nsync-port: 900",
        )],
        &expect!["h.yaml:1:1: port and sync-port are both 900; give them different numbers"],
    );
    check(
        &[("    vips:\n", "    prefer: speed\n    vips:\n")],
        &expect![[r#"h.yaml:22:13: prefer "speed" is unknown; write availability or consistency"#]],
    );
    check(
        &[(
            "    vips:\n",
            "    strict: very\n    resume-on-one: try\n    vips:\n",
        )],
        &expect![[r#"
            h.yaml:22:13: strict "very" is unknown; write no or yes
            h.yaml:23:20: resume-on-one "try" is unknown; write wait or agree"#]],
    );
    check(
        &[(
            "cluster: telecom-7",
            "cluster: telecom-7\nwitness: 10.77.1.9",
        )],
        &expect![
            "h.yaml:2:10: a witness is not there yet; take the key out; `strict: yes` on a reserve is what closes the case of one lost link and a hole in the other network"
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
fn virtual_ips() {
    check(
        &[("10.77.1.100/24", "10.77.1.100")],
        &expect![[
            r#"h.yaml:23:20: address "10.77.1.100" has no prefix length; write ADDRESS/PREFIX of one host, such as 10.77.1.100/24"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.1.100/33")],
        &expect![[
            r#"h.yaml:23:20: address "10.77.1.100/33" has a prefix length out of range; write ADDRESS/PREFIX of one host, such as 10.77.1.100/24"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.1.0/24")],
        &expect![[
            r#"h.yaml:23:20: address "10.77.1.0/24" is the address of the network itself; write ADDRESS/PREFIX of one host, such as 10.77.1.100/24"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.1.255/24")],
        &expect![[
            r#"h.yaml:23:20: address "10.77.1.255/24" is the broadcast address of its network; write ADDRESS/PREFIX of one host, such as 10.77.1.100/24"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.3.100/24")],
        &expect![[
            r#"h.yaml:23:20: the virtual IP 10.77.3.100/24 is outside the network "red" of its interface eth0, where node "alpha" is 10.77.1.1; choose an address of that network, its prefix length, or another interface"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.1.1/24")],
        &expect![[
            r#"h.yaml:23:20: the virtual IP 10.77.1.1 is the own address of node "alpha", network "red"; use an address that no machine has as its own"#
        ]],
    );
    check(
        &[("10.77.1.101/24", "10.77.1.100/24")],
        &expect![[
            r#"h.yaml:34:20: the virtual IP 10.77.1.100 is already that of reserve "sip"; give every reserve its own virtual IPs"#
        ]],
    );
    check(
        &[("10.77.1.100/24", "10.77.9.100/32")],
        &expect!["accepted"],
    );
    check(&[("10.77.1.100/24", "fd00::100/64")], &expect!["accepted"]);
}

#[test]
fn directories_that_overlap_or_cannot_be() {
    check(
        &[("path: /srv/other", "path: /srv/sip/")],
        &expect![[
            r#"h.yaml:36:17: the directory /srv/sip is the same as /srv/sip of reserve "sip"; replicate every directory once"#
        ]],
    );
    check(
        &[("path: /srv/other", "path: /srv/sip/inner")],
        &expect![[
            r#"h.yaml:36:17: the directory /srv/sip/inner lies inside /srv/sip of reserve "sip"; replicate every directory once"#
        ]],
    );
    check(
        &[("path: /srv/other", "path: /srv")],
        &expect![[
            r#"h.yaml:36:17: the directory /srv contains /srv/sip of reserve "sip"; replicate every directory once"#
        ]],
    );
    check(
        &[("path: /srv/other", "path: srv/other")],
        &expect![[
            r#"h.yaml:36:17: path "srv/other" is not an absolute path; write an absolute path without . and .., not / and not under /proc, /sys or /dev"#
        ]],
    );
    check(
        &[("path: /srv/other", "path: /srv/../etc")],
        &expect![[
            r#"h.yaml:36:17: path "/srv/../etc" is not a plain path; write an absolute path without . and .., not / and not under /proc, /sys or /dev"#
        ]],
    );
    check(
        &[("path: /srv/other", "path: /proc/sys")],
        &expect![[
            r#"h.yaml:36:17: path "/proc/sys" cannot be replicated; write an absolute path without . and .., not / and not under /proc, /sys or /dev"#
        ]],
    );
    check(
        &[("      - { path: /srv/other }\n", "      []\n")],
        &expect![
            "h.yaml:36:7: directories is an empty list; add an entry, or remove the key where it is optional"
        ],
    );
}

#[test]
fn services() {
    check(
        &[("systemd: kamailio.service", "systemd: kamailio")],
        &expect![[
            r#"h.yaml:27:36: systemd "kamailio" is not the name of a unit; write the full name of the unit, such as kamailio.service"#
        ]],
    );
    check(
        &[("[/usr/local/bin/relay,", "[relay,")],
        &expect![[
            r#"h.yaml:28:31: the program "relay" is not an absolute path; write the absolute path of the program first, then its arguments"#
        ]],
    );
    check(
        &[(
            "exec: [/usr/local/bin/relay, --port, \"5060\"]",
            "exec: /usr/local/bin/relay",
        )],
        &expect![
            "h.yaml:28:30: exec must be a list, not a single value; write the entries with `- ` in front, or in [ ]"
        ],
    );
    check(
        &[(
            "exec: [/usr/local/bin/relay, --port, \"5060\"]",
            "start-timeout: 1s",
        )],
        &expect![
            "h.yaml:28:9: a service does not say how it is run; write one of exec, script, systemd, init, ocf"
        ],
    );
    check(
        &[(
            "systemd: kamailio.service",
            "systemd: kamailio.service, exec: [/bin/true]",
        )],
        &expect![
            "h.yaml:27:9: a service says more than once how it is run: exec, systemd; write one of exec, script, systemd, init, ocf"
        ],
    );
    check(
        &[("systemd: kamailio.service", "init: /etc/init.d/kamailio")],
        &expect![
            "h.yaml:27:27: services of kind init are not supported yet; use script with its start, stop and status commands instead"
        ],
    );
    check(
        &[(
            "systemd: kamailio.service",
            "ocf: \"heartbeat:nginx\", parameters: { port: 80 }",
        )],
        &expect![
            "h.yaml:27:27: services of kind ocf are not supported yet; use script with its start, stop and status commands instead"
        ],
    );
    check(
        &[(", status: /usr/local/bin/trunk-running", "")],
        &expect![[r#"h.yaml:30:17: script has no "status"; add `status: "COMMAND"`"#]],
    );
    check(
        &[(
            "systemd: kamailio.service",
            "systemd: kamailio.service, restarts: -1",
        )],
        &expect![[
            r#"h.yaml:27:64: restarts "-1" is not a whole number; write a whole number from 0 to 1000000"#
        ]],
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
fn syntax() {
    report(
        "",
        &expect![
            "h.yaml:1:1: the file is empty; write a configuration: cluster, networks, nodes, reserves"
        ],
    );
    report(
        "cluster: [a\n",
        &expect![
            "h.yaml:1:10: this is not YAML: unclosed bracket '['; check indentation, quotes and brackets here and just above"
        ],
    );
    report(
        "- a\n- b\n",
        &expect![
            "h.yaml:1:1: the configuration must be a mapping of keys, not a list; write `key: value` with cluster, timing, networks, nodes, reserves, port, sync-port, watchdog, witness"
        ],
    );
    report(
        "cluster: &x a\n",
        &expect![
            "h.yaml:1:13: anchors, aliases and tags are not used in this file; write the value out, and quote texts that begin with & * or !"
        ],
    );
    report(
        "cluster: a\n---\ncluster: b\n",
        &expect!["h.yaml:2:1: a second document begins here; keep one document in the file"],
    );
    report(
        "? [a]\n: b\n",
        &expect!["h.yaml:1:3: this key is not a plain word; write `key: value`"],
    );
    report(
        &"[".repeat(5000),
        &expect![
            "h.yaml:1:33: this is not YAML: recursion limit exceeded; check indentation, quotes and brackets here and just above"
        ],
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
