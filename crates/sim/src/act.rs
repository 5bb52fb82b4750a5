//! What can be done to a simulated cluster: faults, repairs, commands. Scenarios name them
//! in words, random runs draw them.

use std::fmt;
use std::str::FromStr;

use haarb_decision::{Command, PROTOCOLS, Protocols, Record};
use haarb_model::{Epoch, ReserveName, Span};

use crate::rough::Gusts;
use crate::server::Process;
use crate::world::{Event, World};
use crate::{NetIx, NodeIx};

/// One act.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Power of a server.
    Power(NodeIx, bool),
    /// A cable.
    Cable(NodeIx, NetIx, bool),
    /// Power of a switch.
    Switch(NetIx, bool),
    /// A switch forwards; off: it hangs with its carrier up.
    Forward(NetIx, bool),
    /// A switch's own address answers.
    Answer(NetIx, bool),
    /// A layer-2 hole between all servers on a network.
    Hole(NetIx, bool),
    /// Everything from one server to another is lost, on one network or on all.
    OneWay(NodeIx, NodeIx, Option<NetIx>, bool),
    /// A firewall drops ICMP between all servers.
    NoIcmp(bool),
    /// A firewall drops UDP between all servers.
    NoUdp(bool),
    /// Random loss.
    Loss(f64),
    /// How long a packet is on its way.
    Delay(Span),
    /// A process is killed; it is started again after the span, if one is given.
    Kill(NodeIx, Process, Option<Span>),
    /// All daemons of a server are killed and started again.
    KillAll(NodeIx, Span),
    /// A killed process is started.
    Start(NodeIx, Process),
    /// A process stands still, or goes on.
    Stop(NodeIx, Process, bool),
    /// User space stands still, or goes on.
    Freeze(NodeIx, bool),
    /// The whole machine stands still, or goes on.
    Pause(NodeIx, bool),
    /// A service ends by itself.
    Crash(NodeIx, usize),
    /// A service cannot run here.
    Broken(NodeIx, usize, bool),
    /// A virtual IP is removed by hand.
    RemoveVip(NodeIx, usize),
    /// All daemons are stopped and those of another release started after the span.
    Release(NodeIx, Protocols, Span),
    /// All daemons are stopped and started after the span with a configuration of this digest.
    Config(NodeIx, u64, Span),
    /// The record cannot be written: after a restart an old one comes back.
    DiskFull(NodeIx, bool),
    /// The record cannot be read any more.
    DiskLost(NodeIx),
    /// Every network loses in bursts, or not.
    Gusts(Option<Gusts>),
    /// This share of packets is overtaken by others, by up to so many microseconds.
    Detour(f64, u64),
    /// This share of packets arrives twice.
    Twice(f64),
    /// A command of an operator.
    Command(NodeIx, Command),
}

impl World {
    /// Does it, now.
    pub fn act(&mut self, act: &Act) {
        match act {
            Act::Power(n, true) => self.power_on(*n),
            Act::Power(n, false) => self.power_off(*n),
            Act::Cable(n, net, up) => self.fabric.nets[*net].cable[*n] = *up,
            Act::Switch(net, up) => self.fabric.nets[*net].power = *up,
            Act::Forward(net, up) => self.fabric.nets[*net].forwards = *up,
            Act::Answer(net, up) => self.fabric.nets[*net].answers = *up,
            Act::Hole(net, on) => self.each_way(Some(*net), |way| way.all = *on),
            Act::NoIcmp(on) => self.each_way(None, |way| way.icmp = *on),
            Act::NoUdp(on) => self.each_way(None, |way| way.udp = *on),
            Act::OneWay(from, to, net, on) => {
                for (i, ways) in self.fabric.ways.iter_mut().enumerate() {
                    if net.is_none_or(|net| net == i) {
                        ways[*from][*to].all = *on;
                    }
                }
            }
            Act::Loss(loss) => self.fabric.loss = *loss,
            Act::Delay(span) => {
                let us = span.as_micros();
                self.fabric.delay_us = (us, us + 80);
            }
            Act::Kill(n, process, again) => self.kill_for(*n, *process, *again),
            Act::KillAll(n, again) => {
                for process in Process::ALL {
                    self.kill_for(*n, process, Some(*again));
                }
            }
            Act::Release(n, protocols, again) => {
                self.servers[*n].protocols = *protocols;
                self.act(&Act::KillAll(*n, *again));
            }
            Act::Config(n, digest, again) => {
                self.servers[*n].digest = *digest;
                self.act(&Act::KillAll(*n, *again));
            }
            Act::DiskFull(n, on) => self.fill_disk(*n, *on),
            Act::DiskLost(n) => {
                self.servers[*n].record = Record::default();
                self.checks.forgetful = true;
            }
            Act::Gusts(gusts) => self.rough.gusts = *gusts,
            Act::Detour(share, us) => {
                (self.rough.detour, self.rough.detour_us) = (*share, *us);
            }
            Act::Twice(share) => self.rough.twice = *share,
            Act::Start(n, process) => {
                self.servers[*n].down[process.ix()] = false;
                self.start_in(*n, *process, Span::from_millis(50));
            }
            Act::Stop(n, process, true) => self.servers[*n].stopped[process.ix()] = true,
            Act::Stop(n, process, false) => self.go_on(*n, *process),
            Act::Freeze(n, true) => self.freeze(*n),
            Act::Pause(n, true) => self.pause(*n),
            Act::Freeze(n, false) | Act::Pause(n, false) => self.thaw(*n),
            Act::Crash(n, r) => self.servers[*n].running[*r] = false,
            Act::Broken(n, r, on) => self.servers[*n].broken[*r] = *on,
            Act::RemoveVip(n, r) => self.servers[*n].kernel[*r].added = false,
            Act::Command(n, command) => {
                let span = self.rng.span(50, 500);
                self.at(self.now + span, Event::Command(*n, command.clone()));
            }
        }
        if matches!(act, Act::Cable(..) | Act::Switch(..)) {
            self.notice_links();
        }
    }

    /// With room again, what the arbiter knows by then is written.
    fn fill_disk(&mut self, n: NodeIx, full: bool) {
        let server = &mut self.servers[n];
        server.disk_full = full;
        self.checks.forgetful = true;
        if let Some(core) = server.core.as_ref().filter(|_| !full) {
            server.record = core.record().clone();
        }
    }

    fn kill_for(&mut self, n: NodeIx, process: Process, again: Option<Span>) {
        self.kill(n, process);
        match again {
            Some(span) => self.start_in(n, process, span),
            None => self.servers[n].down[process.ix()] = true,
        }
    }

    fn each_way(&mut self, net: Option<NetIx>, mut change: impl FnMut(&mut crate::net::Way)) {
        for (i, ways) in self.fabric.ways.iter_mut().enumerate() {
            if net.is_none_or(|net| net == i) {
                ways.iter_mut().flatten().for_each(&mut change);
            }
        }
    }

    /// Everything works again: networks, servers, processes; operators clear what is theirs.
    pub fn mend(&mut self) {
        self.fabric.mend();
        self.fabric.loss = 0.0;
        self.rough.gusts = None;
        self.rough.detour = 0.0;
        self.rough.twice = 0.0;
        self.notice_links();
        for n in 0..self.servers.len() {
            self.servers[n].stopped = [false; 6];
            self.thaw(n);
            if self.servers[n].protocols != PROTOCOLS || self.servers[n].digest != 1 {
                self.servers[n].protocols = PROTOCOLS;
                self.servers[n].digest = 1;
                self.act(&Act::KillAll(n, Span::from_millis(50)));
            }
            self.servers[n].down = [false; 6];
            self.servers[n].broken.fill(false);
            if self.servers[n].disk_full {
                self.fill_disk(n, false);
            }
            if !self.servers[n].power {
                self.power_on(n);
            }
            for process in Process::ALL {
                if !self.servers[n].runs(process) {
                    self.start_in(n, process, Span::from_millis(50));
                }
            }
        }
    }

    /// Operators end what only a person may end.
    pub fn clear(&mut self) {
        for n in 0..self.servers.len() {
            self.act(&Act::Command(n, Command::Maintenance(false)));
            for reserve in self.segment.reserves.clone() {
                let clear = Command::Clear {
                    reserve: reserve.name,
                };
                self.act(&Act::Command(n, clear));
            }
        }
    }
}

/// Why a line is no act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAct(pub String);

impl fmt::Display for NoAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAct {}

/// Reads `30ms`, `2s`, `1.5s`.
///
/// # Errors
/// Says what it is not.
pub fn span(text: &str) -> Result<Span, NoAct> {
    let wrong = || NoAct(format!("{text:?} is no span: write 30ms or 2s"));
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1e3),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1e6),
    };
    let number = f64::from_str(digits).map_err(|_| wrong())?;
    if !(0.0..1e6).contains(&number) {
        return Err(wrong());
    }
    Ok(Span::from_micros((number * unit).round() as u64))
}

/// Reads an act: `power a off`, `cable a red out`, `kill a prober for 100ms`, `switchover sip on a`.
///
/// # Errors
/// Says what is not understood.
pub fn parse(world: &World, words: &[&str]) -> Result<Act, NoAct> {
    let node = |name: &str| {
        let found = world
            .segment
            .nodes
            .iter()
            .position(|n| n.name.as_str() == name);
        found.ok_or_else(|| NoAct(format!("no server {name}")))
    };
    let net = |name: &str| {
        let found = world
            .segment
            .networks
            .iter()
            .position(|n| n.name.as_str() == name);
        found.ok_or_else(|| NoAct(format!("no network {name}")))
    };
    let on = |word: &str| match word {
        "on" | "in" => Ok(true),
        "off" | "out" => Ok(false),
        other => Err(NoAct(format!("{other:?}: on or off"))),
    };
    let process = |name: &str| {
        let found = Process::ALL.into_iter().find(|p| p.as_str() == name);
        found.ok_or_else(|| NoAct(format!("no process {name}")))
    };
    let reserve = |name: &str| {
        let found = world
            .segment
            .reserves
            .iter()
            .position(|r| r.name.as_str() == name);
        found.ok_or_else(|| NoAct(format!("no reserve {name}")))
    };
    let called = |name: &str| ReserveName::new(name).map_err(|e| NoAct(e.to_string()));
    let act = match words {
        ["power", n, is] => Act::Power(node(n)?, on(is)?),
        ["cable", n, i, is] => Act::Cable(node(n)?, net(i)?, on(is)?),
        ["switch", i, "hangs"] => Act::Forward(net(i)?, false),
        ["switch", i, "forwards"] => Act::Forward(net(i)?, true),
        ["switch", i, "mute"] => Act::Answer(net(i)?, false),
        ["switch", i, "answers"] => Act::Answer(net(i)?, true),
        ["switch", i, is] => Act::Switch(net(i)?, on(is)?),
        ["hole", i, is] => Act::Hole(net(i)?, on(is)?),
        ["one-way", a, b, is] => Act::OneWay(node(a)?, node(b)?, None, on(is)?),
        ["one-way", a, b, i, is] => Act::OneWay(node(a)?, node(b)?, Some(net(i)?), on(is)?),
        ["no-icmp", is] => Act::NoIcmp(on(is)?),
        ["no-udp", is] => Act::NoUdp(on(is)?),
        ["loss", percent] => {
            let percent = percent.trim_end_matches('%');
            let share = f64::from_str(percent).map_err(|e| NoAct(e.to_string()))? / 100.0;
            Act::Loss(share)
        }
        ["delay", time] => Act::Delay(span(time)?),
        ["kill", n, "all", "for", time] => Act::KillAll(node(n)?, span(time)?),
        ["kill", n, p] => Act::Kill(node(n)?, process(p)?, None),
        ["kill", n, p, "for", time] => Act::Kill(node(n)?, process(p)?, Some(span(time)?)),
        ["disk", n, "full"] => Act::DiskFull(node(n)?, true),
        ["disk", n, "works"] => Act::DiskFull(node(n)?, false),
        ["disk", n, "lost"] => Act::DiskLost(node(n)?),
        ["release", n, oldest, newest, "for", time] => {
            let version = |text: &str| u32::from_str(text).map_err(|e| NoAct(e.to_string()));
            let protocols = Protocols {
                oldest: version(oldest)?,
                newest: version(newest)?,
            };
            Act::Release(node(n)?, protocols, span(time)?)
        }
        ["config", n, digest, "for", time] => {
            let digest = u64::from_str(digest).map_err(|e| NoAct(e.to_string()))?;
            Act::Config(node(n)?, digest, span(time)?)
        }
        ["start", n, p] => Act::Start(node(n)?, process(p)?),
        ["stop", n, p] => Act::Stop(node(n)?, process(p)?, true),
        ["continue", n, p] => Act::Stop(node(n)?, process(p)?, false),
        ["freeze", n] => Act::Freeze(node(n)?, true),
        ["thaw", n] => Act::Freeze(node(n)?, false),
        ["pause", n] => Act::Pause(node(n)?, true),
        ["resume", n] => Act::Pause(node(n)?, false),
        ["crash", n, r] => Act::Crash(node(n)?, reserve(r)?),
        ["broken", n, r, is] => Act::Broken(node(n)?, reserve(r)?, on(is)?),
        ["remove-vip", n, r] => Act::RemoveVip(node(n)?, reserve(r)?),
        ["shutdown", n] => Act::Command(node(n)?, Command::Shutdown),
        ["maintenance", n, is] => Act::Command(node(n)?, Command::Maintenance(on(is)?)),
        ["clear", r, "on", n] => Act::Command(
            node(n)?,
            Command::Clear {
                reserve: called(r)?,
            },
        ),
        ["demote", r, "on", n] => Act::Command(
            node(n)?,
            Command::Demote {
                reserve: called(r)?,
            },
        ),
        ["promote", r, "on", n, rest @ ..] => Act::Command(
            node(n)?,
            Command::Promote {
                reserve: called(r)?,
                force: rest.contains(&"force"),
                accept_stale: rest.contains(&"accept-stale"),
            },
        ),
        ["switchover", r, "on", n, rest @ ..] => {
            let after = |key: &str| {
                let place = rest.iter().position(|word| *word == key)?;
                rest.get(place + 1).copied()
            };
            let to = after("to").map(&node).transpose()?;
            let epoch = after("epoch").map(u64::from_str).transpose();
            Act::Command(
                node(n)?,
                Command::Switchover {
                    reserve: called(r)?,
                    to: to.map(|to| world.segment.nodes[to].name.clone()),
                    expected_epoch: epoch.map_err(|e| NoAct(e.to_string()))?.map(Epoch),
                },
            )
        }
        _ => return Err(NoAct(format!("{:?} is no act", words.join(" ")))),
    };
    Ok(act)
}
