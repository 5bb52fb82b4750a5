//! Chooses the line for each interface and keeps its deadlines.
//!
//! It never fails its caller: what cannot be had is said in the [`Guard`] of the interface, and
//! the address lifetime stands behind all of it. The one thing to know: a line that stops
//! taking deadlines is removed at once, because a gate that nobody can open is worse than none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use haarb_model::{Guard, KernelLine, Mono};

use crate::bpf::{Deadlines, Loaded};
use crate::netlink::Refused;
use crate::program::Direction;
use crate::tc::TrafficControl;

/// What the kernel does with a virtual IP. One without a door is none of the gate's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nobody reaches it here.
    Shut,
    /// It is reached until then.
    Until(Mono),
}

/// All virtual IPs that the gate is to know.
pub type Doors = BTreeMap<IpAddr, Door>;

/// The eBPF line.
#[derive(Debug)]
struct Ebpf {
    deadlines: Deadlines,
    ingress: Loaded,
    egress: Loaded,
    control: TrafficControl,
}

/// The gate of one server.
#[derive(Debug)]
pub struct Gate {
    ebpf: Result<Ebpf, String>,
    interfaces: BTreeMap<u32, Interface>,
    doors: Doors,
}

/// An interface that is guarded.
#[derive(Clone, Debug)]
struct Interface {
    name: String,
    line: KernelLine,
}

impl Gate {
    /// Finds out what this kernel gives us. Nothing is attached yet.
    #[must_use]
    pub fn open() -> Self {
        Self {
            ebpf: Ebpf::open(),
            interfaces: BTreeMap::new(),
            doors: Doors::new(),
        }
    }

    /// Puts the gate on an interface, with the doors as they are now, in place of one that an
    /// earlier agent has left there: no frame passes or is lost between the two. Once is
    /// enough; again is as good.
    pub fn guard(&mut self, index: u32, name: &str) -> Guard {
        let guard = match &self.ebpf {
            Ok(ebpf) => ebpf.attach(index).unwrap_or_else(|refused| Guard {
                line: KernelLine::Lifetime,
                reason: format!("the kernel does not take an eBPF filter here ({refused})"),
            }),
            Err(reason) => Guard {
                line: KernelLine::Lifetime,
                reason: reason.clone(),
            },
        };
        let interface = Interface {
            name: name.to_owned(),
            line: guard.line,
        };
        self.interfaces.insert(index, interface);
        guard
    }

    /// Opens, shuts and removes doors, so that they are as wanted. Costs nothing where nothing
    /// changes and one map update for each that does.
    ///
    /// # Errors
    /// The kernel refuses: the line is given up on every interface, and they are guarded by the
    /// lifetime alone until [`Self::guard`] is asked again.
    pub fn set(&mut self, wanted: Doors) -> Result<(), String> {
        if wanted == self.doors {
            return Ok(());
        }
        let outcome = match &self.ebpf {
            Ok(ebpf) => ebpf.set(&self.doors, &wanted),
            Err(_) => Ok(()),
        };
        self.doors = wanted;
        outcome.map_err(|error| {
            let reason = format!("the kernel refused a deadline of the gate ({error})");
            self.give_up(&reason);
            reason
        })
    }

    fn give_up(&mut self, reason: &str) {
        self.clear();
        self.ebpf = Err(reason.to_owned());
    }

    /// Puts back what somebody removed (`tc qdisc del`, `nft flush ruleset`), and forgets
    /// interfaces that do not exist any more. Returns the names of those that were mended.
    pub fn mend(&mut self, existing: &BTreeSet<u32>) -> Vec<String> {
        self.interfaces.retain(|index, _| existing.contains(index));
        let Ok(ebpf) = &self.ebpf else {
            return Vec::new();
        };
        let guarded = self.interfaces.iter();
        let missing: Vec<_> = guarded
            .filter(|(_, interface)| interface.line == KernelLine::Ebpf)
            .filter(|&(&index, _)| !ebpf.control.attached(index))
            .map(|(index, interface)| (*index, interface.name.clone()))
            .collect();
        for (index, name) in &missing {
            self.guard(*index, name);
        }
        missing.into_iter().map(|(_, name)| name).collect()
    }

    /// Removes what an earlier agent left on interfaces that are not ours to guard any more.
    pub fn sweep(&self, interfaces: impl Iterator<Item = u32>) {
        let Ok(ebpf) = &self.ebpf else {
            return;
        };
        for index in interfaces.filter(|index| !self.interfaces.contains_key(index)) {
            // Without eBPF of ours it fails for want of a clsact, which is the usual case.
            let _ = ebpf.control.detach(index);
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        if let Ok(ebpf) = &self.ebpf {
            for &index in self.interfaces.keys() {
                let _ = ebpf.control.detach(index);
            }
        }
        self.interfaces.clear();
    }
}

impl Ebpf {
    fn open() -> Result<Self, String> {
        let refused = |what: &str, error: std::io::Error| {
            let todo = match error.raw_os_error() {
                Some(libc::EPERM) => {
                    "; give the vip-agent CAP_BPF (it is not to be had in a user namespace)"
                }
                Some(libc::EINVAL) => "; it needs Linux 5.8 or later",
                _ => "",
            };
            format!("the kernel refused {what} ({error}){todo}")
        };
        let deadlines = Deadlines::create().map_err(|e| refused("an eBPF map", e))?;
        let load = |direction| {
            Loaded::load(direction, &deadlines).map_err(|e| refused("an eBPF program", e))
        };
        let (ingress, egress) = (load(Direction::Ingress)?, load(Direction::Egress)?);
        let control = TrafficControl::open().map_err(|e| refused("a netlink socket", e))?;
        Ok(Self {
            deadlines,
            ingress,
            egress,
            control,
        })
    }

    fn attach(&self, index: u32) -> Result<Guard, Refused> {
        let programs = [self.ingress.number(), self.egress.number()];
        let place = self.control.attach(index, programs)?;
        let reason = match place.priority {
            1 => String::new(),
            _ => "other filters come before the gate and may let frames pass it by (tc filter \
                  show)"
                .into(),
        };
        Ok(Guard {
            line: KernelLine::Ebpf,
            reason,
        })
    }

    fn set(&self, before: &Doors, wanted: &Doors) -> std::io::Result<()> {
        for (&address, &door) in wanted {
            if before.get(&address) == Some(&door) {
                continue;
            }
            let until = match door {
                Door::Shut => Mono::ZERO,
                Door::Until(until) => until,
            };
            self.deadlines.set(address, until)?;
        }
        for address in before.keys().filter(|a| !wanted.contains_key(*a)) {
            self.deadlines.remove(*address)?;
        }
        Ok(())
    }
}
