//! Machines: power, freezes, pauses.

use super::*;

impl World {
    /// Power on: the kernel is up at once, daemons follow.
    pub fn power_on(&mut self, n: NodeIx) {
        if self.servers[n].power {
            return;
        }
        let boot = self.rng.span(200_000, 1_500_000);
        self.servers[n].power = true;
        for process in Process::ALL {
            let span = boot + self.rng.span(0, 80_000);
            self.start_in(n, process, span);
        }
    }

    /// Power off: everything but the disk is gone.
    pub fn power_off(&mut self, n: NodeIx) {
        let old = &self.servers[n];
        let mut new = Server::new(old.name.clone(), self.segment.reserves.len(), old.disk);
        new.record = old.record.clone();
        new.disk_full = old.disk_full;
        new.protocols = old.protocols;
        new.digest = old.digest;
        new.version = old.version.clone();
        new.broken = old.broken.clone();
        for (run, old) in new.runs.iter_mut().zip(old.runs) {
            *run = old + old % 2;
        }
        self.servers[n] = new;
    }

    /// User space stands still.
    pub fn freeze(&mut self, n: NodeIx) {
        self.servers[n].frozen = self.servers[n].frozen.or(Some(self.now));
    }

    /// A process that stood still goes on.
    pub fn go_on(&mut self, n: NodeIx, process: Process) {
        self.servers[n].stopped[process.ix()] = false;
        self.redeliver(n);
    }

    /// The whole machine stands still.
    pub fn pause(&mut self, n: NodeIx) {
        self.servers[n].paused = self.servers[n].paused.or(Some(self.now));
    }

    /// It goes on; what waited happens now, in order.
    pub fn thaw(&mut self, n: NodeIx) {
        let server = &mut self.servers[n];
        if server.paused.is_some() {
            // What was on the wire has passed by.
            server.deferred.retain(|event| !event.arrives());
        }
        server.frozen = None;
        server.paused = None;
        self.redeliver(n);
    }

    /// What waited happens now, or waits for another one that stands still.
    pub(super) fn redeliver(&mut self, n: NodeIx) {
        // Sockets are read before timers are judged.
        let mut waiting = std::mem::take(&mut self.servers[n].deferred);
        waiting.sort_by_key(|event| !event.arrives());
        for event in waiting {
            self.at(self.now, event);
        }
    }

    /// A network that works is held back because it came and went.
    #[must_use]
    pub fn holds_networks_back(&self) -> bool {
        let cores = self.servers.iter().filter_map(|s| s.core.as_ref());
        let mut networks = cores.flat_map(|core| &core.view().networks);
        networks.any(|network| network.counts_at.is_some())
    }

    /// The role of a server for a reserve, if its arbiter runs.
    #[must_use]
    pub fn role(&self, n: NodeIx, r: usize) -> Option<Role> {
        let core = self.servers[n].core.as_ref()?;
        core.reserves().nth(r).map(|reserve| reserve.role)
    }
}
