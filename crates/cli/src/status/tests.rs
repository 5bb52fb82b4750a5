//! What an operator and a script read, from one healthy and one troubled server.

use expect_test::expect;
use haarb_api::v1;
use jiff::tz::TimeZone;

use super::{json, text};

fn path(network: &str, heard: bool) -> v1::PathStatus {
    v1::PathStatus {
        network: network.into(),
        echo_age_us: heard.then_some(4_200),
        datagram_age_us: heard.then_some(900),
        rtt_us: 180,
        loss: if heard { 0.0 } else { 1.0 },
        heard,
        hears_me: heard,
        loss_in: heard.then_some(0.125),
        loss_out: None,
    }
}

fn link(network: &str, interface: &str, up: bool) -> v1::LinkStatus {
    let answer = if up {
        v1::SwitchAnswer::Answers
    } else {
        v1::SwitchAnswer::Silent
    };
    v1::LinkStatus {
        network: network.into(),
        interface: interface.into(),
        up,
        switch_answer: answer.into(),
        reason: if up {
            String::new()
        } else {
            "no carrier".into()
        },
        usable: up,
        switch_age_us: up.then_some(1_200),
    }
}

fn reserve() -> v1::ReserveStatus {
    v1::ReserveStatus {
        name: "sip".into(),
        role: v1::Role::Active.into(),
        epoch: 12,
        active_on: "alpha".into(),
        since_unix_ms: 1_772_366_400_000,
        vips: vec![v1::VipStatus {
            address: "10.77.1.100/24".into(),
            interface: "eth0".into(),
            held: true,
            line: v1::KernelLine::Ebpf.into(),
            line_reason: String::new(),
        }],
        services: vec![v1::Service {
            name: "relay".into(),
            state: v1::ServiceState::Running.into(),
        }],
        directories: vec![v1::Directory {
            path: "/srv/sip".into(),
            state: v1::DirectoryState::InSync.into(),
            ..v1::Directory::default()
        }],
        data: v1::Data::Current.into(),
        eligible: true,
        ..v1::ReserveStatus::default()
    }
}

fn healthy() -> v1::Status {
    v1::Status {
        cluster: "telecom-7".into(),
        node: "alpha".into(),
        mode: v1::Mode::Automatic.into(),
        links: vec![link("red", "eth0", true), link("blue", "eth1", true)],
        neighbours: vec![v1::NodeStatus {
            name: "beta".into(),
            software_alive: true,
            kernel_alive: true,
            hears_me: true,
            silent: false,
            dead_after_us: 30_000,
            paths: vec![path("red", true), path("blue", true)],
        }],
        reserves: vec![reserve()],
        agents: ["link-watcher", "prober"]
            .map(|name| v1::AgentStatus {
                name: name.into(),
                attached: true,
                pid: 7,
                version: "0.1.0".into(),
                scheduling: Some(v1::Scheduling {
                    real_time: true,
                    locked: true,
                    problem: String::new(),
                }),
            })
            .into(),
        version: "0.1.0".into(),
        profile: "telecom".into(),
        ..v1::Status::default()
    }
}

/// The standby after the active's death seen over one network only.
fn troubled() -> v1::Status {
    let mut s = healthy();
    s.mode = v1::Mode::OneNetwork.into();
    s.mode_reason = "one network".into();
    s.mode_ends = "by itself once both networks are whole for 2s".into();
    s.mode_since_unix_ms = 1_772_366_300_000;
    s.links[1] = link("blue", "eth1", false);
    s.neighbours[0].software_alive = false;
    s.agents[1].scheduling = Some(v1::Scheduling {
        problem: "no real-time priority (Operation not permitted)".into(),
        ..v1::Scheduling::default()
    });
    s.neighbours[0].kernel_alive = false;
    s.watchdog = "NOT FED, /dev/watchdog resets this server: sip/relay still runs".into();
    s.neighbours[0].silent = true;
    s.neighbours[0].paths = vec![path("red", false), path("blue", false)];
    let r = &mut s.reserves[0];
    r.role = v1::Role::Waiting.into();
    r.active_on = String::new();
    r.eligible = false;
    r.not_eligible = "one of its networks is down".into();
    r.data = v1::Data::Stale.into();
    r.vips[0].held = false;
    r.vips[0].line = v1::KernelLine::Lifetime.into();
    r.vips[0].line_reason = "the kernel refused an eBPF map".into();
    r.services[0].state = v1::ServiceState::Failed.into();
    r.directories[0].state = v1::DirectoryState::Error.into();
    r.directories[0].error = "no space left on device".into();
    r.directories[0].pending_files = 3;
    r.directories[0].lag_ms = 61_000;
    r.conflicts = 2;
    s.alarms = vec![v1::Alarm {
        severity: "critical".into(),
        rule: "W4".into(),
        reserve: "sip".into(),
        text: "not whole and alone: nobody serves; repair network blue, or run `haarb promote sip --force`".into(),
        since_unix_ms: 1_772_366_399_000,
    }];
    s.agents[1].attached = false;
    s.dropped_datagrams = [("replay".into(), 2), ("wrong key".into(), 0)].into();
    s
}

fn page(status: &v1::Status) -> String {
    text::page(status, 1_772_366_461_000, &TimeZone::UTC, false)
}

#[test]
fn a_healthy_server_reads_at_a_glance() {
    expect![[r#"
        cluster telecom-7   this server alpha   profile telecom   haarb 0.1.0
        mode    automatic

        networks
          red        eth0       usable      switch answers
          blue       eth1       usable      switch answers

        neighbours
          beta       alive       hears this server   dead after 30ms of silence
            red      heard       rtt 180us    loss 0.0%   in 12.5%  out -      echo 4.2ms ago    datagram 900us ago
            blue     heard       rtt 180us    loss 0.0%   in 12.5%  out -      echo 4.2ms ago    datagram 900us ago

        reserve sip   ACTIVE   served here   epoch 12   since 2026-03-01 12:00:00.000 (1m 1s)
          vip        10.77.1.100/24           eth0       held here; lease ended by ebpf, address-lifetime
          service    relay                    running
          directory  /srv/sip                 in-sync

        no alarms

        daemons     all 2 at work
        scheduling  real-time priority, memory locked"#]]
    .assert_eq(&page(&healthy()));
}

#[test]
fn trouble_stands_out() {
    expect![[r#"
        cluster telecom-7   this server alpha   profile telecom   haarb 0.1.0
        mode    MANUAL (one network)   since 2026-03-01 11:58:20.000 (2m 41s)
                ends: by itself once both networks are whole for 2s

        networks
          red        eth0       usable      switch answers
          blue       eth1       DOWN        switch SILENT     no carrier

        neighbours
          beta       DEAD        dead after 30ms of silence
            red      NOT HEARD   rtt 180us    loss 100.0% in -      out -      echo never        datagram never
            blue     NOT HEARD   rtt 180us    loss 100.0% in -      out -      echo never        datagram never

        reserve sip   WAITING   NOBODY SERVES   epoch 12   since 2026-03-01 12:00:00.000 (1m 1s)
          here       CANNOT TAKE OVER: one of its networks is down; data stale
          vip        10.77.1.100/24           eth0       not here; lease ended by address-lifetime
                     the kernel refused an eBPF map
          service    relay                    failed
          directory  /srv/sip                 error              3 files to go, lag 1m 1s no space left on device
          conflicts  2 file versions were moved aside, none was lost

        alarms
          CRITICAL  W4   sip   since 2026-03-01 11:59:59.000 (1m 2s)
                    not whole and alone: nobody serves; repair network blue, or run `haarb promote sip --force`

        daemons     NOT AT WORK: prober; see the log of `haarb run` or the journal
        scheduling  prober: no real-time priority (Operation not permitted)
        watchdog    NOT FED, /dev/watchdog resets this server: sip/relay still runs
        datagrams   refused: replay 2"#]].assert_eq(&page(&troubled()));
}

#[test]
fn colours_change_no_word() {
    let coloured = text::page(&troubled(), 1_772_366_461_000, &TimeZone::UTC, true);
    assert!(coloured.contains("\x1b[1;31m"));
    let bare = ["\x1b[1;31m", "\x1b[32m", "\x1b[0m"]
        .iter()
        .fold(coloured, |t, code| t.replace(code, ""));
    assert_eq!(bare, page(&troubled()));
}

#[test]
fn scripts_find_every_promised_key() {
    let v = json::value(&troubled());
    for pointer in [
        "/cluster",
        "/node",
        "/mode",
        "/mode_reason",
        "/links/0/network",
        "/links/0/interface",
        "/links/0/up",
        "/links/0/switch_answers",
        "/links/0/reason",
        "/peers/0/name",
        "/peers/0/hears/red/echo_age_ms",
        "/peers/0/hears/red/datagram_age_ms",
        "/peers/0/hears/red/rtt_us",
        "/peers/0/hears/red/loss",
        "/peers/0/software_alive",
        "/reserves/0/name",
        "/reserves/0/role",
        "/reserves/0/epoch",
        "/reserves/0/active_on",
        "/reserves/0/since",
        "/reserves/0/vips/0/address",
        "/reserves/0/vips/0/interface",
        "/reserves/0/vips/0/held",
        "/reserves/0/vips/0/kernel_lines/0",
        "/reserves/0/vips/0/kernel_line_reason",
        "/reserves/0/services/0/name",
        "/reserves/0/services/0/state",
        "/reserves/0/directories/0/path",
        "/reserves/0/directories/0/state",
        "/reserves/0/directories/0/lag_ms",
        "/reserves/0/directories/0/pending_files",
    ] {
        assert!(v.pointer(pointer).is_some(), "{pointer} is missing");
    }
    assert_eq!(v["mode"], "manual");
    assert_eq!(v["reserves"][0]["role"], "waiting");
    assert_eq!(v["reserves"][0]["active_on"], "");
    let healthy = serde_json::to_string_pretty(&json::value(&healthy())).unwrap();
    expect![[r#"
        {
          "agents": [
            {
              "attached": true,
              "memory_locked": true,
              "name": "link-watcher",
              "pid": 7,
              "real_time": true,
              "scheduling_problem": "",
              "version": "0.1.0"
            },
            {
              "attached": true,
              "memory_locked": true,
              "name": "prober",
              "pid": 7,
              "real_time": true,
              "scheduling_problem": "",
              "version": "0.1.0"
            }
          ],
          "alarms": [],
          "arbiter": null,
          "cluster": "telecom-7",
          "dropped_datagrams": {},
          "links": [
            {
              "interface": "eth0",
              "network": "red",
              "reason": "",
              "switch_age_ms": 1.2,
              "switch_answers": true,
              "up": true,
              "usable": true
            },
            {
              "interface": "eth1",
              "network": "blue",
              "reason": "",
              "switch_age_ms": 1.2,
              "switch_answers": true,
              "up": true,
              "usable": true
            }
          ],
          "mode": "automatic",
          "mode_ends": "",
          "mode_reason": "",
          "mode_since": null,
          "node": "alpha",
          "peers": [
            {
              "dead_after_ms": 30.0,
              "hears": {
                "blue": {
                  "datagram_age_ms": 0.9,
                  "echo_age_ms": 4.2,
                  "heard": true,
                  "hears_me": true,
                  "loss": 0.0,
                  "loss_in": 0.125,
                  "loss_out": null,
                  "rtt_us": 180
                },
                "red": {
                  "datagram_age_ms": 0.9,
                  "echo_age_ms": 4.2,
                  "heard": true,
                  "hears_me": true,
                  "loss": 0.0,
                  "loss_in": 0.125,
                  "loss_out": null,
                  "rtt_us": 180
                }
              },
              "hears_me": true,
              "kernel_alive": true,
              "name": "beta",
              "silent": false,
              "software_alive": true
            }
          ],
          "profile": "telecom",
          "reserves": [
            {
              "active_on": "alpha",
              "conflicts": 0,
              "data": "current",
              "directories": [
                {
                  "error": "",
                  "failing": 0,
                  "held_deletions": 0,
                  "lag_ms": 0,
                  "path": "/srv/sip",
                  "pending_files": 0,
                  "state": "in-sync"
                }
              ],
              "eligible": true,
              "epoch": 12,
              "name": "sip",
              "not_eligible": "",
              "role": "active",
              "services": [
                {
                  "name": "relay",
                  "state": "running"
                }
              ],
              "since": "2026-03-01T12:00:00.000Z",
              "vips": [
                {
                  "address": "10.77.1.100/24",
                  "held": true,
                  "interface": "eth0",
                  "kernel_line_reason": "",
                  "kernel_lines": [
                    "ebpf",
                    "address-lifetime"
                  ]
                }
              ]
            }
          ],
          "version": "0.1.0",
          "watchdog": null
        }"#]]
    .assert_eq(&healthy);
}
