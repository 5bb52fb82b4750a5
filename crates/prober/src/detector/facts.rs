//! What a detector knows at a moment, as facts and as a report.

use haarb_model::{Mono, NeighbourReport, PathReport};

use super::{Detector, Path};

/// What is true of a neighbour: a report is due at once when any of it changes. Bit i of a
/// number is the i-th network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A datagram with a live arbiter behind it arrived lately.
    pub heard: u16,
    /// A sign of life of its kernel arrived lately.
    pub kernel: u16,
    /// It says that it hears us there.
    pub hears_me_on: u16,
    /// It says that it hears us somewhere, or an ECHO reply proves that it could.
    pub hears_me: bool,
    /// Its freshest datagram has no live arbiter behind it.
    pub arbiter_silent: bool,
    /// The confirming burst runs, or should.
    pub suspect: bool,
    /// It is silent.
    pub silent: bool,
}

impl Detector {
    /// Bit i: we hear the neighbour on the i-th network, whatever its arbiter does. This is what
    /// we tell it, and what may make it give way (rule A4).
    ///
    /// So a neighbour whose prober stands still for a moment must not be told that it is not
    /// heard: while its kernel answers, the network works, and a datagram within the lease is
    /// enough. A network that works one way carries neither; one that carries ECHO and no
    /// datagrams is told after the lease, before rule B6 acts.
    #[must_use]
    pub fn hears(&self, now: Mono) -> u16 {
        let lately = self.not_heard_after();
        let mut bits = 0;
        for (i, path) in self.paths.iter().enumerate().take(16) {
            let datagram = |span| self.is_within(path.last_datagram, span, now);
            let kernel = self.is_within(path.echoes.last_reply(), lately, now);
            if datagram(lately) || kernel && datagram(self.timing.lease) {
                bits |= 1 << i;
            }
        }
        bits
    }

    /// What is true at `now`. Bits count networks, as everywhere here.
    #[must_use]
    pub fn facts(&self, now: Mono) -> Facts {
        let bits = |is: &dyn Fn(&Path) -> bool| {
            let all = self.paths.iter().enumerate().take(16);
            all.fold(0, |bits, (i, path)| bits | u16::from(is(path)) << i)
        };
        let silent = self.is_silent(now);
        Facts {
            heard: bits(&|p| self.is_within(p.last_heard, self.not_heard_after(), now)),
            kernel: bits(&|p| self.is_within(p.last_sign(), self.dead_after, now)),
            hears_me_on: bits(&|p| p.hears_me),
            hears_me: self.hears_me || self.is_proven(now),
            arbiter_silent: self.arbiter_silent,
            suspect: !silent && now >= self.suspect_at(),
            silent,
        }
    }

    /// Everything that is known: the facts with the numbers behind them.
    #[must_use]
    pub fn report(&self, now: Mono) -> NeighbourReport {
        let facts = self.facts(now);
        let path = |(i, path): (usize, &Path)| PathReport {
            network: path.network.clone(),
            heard: facts.heard & 1 << i != 0,
            kernel: facts.kernel & 1 << i != 0,
            hears_me: path.hears_me,
            last_echo: path.echoes.last_reply(),
            last_datagram: path.last_datagram,
            missing: path.echoes.missing(now),
            rtt_us: path.echoes.rtt_us(),
            loss: path.echoes.loss_now(now),
            // What datagrams tell is filled in by who reads them.
            loss_in: None,
            loss_out: None,
        };
        NeighbourReport {
            node: self.node.clone(),
            paths: self.paths.iter().enumerate().take(16).map(path).collect(),
            hears_me: facts.hears_me,
            arbiter_silent: facts.arbiter_silent,
            last_sign: self.last_sign,
            last_heard: self.last_heard,
            suspect: facts.suspect,
            silent: facts.silent,
            dead_after: self.dead_after,
        }
    }
}
