//! Carries a drill out on a live segment.
//!
//! It waits for events with deadlines; the only plain waits are stretches in which *nothing* may happen.
//! The measured window begins [`LEAD_IN`] before the fault, so that it is known who served.

use std::time::Duration;

use super::{
    Drill, Fault, Step, Who,
    verdict::{Check, FilesReport, Outcome, checks, headline},
};
use crate::{
    bad_cable::{BadCable, Flaws},
    clock::Stamp,
    cluster::{self, Event, Goal},
    drills,
    error::LabError,
    history,
    plan::{NetworkId, ServerId},
    segment::Segment,
    server::FaultTimes,
    setup,
};

/// Undisturbed time before a fault.
pub const LEAD_IN: Duration = Duration::from_millis(300);
/// How long anything may take before the drill has failed; far above every time of the profiles.
const LIMIT: Duration = Duration::from_secs(30);

/// What a drill learns on its way.
struct Course {
    active: Option<ServerId>,
    standby: Option<ServerId>,
    from: Stamp,
    fault: Option<FaultTimes>,
}

/// How long a cluster may take from power-on until it has settled.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Switches every server on and waits until the cluster has settled. `look` is called again and again
/// meanwhile.
///
/// # Errors
/// When a server does not boot or the cluster does not settle.
pub fn start(
    lab: &mut Segment,
    mut look: impl FnMut(&Segment) -> Result<(), LabError>,
) -> Result<(), LabError> {
    do_fault(lab, &Fault::PowerOnAll, None, None)?;
    let end = Stamp::now().plus(START_LIMIT);
    loop {
        look(lab)?;
        match cluster::reach(lab, Goal::Settled, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) if Stamp::now() > end => return Err(error),
            Err(_) => {}
        }
    }
}

/// Brings a started segment into the state that a drill begins with: right after the drill `previous`,
/// or from whatever state. Returns what came of the drills that this took.
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn prepare(
    lab: &mut Segment,
    drill: &Drill,
    previous: Option<&str>,
) -> Result<Vec<Outcome>, LabError> {
    let Some(after) = drill.after else {
        make_whole(lab)?;
        if let Some(layout) = &drill.layout {
            do_fault(lab, layout, None, None)?;
            // If the cluster reacts to the interruption, it does so within this time; only then does
            // "settled" mean that it has got over it.
            std::thread::sleep(LEAD_IN);
            cluster::reach(lab, Goal::Settled, LIMIT)?;
        }
        return Ok(Vec::new());
    };
    if previous == Some(after) {
        return Ok(Vec::new());
    }
    let first = drills::find(after).ok_or_else(|| missing(after))?;
    let mut outcomes = prepare(lab, &first, None)?;
    outcomes.push(run(lab, &first)?);
    Ok(outcomes)
}

/// Brings the segment back to whole and waits until it has settled.
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn make_whole(lab: &mut Segment) -> Result<(), LabError> {
    let networks: Vec<NetworkId> = (0..lab.plan().networks.len()).collect();
    for network in &networks {
        lab.hang_switch(*network, false)?;
        lab.hole(*network, &[])?;
        for server in lab.powered().collect::<Vec<_>>() {
            lab.spoil(server, *network, None)?;
        }
    }
    lab.power_switches(&networks, true)?;
    for fault in [Fault::PlugAll, Fault::ThawAll, Fault::PowerOnAll] {
        do_fault(lab, &fault, None, None)?;
    }
    cluster::reach(lab, Goal::Settled, LIMIT * 2).map(drop)
}

/// Runs a drill on a segment that is as the drill needs it.
///
/// # Errors
/// Only when the lab itself fails before the fault; everything after it is part of the outcome.
pub fn run(lab: &mut Segment, drill: &Drill) -> Result<Outcome, LabError> {
    let active = who_is_active(lab);
    let standby = lab.powered().find(|server| Some(*server) != active);
    let before = all_events(lab);
    let mut course = Course {
        active,
        standby,
        from: Stamp::now(),
        fault: None,
    };
    std::thread::sleep(LEAD_IN);
    let failure = walk(lab, drill, &mut course).err();
    Ok(conclude(lab, drill, &course, &before, failure))
}

fn walk(lab: &mut Segment, drill: &Drill, course: &mut Course) -> Result<(), LabError> {
    for step in &drill.steps {
        let since = course.fault.map_or(course.from, |fault| fault.began);
        match step {
            Step::Do(fault) => {
                let times = do_fault(lab, fault, course.active, course.standby)?;
                course.fault.get_or_insert(times);
            }
            Step::OtherServes => {
                let standby = course.standby.ok_or_else(|| missing("a standby"))?;
                lab.until_served_by(standby, since, false, LIMIT)?;
            }
            Step::SomebodyServes => {
                lab.until(
                    "every virtual IP is served",
                    LIMIT,
                    Duration::from_millis(1),
                    |lab| {
                        let last = |vip| {
                            lab.client()
                                .last_answer(vip)
                                .is_some_and(|(_, when)| when > since)
                        };
                        if (0..lab.plan().vips.len()).all(last) {
                            Ok(())
                        } else {
                            Err(lab.describe_service(since))
                        }
                    },
                )?;
            }
            Step::Reach(goal) => {
                cluster::reach(lab, *goal, LIMIT)?;
            }
            Step::Watch(ms) => std::thread::sleep(Duration::from_millis(*ms)),
        }
    }
    Ok(())
}

fn do_fault(
    lab: &mut Segment,
    fault: &Fault,
    active: Option<ServerId>,
    standby: Option<ServerId>,
) -> Result<FaultTimes, LabError> {
    let find = |who: Who| match who {
        Who::Active => active.ok_or_else(|| missing("an active server")),
        Who::Standby => standby.ok_or_else(|| missing("a standby")),
    };
    let servers = 0..lab.plan().servers.len();
    let networks = 0..lab.plan().networks.len();
    match fault {
        Fault::PowerOff(who) => lab.power_off(find(*who)?),
        Fault::SwitchesOff(which) => lab.power_switches(which, false),
        Fault::SwitchesOn(which) => lab.power_switches(which, true),
        Fault::SwitchHangs(network) => lab.hang_switch(*network, true),
        Fault::Pull(who, network) => lab.plug(find(*who)?, *network, false),
        Fault::Freeze(who) => lab.freeze(find(*who)?, true),
        Fault::Kill(who, program) => lab.kill_program(find(*who)?, program),
        Fault::Hole(network) => lab.hole(*network, &servers.collect::<Vec<_>>()),
        Fault::Loss(percent) => FaultTimes::of(|| {
            let flaws = Flaws {
                loss: f64::from(*percent) / 100.0,
                ..Flaws::default()
            };
            for server in lab.powered().collect::<Vec<_>>() {
                for network in networks.clone() {
                    lab.spoil(server, network, Some(BadCable::both_ways(flaws)))?;
                }
            }
            Ok(())
        }),
        Fault::PowerOnAll => FaultTimes::of(|| {
            servers
                .filter(|server| !lab.server(*server).is_on())
                .collect::<Vec<_>>()
                .into_iter()
                .try_for_each(|server| lab.power_on(server).map(drop))
        }),
        Fault::PlugAll => FaultTimes::of(|| {
            for server in servers {
                for network in networks.clone() {
                    if lab.server(server).is_on()
                        && !lab.switch(network).is_plugged(lab.server(server).name())
                    {
                        lab.plug(server, network, true)?;
                    }
                }
            }
            Ok(())
        }),
        Fault::ThawAll => FaultTimes::of(|| {
            let on: Vec<ServerId> = lab.powered().collect();
            on.into_iter()
                .try_for_each(|server| lab.freeze(server, false).map(drop))
        }),
        Fault::Switchover => {
            let (from, to) = (find(Who::Active)?, find(Who::Standby)?);
            let reserve = setup::reserves(lab.plan())
                .first()
                .map_or_else(String::new, |name| (*name).to_owned());
            let to = lab.server(to).name().to_owned();
            FaultTimes::of(|| {
                cluster::haarb(lab, from, &["switchover", &reserve, "--to", &to]).map(drop)
            })
        }
    }
}

fn missing(what: &str) -> LabError {
    LabError::Unknown {
        what: "server for this drill",
        name: what.to_owned(),
        known: Vec::new(),
    }
}

/// The server that calls itself active for the first reserve.
fn who_is_active(lab: &Segment) -> Option<ServerId> {
    lab.powered().find(|server| {
        cluster::status(lab, *server).is_ok_and(|status| {
            status
                .reserves
                .first()
                .is_some_and(|reserve| reserve.role == "active")
        })
    })
}

fn all_events(lab: &Segment) -> Vec<Event> {
    lab.powered()
        .flat_map(|server| cluster::events(lab, server).unwrap_or_default())
        .collect()
}

fn conclude(
    lab: &Segment,
    drill: &Drill,
    course: &Course,
    before: &[Event],
    failure: Option<LabError>,
) -> Outcome {
    // What the clients saw is cut first: asking the servers takes time that is not part of the drill.
    let clients = lab.report(
        course.from,
        course.fault.map_or(course.from, |fault| fault.began),
    );
    let held_by_both_ms = lab.held_by_both_ms(course.from);
    let active_after = who_is_active(lab);
    let files = active_after.and_then(|after| files(lab, course.active, after));
    let mut events = all_events(lab);
    events.retain(|event| !before.contains(event));
    let name = |server: Option<ServerId>| server.map(|server| lab.server(server).name().to_owned());
    let mut checks = checks(
        &drill.expect,
        course.active,
        active_after,
        &clients,
        files.as_ref(),
        &events,
        &|server| name(server),
    );
    if let Some(error) = failure {
        checks.insert(
            0,
            Check {
                what: "every step is reached".into(),
                met: false,
                found: error.to_string(),
            },
        );
    }
    Outcome {
        name: drill.name,
        what: drill.what,
        passed: checks.iter().all(|check| check.met),
        fault: course.fault,
        active_before: name(course.active),
        active_after: name(active_after),
        held_by_both_ms,
        addresses: lab.vip_events(course.from),
        rule: headline(&drill.expect, &events),
        clients,
        files,
        events,
        checks,
        took_ms: Stamp::now().ms_since(course.from),
    }
}

/// The files of the service on the server that is active now, and what it did not get of the one before.
fn files(lab: &Segment, before: Option<ServerId>, after: ServerId) -> Option<FilesReport> {
    let reserve = (*setup::reserves(lab.plan()).first()?).to_owned();
    let found = |server: ServerId| {
        history::inspect(&lab.server(server).disk().join("srv").join(&reserve)).ok()
    };
    let on_active = found(after).filter(|found| *found != history::Found::default())?;
    let not_copied = before.filter(|before| *before != after).and_then(|before| {
        let name = lab.server(before).name();
        let written = found(before)?.last_by.get(name).copied().unwrap_or(0);
        Some(written.saturating_sub(on_active.last_by.get(name).copied().unwrap_or(0)))
    });
    Some(FilesReport {
        on_active,
        not_copied,
    })
}
