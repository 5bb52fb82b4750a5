//! What a good file means: defaults, the digest, the view of the decision, the round trip
//! through the effective configuration; and no text at all makes the parser panic.

use expect_test::expect;
use haarb_config::{Config, Profile, ServiceKind};
use haarb_model::{NetworkName, NodeName, Span};
use proptest::prelude::*;

const GOOD: &str = include_str!("good.yaml");

/// The file that the architecture page promises to users, word for word.
const CONTRACT: &str = include_str!("contract.yaml");

fn good() -> Config {
    Config::parse(GOOD, "good.yaml").unwrap()
}

#[test]
fn a_watchdog_is_off_unless_named_and_survives_the_round_trip() {
    assert_eq!(good().watchdog, None);
    let text = format!("{GOOD}watchdog: {{ device: /dev/watchdog1 }}\n");
    let with = Config::parse(&text, "h.yaml").unwrap();
    let watchdog = with.watchdog.clone().unwrap();
    assert_eq!(watchdog.device.to_str(), Some("/dev/watchdog1"));
    assert_eq!(watchdog.timeout, Span::from_secs(10));
    assert_ne!(with.digest, good().digest);
    assert_eq!(Config::parse(&with.to_yaml(), "h.yaml").unwrap(), with);
}

#[test]
fn values_and_defaults_arrive() {
    let c = good();
    assert_eq!(
        (c.cluster.as_str(), c.profile),
        ("telecom-7", Profile::Telecom)
    );
    assert_eq!((c.port, c.sync_port), (7950, 7951));
    assert_eq!(c.timing.dead_after, Span::from_millis(30));
    assert_eq!(c.timing.lease, Profile::Telecom.timing().lease);
    let alpha = NodeName::new("alpha").unwrap();
    let red = NetworkName::new("red").unwrap();
    assert_eq!(c.node(&alpha).unwrap().networks[&red].interface, "eth0");
    let others: Vec<&str> = c.neighbours(&alpha).map(|n| n.name.as_str()).collect();
    assert_eq!(others, ["beta"]);
    let address = "10.77.1.2".parse().unwrap();
    assert_eq!(c.node_at(&red, address).unwrap().as_str(), "beta");
    let services = &c.reserves[0].services;
    assert_eq!(services[2].stop_timeout, Span::from_millis(2500));
    assert_eq!(
        (services[0].restarts, services[0].start_timeout),
        (3, Span::from_secs(30))
    );
    let ServiceKind::Exec { argv } = &services[1].kind else {
        panic!("{:?}", services[1].kind);
    };
    assert_eq!(argv, &["/usr/local/bin/relay", "--port", "5060"]);
}

#[test]
fn the_decision_sees_ranks_interfaces_and_counts() {
    let s = good().segment();
    assert_eq!(s.nodes[1].interfaces, ["eth0", "eth1"]);
    assert!(s.networks.iter().all(|n| n.switch_answers));
    assert_eq!((s.reserves[0].directories, s.reserves[0].services), (1, 3));
    assert_eq!(s.digest, good().digest);
}

#[test]
fn the_contract_file_parses_but_for_the_kinds_that_are_not_there_yet() {
    let errors = Config::parse(CONTRACT, "haarb.yaml").unwrap_err();
    expect![[r#"
        haarb.yaml:28:24: services of kind init are not supported yet; use script with its start, stop and status commands instead
        haarb.yaml:31:22: services of kind ocf are not supported yet; use script with its start, stop and status commands instead"#]].assert_eq(&errors.to_string());
    let without: String = CONTRACT
        .lines()
        .filter(|l| !l.contains("init:") && !l.contains("ocf:"))
        .map(|l| format!("{l}\n"))
        .collect();
    Config::parse(&without, "haarb.yaml").unwrap();
}

#[test]
fn the_effective_configuration_reads_back_as_itself() {
    let c = good();
    let shown = c.to_yaml();
    expect![[r#"
        cluster: telecom-7
        port: 7950
        sync-port: 7951
        timing:
          profile: telecom
          probe-interval: 10ms
          switch-interval: 5ms
          dead-after: 30ms
          not-heard-after: 25ms
          lease: 500ms
          software-dead-after: 800ms
          link-hold: 2s
          lead: 600ms
          claim-after: 1s
          cold-start: 60s
          rearm-alone: 30s
          drain-max: 5s
          vip-probe: 8ms
          max-switches: 10
          switch-window: 60s
        networks:
          - name: red
            switch: 10.77.1.254
          - name: blue
            switch: 10.77.2.254
        nodes:
          - name: alpha
            networks:
              blue: { interface: eth1, address: 10.77.2.1 }
              red: { interface: eth0, address: 10.77.1.1 }
          - name: beta
            networks:
              blue: { interface: eth1, address: 10.77.2.2 }
              red: { interface: eth0, address: 10.77.1.2 }
        reserves:
          - name: sip
            prefer: availability
            vips:
              - { address: 10.77.1.100/24, interface: eth0 }
            directories:
              - { path: /srv/sip }
            services:
              - name: kamailio
                systemd: kamailio.service
                start-timeout: 30s
                stop-timeout: 10s
                check-interval: 1s
                check-timeout: 5s
                restarts: 3
                restart-window: 60s
              - name: relay
                exec: [/usr/local/bin/relay, "--port", 5060]
                start-timeout: 30s
                stop-timeout: 10s
                check-interval: 1s
                check-timeout: 5s
                restarts: 3
                restart-window: 60s
              - name: trunk
                script: { start: "/usr/local/bin/trunk &", stop: "pkill trunk", status: /usr/local/bin/trunk-running }
                start-timeout: 30s
                stop-timeout: 2500ms
                check-interval: 1s
                check-timeout: 5s
                restarts: 3
                restart-window: 60s
          - name: second
            prefer: availability
            vips:
              - { address: 10.77.1.101/24, interface: eth0 }
            directories:
              - { path: /srv/other }
    "#]].assert_eq(&shown);
    assert_eq!(Config::parse(&shown, "shown").unwrap(), c);
}

#[test]
fn the_digest_ignores_comments_and_order_and_nothing_else() {
    let digest = |text: &str| Config::parse(text, "x").unwrap().digest;
    let same = GOOD.replace("  probe-interval: 10ms\n", "  # hi\n");
    assert_eq!(digest(&same), good().digest);
    let same = GOOD.replace("cluster: telecom-7\n", "") + "cluster: telecom-7\n";
    assert_eq!(digest(&same), good().digest);
    for (from, to) in [
        ("telecom-7", "telecom-8"),
        ("name: beta", "name: gamma"),
        ("dead-after: 30ms", "dead-after: 31ms"),
        ("\"5060\"", "\"5061\""),
        ("/srv/other", "/srv/others"),
        ("stop-timeout: 2.5s", "stop-timeout: 2501ms"),
    ] {
        assert_ne!(digest(&GOOD.replace(from, to)), good().digest, "{to}");
    }
}

#[test]
fn every_profile_satisfies_every_inequality() {
    for profile in Profile::ALL {
        let text = GOOD.replace("telecom ", &format!("{} ", profile.as_str()));
        let text = text.replace("  probe-interval: 10ms\n", "");
        let text: String = text
            .lines()
            .filter(|l| !l.contains("dead-after"))
            .map(|l| format!("{l}\n"))
            .collect();
        let config = Config::parse(&text, "x").unwrap();
        assert_eq!(config.profile, profile);
        let all = config.inequalities();
        assert_eq!(all.len(), 6);
        for i in all {
            assert!(i.holds(), "{}: {i:?}", profile.as_str());
        }
    }
}

#[test]
fn hostile_texts_survive_the_round_trip() {
    for command in [
        "a: b # c",
        "\"'\\",
        "tab\tand é\u{202e}",
        "- x",
        "null",
        " lead",
        "{",
        "1e9",
        "&a",
        "%",
    ] {
        let quoted = command
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\t', "\\t");
        let text = GOOD.replace("stop: pkill trunk", &format!("stop: \"{quoted}\""));
        let c = Config::parse(&text, "x").unwrap();
        let ServiceKind::Script { stop, .. } = &c.reserves[0].services[2].kind else {
            panic!("not a script");
        };
        assert_eq!(stop, command);
        assert_eq!(Config::parse(&c.to_yaml(), "shown").unwrap(), c);
    }
}

/// The good file with one stretch of lines cut out and one piece of text put in.
fn mangled() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\t",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "&a ",
        "*a",
        "!!x ",
        "|",
        ">",
        "\"",
        "'",
        "#",
        "\u{0}",
        "---\n",
        "~",
        "10.77.1.1/0",
        "99999999999999999999",
        "é",
        "\u{feff}",
        "\r",
        "? ",
        "<<: ",
        "%YAML",
    ]);
    (0..GOOD.len(), 0..80usize, 0..GOOD.len(), pieces).prop_map(|(cut, length, put, piece)| {
        let end = (cut + length).min(GOOD.len());
        let mut text = GOOD.to_owned();
        text.replace_range(cut..end, "");
        text.insert_str(put.min(text.len()), piece);
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[-a-z0-9:{}\\[\\]\"'#&*!|>%@`, \n\t]{0,200}") {
        let _ = Config::parse(&text, "x");
    }

    #[test]
    fn a_mangled_file_never_panics_and_what_passes_reads_back(text in mangled()) {
        match Config::parse(&text, "x") {
            Ok(c) => prop_assert_eq!(Config::parse(&c.to_yaml(), "shown").unwrap(), c),
            Err(errors) => {
                prop_assert!(!errors.0.is_empty());
                for line in errors.to_string().lines() {
                    prop_assert!(line.starts_with("x:"), "{}", line);
                }
            }
        }
    }
}
