//! What one reserve's agents must hold, to and from the wire.

use haarb_model::{Epoch, Mono, ReserveDuties, Role, ServiceDuty, SyncDuty, VipDuty};

use crate::convert::{FromWire as _, Invalid, mac, parse};
use crate::v1;

impl From<&ReserveDuties> for v1::ReserveDuties {
    fn from(duties: &ReserveDuties) -> Self {
        let ReserveDuties {
            reserve,
            role,
            epoch,
            vip,
            services,
            sync,
        } = duties;
        Self {
            reserve: reserve.to_string(),
            role: v1::Role::from(*role).into(),
            epoch: epoch.0,
            vip: Some(vip_to_wire(vip)),
            services: Some(service_to_wire(services)),
            sync: Some(sync_to_wire(sync)),
        }
    }
}

fn vip_to_wire(duty: &VipDuty) -> v1::VipDuty {
    let VipDuty {
        hold,
        until,
        announce,
        probe,
        neighbour_macs,
    } = duty;
    v1::VipDuty {
        hold: *hold,
        until: until.as_micros(),
        announce: *announce,
        probe: *probe,
        neighbour_macs: neighbour_macs.iter().map(|mac| mac.to_vec()).collect(),
    }
}

fn service_to_wire(duty: &ServiceDuty) -> v1::ServiceDuty {
    let ServiceDuty {
        run,
        until,
        clear,
        frozen,
    } = duty;
    v1::ServiceDuty {
        run: *run,
        until: until.as_micros(),
        clear: *clear,
        frozen: *frozen,
    }
}

fn sync_to_wire(duty: &SyncDuty) -> v1::SyncDuty {
    let (direction, from) = match duty {
        SyncDuty::Off => (v1::SyncDirection::Off, String::new()),
        SyncDuty::Source => (v1::SyncDirection::Source, String::new()),
        SyncDuty::Drain => (v1::SyncDirection::Drain, String::new()),
        SyncDuty::Sink(from) => (v1::SyncDirection::Sink, from.to_string()),
    };
    v1::SyncDuty {
        direction: direction.into(),
        from,
    }
}

impl TryFrom<v1::ReserveDuties> for ReserveDuties {
    type Error = Invalid;

    fn try_from(wire: v1::ReserveDuties) -> Result<Self, Invalid> {
        Ok(Self {
            reserve: parse("reserve", &wire.reserve)?,
            role: Role::from_wire(wire.role)?,
            epoch: Epoch(wire.epoch),
            vip: vip_from_wire(&wire.vip.ok_or_else(|| Invalid::missing("vip"))?)?,
            services: service_from_wire(
                &wire.services.ok_or_else(|| Invalid::missing("services"))?,
            ),
            sync: sync_from_wire(&wire.sync.ok_or_else(|| Invalid::missing("sync"))?)?,
        })
    }
}

fn vip_from_wire(wire: &v1::VipDuty) -> Result<VipDuty, Invalid> {
    Ok(VipDuty {
        hold: wire.hold,
        until: Mono::from_micros(wire.until),
        announce: wire.announce,
        probe: wire.probe,
        neighbour_macs: wire
            .neighbour_macs
            .iter()
            .map(|m| mac("vip.neighbour_macs", m))
            .collect::<Result<_, _>>()?,
    })
}

fn service_from_wire(wire: &v1::ServiceDuty) -> ServiceDuty {
    ServiceDuty {
        run: wire.run,
        until: Mono::from_micros(wire.until),
        clear: wire.clear,
        frozen: wire.frozen,
    }
}

fn sync_from_wire(wire: &v1::SyncDuty) -> Result<SyncDuty, Invalid> {
    match v1::SyncDirection::try_from(wire.direction) {
        Ok(v1::SyncDirection::Off) => Ok(SyncDuty::Off),
        Ok(v1::SyncDirection::Source) => Ok(SyncDuty::Source),
        Ok(v1::SyncDirection::Drain) => Ok(SyncDuty::Drain),
        Ok(v1::SyncDirection::Sink) => parse("sync.from", &wire.from).map(SyncDuty::Sink),
        Ok(v1::SyncDirection::Unspecified) | Err(_) => Err(Invalid::new(
            "sync.direction",
            format!("has the unknown value {}", wire.direction),
        )),
    }
}
