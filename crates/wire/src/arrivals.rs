//! Which of a neighbour's datagrams arrived on one network: the loss of one direction.
//!
//! Every datagram says how many its sender has sent on each network so far. So a network on
//! which nothing arrives is known for it through the others. Pure.

/// Datagrams that are remembered: 1.3 s at 10 ms.
const WINDOW: u32 = u128::BITS;
/// The latest that do not count yet: those of the other networks may still be on their way.
const ON_THE_WAY: u32 = 2;
/// With fewer than this many nothing is said.
const ENOUGH: u32 = 16;

/// Which of the last datagrams of one session arrived on one network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    /// Number of the last one that is known to have been sent.
    newest: u32,
    /// Bit 0 is that one; 1 means that it arrived.
    arrived: u128,
    /// How many bits mean something.
    length: u32,
}

impl Arrivals {
    /// A session begins: what was sent before is not ours to judge.
    pub(crate) const fn starting(sent: u32) -> Self {
        Self {
            newest: sent,
            arrived: 0,
            length: 0,
        }
    }

    /// So many have been sent by now.
    pub(crate) fn sent(&mut self, sent: u32) {
        // Overtaken on another network: an older number says nothing new.
        let more = sent.saturating_sub(self.newest);
        self.arrived = self.arrived.checked_shl(more).unwrap_or(0);
        self.length = self.length.saturating_add(more).min(WINDOW);
        self.newest = self.newest.max(sent);
    }

    /// This one arrived.
    pub(crate) fn arrived(&mut self, number: u32) {
        self.sent(number);
        let back = self.newest - number;
        if back < self.length {
            self.arrived |= 1 << back;
        }
    }

    /// Share of those that did not arrive, 0 to 1; `None` while too few were sent.
    pub(crate) fn loss(&self) -> Option<f32> {
        let count = self.length.checked_sub(ON_THE_WAY)?;
        if count < ENOUGH {
            return None;
        }
        let mask = u128::MAX >> (WINDOW - count);
        let arrived = (self.arrived >> ON_THE_WAY & mask).count_ones();
        Some((count - arrived) as f32 / count as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_share_of_those_that_were_sent_and_did_not_come() {
        let mut red = Arrivals::starting(1000);
        assert_eq!(red.loss(), None);
        for number in 1001..=1500 {
            if number % 4 != 0 {
                red.arrived(number);
            }
        }
        let loss = red.loss().expect("enough");
        assert!((loss - 0.25).abs() < 0.01, "{loss}");
    }

    #[test]
    fn a_network_on_which_nothing_comes_is_known_through_the_others() {
        let mut red = Arrivals::starting(7);
        for number in 8..=107 {
            red.arrived(number);
        }
        assert_eq!(red.loss(), Some(0.0));
        for number in 108..=400 {
            red.sent(number);
        }
        assert_eq!(red.loss(), Some(1.0));
        // A leap and a step back do no harm.
        red.sent(u32::MAX);
        red.sent(3);
        red.arrived(2);
        assert_eq!(red.loss(), Some(1.0));
    }

    #[test]
    fn what_is_on_its_way_is_not_lost() {
        let mut red = Arrivals::starting(0);
        for number in 1..=100 {
            red.sent(number);
            red.arrived(number - 1);
        }
        assert_eq!(red.loss(), Some(0.0));
    }
}
