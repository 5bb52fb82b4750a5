//! Brings a segment back to whole after whatever was done to it, and into the state that a drill begins
//! with.

use std::time::Duration;

use super::{
    Drill, Fault,
    faults::{Cast, act, missing},
    run::{LEAD_IN, run_for},
    verdict::Outcome,
};
use crate::{
    cluster::{self, Goal},
    data, drills,
    error::LabError,
    plan::{NetworkId, ServerId},
    segment::Segment,
    setup,
};

/// How long a cluster may take until it has settled, whatever was done to it.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// By then the kernel has repeated a lost ARP request, twice.
const ARP_AGAIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Brings a started segment into the state that a drill begins with: right after the drill `previous`,
/// or from whatever state. Returns what came of the drills that this took.
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn prepare(
    lab: &mut Segment,
    drill: &Drill,
    previous: Option<&str>,
    long: Duration,
) -> Result<Vec<Outcome>, LabError> {
    let Some(after) = drill.after else {
        make_whole(lab)?;
        if let Some(layout) = &drill.layout {
            let cast = cast(lab);
            act(lab, layout, &cast)?;
            // If the cluster reacts to the interruption, it does so within this time; only then does
            // "settled" mean that it has got over it.
            std::thread::sleep(LEAD_IN);
            cluster::reach(lab, Goal::Settled, SETTLE_LIMIT)?;
        }
        return Ok(Vec::new());
    };
    if previous == Some(after) {
        return Ok(Vec::new());
    }
    let first = drills::find(after).ok_or_else(|| missing(after))?;
    let mut outcomes = prepare(lab, &first, None, long)?;
    outcomes.push(run_for(lab, &first, long)?);
    Ok(outcomes)
}

/// Who plays which part now.
#[must_use]
pub fn cast(lab: &Segment) -> Cast {
    let reserve = lab.plan().reserves().first().map_or("", |name| *name);
    let active = cluster::who_is_active_for(lab, reserve);
    let standby = lab.powered().find(|server| Some(*server) != active);
    Cast { active, standby }
}

/// Brings the segment back to whole and waits until it has settled.
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn make_whole(lab: &mut Segment) -> Result<(), LabError> {
    let nobody = Cast::default();
    for fault in [
        Fault::EndLoad,
        Fault::StrangerLeaves,
        Fault::EmptyDisks,
        Fault::ResumeAll,
    ] {
        act(lab, &fault, &nobody)?;
    }
    let networks: Vec<NetworkId> = (0..lab.plan().networks.len()).collect();
    for network in &networks {
        lab.hang_switch(*network, false)?;
        lab.hole(*network, &[])?;
        for server in lab.powered().collect::<Vec<_>>() {
            lab.spoil(server, *network, None)?;
        }
    }
    lab.power_switches(&networks, true)?;
    act(lab, &Fault::PlugAll, &nobody)?;
    for server in lab.powered().collect::<Vec<_>>() {
        mend_server(lab, server)?;
    }
    act(lab, &Fault::PowerOnAll, &nobody)?;
    settle(lab)
}

/// Programs, configuration, key and service of one server as they were at the beginning.
fn mend_server(lab: &mut Segment, server: ServerId) -> Result<(), LabError> {
    lab.mend_programs(server)?;
    data::remove(lab, server)?;
    let changed = setup::restore(lab, server)?;
    let dead = !lab.server(server).runs("haarb")?;
    if changed || dead {
        lab.power_off(server)?;
        lab.power_on(server)?;
    }
    Ok(())
}

/// Waits until every server reaches its switches (alarm M5 is over). The first ARP request of one that
/// has just booted may get lost, and the kernel repeats it after a second; if its neighbour lost the same
/// network meanwhile, neither would be whole. Where a switch is meant to be silent, so be it.
fn switches_answer(lab: &Segment) {
    let _ = lab.until("every switch answers", ARP_AGAIN, LOOK_EVERY, |lab| {
        for server in lab.powered() {
            let status = cluster::status(lab, server).map_err(|error| error.to_string())?;
            if status.alarms.iter().any(|alarm| alarm.rule == "M5") {
                return Err(format!("{} lacks a switch", lab.server(server).name()));
            }
        }
        Ok(())
    });
}

/// Waits until the cluster has settled. What waits for an operator gets him: a failed service or a
/// reserve that moved too often would stay as it is.
fn settle(lab: &Segment) -> Result<(), LabError> {
    let patience = Duration::from_secs(2);
    let mut waited = Duration::ZERO;
    loop {
        for server in lab.powered() {
            for reserve in lab.plan().reserves() {
                // Not up yet: asked again in the next round.
                let _ = cluster::haarb(lab, server, &["clear", reserve]);
            }
        }
        match cluster::reach(lab, Goal::Settled, patience) {
            Ok(_) => {
                switches_answer(lab);
                return Ok(());
            }
            Err(error) if waited >= SETTLE_LIMIT => return Err(error),
            Err(_) => waited += patience,
        }
    }
}
