//! Chooses the line for each interface and keeps its deadlines.
//!
//! It never fails its caller for want of a better line: what cannot be had is said in the
//! [`Guard`] of the interface, and the address lifetime stands behind all of it. The one thing to
//! know: a line that stops taking deadlines is removed at once, because a gate that nobody can
//! open is worse than none.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use haarb_model::{Guard, KernelLine, Mono};

use crate::bpf::{Deadlines, Loaded};
use crate::netlink::Refused;
use crate::nft::Table;
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

/// The gate of one server.
#[derive(Debug)]
pub struct Gate {
    ebpf: Result<Ebpf, String>,
    nftables: Result<Table, String>,
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
    /// Finds out what this kernel gives us. Nothing is attached yet. `clock` reads
    /// `CLOCK_BOOTTIME`, as the deadlines do.
    #[must_use]
    pub fn open(clock: fn() -> Mono) -> Self {
        let nftables = Table::open(clock);
        Self {
            ebpf: Ebpf::open(),
            nftables: nftables.map_err(|e| format!("the kernel refused nftables ({e})")),
            interfaces: BTreeMap::new(),
            doors: Doors::new(),
        }
    }

    /// Puts the gate on an interface, with the doors as they are now, in place of one that an
    /// earlier agent has left there: no frame passes or is lost between the two. Once is
    /// enough; again is as good.
    pub fn guard(&mut self, index: u32, name: &str) -> Guard {
        let guard = match self.guard_by_ebpf(index) {
            Ok(guard) => guard,
            Err(reason) => match self.guard_by_nftables(index, name) {
                Ok(()) => Guard {
                    line: KernelLine::Nftables,
                    reason,
                },
                Err(also) => Guard {
                    line: KernelLine::Lifetime,
                    reason: format!("{reason}, and {also}"),
                },
            },
        };
        let interface = Interface {
            name: name.to_owned(),
            line: guard.line,
        };
        self.interfaces.insert(index, interface);
        guard
    }

    fn guard_by_ebpf(&self, index: u32) -> Result<Guard, String> {
        let ebpf = self.ebpf.as_ref().map_err(Clone::clone)?;
        ebpf.attach(index)
            .map_err(|refused| format!("the kernel does not take an eBPF filter here ({refused})"))
    }

    fn guard_by_nftables(&self, index: u32, name: &str) -> Result<(), String> {
        let table = self.nftables.as_ref().map_err(Clone::clone)?;
        let others = self.interfaces.iter();
        let mut names: Vec<_> = others
            .filter(|(other, guarded)| **other != index && guarded.line == KernelLine::Nftables)
            .map(|(_, guarded)| guarded.name.as_str())
            .collect();
        names.push(name);
        table.build(&names, &self.doors).map_err(|refused| {
            format!(
                "the kernel does not take an nftables chain here either ({refused}; it needs \
                 Linux 5.16 or later)"
            )
        })
    }

    fn has(&self, line: KernelLine) -> bool {
        self.interfaces.values().any(|i| i.line == line)
    }

    /// Opens, shuts and removes doors, so that they are as wanted. Costs nothing where nothing
    /// changes; else one map update for each that does, or one transaction of nftables.
    ///
    /// # Errors
    /// The kernel refuses: that line is given up on every interface, and each must be given to
    /// [`Self::guard`] again.
    pub fn set(&mut self, wanted: Doors) -> Result<(), String> {
        if wanted == self.doors {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.doors, wanted);
        let mut outcome = Ok(());
        if let Ok(ebpf) = &self.ebpf
            && let Err(error) = ebpf.set(&before, &self.doors)
        {
            let reason = format!("the kernel refused a deadline of the eBPF gate ({error})");
            self.clear();
            self.ebpf = Err(reason.clone());
            outcome = Err(reason);
        }
        if self.has(KernelLine::Nftables)
            && let Ok(table) = &self.nftables
            && let Err(error) = table.set(&before, &self.doors)
        {
            // Somebody may have flushed it: then it can be made again.
            self.clear();
            outcome = Err(format!(
                "the kernel refused a deadline of the nftables gate ({error})"
            ));
        }
        outcome
    }

    /// Puts back what somebody removed (`tc qdisc del`, `nft flush ruleset`), and forgets
    /// interfaces that do not exist any more. Returns the names of those that were mended.
    pub fn mend(&mut self, existing: &BTreeSet<u32>) -> Vec<String> {
        self.interfaces.retain(|index, _| existing.contains(index));
        let guarded = self.interfaces.iter();
        let missing: Vec<_> = guarded
            .filter(|(index, interface)| !self.attached(**index, interface))
            .map(|(index, interface)| (*index, interface.name.clone()))
            .collect();
        for (index, name) in &missing {
            self.guard(*index, name);
        }
        missing.into_iter().map(|(_, name)| name).collect()
    }

    fn attached(&self, index: u32, interface: &Interface) -> bool {
        match (interface.line, &self.ebpf, &self.nftables) {
            (KernelLine::Ebpf, Ok(ebpf), _) => ebpf.control.attached(index),
            (KernelLine::Nftables, _, Ok(table)) => table.attached(&interface.name),
            _ => true,
        }
    }

    /// Removes what an earlier agent left where nothing is to be guarded any more.
    pub fn sweep(&self, interfaces: impl Iterator<Item = u32>) {
        if let Ok(control) = TrafficControl::open() {
            let guarded = |index: &u32| {
                let interface = self.interfaces.get(index);
                interface.is_some_and(|i| i.line == KernelLine::Ebpf)
            };
            for index in interfaces.filter(|index| !guarded(index)) {
                // Where there is no clsact, there is nothing to remove.
                let _ = control.detach(index);
            }
        }
        if !self.has(KernelLine::Nftables)
            && let Ok(table) = &self.nftables
        {
            let _ = table.remove();
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        if let Ok(ebpf) = &self.ebpf {
            for &index in self.interfaces.keys() {
                let _ = ebpf.control.detach(index);
            }
        }
        if self.has(KernelLine::Nftables)
            && let Ok(table) = &self.nftables
        {
            let _ = table.remove();
        }
        self.interfaces.clear();
    }
}

/// The eBPF line.
#[derive(Debug)]
struct Ebpf {
    deadlines: Deadlines,
    ingress: Loaded,
    egress: Loaded,
    control: TrafficControl,
}

impl Ebpf {
    fn open() -> Result<Self, String> {
        let refused = |what: &str, error: io::Error| {
            let todo = match error.raw_os_error() {
                Some(libc::EPERM) => {
                    "; give the vip-agent CAP_BPF, which is not to be had in a user namespace"
                }
                Some(libc::EINVAL) => "; it needs Linux 5.8 or later",
                _ => "",
            };
            format!("the kernel refused {what} ({error}{todo})")
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

    fn set(&self, before: &Doors, wanted: &Doors) -> io::Result<()> {
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

#[cfg(test)]
mod tests;
