//! What a server must hold: a function of role and lease, never of the path to them.
//!
//! A new role has to be given a row here before anything compiles; nothing is ever told to
//! "let go" as an order that could be lost.

use haarb_model::{Mono, ReserveDuties, Role, ServiceDuty, SyncDuty, VipDuty};

use crate::facts::{Facts, Hands, Vip};
use crate::reserve::ReserveState;

/// What a role holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// The virtual IPs.
    pub vip: bool,
    /// The services.
    pub services: bool,
    /// It sends the replica.
    pub source: bool,
}

/// What a role holds. `vip_up`: the vip-agent reports the addresses held under our epoch,
/// so services find them; `sealed`: a hand-over has nothing left to write.
#[must_use]
pub const fn holds(role: Role, vip_up: bool, sealed: bool) -> Holds {
    match role {
        Role::Taking => Holds {
            vip: true,
            services: vip_up,
            source: true,
        },
        Role::Active => Holds {
            vip: true,
            services: true,
            source: true,
        },
        Role::Releasing => Holds {
            vip: !sealed,
            services: false,
            source: true,
        },
        Role::Starting | Role::Standby | Role::Waiting | Role::Failed => Holds {
            vip: false,
            services: false,
            source: false,
        },
    }
}

/// The duties of one reserve.
#[must_use]
pub(crate) fn duties(reserve: &ReserveState, neighbour_macs: Vec<[u8; 6]>) -> ReserveDuties {
    let Facts { vip, hands, .. } = reserve.facts;
    let sealed = reserve.handing.as_ref().is_some_and(|h| h.sealed);
    let holds = holds(reserve.role, vip == Vip::Up, sealed);
    let until = |hold: bool| {
        if hold {
            reserve.lease_until
        } else {
            Mono::ZERO
        }
    };
    let sync = match (holds.source, reserve.role) {
        (true, Role::Releasing) => SyncDuty::Drain,
        (true, _) => SyncDuty::Source,
        (false, Role::Standby | Role::Failed) => {
            reserve.source.clone().map_or(SyncDuty::Off, SyncDuty::Sink)
        }
        (false, _) => SyncDuty::Off,
    };
    ReserveDuties {
        reserve: reserve.spec.name.clone(),
        role: reserve.role,
        epoch: reserve.epoch(),
        vip: VipDuty {
            hold: holds.vip,
            until: until(holds.vip),
            announce: reserve.announce,
            probe: reserve.probing_since.is_some(),
            neighbour_macs,
        },
        services: ServiceDuty {
            run: holds.services,
            until: until(holds.services),
            clear: reserve.clear,
            frozen: hands == Hands::Frozen,
        },
        sync,
    }
}
