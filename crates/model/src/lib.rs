//! The words that every part of haarb shares: names, time, epochs, roles, what
//! agents report, what they must hold, what servers tell each other.
//!
//! Standard library only, no I/O. A value that arrived over gRPC, from a datagram
//! or from the configuration is parsed once into these types and trusted from then on.

#![warn(missing_docs)]

mod advert;
mod duties;
mod event;
mod name;
mod report;
mod rhythm;
mod role;
mod segment;
mod time;

pub use advert::{Advert, AdvertReserve};
pub use duties::{Duties, LinkDuties, ReserveDuties, ServiceDuty, SyncDuty, VipDuty};
pub use event::{Event, Severity};
pub use name::{InvalidName, NetworkName, NodeName, ReserveName};
pub use report::{
    Agent, DirectoryReport, DirectoryState, Guard, HeldVip, KernelLine, LinkReport,
    NeighbourReport, PathReport, ProbeAnswer, ProbeReport, Report, ServiceReport, ServiceRun,
    ServiceState, SwitchAnswer, SwitchReport, SyncReport, SyncReserve, VipReport, VipReserve,
};
pub use rhythm::{advert_life, renewal_interval, sign_at_latest, sign_due, sign_interval};
pub use role::{Data, Epoch, Mode, Prefer, Role};
pub use segment::{NetworkSpec, NodeSpec, ReserveSpec, Segment, Timing, VipSpec};
pub use time::{Mono, Span};
