//! Alarms that stand: one event when one begins, one when it ends, a list for the status.

use std::collections::BTreeMap;

use haarb_model::{
    Agent, DirectoryState, Epoch, Event, KernelLine, Mode, Mono, ReserveName, Role, Severity, Span,
};

use crate::clock::Clock;
use crate::mode::ModeState;
use crate::reserve::ReserveState;
use crate::rule::{Outcome, standing};
use crate::view::View;

/// An alarm that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// How loud.
    pub severity: Severity,
    /// The rule behind it.
    pub rule: &'static str,
    /// The reserve, if it concerns one.
    pub reserve: Option<ReserveName>,
    /// What is wrong and what to look at.
    pub text: String,
    /// Since when.
    pub since: Mono,
}

type Key = (&'static str, Option<ReserveName>, String);

/// How long dropped datagrams are worth an alarm after the last one.
const DROPPED_FOR: Span = Span::from_secs(10);

/// All alarms of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    standing: BTreeMap<Key, Alarm>,
    dropped: u64,
    dropped_at: Option<Mono>,
}

impl Alarms {
    /// Those that stand, in a stable order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Alarm> {
        self.standing.values()
    }

    /// Compares with what stood before. Answers the events, and by number the reserves
    /// whose virtual IPs must be announced again.
    pub(crate) fn refresh(
        &mut self,
        view: &View,
        mode: &ModeState,
        reserves: &[ReserveState],
        clock: &mut Clock,
    ) -> (Vec<Event>, Vec<usize>) {
        let mut now = self.of_server(view, mode, clock);
        now.extend(of_directories(view, clock.now()));
        let mut announce = Vec::new();
        for (i, reserve) in reserves.iter().enumerate() {
            for rule in standing(reserve.role, &reserve.facts) {
                let name = Some(reserve.spec.name.clone());
                let key = (rule.id, name.clone(), String::new());
                if rule.then == Outcome::Announce && !self.standing.contains_key(&key) {
                    announce.push(i);
                }
                let alarm = Alarm {
                    severity: rule.severity,
                    rule: rule.id,
                    reserve: name,
                    text: crate::explain::sentence(rule),
                    since: clock.now(),
                };
                now.insert(key, alarm);
            }
        }
        let mut events = Vec::new();
        for (key, alarm) in &mut now {
            if let Some(before) = self.standing.get(key) {
                alarm.since = before.since;
            } else {
                events.push(event(alarm, reserves, alarm.severity, alarm.text.clone()));
            }
        }
        for (key, alarm) in &self.standing {
            if !now.contains_key(key) {
                let lasted = clock.now().since(alarm.since);
                let text = format!("Over after {lasted}: {}", alarm.text);
                events.push(event(alarm, reserves, Severity::Info, text));
            }
        }
        self.standing = now;
        (events, announce)
    }

    fn of_server(
        &mut self,
        view: &View,
        mode: &ModeState,
        clock: &mut Clock,
    ) -> BTreeMap<Key, Alarm> {
        let mut list = BTreeMap::new();
        let since = clock.now();
        let mut add = |rule, severity, what: &str, text: String| {
            let alarm = Alarm {
                severity,
                rule,
                reserve: None,
                text,
                since,
            };
            list.insert((rule, None, what.to_owned()), alarm);
        };
        for agent in Agent::ALL {
            if view.gone(agent, clock) {
                let text = format!(
                    "haarb-{0} does not run or hangs. Look at its log; `haarb status` lists the daemons.",
                    agent.as_str()
                );
                add("M4", Severity::Major, agent.as_str(), text);
            }
        }
        // A prober that starts is not believed until it has proven that it is no replay: every
        // start costs a datagram or two. What was overtaken on the way is late: a cable that is
        // plugged in again brings such ones. Neither is a reason for an alarm.
        let suspicious = view
            .dropped
            .iter()
            .filter(|(reason, _)| !["not proven", "late"].contains(&reason.as_str()));
        let dropped: u64 = suspicious.map(|(_, count)| count).sum();
        if dropped > self.dropped {
            self.dropped_at = Some(clock.now());
        }
        self.dropped = dropped;
        if self
            .dropped_at
            .is_some_and(|at| !clock.passed(at, DROPPED_FOR))
        {
            let text = "Datagrams were dropped: wrong key, recorded in an earlier run, another cluster, or garbled. They have no effect. Look at the key files and at who sends them: `haarb status --json`.";
            add("X4", Severity::Minor, "", text.into());
        }
        match mode.mode {
            Mode::ConfigDiffers => {
                let text = format!(
                    "The servers run different configurations: nothing is switched automatically. It ends with {}.",
                    mode.ends
                );
                add("X5", Severity::Major, "", text);
            }
            Mode::VersionDiffers => {
                let text = format!(
                    "The servers have no version of the protocol in common: nothing is switched automatically. It ends with {}.",
                    mode.ends
                );
                add("X6", Severity::Major, "", text);
            }
            Mode::Flapping => {
                let text = format!(
                    "More switchovers than max-switches within switch-window: nothing is switched automatically. It ends with {}.",
                    mode.ends
                );
                add("M3", Severity::Major, "", text);
            }
            Mode::Automatic | Mode::OneNetwork | Mode::Operator | Mode::Maintenance => {}
        }
        for (interface, guard) in &view.guards {
            // What has no MAC address is no place where others could find a virtual IP.
            if guard.line == KernelLine::Lifetime && view.macs.contains_key(interface) {
                let text = format!(
                    "If the vip-agent dies, virtual IPs on {interface} outlive their lease by up to {}: only the address lifetime ends them, because {}.",
                    guard.line.late(),
                    guard.reason
                );
                add("M6", Severity::Minor, interface, text);
            }
        }
        if let Ok(common) = view.common_protocols()
            && common.newest < view.protocols.newest
        {
            let text = format!(
                "Another server runs an older release: version {} of the protocol is spoken, this server knows {}. Look at `haarb status` of all servers and upgrade the older ones.",
                common.newest, view.protocols.newest
            );
            add("X6", Severity::Info, "", text);
        }
        for network in view.networks.iter().filter(|n| n.flaps.is_damped()) {
            if network.usable {
                continue;
            }
            let text = format!(
                "Network {} came and went {} times lately: it counts again after {} without interruption. Look at its cable, its switch port and the network card; when they are mended, `haarb clear` shortens the wait.",
                network.name,
                network.flaps.count(),
                network.flaps.hold(view.segment.timing.link_hold)
            );
            add("M7", Severity::Minor, network.name.as_str(), text);
        }
        let patience = view.segment.timing.dead_after.times(4);
        for network in view.networks.iter().filter(|network| network.usable) {
            let since = view.switch_silent_since.get(&network.name);
            if since.is_some_and(|since| clock.passed(*since, patience)) {
                let text = format!(
                    "The switch of network {} does not answer, but neighbours are heard through it. Look at its management address.",
                    network.name
                );
                add("M5", Severity::Minor, network.name.as_str(), text);
            }
        }
        list
    }
}

/// What keeps a replica from being what it should be.
fn of_directories(view: &View, since: Mono) -> BTreeMap<Key, Alarm> {
    let mut list = BTreeMap::new();
    let all = view.replicas.iter();
    let all = all.flat_map(|(name, replica)| replica.directories.iter().map(move |d| (name, d)));
    for (name, directory) in all {
        let mut add = |rule, text| {
            let alarm = Alarm {
                severity: Severity::Major,
                rule,
                reserve: Some(name.clone()),
                text,
                since,
            };
            list.insert((rule, Some(name.clone()), directory.path.clone()), alarm);
        };
        let (path, error) = (&directory.path, &directory.error);
        if directory.state == DirectoryState::Error {
            add("M8", format!("Directory {path} is not replicated. {error}"));
        } else if directory.failing > 0 {
            let text = format!(
                "Directory {path}: {} paths cannot be sent or stored and are tried again, first of all make room or give haarb-syncer the right. The last of them: {error}",
                directory.failing
            );
            add("M8", text);
        }
        if directory.held_deletions > 0 {
            let text = format!(
                "Directory {path}: {} files vanished at once. The other servers keep them until somebody says that it is meant so. {error}",
                directory.held_deletions
            );
            add("M9", text);
        }
    }
    list
}

fn event(alarm: &Alarm, reserves: &[ReserveState], severity: Severity, why: String) -> Event {
    let reserve = reserves
        .iter()
        .find(|r| Some(&r.spec.name) == alarm.reserve.as_ref());
    let role: Option<Role> = reserve.map(|r| r.role);
    Event {
        severity,
        rule: alarm.rule,
        reserve: alarm.reserve.clone(),
        from: role,
        to: role,
        epoch: reserve.map_or(Epoch(0), ReserveState::epoch),
        why,
        evidence: Vec::new(),
    }
}
