//! A drill: a fault on a live cluster, what must follow from it, and the verdict.
//!
//! A drill is data: steps and expectations; `run` is the same for all. It waits for events with
//! deadlines; the only plain waits are stretches in which *nothing* may happen. The measured window
//! begins [`LEAD_IN`] before the fault, so that it is known who served.

use std::time::Duration;

use serde::Serialize;

use crate::{
    analysis::Report,
    bad_cable::{BadCable, Flaws},
    clock::Stamp,
    cluster::{self, Event, Goal},
    error::LabError,
    plan::{NetworkId, ServerId},
    segment::Segment,
    server::FaultTimes,
    setup,
};

/// Undisturbed time before a fault.
const LEAD_IN: Duration = Duration::from_millis(300);
/// How long anything may take before the drill has failed; far above every time of the profiles.
const LIMIT: Duration = Duration::from_secs(30);

/// A server by its part when the drill begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The active one.
    Active,
    /// The first of the others that have power.
    Standby,
}

/// Something that is done to the segment or asked of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Cuts a server's power.
    PowerOff(Who),
    /// Gives power to every server that has none.
    PowerOnAll,
    /// Switches these switches off.
    SwitchesOff(&'static [NetworkId]),
    /// Switches these switches on.
    SwitchesOn(&'static [NetworkId]),
    /// A switch hangs: its carriers stay, nothing passes.
    SwitchHangs(NetworkId),
    /// Pulls a server's cable.
    Pull(Who, NetworkId),
    /// Plugs every pulled cable in.
    PlugAll,
    /// Freezes a server's user space.
    Freeze(Who),
    /// Thaws every frozen server.
    ThawAll,
    /// Kills one program of a server.
    Kill(Who, &'static str),
    /// A layer-2 hole between all servers on this network.
    Hole(NetworkId),
    /// Every cable of every server loses this many percent of its frames, each way.
    Loss(u8),
    /// A planned switchover to the standby.
    Switchover,
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Does something; the first one's time is the time of the fault.
    Do(Fault),
    /// Waits until another server than the active one of the beginning serves every virtual IP.
    OtherServes,
    /// Waits until every virtual IP is answered by somebody.
    SomebodyServes,
    /// Waits for a state of the cluster.
    Reach(Goal),
    /// Watches for some milliseconds that nothing happens.
    Watch(u64),
}

/// Who must be active at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// The one of the beginning.
    Stays,
    /// Another one.
    Moves,
    /// One, whichever.
    Someone,
    /// Nobody.
    Nobody,
}

/// What the clients may notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// No request may be lost on all virtual IPs at once.
    Uninterrupted,
    /// Served again at the end.
    Resumes,
    /// Not served at the end.
    Stops,
}

/// What must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Who is active afterwards.
    pub active: Active,
    /// What the clients notice.
    pub service: Service,
    /// One of these rules must have fired; empty: no rule is asked for.
    pub rules: &'static [&'static str],
}

/// A drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done, in a few words.
    pub what: &'static str,
    /// The drill that leaves the segment as this one needs it; `None`: everything whole and settled.
    pub after: Option<&'static str>,
    /// What happens.
    pub steps: Vec<Step>,
    /// What must follow.
    pub expect: Expect,
}

/// One expectation and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was expected.
    pub what: String,
    /// Whether it was so.
    pub met: bool,
    /// What was the case.
    pub found: String,
}

/// What came of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Name of the drill.
    pub name: &'static str,
    /// What was done.
    pub what: &'static str,
    /// Every expectation was met.
    pub passed: bool,
    /// When the fault was done; `None` when it was not reached.
    pub fault: Option<FaultTimes>,
    /// Active before, by name.
    pub active_before: Option<String>,
    /// Active afterwards, by name.
    pub active_after: Option<String>,
    /// What the clients saw.
    pub clients: Option<Report>,
    /// Time during which an address was on two servers with power, milliseconds.
    pub held_by_both_ms: f64,
    /// The rule that made the first change of role, or the first rule at all.
    pub rule: Option<String>,
    /// Everything the servers recorded meanwhile.
    pub events: Vec<Event>,
    /// The expectations.
    pub checks: Vec<Check>,
    /// From the beginning of the drill to its verdict, milliseconds.
    pub took_ms: f64,
}

/// What a drill learns on its way.
struct Course {
    active: Option<ServerId>,
    standby: Option<ServerId>,
    from: Stamp,
    fault: Option<FaultTimes>,
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
    let mut events = all_events(lab);
    events.retain(|event| !before.contains(event));
    let name = |server: Option<ServerId>| server.map(|server| lab.server(server).name().to_owned());
    let mut checks = checks(
        &drill.expect,
        course.active,
        active_after,
        &clients,
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
        rule: headline(&drill.expect, &events),
        clients: Some(clients),
        events,
        checks,
        took_ms: Stamp::now().ms_since(course.from),
    }
}

/// The rule to show for a drill: an expected one that fired, else one that changed a role, else the first.
fn headline(expect: &Expect, events: &[Event]) -> Option<String> {
    let expected = expect
        .rules
        .iter()
        .find(|rule| events.iter().any(|event| event.rule == **rule));
    expected
        .map(|rule| (*rule).to_owned())
        .or_else(|| {
            events
                .iter()
                .find(|event| event.changes_role())
                .map(|event| event.rule.clone())
        })
        .or_else(|| events.first().map(|event| event.rule.clone()))
}

/// Compares what was expected with what happened. Pure.
fn checks(
    expect: &Expect,
    before: Option<ServerId>,
    after: Option<ServerId>,
    clients: &Report,
    events: &[Event],
    name: &dyn Fn(Option<ServerId>) -> Option<String>,
) -> Vec<Check> {
    let shown = |server| name(server).unwrap_or_else(|| "nobody".into());
    let (what, met) = match expect.active {
        Active::Stays => (
            format!("{} stays active", shown(before)),
            after.is_some() && after == before,
        ),
        Active::Moves => (
            "another server becomes active".into(),
            after.is_some() && after != before,
        ),
        Active::Someone => ("a server becomes active".into(), after.is_some()),
        Active::Nobody => ("nobody is active".into(), after.is_none()),
    };
    let mut checks = vec![Check {
        what,
        met,
        found: format!("active: {}", shown(after)),
    }];
    checks.push(Check {
        what: "no two servers answer for one address".into(),
        met: clients.dual_active_ms == 0.0,
        found: format!("{:.1} ms", clients.dual_active_ms),
    });
    let lost = format!(
        "{} requests lost on every address, longest {:.1} ms",
        clients.lost_on_all, clients.longest_outage_ms
    );
    let served = clients
        .served_by
        .iter()
        .all(|server| server.is_some() && *server == after);
    checks.push(match expect.service {
        Service::Uninterrupted => Check {
            what: "the clients are served all the time".into(),
            met: clients.lost_on_all == 0,
            found: lost,
        },
        Service::Resumes => Check {
            what: "the active server serves every address".into(),
            met: served,
            found: lost,
        },
        Service::Stops => {
            let silent = clients.silent_at_end_ms > 0.0;
            Check {
                what: "the service stops".into(),
                met: silent,
                found: lost,
            }
        }
    });
    if !expect.rules.is_empty() {
        let fired: Vec<&str> = events.iter().map(|event| event.rule.as_str()).collect();
        checks.push(Check {
            what: format!("rule {} fires", expect.rules.join(" or ")),
            met: expect.rules.iter().any(|rule| fired.contains(rule)),
            found: if fired.is_empty() {
                "no event".into()
            } else {
                fired.join(" ")
            },
        });
    }
    checks
}

#[cfg(test)]
mod tests;
