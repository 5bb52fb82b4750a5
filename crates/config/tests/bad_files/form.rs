//! Mistakes of form: what is no YAML that haarb reads, unknown keys, values of the wrong type.

use expect_test::expect;

use crate::{check, report};

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
