//! Mistakes in a reserve: its addresses, directories and services.

use expect_test::{Expect, expect};
use haarb_config::Config;

use crate::{GOOD, check};

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
