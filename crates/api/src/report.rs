//! Reports of agents, to and from the wire.

use haarb_model::{
    DirectoryReport, DirectoryState, Epoch, Guard, HeldVip, KernelLine, LinkReport, Mono,
    NeighbourReport, PathReport, ProbeAnswer, ProbeReport, Report, ServiceReport, ServiceRun,
    ServiceState, Span, SwitchAnswer, SwitchReport, SyncReport, SyncReserve, VipReport, VipReserve,
};

use crate::convert::{FromWire as _, Invalid, mac, parse, twin};
use crate::v1::{self, agent_message::Message};

twin!(
    SwitchAnswer,
    v1::SwitchAnswer,
    "switches.answer",
    NotAsked,
    Answers,
    Silent
);
twin!(
    ProbeAnswer,
    v1::ProbeAnswer,
    "reserves.probe",
    Unknown,
    Silent,
    Neighbour,
    Foreign
);
twin!(
    KernelLine,
    v1::KernelLine,
    "guards.line",
    Lifetime,
    Nftables,
    Ebpf
);
twin!(
    DirectoryState,
    v1::DirectoryState,
    "directories.state",
    Idle,
    WaitingForPeer,
    Syncing,
    InSync,
    Receiving,
    WaitingForSource,
    Error,
);
twin!(
    ServiceState,
    v1::ServiceState,
    "services.state",
    Stopped,
    Starting,
    Running,
    Stopping,
    Failed,
);

fn micros(at: Option<Mono>) -> Option<u64> {
    at.map(Mono::as_micros)
}

fn mono(micros: Option<u64>) -> Option<Mono> {
    micros.map(Mono::from_micros)
}

impl From<&Report> for Message {
    fn from(report: &Report) -> Self {
        match report {
            Report::Alive => Self::Alive(v1::Alive {}),
            Report::Stalled(span) => Self::Stalled(v1::Stalled {
                micros: span.as_micros(),
            }),
            Report::Links(links) => Self::Links(v1::Links {
                links: links.iter().map(link_to_wire).collect(),
            }),
            Report::Probe(report) => Self::Probe(probe_to_wire(report)),
            Report::Advert { from, at, advert } => Self::Advert(v1::AdvertReport {
                from: from.to_string(),
                at: at.as_micros(),
                advert: Some(advert.into()),
            }),
            Report::Vip(report) => Self::Vip(vip_to_wire(report)),
            Report::Sync(report) => Self::Sync(sync_to_wire(report)),
            Report::Services(report) => Self::Services(services_to_wire(report)),
        }
    }
}

impl TryFrom<Message> for Report {
    type Error = Invalid;

    fn try_from(message: Message) -> Result<Self, Invalid> {
        match message {
            Message::Hello(_) => Err(Invalid::new("hello", "came twice")),
            Message::Alive(_) => Ok(Self::Alive),
            Message::Stalled(stalled) => Ok(Self::Stalled(Span::from_micros(stalled.micros))),
            Message::Links(links) => Ok(Self::Links(
                links.links.into_iter().map(link_from_wire).collect(),
            )),
            Message::Probe(report) => probe_from_wire(report).map(Self::Probe),
            Message::Advert(report) => Ok(Self::Advert {
                from: parse("advert.from", &report.from)?,
                at: Mono::from_micros(report.at),
                advert: report
                    .advert
                    .ok_or_else(|| Invalid::missing("advert"))?
                    .try_into()?,
            }),
            Message::Vip(report) => vip_from_wire(&report).map(Self::Vip),
            Message::Sync(report) => sync_from_wire(report).map(Self::Sync),
            Message::Services(report) => services_from_wire(report).map(Self::Services),
        }
    }
}

fn link_to_wire(link: &LinkReport) -> v1::Link {
    let LinkReport {
        interface,
        up,
        reason,
    } = link;
    v1::Link {
        interface: interface.clone(),
        up: *up,
        reason: reason.clone(),
    }
}

fn link_from_wire(wire: v1::Link) -> LinkReport {
    LinkReport {
        interface: wire.interface,
        up: wire.up,
        reason: wire.reason,
    }
}

fn probe_to_wire(report: &ProbeReport) -> v1::ProbeReport {
    let ProbeReport {
        at,
        switches,
        neighbours,
        dropped,
    } = report;
    v1::ProbeReport {
        at: at.as_micros(),
        switches: switches
            .iter()
            .map(|s| v1::Switch {
                network: s.network.to_string(),
                answer: v1::SwitchAnswer::from(s.answer).into(),
                last_answer: micros(s.last_answer),
                missing: s.missing,
            })
            .collect(),
        neighbours: neighbours.iter().map(neighbour_to_wire).collect(),
        dropped: dropped.clone(),
    }
}

fn probe_from_wire(wire: v1::ProbeReport) -> Result<ProbeReport, Invalid> {
    Ok(ProbeReport {
        at: Mono::from_micros(wire.at),
        switches: wire
            .switches
            .iter()
            .map(|s| {
                Ok(SwitchReport {
                    network: parse("switches.network", &s.network)?,
                    answer: SwitchAnswer::from_wire(s.answer)?,
                    last_answer: mono(s.last_answer),
                    missing: s.missing,
                })
            })
            .collect::<Result<_, _>>()?,
        neighbours: wire
            .neighbours
            .iter()
            .map(neighbour_from_wire)
            .collect::<Result<_, _>>()?,
        dropped: wire.dropped,
    })
}

fn neighbour_to_wire(neighbour: &NeighbourReport) -> v1::Neighbour {
    let NeighbourReport {
        node,
        paths,
        hears_me,
        arbiter_silent,
        last_sign,
        last_heard,
        suspect,
        silent,
        dead_after,
    } = neighbour;
    v1::Neighbour {
        node: node.to_string(),
        paths: paths.iter().map(path_to_wire).collect(),
        hears_me: *hears_me,
        arbiter_silent: *arbiter_silent,
        last_sign: micros(*last_sign),
        last_heard: micros(*last_heard),
        suspect: *suspect,
        silent: *silent,
        dead_after: dead_after.as_micros(),
    }
}

fn neighbour_from_wire(wire: &v1::Neighbour) -> Result<NeighbourReport, Invalid> {
    Ok(NeighbourReport {
        node: parse("neighbours.node", &wire.node)?,
        paths: wire
            .paths
            .iter()
            .map(path_from_wire)
            .collect::<Result<_, _>>()?,
        hears_me: wire.hears_me,
        arbiter_silent: wire.arbiter_silent,
        last_sign: mono(wire.last_sign),
        last_heard: mono(wire.last_heard),
        suspect: wire.suspect,
        silent: wire.silent,
        dead_after: Span::from_micros(wire.dead_after),
    })
}

fn path_to_wire(path: &PathReport) -> v1::Path {
    let PathReport {
        network,
        heard,
        kernel,
        hears_me,
        last_echo,
        last_datagram,
        missing,
        rtt_us,
        loss,
        loss_in,
        loss_out,
    } = path;
    v1::Path {
        network: network.to_string(),
        heard: *heard,
        kernel: *kernel,
        hears_me: *hears_me,
        last_echo: micros(*last_echo),
        last_datagram: micros(*last_datagram),
        missing: *missing,
        rtt_us: *rtt_us,
        loss: *loss,
        loss_in: *loss_in,
        loss_out: *loss_out,
    }
}

fn path_from_wire(wire: &v1::Path) -> Result<PathReport, Invalid> {
    Ok(PathReport {
        network: parse("paths.network", &wire.network)?,
        heard: wire.heard,
        kernel: wire.kernel,
        hears_me: wire.hears_me,
        last_echo: mono(wire.last_echo),
        last_datagram: mono(wire.last_datagram),
        missing: wire.missing,
        rtt_us: wire.rtt_us,
        loss: wire.loss,
        loss_in: wire.loss_in,
        loss_out: wire.loss_out,
    })
}

fn vip_to_wire(report: &VipReport) -> v1::VipReport {
    let VipReport {
        reserves,
        macs,
        guards,
    } = report;
    v1::VipReport {
        reserves: reserves.iter().map(vip_reserve_to_wire).collect(),
        macs: macs
            .iter()
            .map(|(interface, mac)| (interface.clone(), mac.to_vec()))
            .collect(),
        guards: guards
            .iter()
            .map(|(interface, Guard { line, reason })| {
                let guard = v1::Guard {
                    line: v1::KernelLine::from(*line).into(),
                    reason: reason.clone(),
                };
                (interface.clone(), guard)
            })
            .collect(),
    }
}

fn vip_reserve_to_wire(reserve: &VipReserve) -> v1::VipReserve {
    let VipReserve {
        reserve,
        epoch,
        seen,
        lease_until,
        vips,
        probe,
        probe_since,
        error,
    } = reserve;
    v1::VipReserve {
        reserve: reserve.to_string(),
        epoch: epoch.0,
        seen: seen.0,
        lease_until: lease_until.as_micros(),
        vips: vips
            .iter()
            .map(|v| v1::HeldVip {
                address: v.address.to_string(),
                interface: v.interface.clone(),
                held: v.held,
            })
            .collect(),
        probe: v1::ProbeAnswer::from(*probe).into(),
        probe_since: micros(*probe_since),
        error: error.clone(),
    }
}

fn vip_from_wire(wire: &v1::VipReport) -> Result<VipReport, Invalid> {
    Ok(VipReport {
        reserves: wire
            .reserves
            .iter()
            .map(vip_reserve_from_wire)
            .collect::<Result<_, _>>()?,
        macs: wire
            .macs
            .iter()
            .map(|(interface, bytes)| Ok((interface.clone(), mac("macs", bytes)?)))
            .collect::<Result<_, _>>()?,
        guards: wire
            .guards
            .iter()
            .map(|(interface, wire)| {
                let guard = Guard {
                    line: KernelLine::from_wire(wire.line)?,
                    reason: wire.reason.clone(),
                };
                Ok((interface.clone(), guard))
            })
            .collect::<Result<_, _>>()?,
    })
}

fn vip_reserve_from_wire(wire: &v1::VipReserve) -> Result<VipReserve, Invalid> {
    let vips = wire.vips.iter().map(|v| {
        Ok(HeldVip {
            address: parse("vips.address", &v.address)?,
            interface: v.interface.clone(),
            held: v.held,
        })
    });
    Ok(VipReserve {
        reserve: parse("reserve", &wire.reserve)?,
        epoch: Epoch(wire.epoch),
        seen: Epoch(wire.seen),
        lease_until: Mono::from_micros(wire.lease_until),
        vips: vips.collect::<Result<_, _>>()?,
        probe: ProbeAnswer::from_wire(wire.probe)?,
        probe_since: mono(wire.probe_since),
        error: wire.error.clone(),
    })
}

fn sync_to_wire(report: &SyncReport) -> v1::SyncReport {
    let reserves = report.reserves.iter().map(|reserve| {
        let SyncReserve {
            reserve,
            epoch,
            data,
            drained,
            directories,
            conflicts,
        } = reserve;
        v1::SyncReserve {
            reserve: reserve.to_string(),
            epoch: epoch.0,
            data: v1::Data::from(*data).into(),
            drained: *drained,
            directories: directories.iter().map(Into::into).collect(),
            conflicts: *conflicts,
        }
    });
    v1::SyncReport {
        reserves: reserves.collect(),
    }
}

impl From<&DirectoryReport> for v1::Directory {
    fn from(directory: &DirectoryReport) -> Self {
        let DirectoryReport {
            path,
            state,
            lag_ms,
            pending_files,
            held_deletions,
            failing,
            error,
        } = directory;
        Self {
            path: path.clone(),
            state: v1::DirectoryState::from(*state).into(),
            lag_ms: *lag_ms,
            pending_files: *pending_files,
            error: error.clone(),
            held_deletions: *held_deletions,
            failing: *failing,
        }
    }
}

fn sync_from_wire(wire: v1::SyncReport) -> Result<SyncReport, Invalid> {
    let reserves = wire.reserves.into_iter().map(|reserve| {
        let directories = reserve.directories.into_iter().map(directory_from_wire);
        Ok(SyncReserve {
            reserve: parse("reserve", &reserve.reserve)?,
            epoch: Epoch(reserve.epoch),
            data: haarb_model::Data::from_wire(reserve.data)?,
            drained: reserve.drained,
            directories: directories.collect::<Result<_, _>>()?,
            conflicts: reserve.conflicts,
        })
    });
    Ok(SyncReport {
        reserves: reserves.collect::<Result<_, _>>()?,
    })
}

fn directory_from_wire(wire: v1::Directory) -> Result<DirectoryReport, Invalid> {
    Ok(DirectoryReport {
        path: wire.path,
        state: DirectoryState::from_wire(wire.state)?,
        lag_ms: wire.lag_ms,
        pending_files: wire.pending_files,
        held_deletions: wire.held_deletions,
        failing: wire.failing,
        error: wire.error,
    })
}

fn services_to_wire(report: &ServiceReport) -> v1::ServiceReport {
    let reserves = report.reserves.iter().map(|run| {
        let ServiceRun {
            reserve,
            epoch,
            running,
            stopped,
            failed,
            not_startable,
            services,
        } = run;
        v1::ServiceRun {
            reserve: reserve.to_string(),
            epoch: epoch.0,
            running: *running,
            stopped: *stopped,
            failed: failed.clone(),
            not_startable: not_startable.clone(),
            services: services
                .iter()
                .map(|(name, state)| v1::Service {
                    name: name.clone(),
                    state: v1::ServiceState::from(*state).into(),
                })
                .collect(),
        }
    });
    v1::ServiceReport {
        reserves: reserves.collect(),
        watchdog: report.watchdog.clone(),
    }
}

fn services_from_wire(wire: v1::ServiceReport) -> Result<ServiceReport, Invalid> {
    let reserves = wire.reserves.into_iter().map(|run| {
        let services = run
            .services
            .into_iter()
            .map(|s| Ok((s.name, ServiceState::from_wire(s.state)?)))
            .collect::<Result<_, Invalid>>()?;
        Ok(ServiceRun {
            reserve: parse("reserve", &run.reserve)?,
            epoch: Epoch(run.epoch),
            running: run.running,
            stopped: run.stopped,
            failed: run.failed,
            not_startable: run.not_startable,
            services,
        })
    });
    Ok(ServiceReport {
        reserves: reserves.collect::<Result<_, Invalid>>()?,
        watchdog: wire.watchdog,
    })
}

#[cfg(test)]
mod tests;
