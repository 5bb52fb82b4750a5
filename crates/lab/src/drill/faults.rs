//! Does to a live segment what a [`Fault`] says.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;

use super::{Fault, Who};
use crate::{
    bad_cable::{BadCable, Flaws, Wall},
    clock::Stamp,
    cluster, data,
    error::LabError,
    fake,
    load::Load,
    plan::{NetworkId, ServerId},
    realtime::Urgent,
    roles,
    segment::Segment,
    server::FaultTimes,
    setup,
};

/// Who plays which part in a drill.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cast {
    /// Active for the first reserve when the drill begins.
    pub active: Option<ServerId>,
    /// The first of the others with power.
    pub standby: Option<ServerId>,
}

impl Cast {
    fn find(&self, who: Who) -> Result<ServerId, LabError> {
        match who {
            Who::Active => self.active.ok_or_else(|| missing("an active server")),
            Who::Standby => self.standby.ok_or_else(|| missing("a standby")),
        }
    }
}

/// What a drill needs and the segment does not have.
pub(super) fn missing(what: &str) -> LabError {
    LabError::Unknown {
        what: "server for this drill",
        name: what.to_owned(),
        known: Vec::new(),
    }
}

/// Does it, and takes its times.
///
/// # Errors
/// As the lab, the kernel or `haarb` refuses.
pub fn act(lab: &mut Segment, fault: &Fault, cast: &Cast) -> Result<FaultTimes, LabError> {
    let find = |who: &Who| cast.find(*who);
    let _urgent = fault.is_instant().then(Urgent::begin);
    match fault {
        Fault::Together(all) => FaultTimes::of(|| {
            all.iter()
                .try_for_each(|fault| act(lab, fault, cast).map(drop))
        }),
        Fault::PowerOff(who) => lab.power_off(find(who)?),
        Fault::PowerOn(who) => lab.power_on(find(who)?),
        Fault::PowerOnAll => power_on_all(lab),
        Fault::SwitchesOff(which) => lab.power_switches(which, false),
        Fault::SwitchesOn(which) => lab.power_switches(which, true),
        Fault::SwitchHangs(network) => lab.hang_switch(*network, true),
        Fault::Pull(who, network) => lab.plug(find(who)?, *network, false),
        Fault::PlugAll => plug_all(lab),
        Fault::Freeze(who) => lab.freeze(find(who)?, true),
        Fault::ThawAll => each(lab, |lab, server| lab.freeze(server, false).map(drop)),
        Fault::Pause(who) => lab.pause(find(who)?, true),
        Fault::ResumeAll => each(lab, |lab, server| lab.pause(server, false).map(drop)),
        Fault::Kill(who, program) => lab.kill_program(find(who)?, program),
        Fault::Stall(who, program) => lab
            .server(find(who)?)
            .signal_program(program, Signal::SIGSTOP),
        Fault::Break(who, program) => lab.break_program(find(who)?, program),
        Fault::KillDaemons(who) => lab
            .server(find(who)?)
            .signal_family("haarb-", Signal::SIGKILL),
        Fault::KillEverything(who) => lab.server(find(who)?).kill_everything(),
        Fault::Restart(who, program) => lab
            .server(find(who)?)
            .signal_program(program, Signal::SIGTERM),
        Fault::Hole(network) => {
            let servers: Vec<ServerId> = (0..lab.plan().servers.len()).collect();
            lab.hole(*network, &servers)
        }
        Fault::MendPaths => mend_paths(lab),
        Fault::Wall(who, network, servers) => {
            let wall = Wall {
                servers: *servers,
                ..Wall::default()
            };
            put_wall(lab, find(who)?, *network, wall)
        }
        Fault::NoSwitch(who, network) => {
            let wall = Wall {
                switch: true,
                ..Wall::default()
            };
            put_wall(lab, find(who)?, *network, wall)
        }
        Fault::Mischief(percent) => every_cable(
            lab,
            Flaws {
                mischief: f64::from(*percent) / 100.0,
                ..Flaws::default()
            },
        ),
        Fault::Loss(percent) => every_cable(
            lab,
            Flaws {
                loss: f64::from(*percent) / 100.0,
                ..Flaws::default()
            },
        ),
        Fault::Switchover => switchover(lab, cast),
        Fault::Promote(who) => {
            let server = find(who)?;
            let words = ["promote", &first_reserve(lab), "--force"];
            FaultTimes::of(|| cluster::haarb(lab, server, &words).map(drop))
        }
        Fault::SwitchoverOnBoth => switchover_on_both(lab, cast),
        Fault::TrySwitchover => FaultTimes::of(|| match switchover(lab, cast) {
            Ok(_) | Err(LabError::Command { .. }) => Ok(()),
            Err(other) => Err(other),
        }),
        Fault::SpreadReserves => spread(lab, cast),
        Fault::SwapReserves => swap(lab, cast),
        Fault::Mood(who, mood) => {
            let server = find(who)?;
            FaultTimes::of(|| write_mood(lab, server, mood))
        }
        Fault::KillService(who) => {
            let service = roles::HELPER.rsplit('/').next().unwrap_or_default();
            lab.kill_program(find(who)?, service)
        }
        Fault::RemoveVip => {
            let server = find(&Who::Active)?;
            FaultTimes::of(|| fake::drop_vip(lab, server, 0).map(drop))
        }
        Fault::StrangerTakes => lab.stranger_takes(0),
        Fault::StrangerLeaves => lab.stranger_leaves(),
        Fault::FillDisk(who) => lab.server(find(who)?).fill_disk(),
        Fault::StuckLogs(who) => lab.server(find(who)?).stick_logs(),
        Fault::EmptyDisks => each(lab, |lab, server| lab.server(server).empty_disk()),
        Fault::LoadProcessors => FaultTimes::of(|| {
            lab.set_load(Some(Load::processors().map_err(LabError::Client)?));
            Ok(())
        }),
        Fault::SqueezeMemory(who) => {
            let processes = lab.server(find(who)?).processes()?;
            FaultTimes::of(|| {
                let load = Load::memory_of(processes).map_err(LabError::Client)?;
                lab.set_load(Some(load));
                Ok(())
            })
        }
        Fault::EndLoad => FaultTimes::of(|| {
            lab.set_load(None);
            Ok(())
        }),
        Fault::ChangeConfig(who) => restarted_with(lab, find(who)?, setup::change_config),
        Fault::ChangeKey(who) => restarted_with(lab, find(who)?, setup::change_key),
        Fault::WriteData(mib) => {
            let server = find(&Who::Active)?;
            FaultTimes::of(|| data::write(lab, server, *mib))
        }
    }
}

/// The same for every server with power.
fn each(
    lab: &mut Segment,
    mut act: impl FnMut(&mut Segment, ServerId) -> Result<(), LabError>,
) -> Result<FaultTimes, LabError> {
    let on: Vec<ServerId> = lab.powered().collect();
    FaultTimes::of(|| on.into_iter().try_for_each(|server| act(lab, server)))
}

fn networks(lab: &Segment) -> std::ops::Range<NetworkId> {
    0..lab.plan().networks.len()
}

fn power_on_all(lab: &mut Segment) -> Result<FaultTimes, LabError> {
    FaultTimes::of(|| {
        let off: Vec<ServerId> = (0..lab.plan().servers.len())
            .filter(|server| !lab.server(*server).is_on())
            .collect();
        off.into_iter()
            .try_for_each(|server| lab.power_on(server).map(drop))
    })
}

fn plug_all(lab: &mut Segment) -> Result<FaultTimes, LabError> {
    each(lab, |lab, server| {
        for network in networks(lab) {
            if !lab.switch(network).is_plugged(lab.server(server).name()) {
                lab.plug(server, network, true)?;
            }
        }
        Ok(())
    })
}

fn every_cable(lab: &mut Segment, flaws: Flaws) -> Result<FaultTimes, LabError> {
    each(lab, |lab, server| {
        networks(lab).try_for_each(|network| {
            lab.spoil(server, network, Some(BadCable::both_ways(flaws)))
                .map(drop)
        })
    })
}

/// A wall stands where frames arrive at the server: what it sends itself is not touched.
fn put_wall(
    lab: &mut Segment,
    server: ServerId,
    network: NetworkId,
    wall: Wall,
) -> Result<FaultTimes, LabError> {
    let cable = BadCable {
        to_machine: Flaws {
            wall,
            ..Flaws::default()
        },
        ..BadCable::default()
    };
    lab.spoil(server, network, Some(cable))
}

/// Cables that were bad stay exchanged, and are good: an interruption would be a fault of its own.
fn mend_paths(lab: &mut Segment) -> Result<FaultTimes, LabError> {
    FaultTimes::of(|| {
        for network in networks(lab) {
            lab.hole(network, &[])?;
            for server in lab.powered().collect::<Vec<_>>() {
                let name = lab.server(server).name().to_owned();
                if lab.switch(network).is_spoilt(&name) {
                    lab.spoil(server, network, Some(BadCable::default()))?;
                }
            }
        }
        Ok(())
    })
}

fn first_reserve(lab: &Segment) -> String {
    lab.plan()
        .reserves()
        .first()
        .map_or_else(String::new, |name| (*name).to_owned())
}

fn switchover(lab: &Segment, cast: &Cast) -> Result<FaultTimes, LabError> {
    let (from, to) = (cast.find(Who::Active)?, cast.find(Who::Standby)?);
    let to = lab.server(to).name().to_owned();
    FaultTimes::of(|| {
        let words = ["switchover", &first_reserve(lab), "--to", &to];
        cluster::haarb(lab, from, &words).map(drop)
    })
}

/// Two operators have the same idea. One of them may be refused; that is no fault of the cluster's.
fn switchover_on_both(lab: &Segment, cast: &Cast) -> Result<FaultTimes, LabError> {
    let (from, to) = (cast.find(Who::Active)?, cast.find(Who::Standby)?);
    let name = lab.server(to).name().to_owned();
    let reserve = first_reserve(lab);
    let words = ["haarb", "switchover", &reserve, "--to", &name];
    all_at_once(lab, &[(from, &words), (to, &words)]).map(|(times, _)| times)
}

fn spread(lab: &Segment, cast: &Cast) -> Result<FaultTimes, LabError> {
    let to = cast.find(Who::Standby)?;
    let name = lab.server(to).name().to_owned();
    let reserves = lab.plan().reserves();
    let last = reserves.last().copied().unwrap_or_default().to_owned();
    if cluster::who_is_active_for(lab, &last) == Some(to) {
        return FaultTimes::of(|| Ok(()));
    }
    let times = FaultTimes::of(|| {
        let from = cast.find(Who::Active)?;
        cluster::haarb(lab, from, &["switchover", &last, "--to", &name]).map(drop)
    })?;
    lab.until(
        &format!("{name} is active for {last}"),
        Duration::from_secs(10),
        Duration::from_millis(50),
        |lab| match cluster::who_is_active_for(lab, &last) {
            Some(server) if server == to => Ok(()),
            other => Err(format!("active: {other:?}")),
        },
    )?;
    Ok(times)
}

fn swap(lab: &Segment, cast: &Cast) -> Result<FaultTimes, LabError> {
    let (one, other) = (cast.find(Who::Active)?, cast.find(Who::Standby)?);
    let name = |server: ServerId| lab.server(server).name().to_owned();
    let reserves = lab.plan().reserves();
    let (Some(first), Some(last)) = (reserves.first(), reserves.last()) else {
        return Err(missing("two reserves"));
    };
    let (to_other, to_one) = (name(other), name(one));
    let there = ["haarb", "switchover", first, "--to", &to_other];
    let back = ["haarb", "switchover", last, "--to", &to_one];
    let (times, refused) = all_at_once(lab, &[(one, &there), (other, &back)])?;
    match refused {
        Some(reason) => Err(LabError::Command {
            server: name(one),
            command: "haarb switchover, on both servers".into(),
            reason,
        }),
        None => Ok(times),
    }
}

/// Runs commands in several servers at the same moment and waits for all of them. The second value is
/// what the first refused one said.
fn all_at_once(
    lab: &Segment,
    commands: &[(ServerId, &[&str])],
) -> Result<(FaultTimes, Option<String>), LabError> {
    let began = Stamp::now();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = commands
            .iter()
            .map(|(server, words)| scope.spawn(|| lab.run(*server, words, cluster::COMMAND_LIMIT)))
            .collect();
        threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let done = Stamp::now();
    let mut refused = None;
    for output in outputs {
        let output = output.map_err(|_| missing("a thread that runs a command"))??;
        if output.status != 0 {
            refused.get_or_insert(output.stderr.trim().to_owned());
        }
    }
    Ok((FaultTimes { began, done }, refused))
}

fn write_mood(lab: &Segment, server: ServerId, mood: &str) -> Result<(), LabError> {
    let reserve = first_reserve(lab);
    let path = setup::mood_file(lab, server, &reserve);
    fs::write(&path, mood).map_err(LabError::file(path))
}

fn restarted_with(
    lab: &mut Segment,
    server: ServerId,
    change: fn(&Segment, ServerId) -> Result<(), LabError>,
) -> Result<FaultTimes, LabError> {
    FaultTimes::of(|| {
        lab.power_off(server)?;
        change(lab, server)?;
        lab.power_on(server).map(drop)
    })
}

/// Whether it ends a separation of the servers: from here on two active ones know of each other.
pub(super) const fn is_contact(fault: &Fault) -> bool {
    matches!(fault, Fault::MendPaths | Fault::ResumeAll | Fault::ThawAll)
}
