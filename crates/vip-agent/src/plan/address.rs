//! One virtual IP on this server: what the kernel has, what it should have, and the work
//! that leads from one to the other. Pure.

use std::collections::BTreeSet;

use haarb_gate::Door;
use haarb_model::{Mono, Span, VipSpec};

use super::announce::Announcer;
use super::probe::Probe;
use super::{Found, Link, Note};
use crate::claim::Mac;

/// The kernel counts lifetimes in whole seconds and may end an IPv6 address up to 20 ms
/// early (`ADDRCONF_TIMER_FUZZ_MINUS`); below this much more than the lease it is too short.
const KERNEL_EARLY: Span = Span::from_millis(50);
/// A lifetime that outlives the lease by more than this was not set by us, or for a lease
/// that has been cut short.
const KERNEL_LATE: Span = Span::from_secs(3);
/// After a refusal of the kernel, unless an event says earlier that it may go better now.
const RETRY: Span = Span::from_millis(250);
/// Between two times of putting back the same address, so that a quarrel with another
/// program does not eat the processor.
const PUT_BACK: Span = Span::from_millis(10);
/// How long a conflict is reported, and the least time between two defences
/// (`DEFEND_INTERVAL`, RFC 5227, 1.1; rule X3).
pub(crate) const DEFEND: Span = Span::from_secs(10);

/// What is wanted of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It must not be here.
    No,
    /// If it is here it may stay, but nothing is done for it: a lease from before our restart.
    Keep,
    /// It must be here, at most until this moment.
    Hold(Mono),
}

/// What the kernel should do about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Add { seconds: u32 },
    Refresh { seconds: u32 },
    Remove,
}

/// One address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) spec: VipSpec,
    /// The kernel has it, put there by haarb, and ends it at this moment by itself.
    pub(crate) ours: Option<Mono>,
    /// Interface and prefix length under which somebody else gave it to this server.
    aliens: BTreeSet<(String, u8)>,
    /// Somebody else removed it while it was held.
    lost: bool,
    /// How often that was mended.
    put_back: u64,
    /// Nothing is added or refreshed before this moment.
    retry_at: Mono,
    /// The kernel refused to remove it, and is not asked again before this moment. Not the
    /// same as the other: to let go must never wait for anything else.
    remove_at: Mono,
    pub(crate) error: String,
    pub(crate) announcer: Announcer,
    pub(crate) probe: Option<Probe>,
    /// Who else claimed it while it was held, and when.
    pub(crate) claim: Option<(Mac, Mono)>,
    defended: Option<Mono>,
}

impl Address {
    pub(crate) fn new(spec: VipSpec) -> Self {
        Self {
            spec,
            ours: None,
            aliens: BTreeSet::new(),
            lost: false,
            put_back: 0,
            retry_at: Mono::ZERO,
            remove_at: Mono::ZERO,
            error: String::new(),
            announcer: Announcer::default(),
            probe: None,
            claim: None,
            defended: None,
        }
    }

    /// What the kernel's gate should do with it under a lease until then.
    pub(crate) fn door(&self, until: Option<Mono>) -> Option<Door> {
        match until {
            // It cannot be taken: no gate of ours may stand before the server's own address.
            Some(_) if self.ours.is_none() && !self.aliens.is_empty() => None,
            Some(until) => Some(Door::Until(until)),
            None => self.ours.map(|_| Door::Shut),
        }
    }

    /// What the kernel should do now.
    pub(crate) fn step(&mut self, now: Mono, wanted: Wanted, link: Option<&Link>) -> Option<Step> {
        match (wanted, self.ours) {
            (Wanted::No, Some(_)) => (now >= self.remove_at).then_some(Step::Remove),
            (Wanted::No, None) => {
                self.error.clear();
                self.lost = false;
                None
            }
            (Wanted::Keep, _) => None,
            (Wanted::Hold(until), Some(ends)) => {
                if self.announcer.deadline().is_none() {
                    // Adopted after a restart.
                    self.announcer.start(now);
                }
                let fits = ends >= until + KERNEL_EARLY && ends <= until + KERNEL_LATE;
                let seconds = lifetime(now, until);
                (!fits && now >= self.retry_at).then_some(Step::Refresh { seconds })
            }
            (Wanted::Hold(until), None) => {
                if let Some(reason) = self.obstacle(link) {
                    self.error = reason;
                    return None;
                }
                let seconds = lifetime(now, until);
                (now >= self.retry_at).then_some(Step::Add { seconds })
            }
        }
    }

    /// When [`Self::step`] will answer otherwise although nothing happens.
    pub(crate) fn deadline(&self, now: Mono, wanted: Wanted) -> Option<Mono> {
        let (pending, at) = match wanted {
            Wanted::No => (self.ours.is_some(), self.remove_at),
            Wanted::Keep => (false, Mono::ZERO),
            Wanted::Hold(_) => {
                let pending = !self.error.is_empty() || self.ours.is_none();
                (pending, self.retry_at)
            }
        };
        (pending && at > now).then_some(at)
    }

    fn obstacle(&self, link: Option<&Link>) -> Option<String> {
        let VipSpec {
            address, interface, ..
        } = &self.spec;
        if let Some((at, prefix)) = self.aliens.first() {
            return Some(format!(
                "cannot take {address}: this server has it on {at} already, and not from haarb; \
                 remove it (ip address del {address}/{prefix} dev {at}) or configure another VIP"
            ));
        }
        link.is_none().then(|| {
            format!(
                "cannot take {address}: there is no interface {interface}; create it or correct \
                 the configuration"
            )
        })
    }

    /// The kernel has taken it from us.
    pub(crate) fn added(&mut self, ends: Mono, now: Mono) -> Option<Note> {
        self.ours = Some(ends);
        self.error.clear();
        self.announcer.start(now);
        let vip = self.spec.clone();
        if !std::mem::take(&mut self.lost) {
            return Some(Note::Taken(vip));
        }
        self.retry_at = now + PUT_BACK;
        self.put_back += 1;
        Some(Note::PutBack(vip, self.put_back))
    }

    pub(crate) fn refreshed(&mut self, ends: Mono) {
        self.ours = Some(ends);
        self.lost = false;
        self.error.clear();
    }

    /// It is gone, and we wanted that.
    pub(crate) fn removed(&mut self) {
        self.ours = None;
        self.lost = false;
        self.error.clear();
        self.retry_now();
        self.announcer.stop();
        self.claim = None;
        self.defended = None;
    }

    /// The kernel refused to add or refresh it.
    pub(crate) fn failed(&mut self, now: Mono, error: String) -> Option<Note> {
        self.retry_at = now + RETRY;
        self.say(error)
    }

    /// The kernel refused to remove it.
    pub(crate) fn stuck(&mut self, now: Mono, error: String) -> Option<Note> {
        self.remove_at = now + RETRY;
        self.say(error)
    }

    fn say(&mut self, error: String) -> Option<Note> {
        (self.error != error).then(|| {
            self.error.clone_from(&error);
            Note::Failed(error)
        })
    }

    /// It turned out that the server has it from somebody else.
    pub(crate) fn alien(&mut self, interface: String, prefix: u8) {
        self.aliens.insert((interface, prefix));
    }

    /// Conditions have changed: what failed may go now.
    pub(crate) fn retry_now(&mut self) {
        self.retry_at = Mono::ZERO;
        self.remove_at = Mono::ZERO;
    }

    /// Whether the kernel's entry is the one that we would make.
    pub(crate) fn is_at(&self, found: &Found) -> bool {
        self.spec.interface == found.interface && self.spec.prefix == found.prefix
    }

    /// The kernel has this address (a notification, or our question at the start). Returns
    /// whether it is a leftover of ours in a place where the configuration has no VIP.
    pub(crate) fn seen(&mut self, found: &Found, now: Mono) -> bool {
        let reported = found.valid.map_or(Mono::FAR, |valid| now + valid);
        match (self.is_at(found), self.ours) {
            // Ours all the time; somebody changed its lifetime or its mark if they differ.
            // The kernel rounds what remains down to whole seconds.
            (true, Some(_)) if !found.ours => self.ours = Some(Mono::FAR),
            (true, Some(ends)) => {
                if reported == Mono::FAR || reported + Span::from_secs(1) < ends {
                    self.ours = Some(reported);
                }
            }
            (true, None) if found.ours => self.ours = Some(reported),
            (false, _) if found.ours => return true,
            _ => self.alien(found.interface.clone(), found.prefix),
        }
        false
    }

    /// The kernel has lost this address.
    pub(crate) fn gone(&mut self, found: &Found) {
        if self.aliens.remove(&(found.interface.clone(), found.prefix)) {
            self.retry_now();
        } else if self.is_at(found) {
            self.lose();
        }
    }

    /// It is not here, and not by our doing.
    pub(crate) fn lose(&mut self) {
        self.lost |= self.ours.take().is_some();
        self.announcer.stop();
    }

    /// The kernel has none of it: the beginning of a whole new picture.
    pub(crate) fn forget(&mut self) {
        self.aliens.clear();
        self.lose();
    }

    /// Somebody else claims it while it is held. Whether to defend it now.
    pub(crate) fn claimed(&mut self, by: Mac, now: Mono) -> bool {
        self.claim = Some((by, now));
        let defend = self.defended.is_none_or(|last| now.since(last) >= DEFEND);
        if defend {
            self.defended = Some(now);
        }
        defend
    }
}

/// The kernel's lifetime for a lease: whole seconds, at least as long.
pub(super) fn lifetime(now: Mono, until: Mono) -> u32 {
    let micros = (until + KERNEL_EARLY).since(now).as_micros();
    // u32::MAX means for ever (rtnetlink(7)), which must never be asked for.
    u32::try_from(micros.div_ceil(1_000_000)).map_or(u32::MAX - 1, |s| s.clamp(1, u32::MAX - 1))
}
