//! One core, fed by hand: what needs no cluster. Whole stories are scenarios of `haarb-sim`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use haarb_model::{
    Advert, AdvertReserve, Agent, Data, Epoch, HeldVip, LinkReport, Mode, Mono, NeighbourReport,
    NetworkName, NetworkSpec, NodeName, NodeSpec, PathReport, Prefer, ProbeAnswer, ProbeReport,
    Report, ReserveName, ReserveSpec, Role, Segment, ServiceReport, ServiceRun, Severity, Span,
    SwitchAnswer, SwitchReport, SyncReport, SyncReserve, Timing, VipReport, VipReserve, VipSpec,
};

use crate::{Command, Core, Input, Record, RecordReserve, Step};

const START: u64 = 1_000_000_000;

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn sip() -> ReserveName {
    ReserveName::new("sip").expect("a name")
}

fn networks() -> Vec<NetworkName> {
    ["red", "blue"]
        .map(|name| NetworkName::new(name).expect("a name"))
        .to_vec()
}

fn vip() -> VipSpec {
    VipSpec {
        address: IpAddr::V4(Ipv4Addr::new(10, 77, 1, 100)),
        prefix: 24,
        interface: "eth0".into(),
    }
}

fn segment() -> Segment {
    let spec = |name| NodeSpec {
        name: node(name),
        interfaces: vec!["eth0".into(), "eth1".into()],
    };
    Segment {
        cluster: "test".into(),
        digest: 7,
        nodes: vec![spec("a"), spec("b")],
        networks: networks()
            .into_iter()
            .map(|name| NetworkSpec {
                name,
                switch_answers: true,
            })
            .collect(),
        reserves: vec![ReserveSpec {
            name: sip(),
            prefer: Prefer::Availability,
            strict: false,
            resume_on_one: false,
            vips: vec![vip()],
            directories: 1,
            services: 1,
        }],
        timing: Timing::telecom(),
    }
}

/// A core with everything that its agents would say, and a neighbour to be shaped.
struct Bench {
    core: Core,
    now: Mono,
    held: bool,
    lease_until: Mono,
    probe_since: Option<Mono>,
    data: Data,
    up: [bool; 2],
    heard: bool,
    silent: bool,
    hears_me: bool,
}

impl Bench {
    fn new(me: &str, record: Record) -> Self {
        let now = Mono::from_micros(START);
        let core = Core::new(segment(), node(me), record, now).expect("a known node");
        let mut bench = Self {
            core,
            now,
            held: false,
            lease_until: Mono::ZERO,
            probe_since: None,
            data: Data::Current,
            up: [true; 2],
            heard: false,
            silent: false,
            hears_me: true,
        };
        bench.feed(Input::Tick);
        for agent in Agent::ALL {
            bench.feed(Input::Attached(agent));
        }
        bench.report();
        bench
    }

    /// A standby whose neighbour is active under epoch 3, eligible for long.
    fn standby() -> Self {
        let mut bench = Self::new("b", Record::default());
        bench.neighbour(Role::Active, 3);
        bench.run(1_000);
        assert_eq!(bench.role(), Role::Standby);
        bench
    }

    /// An active server under epoch 4 whose neighbour is an eligible standby.
    fn active() -> Self {
        let mut bench = Self::standby();
        bench.heard = false;
        bench.silent = true;
        bench.run(100);
        assert_eq!(bench.role(), Role::Active);
        bench.heard = true;
        bench.silent = false;
        bench.neighbour(Role::Standby, 4);
        bench.run(200);
        assert_eq!(bench.role(), Role::Active);
        bench
    }

    fn feed(&mut self, input: Input) -> Step {
        let step = self.core.step(self.now, input);
        assert!(
            self.core.deadline() > self.now,
            "a deadline that has passed"
        );
        step
    }

    fn role(&self) -> Role {
        self.core.reserve(&sip()).expect("the reserve").role
    }

    fn advertised(&self) -> AdvertReserve {
        self.core.advert().reserves[&sip()].clone()
    }

    /// Everything the agents know, as they would say it. They follow their duties at once.
    fn report(&mut self) {
        let duty = self.core.duties(self.now).reserves.remove(0);
        self.held = duty.vip.hold;
        self.lease_until = if duty.vip.hold {
            duty.vip.until
        } else {
            self.lease_until
        };
        self.probe_since = match (duty.vip.probe, self.probe_since) {
            (true, None) => Some(self.now),
            (true, since) => since,
            (false, _) => None,
        };
        let silent = self
            .probe_since
            .is_some_and(|since| self.now.since(since) >= Span::from_millis(8));
        let links = ["eth0", "eth1"].into_iter().zip(self.up);
        let links = links
            .map(|(interface, up)| LinkReport {
                interface: interface.into(),
                up,
                reason: String::new(),
            })
            .collect();
        self.feed(Input::Report(Agent::LinkWatcher, Report::Links(links)));
        let probe = self.probe();
        self.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
        let part = VipReserve {
            reserve: sip(),
            epoch: duty.epoch,
            lease_until: if self.held {
                self.lease_until
            } else {
                Mono::ZERO
            },
            vips: vec![HeldVip {
                address: vip().address,
                interface: vip().interface,
                held: self.held,
            }],
            probe: if silent {
                ProbeAnswer::Silent
            } else {
                ProbeAnswer::Unknown
            },
            probe_since: self.probe_since,
            error: String::new(),
        };
        let report = VipReport {
            reserves: vec![part],
            macs: BTreeMap::new(),
            guards: BTreeMap::new(),
        };
        self.feed(Input::Report(Agent::VipAgent, Report::Vip(report)));
        let report = SyncReport {
            reserves: vec![SyncReserve {
                reserve: sip(),
                epoch: duty.epoch,
                data: self.data,
                drained: duty.sync == haarb_model::SyncDuty::Drain,
                directories: Vec::new(),
                conflicts: 0,
            }],
        };
        self.feed(Input::Report(Agent::Syncer, Report::Sync(report)));
        let report = ServiceReport {
            reserves: vec![ServiceRun {
                reserve: sip(),
                epoch: duty.epoch,
                running: duty.services.run,
                stopped: !duty.services.run,
                failed: String::new(),
                not_startable: String::new(),
                services: Vec::new(),
            }],
            watchdog: String::new(),
        };
        self.feed(Input::Report(Agent::Supervisor, Report::Services(report)));
    }

    fn probe(&self) -> ProbeReport {
        let path = |network: NetworkName| PathReport {
            network,
            heard: self.heard,
            kernel: !self.silent,
            hears_me: self.hears_me,
            last_echo: None,
            last_datagram: None,
            missing: 0,
            rtt_us: 0,
            loss: 0.0,
            loss_in: None,
            loss_out: None,
        };
        let other = if self.core.view().me == node("a") {
            "b"
        } else {
            "a"
        };
        ProbeReport {
            at: self.now,
            switches: networks()
                .into_iter()
                .zip(self.up)
                .map(|(network, up)| SwitchReport {
                    network,
                    answer: if up {
                        SwitchAnswer::Answers
                    } else {
                        SwitchAnswer::Silent
                    },
                    last_answer: up.then_some(self.now),
                    missing: if up { 0 } else { 3 },
                })
                .collect(),
            neighbours: vec![NeighbourReport {
                node: node(other),
                paths: networks().into_iter().map(path).collect(),
                hears_me: self.hears_me,
                arbiter_silent: false,
                last_sign: None,
                last_heard: None,
                suspect: self.silent,
                silent: self.silent,
                dead_after: Span::from_millis(30),
            }],
            dropped: BTreeMap::new(),
        }
    }

    fn advert(&mut self, change: impl FnOnce(&mut Advert, &ReserveName)) -> Step {
        let other = if self.core.view().me == node("a") {
            "b"
        } else {
            "a"
        };
        let part = AdvertReserve {
            role: Role::Standby,
            epoch: Epoch(0),
            eligible: false,
            data: Data::Current,
            was_active: false,
            released_to: None,
            claims: false,
            yields_to: None,
            asks_for: None,
        };
        let mut advert = Advert {
            protocol: crate::PROTOCOL,
            protocol_oldest: 0,
            config_digest: 7,
            usable: networks().into_iter().collect(),
            confirms: Default::default(),
            mode: Mode::Automatic,
            leaving: false,
            macs: Default::default(),
            lease_exact: false,
            reserves: [(sip(), part)].into(),
        };
        change(&mut advert, &sip());
        self.heard = true;
        self.silent = false;
        let report = Report::Advert {
            from: node(other),
            at: self.now,
            advert,
        };
        self.feed(Input::Report(Agent::Prober, report))
    }

    fn neighbour(&mut self, role: Role, epoch: u64) {
        self.advert(|advert, sip| {
            let part = advert.reserves.get_mut(sip).expect("the reserve");
            part.role = role;
            part.epoch = Epoch(epoch);
            part.eligible = role == Role::Standby;
            part.was_active = role.serves();
        });
        self.report();
    }

    /// Lets time pass; the agents report every 5 ms.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(5) {
            self.now += Span::from_millis(5);
            self.report();
        }
    }

    fn command(&mut self, command: Command) -> Result<String, String> {
        let step = self.feed(Input::Command(command));
        step.answer.expect("every command is answered")
    }
}

#[test]
fn a_server_that_is_not_configured_is_an_error_and_no_panic() {
    let error = Core::new(segment(), node("x"), Record::default(), Mono::ZERO).unwrap_err();
    assert!(error.to_string().contains("x is not among the nodes"));
}

#[test]
fn what_is_advertised_is_what_permits_and_only_after_lead() {
    let mut bench = Bench::new("b", Record::default());
    bench.neighbour(Role::Active, 3);
    bench.run(20);
    assert_eq!(bench.role(), Role::Standby);
    assert!(bench.advertised().eligible);
    // The neighbour dies before the eligibility has been advertised for `lead`.
    bench.heard = false;
    bench.silent = true;
    bench.run(500);
    assert_eq!(bench.role(), Role::Standby, "lead has not passed");
    assert!(bench.advertised().eligible);
    bench.run(200);
    assert!(bench.role().serves(), "lead has passed");
}

#[test]
fn whatever_takes_eligibility_away_is_advertised_and_holds_back() {
    type Spoil = fn(&mut Bench);
    let spoils: [(&str, Spoil); 4] = [
        ("a network", |b| b.up = [true, false]),
        ("the data", |b| b.data = Data::Inconsistent),
        ("an operator", |b| {
            b.command(Command::Demote { reserve: sip() }).expect("done");
        }),
        ("maintenance", |b| {
            b.command(Command::Maintenance(true)).expect("done");
        }),
    ];
    for (what, spoil) in spoils {
        let mut bench = Bench::standby();
        spoil(&mut bench);
        bench.run(20);
        assert!(!bench.advertised().eligible, "{what}");
        bench.heard = false;
        bench.silent = true;
        bench.run(5_000);
        assert!(!bench.role().serves(), "{what}");
    }
}

#[test]
fn manual_one_network_follows_only_from_our_own_loss() {
    let mut bench = Bench::active();
    bench.advert(|advert, sip| {
        advert.usable = networks().into_iter().take(1).collect();
        advert.mode = Mode::OneNetwork;
        advert.reserves.get_mut(sip).expect("the reserve").epoch = Epoch(4);
    });
    bench.run(5_000);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    bench.up = [true, false];
    bench.run(20);
    assert_eq!(bench.core.mode().mode, Mode::OneNetwork);
    assert_eq!(
        bench.role(),
        Role::Active,
        "A6: the neighbour is not better off"
    );
}

/// The eligible standby of [`Bench::active`], which confirms these networks.
fn confirms(bench: &mut Bench, confirmed: &[NetworkName]) {
    bench.advert(|advert, sip| {
        advert.confirms = confirmed.iter().cloned().collect();
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.epoch = Epoch(4);
        part.eligible = true;
    });
    bench.report();
}

/// The neighbour serves under `epoch`, then releases it to us; we serve.
fn released_to_us(bench: &mut Bench, epoch: u64) {
    bench.neighbour(Role::Active, epoch);
    bench.run(700);
    assert_eq!(bench.role(), Role::Standby);
    bench.advert(|advert, sip| {
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.epoch = Epoch(epoch);
        part.released_to = Some(node("b"));
    });
    bench.run(50);
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn switchovers_that_an_operator_asked_for_are_no_flapping() {
    let mut bench = Bench::standby();
    let mut epoch = 3;
    for _ in 0..=Timing::telecom().max_switches {
        released_to_us(&mut bench, epoch);
        bench.neighbour(Role::Standby, epoch + 1);
        bench.run(50);
        let command = Command::Switchover {
            reserve: sip(),
            to: None,
            expected_epoch: None,
        };
        bench.command(command).expect("done");
        bench.run(50);
        assert_eq!(bench.role(), Role::Standby);
        epoch += 2;
    }
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
}

#[test]
fn takeovers_and_hand_overs_because_of_faults_are_flapping() {
    let mut bench = Bench::standby();
    let mut epoch = 3;
    for _ in 0..Timing::telecom().max_switches {
        bench.neighbour(Role::Active, epoch);
        bench.run(700);
        assert_eq!(bench.role(), Role::Standby);
        bench.heard = false;
        bench.silent = true;
        bench.run(100);
        assert_eq!(bench.role(), Role::Active, "B7");
        epoch += 2;
    }
    bench.heard = true;
    bench.silent = false;
    bench.neighbour(Role::Standby, epoch - 1);
    bench.run(50);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    bench.up = [true, false];
    bench.run(100);
    assert_eq!(bench.role(), Role::Standby, "A5");
    assert_eq!(bench.core.mode().mode, Mode::Flapping);
}

#[test]
fn a_link_that_the_neighbour_confirms_is_handed_over_without_waiting() {
    let mut bench = Bench::active();
    let blue = &networks()[1..];
    // What was said before the loss says nothing about it.
    confirms(&mut bench, blue);
    bench.up = [true, false];
    bench.run(10);
    assert_eq!(bench.role(), Role::Active, "it may be the switch");
    confirms(&mut bench, &networks()[..1]);
    assert_eq!(
        bench.role(),
        Role::Active,
        "the other network's switch lives"
    );
    confirms(&mut bench, blue);
    assert_eq!(bench.role(), Role::Releasing, "A5");
}

#[test]
fn without_a_word_from_the_neighbours_switch_a_loss_has_to_settle() {
    let mut bench = Bench::active();
    let settle = bench.core.view().settle();
    bench.up = [true, false];
    bench.report();
    bench.now += settle - Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Active);
    bench.now += Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Releasing, "A5");
}

#[test]
fn a_neighbours_loss_is_confirmed_once_the_switch_has_answered_since() {
    let mut bench = Bench::standby();
    let lost = |bench: &mut Bench, usable: &[NetworkName]| {
        bench.advert(|advert, sip| {
            advert.usable = usable.iter().cloned().collect();
            let part = advert.reserves.get_mut(sip).expect("the reserve");
            part.role = Role::Active;
            part.epoch = Epoch(3);
        });
    };
    let pause = Span::from_millis(5);
    assert_eq!(bench.core.view().segment.timing.switch_interval, pause);
    lost(&mut bench, &networks()[..1]);
    let asked = |bench: &Bench| bench.core.duties(bench.now).links.ask_switches;
    assert!(asked(&bench).is_empty(), "its power may be failing");
    bench.now += pause;
    bench.feed(Input::Tick);
    assert_eq!(asked(&bench), networks()[1..].iter().cloned().collect());
    assert!(bench.core.advert().confirms.is_empty());
    bench.now += Span::from_micros(200);
    bench.report();
    assert_eq!(bench.core.advert().confirms, asked(&bench));
    lost(&mut bench, &networks());
    assert!(bench.core.advert().confirms.is_empty());
}

#[test]
fn who_serves_announces_when_a_neighbour_is_heard_again_or_lets_go() {
    let mut bench = Bench::active();
    let announced = |bench: &Bench| bench.core.duties(bench.now).reserves[0].vip.announce;
    let before = announced(&bench);
    bench.neighbour(Role::Standby, 4);
    bench.run(100);
    assert_eq!(announced(&bench), before, "nothing happened");
    bench.heard = false;
    bench.run(100);
    assert_eq!(announced(&bench), before, "nobody to be heard");
    bench.neighbour(Role::Standby, 4);
    let met = announced(&bench);
    assert!(met > before, "it is heard again");
    bench.neighbour(Role::Active, 3);
    let rival = announced(&bench);
    assert!(rival > met, "A2");
    bench.neighbour(Role::Standby, 4);
    assert!(announced(&bench) > rival, "it let go");
}

#[test]
fn a_rival_that_goes_on_not_hearing_us_is_left_to_serve() {
    let mut bench = Bench::active();
    bench.heard = false;
    bench.run(500);
    // Its first words: it serves, below us, and has not heard us yet.
    bench.hears_me = false;
    bench.neighbour(Role::Active, 3);
    let reply = bench.core.view().reply_time();
    bench.now += reply - Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Active, "A2: it has not had the time");
    bench.now += Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Standby, "A4: it will never know");
}

#[test]
fn without_its_vip_agent_a_server_that_let_go_claims_nothing() {
    let mut bench = Bench::active();
    bench.feed(Input::Lost(Agent::VipAgent));
    let mut roles = Vec::new();
    for _ in 0..400 {
        bench.now += Span::from_millis(5);
        let probe = bench.probe();
        bench.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
        for agent in [Agent::LinkWatcher, Agent::Syncer, Agent::Supervisor] {
            bench.feed(Input::Report(agent, Report::Alive));
        }
        if roles.last() != Some(&bench.role()) {
            roles.push(bench.role());
        }
        assert!(!bench.advertised().claims, "after {roles:?}");
    }
    assert_eq!(roles, [Role::Active, Role::Starting], "A14");
}

#[test]
fn another_configuration_is_manual_mode_until_it_is_the_same() {
    let mut bench = Bench::active();
    bench.advert(|advert, _| advert.config_digest = 8);
    bench.run(20);
    assert_eq!(bench.core.mode().mode, Mode::ConfigDiffers);
    assert!(bench.core.alarms().any(|alarm| alarm.rule == "X5"));
    bench.neighbour(Role::Standby, 4);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    assert!(!bench.core.alarms().any(|alarm| alarm.rule == "X5"));
}

#[test]
fn a_lease_is_renewed_only_while_prober_and_vip_agent_are_fresh() {
    let mut bench = Bench::active();
    let until = |bench: &Bench| bench.core.duties(bench.now).reserves[0].vip.until;
    let before = until(&bench);
    bench.run(200);
    assert!(until(&bench) > before, "renewed");
    assert!(until(&bench) <= bench.now + Span::from_millis(500));
    bench.feed(Input::Lost(Agent::Prober));
    let last = until(&bench);
    let end = last + Span::from_millis(1);
    while bench.now < end {
        bench.now = bench.core.deadline().min(end);
        let step = bench.feed(Input::Tick);
        if bench.now < last {
            assert_eq!(until(&bench), last, "nothing renews it");
            assert!(step.events.iter().all(|event| event.rule != "A14"));
        }
    }
    assert_eq!(bench.role(), Role::Starting, "A14");
    assert!(!bench.core.duties(bench.now).reserves[0].vip.hold);
}

#[test]
fn a_restarted_arbiter_waits_for_the_vip_agent_and_goes_on_in_the_same_epoch() {
    let mut record = Record::default();
    let part = RecordReserve {
        epoch: Epoch(9),
        own: Epoch(9),
        ..RecordReserve::default()
    };
    record.reserves.insert(sip(), part);
    let now = Mono::from_micros(START);
    for (held, epoch, left_ms, expected) in [
        (true, 9, 300, Role::Active),
        (true, 8, 300, Role::Starting),
        (true, 9, 0, Role::Starting),
        (false, 9, 300, Role::Starting),
    ] {
        let mut core = Core::new(segment(), node("a"), record.clone(), now).expect("known");
        core.step(now, Input::Tick);
        core.step(now, Input::Attached(Agent::VipAgent));
        let reserve = |core: &Core| core.reserve(&sip()).expect("the reserve").clone();
        assert!(
            !reserve(&core).looked,
            "nothing is judged before the report"
        );
        let report = VipReport {
            reserves: vec![VipReserve {
                reserve: sip(),
                epoch: Epoch(epoch),
                lease_until: now + Span::from_millis(left_ms),
                vips: vec![HeldVip {
                    address: vip().address,
                    interface: vip().interface,
                    held,
                }],
                probe: ProbeAnswer::Unknown,
                probe_since: None,
                error: String::new(),
            }],
            macs: BTreeMap::new(),
            guards: BTreeMap::new(),
        };
        core.step(now, Input::Report(Agent::VipAgent, Report::Vip(report)));
        assert_eq!(reserve(&core).role, expected, "{held} {epoch} {left_ms}");
        let duty = core.duties(now).reserves.remove(0).vip;
        assert_eq!(duty.hold, expected == Role::Active);
        if expected == Role::Active {
            assert_eq!(reserve(&core).epoch(), Epoch(9));
            assert!(
                duty.until <= now + Span::from_millis(left_ms),
                "no longer than it was"
            );
        }
    }
}

#[test]
fn what_the_kernel_can_end_is_told_and_its_lack_is_an_alarm() {
    use haarb_model::{Guard, KernelLine};
    let now = Mono::from_micros(1_000_000_000);
    let mut core = Core::new(segment(), node("a"), Record::default(), now).expect("known");
    core.step(now, Input::Tick);
    core.step(now, Input::Attached(Agent::VipAgent));
    assert!(!core.advert().lease_exact, "nobody has said so yet");
    for line in KernelLine::ALL {
        let guard = Guard {
            line,
            reason: "it is old".into(),
        };
        let interface = vip().interface;
        let report = VipReport {
            reserves: Vec::new(),
            macs: [(interface.clone(), [2; 6])].into(),
            guards: [(interface, guard)].into(),
        };
        core.step(now, Input::Report(Agent::VipAgent, Report::Vip(report)));
        let exact = line > KernelLine::Lifetime;
        assert_eq!(core.advert().lease_exact, exact, "{line:?}");
        let alarm = core.alarms().find(|alarm| alarm.rule == "M6");
        assert_eq!(alarm.is_none(), exact, "{line:?}");
        if let Some(alarm) = alarm {
            assert_eq!(alarm.severity, Severity::Minor);
            assert!(alarm.text.contains("it is old"), "{}", alarm.text);
        }
    }
}

#[test]
fn when_claims_cross_the_order_decides() {
    for (me, stays) in [("a", true), ("b", false)] {
        let mut bench = Bench::new(me, Record::default());
        bench.neighbour(Role::Starting, 0);
        bench.run(2_500);
        assert!(bench.advertised().claims, "{me} claims");
        bench.advert(|advert, sip| {
            let part = advert.reserves.get_mut(sip).expect("the reserve");
            part.role = Role::Starting;
            part.claims = true;
        });
        bench.run(20);
        let other = if stays { None } else { Some(node("a")) };
        assert_eq!(bench.advertised().claims, stays, "{me}");
        assert_eq!(bench.advertised().yields_to, other, "{me}");
        assert!(!bench.role().serves(), "{me} has no consent");
    }
}

#[test]
fn a_claim_wins_only_with_consent() {
    let mut bench = Bench::new("a", Record::default());
    bench.neighbour(Role::Starting, 0);
    bench.run(5_000);
    assert!(bench.advertised().claims);
    assert!(!bench.role().serves());
    bench.advert(|advert, sip| {
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.role = Role::Starting;
        part.yields_to = Some(node("a"));
    });
    bench.run(20);
    assert!(bench.role().serves());
}

#[test]
fn a_stall_lets_go_before_anything_else() {
    let mut bench = Bench::active();
    bench.now += Span::from_millis(600);
    let step = bench.feed(Input::Tick);
    assert_eq!(step.events.first().map(|event| event.rule), Some("X1"));
    assert!(!bench.core.duties(bench.now).reserves[0].vip.hold);
    assert!(!bench.advertised().eligible);
    let mut bench = Bench::active();
    bench.feed(Input::Report(
        Agent::VipAgent,
        Report::Stalled(Span::from_millis(600)),
    ));
    assert_eq!(bench.role(), Role::Starting, "the vip-agent was frozen");
    let mut bench = Bench::active();
    bench.feed(Input::Report(
        Agent::Syncer,
        Report::Stalled(Span::from_millis(600)),
    ));
    assert_eq!(
        bench.role(),
        Role::Active,
        "a syncer that was busy is no reason"
    );
}

#[test]
fn commands_are_refused_with_a_reason_and_what_to_do() {
    let unknown = Command::Demote {
        reserve: ReserveName::new("web").expect("a name"),
    };
    let switchover = |to: Option<&str>, epoch: Option<u64>| Command::Switchover {
        reserve: sip(),
        to: to.map(node),
        expected_epoch: epoch.map(Epoch),
    };
    let promote = Command::Promote {
        reserve: sip(),
        force: false,
        accept_stale: false,
    };
    let mut bench = Bench::standby();
    for (command, words) in [
        (unknown, "the configuration has: sip"),
        (switchover(Some("x"), None), "no server x"),
        (switchover(None, Some(2)), "epoch 3 by now, not 2"),
        (promote, "`haarb switchover sip --to b`"),
    ] {
        let refused = bench.command(command).expect_err("refused");
        assert!(refused.contains(words), "{refused}");
        assert!(!refused.contains('\n'), "one line: {refused}");
    }
    let mut bench = Bench::active();
    bench.advert(|advert, sip| {
        advert.reserves.get_mut(sip).expect("the reserve").epoch = Epoch(4);
    });
    bench.run(10);
    let refused = bench.command(switchover(None, None)).expect_err("refused");
    assert!(refused.contains("a is not eligible"), "{refused}");
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn an_alarm_gives_one_event_when_it_begins_and_one_when_it_ends() {
    let mut bench = Bench::active();
    bench.heard = false;
    bench.silent = true;
    let mut events = Vec::new();
    let mut count = |bench: &mut Bench, ms: u64| {
        for _ in 0..ms / 5 {
            bench.now += Span::from_millis(5);
            let probe = bench.probe();
            let step = bench.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
            events.extend(step.events);
            bench.report();
        }
    };
    count(&mut bench, 500);
    bench.heard = true;
    bench.silent = false;
    count(&mut bench, 500);
    let of_a9: Vec<&str> = events
        .iter()
        .filter(|event| event.rule == "A9")
        .map(|event| event.severity.as_str())
        .collect();
    assert_eq!(of_a9, ["major", "info"]);
}

#[test]
fn the_record_says_who_left_cleanly() {
    let mut bench = Bench::active();
    bench.advert(|advert, _| advert.leaving = true);
    assert!(bench.core.record().left.contains(&node("a")));
    assert_eq!(bench.core.record().reserves[&sip()].own, Epoch(4));
    bench.neighbour(Role::Standby, 4);
    assert!(bench.core.record().left.is_empty(), "it is back");
}

/// SplitMix64, so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Inputs that fit together no better than chance: adverts that contradict themselves,
/// agents that come and go, time that jumps and goes back.
fn nonsense(bench: &Bench, chance: &mut Chance) -> Input {
    let agent = Agent::ALL[chance.below(5) as usize];
    match chance.below(12) {
        0 => Input::Tick,
        1 => Input::Attached(agent),
        2 => Input::Lost(agent),
        3 => Input::Report(agent, Report::Alive),
        4 => Input::Report(agent, Report::Stalled(Span::from_millis(chance.below(900)))),
        5 => Input::Stalled(Span::from_millis(chance.below(900))),
        6 => Input::Report(agent, Report::Probe(bench.probe())),
        7 => Input::Command(match chance.below(6) {
            0 => Command::Switchover {
                reserve: sip(),
                to: chance.yes().then(|| node("a")),
                expected_epoch: None,
            },
            1 => Command::Promote {
                reserve: sip(),
                force: chance.yes(),
                accept_stale: chance.yes(),
            },
            2 => Command::Demote { reserve: sip() },
            3 => Command::Maintenance(chance.yes()),
            _ => Command::Clear { reserve: sip() },
        }),
        _ => {
            let named = |chance: &mut Chance| match chance.below(4) {
                0 => Some(node("a")),
                1 => Some(node("b")),
                2 => Some(node("stranger")),
                _ => None,
            };
            let part = AdvertReserve {
                role: Role::ALL[chance.below(7) as usize],
                epoch: Epoch(if chance.below(50) == 0 {
                    u64::MAX
                } else {
                    chance.below(9)
                }),
                eligible: chance.yes(),
                data: [Data::Current, Data::Stale, Data::Inconsistent][chance.below(3) as usize],
                was_active: chance.yes(),
                released_to: named(chance),
                claims: chance.yes(),
                yields_to: named(chance),
                asks_for: named(chance),
            };
            let advert = Advert {
                protocol: 1,
                protocol_oldest: 0,
                config_digest: 7 + u64::from(chance.below(20) == 0),
                usable: networks().into_iter().filter(|_| chance.yes()).collect(),
                confirms: networks().into_iter().filter(|_| chance.yes()).collect(),
                mode: Mode::ALL[chance.below(6) as usize],
                leaving: chance.below(9) == 0,
                macs: Default::default(),
                lease_exact: chance.yes(),
                reserves: [(sip(), part)].into(),
            };
            let from = named(chance).unwrap_or_else(|| node("a"));
            let at = bench.now;
            Input::Report(agent, Report::Advert { from, at, advert })
        }
    }
}

#[test]
fn nonsense_never_breaks_it() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut bench = Bench::new("b", Record::default());
        for _ in 0..600 {
            bench.heard = chance.yes();
            bench.silent = !bench.heard && chance.yes();
            bench.hears_me = chance.yes();
            bench.up = [chance.below(5) > 0, chance.below(5) > 0];
            bench.now = match chance.below(20) {
                0 => bench.now - Span::from_millis(chance.below(500)),
                1 => bench.now + Span::from_millis(chance.below(3_000)),
                _ => bench.now + Span::from_millis(chance.below(20)),
            };
            let input = nonsense(&bench, &mut chance);
            let seen = format!("seed {seed}: {input:?}");
            let step = bench.core.step(bench.now, input);
            assert!(step.events.len() < 40, "{seen}");
            let reserve = bench.core.reserve(&sip()).expect("the reserve");
            let duty = bench.core.duties(bench.now).reserves.remove(0);
            assert!(!duty.vip.hold || reserve.role.serves(), "{seen}");
            assert!(!duty.services.run || duty.vip.hold, "{seen}");
            let cut_off = reserve.facts.links == crate::facts::Links::None;
            let frozen = bench.core.mode().mode == Mode::Maintenance;
            assert!(!(duty.vip.hold && cut_off) || frozen, "{seen}");
            if chance.below(4) == 0 {
                let now = bench.now;
                bench.now = now.max(bench.core.now);
                bench.report();
            }
        }
    }
}
