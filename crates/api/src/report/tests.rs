use std::collections::BTreeMap;

use haarb_model::{
    Advert, AdvertReserve, Agent, Data, Mode, NetworkName, NodeName, ReserveDuties, ReserveName,
    Role, ServiceDuty, SyncDuty, VipDuty,
};
use prost::Message as _;

use super::*;
use crate::{Directive, decode_advert, encode_advert};

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn network(name: &str) -> NetworkName {
    NetworkName::new(name).expect("a name")
}

fn reserve(name: &str) -> ReserveName {
    ReserveName::new(name).expect("a name")
}

fn advert() -> Advert {
    Advert {
        protocol: 2,
        protocol_oldest: 1,
        config_digest: u64::MAX,
        usable: [network("red"), network("blue")].into(),
        confirms: [network("blue")].into(),
        mode: Mode::OneNetwork,
        leaving: true,
        macs: [[1, 2, 3, 4, 5, 6]].into(),
        lease_exact: true,
        reserves: BTreeMap::from([(
            reserve("sip"),
            AdvertReserve {
                role: Role::Releasing,
                epoch: Epoch(7),
                eligible: true,
                unable: true,
                data: Data::Inconsistent,
                was_active: true,
                released_to: Some(node("beta")),
                claims: true,
                yields_to: None,
                asks_for: Some(node("beta")),
            },
        )]),
    }
}

fn reports() -> Vec<Report> {
    let path = PathReport {
        network: network("red"),
        heard: true,
        kernel: false,
        hears_me: true,
        last_echo: Some(Mono::from_micros(5)),
        last_datagram: None,
        missing: 4,
        rtt_us: 120,
        loss: 0.25,
        loss_in: Some(0.5),
        loss_out: None,
    };
    let neighbour = NeighbourReport {
        node: node("beta"),
        paths: vec![path],
        hears_me: true,
        arbiter_silent: true,
        last_sign: Some(Mono::from_micros(9)),
        last_heard: None,
        suspect: true,
        silent: true,
        dead_after: Span::from_millis(30),
    };
    vec![
        Report::Alive,
        Report::Stalled(Span::from_millis(700)),
        Report::Links(vec![LinkReport {
            interface: "eth0".into(),
            up: false,
            reason: "no carrier".into(),
        }]),
        Report::Probe(ProbeReport {
            at: Mono::from_micros(3),
            switches: vec![SwitchReport {
                network: network("red"),
                answer: SwitchAnswer::Silent,
                last_answer: Some(Mono::from_micros(2)),
                missing: 3,
            }],
            neighbours: vec![neighbour],
            dropped: BTreeMap::from([("replay".into(), 3)]),
        }),
        Report::Advert {
            from: node("beta"),
            at: Mono::from_micros(1),
            advert: advert(),
        },
        Report::Vip(VipReport {
            reserves: vec![VipReserve {
                reserve: reserve("sip"),
                epoch: Epoch(3),
                seen: Epoch(4),
                lease_until: Mono::from_micros(77),
                vips: vec![HeldVip {
                    address: "2001:db8::1".parse().expect("an address"),
                    interface: "eth0".into(),
                    held: true,
                }],
                probe: ProbeAnswer::Foreign,
                probe_since: Some(Mono::from_micros(2)),
                error: "no such device".into(),
            }],
            macs: BTreeMap::from([("eth0".into(), [6, 5, 4, 3, 2, 1])]),
            guards: BTreeMap::from([(
                "eth0".into(),
                Guard {
                    line: KernelLine::Nftables,
                    reason: "no eBPF".into(),
                },
            )]),
        }),
        Report::Sync(SyncReport {
            reserves: vec![SyncReserve {
                reserve: reserve("sip"),
                epoch: Epoch(3),
                data: Data::Stale,
                drained: true,
                directories: vec![DirectoryReport {
                    path: "/srv/sip".into(),
                    state: DirectoryState::WaitingForPeer,
                    lag_ms: 12,
                    pending_files: 5,
                    held_deletions: 7,
                    failing: 2,
                    error: String::new(),
                }],
                conflicts: 2,
            }],
        }),
        Report::Services(ServiceReport {
            reserves: vec![ServiceRun {
                reserve: reserve("sip"),
                epoch: Epoch(3),
                running: true,
                stopped: false,
                failed: "relay exited".into(),
                not_startable: "no file".into(),
                services: vec![("relay".into(), ServiceState::Failed)],
            }],
            watchdog: "fed".into(),
        }),
    ]
}

#[test]
fn every_report_survives_the_wire() {
    for report in reports() {
        let wire = v1::AgentMessage {
            message: Some(Message::from(&report)),
        };
        let back = v1::AgentMessage::decode(wire.encode_to_vec().as_slice()).expect("our bytes");
        let back = Report::try_from(back.message.expect("a message")).expect("our message");
        assert_eq!(back, report);
    }
}

#[test]
fn an_advert_survives_the_wire_and_garbage_does_not() {
    assert_eq!(decode_advert(&encode_advert(&advert())), Ok(advert()));
    assert!(decode_advert(&[0xff; 40]).is_err());
    // An empty message has no mode: refused, not taken for automatic.
    assert_eq!(
        decode_advert(&[]).map_err(|e| e.to_string()),
        Err("message not understood: field `mode` has the unknown value 0".into())
    );
}

#[test]
fn every_duty_survives_the_wire() {
    for sync in [
        SyncDuty::Off,
        SyncDuty::Source,
        SyncDuty::Drain,
        SyncDuty::Sink(node("beta")),
    ] {
        let directive = Directive {
            config_digest: 9,
            payload: vec![1, 2, 3],
            payload_until: Mono::from_micros(8),
            reserves: vec![ReserveDuties {
                reserve: reserve("sip"),
                role: Role::Taking,
                epoch: Epoch(4),
                vip: VipDuty {
                    hold: true,
                    until: Mono::from_micros(1),
                    announce: 2,
                    probe: true,
                    neighbour_macs: vec![[1; 6]],
                },
                services: ServiceDuty {
                    run: true,
                    until: Mono::from_micros(6),
                    clear: 3,
                    frozen: true,
                },
                sync,
            }],
            heard: BTreeMap::from([(node("beta"), [network("red")].into())]),
            ask_switches: [network("blue")].into(),
        };
        let bytes = v1::Directive::from(&directive).encode_to_vec();
        let back = v1::Directive::decode(bytes.as_slice()).expect("our bytes");
        assert_eq!(Directive::try_from(back), Ok(directive));
    }
}

#[test]
fn every_agent_can_say_hello_and_nobody_else() {
    for agent in Agent::ALL {
        let hello = v1::Hello {
            agent: v1::Agent::from(agent).into(),
            ..Default::default()
        };
        assert_eq!(hello.sender(), Ok(agent));
    }
    assert!(v1::Hello::default().sender().is_err());
}
