//! When an address is announced: a burst at once, again later, then for as long as it is held.
//! Pure; the frames are made elsewhere.

use haarb_model::{Mono, Span};

/// After the beginning of a burst. The first three ride out one lost frame and a port that
/// has just come up; the others the caches that were locked at first (Linux ignores updates
/// of an entry for one second: `locktime`, arp(7)).
///
/// Source: decision table, section 5; RFC 5227, 2.3 asks for at least two.
const BURST: [Span; 5] = [
    Span::ZERO,
    Span::from_millis(2),
    Span::from_millis(8),
    Span::from_secs(1),
    Span::from_secs(5),
];

/// The least time between two announcements of a burst.
const SPACING: Span = Span::from_millis(1);

/// Between two announcements once the burst is over.
const REPEAT: Span = Span::from_secs(60);

/// The announcements of one address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announcer {
    /// The beginning of the burst and how much of it was sent; `None`: nothing to announce.
    burst: Option<(Mono, usize)>,
    next: Option<Mono>,
}

impl Announcer {
    /// Begins a new burst: the address was taken, or somebody may have missed it.
    pub(crate) fn start(&mut self, now: Mono) {
        self.burst = Some((now, 0));
        self.next = Some(now);
    }

    /// The address is not held any more.
    pub(crate) fn stop(&mut self) {
        *self = Self::default();
    }

    /// When the next announcement is due.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.next
    }

    /// Whether one is due now. A late one delays the next: a burst keeps its number, since
    /// one frame alone may be lost, and never becomes a flood.
    pub(crate) fn take_due(&mut self, now: Mono) -> bool {
        let (Some((began, sent)), Some(next)) = (&mut self.burst, self.next) else {
            return false;
        };
        if next > now {
            return false;
        }
        *sent += 1;
        self.next = Some(match BURST.get(*sent) {
            Some(&after) => (*began + after).max(now + SPACING),
            None => now + REPEAT,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Span::from_millis(1_000 + ms)
    }

    #[test]
    fn the_moments_are_those_of_the_decision_table() {
        let mut announcer = Announcer::default();
        assert!(!announcer.take_due(at(0)), "nothing before it is held");
        announcer.start(at(0));
        let mut sent = Vec::new();
        for ms in 0..130_000 {
            if announcer.take_due(at(ms)) {
                sent.push(ms);
            }
        }
        assert_eq!(sent, [0, 2, 8, 1_000, 5_000, 65_000, 125_000]);
        announcer.stop();
        assert!(!announcer.take_due(at(900_000)));
    }

    #[test]
    fn a_late_burst_keeps_its_number_and_its_spacing() {
        let mut announcer = Announcer::default();
        announcer.start(at(0));
        assert!(announcer.take_due(at(500)), "three were due");
        assert!(!announcer.take_due(at(500)));
        assert!(announcer.take_due(at(501)));
        assert!(announcer.take_due(at(502)));
        assert_eq!(announcer.deadline(), Some(at(1_000)));
    }
}
