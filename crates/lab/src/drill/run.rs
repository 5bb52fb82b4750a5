//! Carries a drill out on a live segment.
//!
//! It waits for events with deadlines; the only plain waits are stretches in which *nothing* may happen.
//! The measured window begins [`LEAD_IN`] before the fault, so that it is known who served.

use std::time::{Duration, SystemTime};

use super::{
    Drill, Fault, Step,
    faults::{Cast, act, is_contact, missing},
    verdict::{Check, Facts, FilesReport, Outcome, checks, headline},
    whole,
};
use crate::{
    analysis,
    bystander::Neighbour,
    clock::Stamp,
    cluster::{self, Event, Goal},
    error::LabError,
    history,
    plan::{ServerId, VipId},
    segment::Segment,
    server::FaultTimes,
    setup,
};

/// Undisturbed time before a fault.
pub const LEAD_IN: Duration = Duration::from_millis(300);
/// How long anything may take before the drill has failed; far above every time of the profiles, a
/// cold start of one minute included.
const LIMIT: Duration = Duration::from_secs(90);
/// Duration of a long drill unless it is told otherwise.
pub const LONG: Duration = Duration::from_secs(10);

/// What a drill learns on its way.
struct Course {
    cast: Cast,
    /// What the servers had recorded before. One that stood still could not be asked.
    recorded: Vec<Event>,
    /// The wall clock, as the servers' events have it: microseconds since 1970.
    from_unix_us: u64,
    /// Who served each virtual IP by right before.
    rightful: Vec<Option<ServerId>>,
    from: Stamp,
    fault: Option<FaultTimes>,
    /// When separated servers could hear each other again.
    contact: Option<Stamp>,
    long: Duration,
}

impl Course {
    fn is_new(&self, event: &Event) -> bool {
        let timeless = event.at_unix_us == 0;
        (timeless || event.at_unix_us >= self.from_unix_us) && !self.recorded.contains(event)
    }
}

fn wall_clock_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
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
    act(lab, &Fault::PowerOnAll, &Cast::default())?;
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

/// Brings a started segment into the state that a drill begins with; see [`whole::prepare`].
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn prepare(
    lab: &mut Segment,
    drill: &Drill,
    previous: Option<&str>,
) -> Result<Vec<Outcome>, LabError> {
    whole::prepare(lab, drill, previous, LONG)
}

/// Brings the segment back to whole; see [`whole::make_whole`].
///
/// # Errors
/// When something refuses, or the cluster does not settle.
pub fn make_whole(lab: &mut Segment) -> Result<(), LabError> {
    whole::make_whole(lab)
}

/// Runs a drill on a segment that is as the drill needs it; a long one lasts [`LONG`].
///
/// # Errors
/// Only when the lab itself fails before the fault; everything after it is part of the outcome.
pub fn run(lab: &mut Segment, drill: &Drill) -> Result<Outcome, LabError> {
    run_for(lab, drill, LONG)
}

/// Runs a drill on a segment that is as the drill needs it; a long one lasts `long`.
///
/// # Errors
/// Only when the lab itself fails before the fault; everything after it is part of the outcome.
pub fn run_for(lab: &mut Segment, drill: &Drill, long: Duration) -> Result<Outcome, LabError> {
    let cast = whole::cast(lab);
    let recorded = all_events(lab);
    lab.bystander().learn(lab.plan())?;
    let mut course = Course {
        cast,
        recorded,
        from_unix_us: wall_clock_us(),
        rightful: rightful(lab),
        from: Stamp::now(),
        fault: None,
        contact: None,
        long,
    };
    std::thread::sleep(LEAD_IN);
    let failure = walk(lab, drill, &mut course).err();
    conclude(lab, drill, &course, failure)
}

fn walk(lab: &mut Segment, drill: &Drill, course: &mut Course) -> Result<(), LabError> {
    for step in &drill.steps {
        let since = course.fault.map_or(course.from, |fault| fault.began);
        match step {
            Step::Do(fault) => {
                let times = act(lab, fault, &course.cast)?;
                course.fault.get_or_insert(times);
                if is_contact(fault) {
                    course.contact = Some(times.done);
                }
            }
            Step::Before(fault) => {
                act(lab, fault, &course.cast)?;
            }
            Step::OtherServes => {
                let standby = course.cast.standby.ok_or_else(|| missing("a standby"))?;
                lab.until_served_by(standby, since, false, LIMIT)?;
            }
            Step::SomebodyServes => somebody_serves(lab, Stamp::now())?,
            Step::Reach(goal) => {
                cluster::reach(lab, *goal, LIMIT)?;
            }
            Step::Watch(ms) => std::thread::sleep(Duration::from_millis(*ms)),
            Step::WatchLong => std::thread::sleep(course.long),
            Step::Flap {
                who,
                network,
                down_ms,
                up_ms,
            } => {
                let end = Stamp::now().plus(course.long);
                while Stamp::now() < end {
                    let pulled = act(lab, &Fault::Pull(*who, *network), &course.cast)?;
                    course.fault.get_or_insert(pulled);
                    std::thread::sleep(Duration::from_millis(*down_ms));
                    act(lab, &Fault::PlugAll, &course.cast)?;
                    std::thread::sleep(Duration::from_millis(*up_ms));
                }
            }
        }
    }
    Ok(())
}

fn somebody_serves(lab: &Segment, since: Stamp) -> Result<(), LabError> {
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
    )
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
    failure: Option<LabError>,
) -> Result<Outcome, LabError> {
    // What the clients saw is cut first: asking the servers takes time that is not part of the drill.
    let to = Stamp::now();
    let trace = lab.client().cut(course.from, to);
    let began = course.fault.map_or(course.from, |fault| fault.began);
    let clients = analysis::report(&trace, course.from, began, to);
    let dual_after_contact_ms = course
        .contact
        .map(|contact| analysis::longest_dual_active_ms(&trace, contact, to));
    let held_by_both_ms = lab.held_by_both_ms(course.from);
    let rightful = rightful(lab);
    let active_after = rightful.first().copied().flatten();
    let untouched = untouched(lab, &course.rightful, &rightful);
    let neighbours = neighbours(lab, &rightful)?;
    let files = active_after.and_then(|after| files(lab, course.cast.active, after));
    let mut events = all_events(lab);
    events.retain(|event| course.is_new(event));
    let name = |server: Option<ServerId>| server.map(|server| lab.server(server).name().to_owned());
    let facts = Facts {
        before: course.cast.active,
        after: active_after,
        rightful: &rightful,
        untouched: &untouched,
        clients: &clients,
        dual_after_contact_ms,
        neighbours: &neighbours,
        files: files.as_ref(),
        software_dead_after_ms: setup::software_dead_after_ms(lab),
        events: &events,
        name: &|server| name(server),
        mac: &|server, vip| lab.plan().server_mac(server, lab.plan().vips[vip].network),
    };
    let mut checks = checks(&drill.expect, &facts);
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
    Ok(Outcome {
        name: drill.name,
        what: drill.what,
        passed: checks.iter().all(|check| check.met),
        fault: course.fault,
        active_before: name(course.cast.active),
        active_after: name(active_after),
        held_by_both_ms,
        dual_after_contact_ms,
        addresses: lab.vip_events(course.from),
        rule: headline(&drill.expect, &events),
        clients,
        neighbours: neighbours.into_iter().flatten().collect(),
        files,
        events,
        checks,
        took_ms: Stamp::now().ms_since(course.from),
    })
}

/// Who serves each virtual IP by right: the server that is active for its reserve.
fn rightful(lab: &Segment) -> Vec<Option<ServerId>> {
    let active: Vec<(&str, Option<ServerId>)> = lab
        .plan()
        .reserves()
        .into_iter()
        .map(|reserve| (reserve, cluster::who_is_active_for(lab, reserve)))
        .collect();
    let of = |reserve: &str| active.iter().find(|(name, _)| *name == reserve)?.1;
    lab.plan().vips.iter().map(|vip| of(&vip.reserve)).collect()
}

/// The virtual IPs of the reserves beside the first one that stayed where they were.
fn untouched(lab: &Segment, before: &[Option<ServerId>], after: &[Option<ServerId>]) -> Vec<VipId> {
    let vips = lab.plan().vips.iter().enumerate();
    let first = lab.plan().reserves().first().copied();
    vips.filter(|(_, vip)| Some(vip.reserve.as_str()) != first)
        .map(|(vip, _)| vip)
        .filter(|vip| before[*vip].is_some() && before[*vip] == after[*vip])
        .collect()
}

/// What the bystander knows of each virtual IP; `None` where it has no way to the rightful server, or
/// there is none.
fn neighbours(
    lab: &Segment,
    rightful: &[Option<ServerId>],
) -> Result<Vec<Option<Neighbour>>, LabError> {
    let look = |vip: VipId, server: Option<ServerId>| {
        let switch = lab.switch(lab.plan().vips[vip].network);
        let way = server.is_some_and(|server| switch.passes(lab.server(server).name()));
        way.then(|| lab.bystander().look(lab.plan(), vip))
            .transpose()
    };
    let vips = rightful.iter().enumerate();
    vips.map(|(vip, server)| look(vip, *server)).collect()
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
