//! Whether one neighbour lives: a pure function of what was sent to it, what came back, and
//! the time.
//!
//! ```text
//! signs on red    e d e d e d e d            e ECHO reply   d datagram
//! signs on blue   e d e d e d e d
//!                               |<----- dead-after ------->|
//!                               |        suspect: |eeeeeeee|   the confirming burst
//!                         last sign                        silent
//! ```
//!
//! A neighbour is *silent* only when all of this holds: no sign of any kind, on any network,
//! for `dead-after`; at least [`MISSING_MIN`] ECHO replies missing on every network that we can
//! send on, most of them of the burst. Where we cannot send at all, silence proves nothing.
//! `dead-after` stretches with measured loss ([`crate::loss::patience`]), and time in which this
//! process stood still does not count.
//!
//! The burst is there for loss that nobody has measured yet. Where 30 % are lost each way on two
//! networks from one moment to the next, an ECHO is answered with the chance 0.49, and all of
//! ten on both networks are lost with 0.51^20 = 1.4e-6; the two datagrams that are due before on
//! each network are lost as well with 0.3^4. That is 1e-8 for each of the 100 windows of a
//! second, once in ten days, and after some tenths of a second the loss is known and
//! `dead-after` has stretched.
//!
//! No clock and no socket: every call says when.

mod facts;

use haarb_model::{Mono, NetworkName, NodeName, Span, Timing};

use crate::echoes::Echoes;
use crate::loss::patience;

pub use facts::Facts;

/// Replies that must be missing on every network: three at least (mission E2), and so many that
/// sudden loss does not look like silence.
const MISSING_MIN: u32 = 10;
/// ECHO requests of the confirming burst, per network: one each millisecond at 10 ms between
/// probes. Sent once in each silence, so a dead neighbour is not flooded.
const BURST: u32 = 10;

/// Watches one neighbour.
#[derive(Clone, Debug)]
pub struct Detector {
    node: NodeName,
    timing: Timing,
    paths: Vec<Path>,
    /// Silence counts from here until the first sign.
    born: Mono,
    last_sign: Option<Mono>,
    last_heard: Option<Mono>,
    hears_me: bool,
    arbiter_silent: bool,
    /// How long we stood still since the last sign.
    blind: Span,
    /// `dead-after` as stretched by loss.
    dead_after: Span,
    burst: Burst,
}

#[derive(Clone, Debug)]
struct Path {
    network: NetworkName,
    echoes: Echoes,
    last_datagram: Option<Mono>,
    /// Last datagram with a live arbiter behind it.
    last_heard: Option<Mono>,
    hears_me: bool,
    /// The last attempt to send there left this machine, as far as the kernel says.
    can_send: bool,
}

impl Path {
    fn last_sign(&self) -> Option<Mono> {
        self.echoes.last_reply().max(self.last_datagram)
    }
}

/// The confirming burst of one silence.
#[derive(Clone, Copy, Debug, Default)]
struct Burst {
    sent: u32,
    last: Mono,
}

/// What a datagram says, as far as the detector cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its sender's arbiter lives.
    pub arbiter_live: bool,
    /// Bit i: its sender hears us on the i-th network.
    pub hears_me: u16,
    /// No later datagram arrived before it.
    pub newest: bool,
}

impl Detector {
    /// Watches `node` on `networks` from `now` on.
    #[must_use]
    pub fn new(node: NodeName, networks: &[NetworkName], timing: Timing, now: Mono) -> Self {
        let path = |network: &NetworkName| Path {
            network: network.clone(),
            echoes: Echoes::new(timing.probe_interval),
            last_datagram: None,
            last_heard: None,
            hears_me: false,
            can_send: false,
        };
        Self {
            node,
            paths: networks.iter().map(path).collect(),
            born: now,
            last_sign: None,
            last_heard: None,
            hears_me: false,
            arbiter_silent: false,
            blind: Span::ZERO,
            dead_after: timing.dead_after,
            burst: Burst::default(),
            timing,
        }
    }

    /// The neighbour's name.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.node
    }

    /// The last sign of life of any kind, on any network.
    #[must_use]
    pub const fn last_sign(&self) -> Option<Mono> {
        self.last_sign
    }

    /// An ECHO request left on a network.
    pub fn echo_sent(&mut self, network: usize, number: u64, at: Mono) {
        if let Some(path) = self.paths.get_mut(network) {
            path.can_send = true;
            path.echoes.sent(number, at);
        }
    }

    /// An ECHO request could not leave: this network proves nothing until one can.
    pub fn cannot_send(&mut self, network: usize) {
        if let Some(path) = self.paths.get_mut(network) {
            path.can_send = false;
        }
    }

    /// An ECHO reply arrived. False where it answers nothing that was open.
    pub fn echo_reply(&mut self, network: usize, number: u64, at: Mono) -> bool {
        let Some(path) = self.paths.get_mut(network) else {
            return false;
        };
        if !path.echoes.reply(number, at) {
            return false;
        }
        self.sign(at);
        true
    }

    /// An accepted datagram arrived.
    pub fn datagram(&mut self, network: usize, at: Mono, heard: Heard) {
        let Some(path) = self.paths.get_mut(network) else {
            return;
        };
        path.last_datagram = path.last_datagram.max(Some(at));
        if heard.arbiter_live {
            path.last_heard = path.last_heard.max(Some(at));
            self.last_heard = self.last_heard.max(Some(at));
        }
        if heard.newest {
            self.arbiter_silent = !heard.arbiter_live;
            self.hears_me = heard.hears_me != 0;
            for (i, path) in self.paths.iter_mut().enumerate() {
                path.hears_me = u32::try_from(i)
                    .ok()
                    .and_then(|i| heard.hears_me.checked_shr(i))
                    .is_some_and(|bits| bits & 1 != 0);
            }
        }
        self.sign(at);
    }

    /// This process stood still from `from` until `until`: it could not send, so that silence
    /// proves nothing. To be called after everything that arrived meanwhile was taken in.
    pub fn stood_still(&mut self, from: Mono, until: Mono) {
        if self.is_silent(from) {
            return;
        }
        let from = from.max(self.silent_since());
        self.blind = self.blind + until.since(from);
        // What the burst asked before is old by now; ask again.
        self.burst = Burst::default();
    }

    fn sign(&mut self, at: Mono) {
        if self.last_sign.is_none_or(|last| at > last) {
            self.last_sign = Some(at);
            self.blind = Span::ZERO;
            self.burst = Burst::default();
        }
        self.dead_after = self.stretched();
    }

    fn stretched(&self) -> Span {
        let Timing {
            dead_after,
            probe_interval,
            ..
        } = self.timing;
        // A network that has been quiet while another one was not gives no signs to count on.
        let quiet = dead_after.max(probe_interval.times(5));
        let last = self.silent_since();
        let alive = self
            .paths
            .iter()
            .filter(|p| p.last_sign().is_some_and(|at| last.since(at) <= quiet));
        patience(dead_after, probe_interval, alive.map(|p| p.echoes.loss()))
    }

    fn silent_since(&self) -> Mono {
        self.last_sign.unwrap_or(self.born)
    }

    /// The silence after which a neighbour is suspect: late enough to be rare, early enough
    /// for the burst to be answered.
    fn suspect_at(&self) -> Mono {
        self.silent_since() + self.blind + (self.dead_after - self.margin())
    }

    fn margin(&self) -> Span {
        self.timing
            .probe_interval
            .min(self.timing.dead_after.part(3))
    }

    /// When the next request of the confirming burst is due, on every network.
    #[must_use]
    pub fn burst_at(&self) -> Option<Mono> {
        match self.burst.sent {
            0 => Some(self.suspect_at()),
            BURST.. => None,
            _ => Some(self.burst.last + self.margin().part(BURST.into())),
        }
    }

    /// A request of the burst goes out now.
    pub fn burst_sent(&mut self, now: Mono) {
        self.burst.sent += 1;
        self.burst.last = now;
    }

    /// When the neighbour will be silent if no sign arrives; `None` while something is missing
    /// that only sending can bring.
    fn silent_at(&self) -> Option<Mono> {
        if self.burst.sent < BURST {
            return None;
        }
        let mut at = self.silent_since() + self.blind + self.dead_after;
        let mut asked = false;
        for path in self.paths.iter().filter(|p| p.can_send) {
            asked = true;
            at = at.max(path.echoes.missing_at(MISSING_MIN)?);
        }
        asked.then_some(at)
    }

    /// Whether the neighbour is silent.
    #[must_use]
    pub fn is_silent(&self, now: Mono) -> bool {
        self.silent_at().is_some_and(|at| now >= at)
    }

    /// The `dead-after` in force.
    #[must_use]
    pub const fn dead_after(&self) -> Span {
        self.dead_after
    }

    /// `not-heard-after`, stretched like `dead-after`, so that their order stays.
    fn not_heard_after(&self) -> Span {
        let Timing {
            not_heard_after,
            dead_after,
            ..
        } = self.timing;
        let micros = u128::from(not_heard_after.as_micros())
            * u128::from(self.dead_after.as_micros())
            / u128::from(dead_after.as_micros().max(1));
        Span::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn is_within(&self, sign: Option<Mono>, span: Span, now: Mono) -> bool {
        sign.is_some_and(|at| now < at + span + self.blind)
    }

    /// An ECHO reply lately: what we send arrives there, whatever the neighbour says. While a
    /// process stands still its neighbour hears nothing from it; that must not look like a loss
    /// in one direction (rule A4).
    fn is_proven(&self, now: Mono) -> bool {
        let mut paths = self.paths.iter();
        paths.any(|p| self.is_within(p.echoes.last_reply(), self.proof(), now))
    }

    /// How long an ECHO reply proves that: the next one is due after an interval. Short enough
    /// to be over before the neighbour takes us for dead.
    fn proof(&self) -> Span {
        let interval = self.timing.probe_interval;
        interval + interval.part(2)
    }

    /// The next moment after `now` at which a fact changes if nothing arrives.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Mono {
        let not_heard = self.not_heard_after() + self.blind;
        let no_kernel = self.dead_after + self.blind;
        let no_proof = self.proof() + self.blind;
        let path_ends = self.paths.iter().flat_map(|p| {
            [
                p.last_heard.map(|at| at + not_heard),
                p.last_datagram.map(|at| at + not_heard),
                p.last_datagram
                    .map(|at| at + self.timing.lease + self.blind),
                p.echoes.last_reply().map(|at| at + not_heard),
                p.echoes.last_reply().map(|at| at + no_proof),
                p.last_sign().map(|at| at + no_kernel),
            ]
        });
        path_ends
            .chain([self.burst_at(), self.silent_at()])
            .flatten()
            .filter(|&at| at > now)
            .min()
            .unwrap_or(Mono::FAR)
    }
}

#[cfg(test)]
mod tests;
