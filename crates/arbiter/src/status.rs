//! The state as an operator sees it: the decision's view, put into the control API's words.
//!
//! Nothing is decided or remembered here.

use std::collections::BTreeMap;

use haarb_api::v1;
use haarb_config::Config;
use haarb_decision::facts::Eligible;
use haarb_decision::{Core, Neighbour, Network, ReserveState};
use haarb_model::{Agent, Mono, PathReport, Span, SwitchAnswer};

use crate::inbox::Attachment;
use crate::journal::wall_clock_us;

/// The state of this server at `now`.
#[must_use]
pub fn status(
    now: Mono,
    config: &Config,
    core: &Core,
    agents: &BTreeMap<Agent, Attachment>,
) -> v1::Status {
    let view = core.view();
    let mode = core.mode();
    let wall = Wall {
        now,
        unix_us: wall_clock_us(),
    };
    v1::Status {
        cluster: view.segment.cluster.clone(),
        node: view.me.to_string(),
        mode: v1::Mode::from(mode.mode).into(),
        mode_reason: mode.mode.reason().into(),
        mode_ends: mode.ends.clone(),
        mode_since_unix_ms: wall.unix_ms(mode.since),
        links: view
            .networks
            .iter()
            .map(|network| link(now, core, network))
            .collect(),
        neighbours: view.neighbours.iter().map(|n| neighbour(now, n)).collect(),
        reserves: core.reserves().map(|r| reserve(core, r, wall)).collect(),
        alarms: core
            .alarms()
            .map(|alarm| v1::Alarm {
                severity: alarm.severity.as_str().into(),
                rule: alarm.rule.into(),
                reserve: alarm
                    .reserve
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                text: alarm.text.clone(),
                since_unix_ms: wall.unix_ms(alarm.since),
            })
            .collect(),
        agents: Agent::ALL
            .into_iter()
            .map(|a| agent(a, agents.get(&a)))
            .collect(),
        dropped_datagrams: view.dropped.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        profile: config.profile.as_str().into(),
        watchdog: view.watchdog.clone(),
        arbiter: Some(v1::AgentStatus {
            name: "arbiter".into(),
            attached: true,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            scheduling: haarb_daemon::granted_real_time().map(Into::into),
        }),
    }
}

/// Turns moments of the arbiter's clock into wall-clock time, for people.
#[derive(Clone, Copy)]
struct Wall {
    now: Mono,
    unix_us: u64,
}

impl Wall {
    const fn unix_ms(self, at: Mono) -> u64 {
        self.unix_us.saturating_sub(self.now.since(at).as_micros()) / 1000
    }
}

fn link(now: Mono, core: &Core, network: &Network) -> v1::LinkStatus {
    let view = core.view();
    let answer = view
        .switches
        .get(&network.name)
        .copied()
        .unwrap_or(SwitchAnswer::NotAsked);
    v1::LinkStatus {
        network: network.name.to_string(),
        interface: network.interface.clone(),
        up: view
            .links
            .get(&network.interface)
            .is_some_and(|link| link.up),
        switch_answer: v1::SwitchAnswer::from(answer).into(),
        reason: match network.counts_at {
            Some(at) => held(network, at.since(now)),
            None => network.reason.clone(),
        },
        usable: network.usable,
        switch_age_us: view
            .switch_answered
            .get(&network.name)
            .map(|&at| now.since(at).as_micros()),
    }
}

/// Why a network that works does not count yet, and when it will.
fn held(network: &Network, rest: Span) -> String {
    let flaps = match network.flaps.count() {
        0 | 1 => String::new(),
        count => format!(" (it came and went {count} times lately)"),
    };
    format!("works again, counts after another {rest} without interruption{flaps}")
}

fn neighbour(now: Mono, neighbour: &Neighbour) -> v1::NodeStatus {
    let report = neighbour.report.as_ref();
    let paths = report.map(|r| r.paths.as_slice()).unwrap_or_default();
    v1::NodeStatus {
        name: neighbour.name.to_string(),
        software_alive: neighbour.heard(),
        kernel_alive: paths.iter().any(|path| path.kernel),
        hears_me: neighbour.hears_me,
        silent: report.is_some_and(|r| r.silent),
        dead_after_us: report.map_or(0, |r| r.dead_after.as_micros()),
        paths: paths.iter().map(|p| path(now, p)).collect(),
    }
}

fn path(now: Mono, path: &PathReport) -> v1::PathStatus {
    let age = |at: Option<Mono>| at.map(|at| now.since(at).as_micros());
    v1::PathStatus {
        network: path.network.to_string(),
        echo_age_us: age(path.last_echo),
        datagram_age_us: age(path.last_datagram),
        rtt_us: path.rtt_us,
        loss: path.loss,
        heard: path.heard,
        hears_me: path.hears_me,
        loss_in: path.loss_in,
        loss_out: path.loss_out,
    }
}

fn reserve(core: &Core, state: &ReserveState, wall: Wall) -> v1::ReserveStatus {
    let view = core.view();
    let name = &state.spec.name;
    let replica = view.replicas.get(name);
    let services = view.services.get(name);
    v1::ReserveStatus {
        name: name.to_string(),
        role: v1::Role::from(state.role).into(),
        epoch: state.epoch().0,
        active_on: core
            .active_on(name)
            .map(ToString::to_string)
            .unwrap_or_default(),
        since_unix_ms: wall.unix_ms(state.since),
        vips: vips(core, state),
        services: services
            .map(|run| run.services.as_slice())
            .unwrap_or_default()
            .iter()
            .map(|(name, state)| v1::Service {
                name: name.clone(),
                state: v1::ServiceState::from(*state).into(),
            })
            .collect(),
        directories: replica
            .map(|r| r.directories.iter().map(Into::into).collect())
            .unwrap_or_default(),
        data: v1::Data::from(view.data(name)).into(),
        conflicts: replica.map_or(0, |r| r.conflicts),
        eligible: state.facts.eligible == Eligible::Yes,
        not_eligible: not_eligible(core, state),
    }
}

/// Why this server could not take the reserve over at this moment; empty if it could.
fn not_eligible(core: &Core, state: &ReserveState) -> String {
    match (&state.obstacle, state.facts.eligible) {
        (Some(obstacle), _) => obstacle.to_string(),
        (None, Eligible::Yes) => String::new(),
        (None, Eligible::No | Eligible::OldData) => {
            let lead = core.view().segment.timing.lead;
            format!("it has been ready for less than {lead}")
        }
    }
}

/// The configured addresses; `held` is what the vip-agent last saw in the kernel.
fn vips(core: &Core, state: &ReserveState) -> Vec<v1::VipStatus> {
    let reported = core.view().vips.get(&state.spec.name);
    let held = |address| {
        reported.is_some_and(|r| r.vips.iter().any(|vip| vip.address == address && vip.held))
    };
    let vips = state.spec.vips.iter().map(|vip| {
        let guard = core.view().guards.get(&vip.interface);
        v1::VipStatus {
            address: format!("{}/{}", vip.address, vip.prefix),
            interface: vip.interface.clone(),
            held: held(vip.address),
            line: guard
                .map_or(v1::KernelLine::Unspecified, |g| g.line.into())
                .into(),
            line_reason: guard.map(|g| g.reason.clone()).unwrap_or_default(),
        }
    });
    vips.collect()
}

fn agent(agent: Agent, attachment: Option<&Attachment>) -> v1::AgentStatus {
    v1::AgentStatus {
        name: agent.as_str().into(),
        attached: attachment.is_some(),
        pid: attachment.map_or(0, |a| a.hello.pid),
        version: attachment
            .map(|a| a.hello.version.clone())
            .unwrap_or_default(),
        scheduling: attachment.and_then(|a| a.hello.scheduling.clone()),
    }
}
