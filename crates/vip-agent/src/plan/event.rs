//! The words between the plan and the loop around it: everything that can happen, everything
//! that can be asked for.

use std::fmt;
use std::net::IpAddr;

use haarb_model::{Epoch, Guard, Mono, ReserveDuties, ReserveName, Span, VipSpec};

use crate::claim::{Claim, Mac};

/// What the plan takes from the configuration.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `lease`: how long may be held what the arbiter last allowed.
    pub lease: Span,
    /// `vip-probe`: how long an address must stay unanswered before it is taken.
    pub vip_probe: Span,
    /// This server's interfaces in the cluster's networks. The kernel answers for a virtual IP on
    /// each of them, whichever carries it (the weak host model, RFC 1122, 3.3.4.2).
    pub interfaces: Vec<String>,
    /// The reserves, in the order of the file.
    pub reserves: Vec<ReserveSetup>,
}

/// One reserve of the configuration.
#[derive(Clone, Debug)]
pub struct ReserveSetup {
    /// Its name.
    pub name: ReserveName,
    /// Its virtual IPs.
    pub vips: Vec<VipSpec>,
}

/// One virtual IP: the place of its reserve and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipId(pub usize, pub usize);

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a new interface of the same name has a new one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Frames pass: up, with carrier, and running.
    pub up: bool,
    /// The kernel has followed the carrier up (operational state `up`, RFC 2863). Before
    /// that it accepts frames and throws them away; some virtual interfaces never tell.
    pub confirmed: bool,
    /// Its MAC address, if it is Ethernet.
    pub mac: Option<Mac>,
    /// Others can be asked through it (Ethernet, no loopback, no `IFF_NOARP`).
    pub asks: bool,
}

/// An address that the kernel has, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name of its interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// haarb put it there.
    pub ours: bool,
    /// How long the kernel will keep it; `None`: for ever.
    pub valid: Option<Span>,
}

/// What is remembered over a restart of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The reserve.
    pub reserve: ReserveName,
    /// The highest epoch that a directive named.
    pub epoch_seen: Epoch,
    /// The epoch of the lease, or of the last one.
    pub epoch_held: Epoch,
    /// The end of the lease; `Mono::ZERO`: none.
    pub until: Mono,
}

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The arbiter is there (again): tell it everything.
    Attached,
    /// The arbiter's directive.
    Duties(Vec<ReserveDuties>),
    /// An interface appeared or changed.
    Link(Link),
    /// An interface is gone.
    LinkGone(String),
    /// An address appeared or changed.
    Address(Found),
    /// An address is gone.
    AddressGone(Found),
    /// Everything that the kernel has: at the start, and after lost notifications.
    Snapshot {
        /// All interfaces.
        links: Vec<Link>,
        /// All addresses.
        addresses: Vec<Found>,
    },
    /// A frame says that somebody uses an address.
    Heard {
        /// Where it was heard.
        interface: String,
        /// What it says.
        claim: Claim,
    },
    /// What the kernel's gate gives an interface.
    Guarded {
        /// The interface.
        link: Link,
        /// The line, and why it is not a better one.
        guard: Guard,
    },
    /// The gate had to be given up: every interface must be guarded anew.
    GateLost,
    /// Let go of everything, for good.
    Stop,
}

/// Everything that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Remove an address of ours that is no VIP any more.
    RemoveStray(Found),
    /// Remove a VIP.
    Remove(VipId),
    /// Add a VIP.
    Add {
        /// Which.
        id: VipId,
        /// Its lifetime in the kernel.
        seconds: u32,
    },
    /// Tell everybody where a VIP is.
    Announce(VipId),
    /// Give a VIP a new lifetime in the kernel.
    Refresh {
        /// Which.
        id: VipId,
        /// Its lifetime in the kernel.
        seconds: u32,
    },
    /// Ask whether anybody has a VIP.
    Probe(VipId),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there now; the kernel ends it by itself at `ends`.
    Added {
        /// End of its lifetime.
        ends: Mono,
    },
    /// It has its new lifetime.
    Refreshed {
        /// End of its lifetime.
        ends: Mono,
    },
    /// It is not there (any more).
    Gone,
    /// The server has this address already, and not from haarb.
    Taken {
        /// Where.
        interface: String,
        /// Under which prefix length.
        prefix: u8,
    },
    /// The kernel refused to add or refresh it; what, where, what to do.
    Failed(String),
    /// The kernel refused to remove it; what, where, what to do.
    Stuck(String),
}

/// What an operator should find in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An address was added.
    Taken(VipSpec),
    /// An address was removed.
    Released(VipSpec),
    /// An address that somebody else removed was added again; how often so far.
    PutBack(VipSpec, u64),
    /// Somebody else claims an address that we hold (rule X3).
    Conflict(VipSpec, Mac),
    /// A lease ran out without a word from the arbiter.
    LeaseEnded {
        /// Of which reserve.
        reserve: ReserveName,
        /// The epoch of the lease.
        epoch: Epoch,
        /// How long ago it ran out.
        late: Span,
    },
    /// We were frozen for this long (rule X1).
    Stalled(Span),
    /// What stands behind us on an interface from now on.
    Guarded(String, Guard),
    /// Something could not be done.
    Failed(String),
}

impl Note {
    /// Whether an operator should look.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Taken(_) | Self::Released(_) => false,
            Self::Guarded(_, guard) => !guard.reason.is_empty(),
            _ => true,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |vip: &VipSpec| format!("{}/{} on {}", vip.address, vip.prefix, vip.interface);
        match self {
            Self::Taken(vip) => write!(f, "took {}", at(vip)),
            Self::Released(vip) => write!(f, "released {}", at(vip)),
            Self::PutBack(vip, times) => write!(
                f,
                "put back {} (time {times}): somebody else removed it; look for scripts and \
                 network managers that touch this interface",
                at(vip)
            ),
            Self::Conflict(vip, mac) => write!(
                f,
                "{mac} claims {}, which we hold; announced it again; look for the machine with \
                 that MAC address",
                at(vip)
            ),
            Self::LeaseEnded {
                reserve,
                epoch,
                late,
            } => write!(
                f,
                "let go of reserve {reserve}, epoch {epoch}: its lease ran out {late} ago; is \
                 the arbiter alive?"
            ),
            Self::Stalled(gap) => write!(
                f,
                "was frozen for {gap}, longer than a lease: lets go of what ran out, first of all (X1)"
            ),
            Self::Guarded(interface, Guard { line, reason }) => {
                let line = line.as_str();
                write!(f, "the kernel ends leases on {interface} by {line}")?;
                if reason.is_empty() {
                    return Ok(());
                }
                write!(f, ", not better because {reason}")
            }
            Self::Failed(error) => f.write_str(error),
        }
    }
}
