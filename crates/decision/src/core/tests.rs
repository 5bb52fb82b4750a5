//! One core, fed by hand: what needs no cluster. Whole stories are scenarios of `haarb-sim`.

mod eligible;
mod modes;
mod networks;
mod nonsense;
mod operator;
mod serving;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use haarb_model::{
    Advert, AdvertReserve, Agent, Data, DirectoryReport, DirectoryState, Epoch, HeldVip,
    LinkReport, Mode, Mono, NeighbourReport, NetworkName, NetworkSpec, NodeName, NodeSpec,
    PathReport, Prefer, ProbeAnswer, ProbeReport, Report, ReserveDuties, ReserveName, ReserveSpec,
    Role, Segment, ServiceDuty, ServiceReport, ServiceRun, Severity, Span, SwitchAnswer,
    SwitchReport, SyncDuty, SyncReport, SyncReserve, Timing, VipDuty, VipReport, VipReserve,
    VipSpec,
};

use crate::{Command, Core, Input, Record, RecordReserve, Step};

const START: u64 = 1_000_000_000;

fn switchover(to: Option<&str>, epoch: Option<u64>) -> Command {
    Command::Switchover {
        reserve: sip(),
        to: to.map(node),
        expected_epoch: epoch.map(Epoch),
    }
}

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
    /// What its agents were told last.
    told: ReserveDuties,
    held: bool,
    /// The epoch of which the vip-agent has heard so far, where it lags behind.
    lags: Option<Epoch>,
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
            told: ReserveDuties {
                reserve: sip(),
                role: Role::Starting,
                epoch: Epoch::default(),
                vip: VipDuty::default(),
                services: ServiceDuty::default(),
                sync: SyncDuty::default(),
            },
            held: false,
            lags: None,
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
        if let Some(duty) = self.core.duties(self.now).reserves.pop() {
            self.told = duty;
        }
        let duty = self.told.clone();
        self.held = duty.vip.hold && self.lags.is_none();
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
            seen: self.lags.unwrap_or(duty.epoch),
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
                drained: duty.sync == SyncDuty::Drain,
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
            unable: false,
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
