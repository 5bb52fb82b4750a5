//! What somebody who sits on the cable does to the servers' datagrams: sends old ones again, and
//! changed ones beside the true ones. The true ones all get through.

use std::collections::VecDeque;

use super::{Dice, frame::server_datagram};

/// Old datagrams kept to be sent again.
const KEPT: usize = 500;

/// The memory of the mischief on one cable.
#[derive(Default)]
pub(super) struct Mischief {
    old: VecDeque<Vec<u8>>,
}

impl Mischief {
    /// Frames to send beside this one.
    pub(super) fn beside(&mut self, frame: &[u8], chance: f64, dice: &mut Dice) -> Vec<Vec<u8>> {
        if chance <= 0.0 {
            self.old.clear();
            return Vec::new();
        }
        let Some(payload) = server_datagram(frame) else {
            return Vec::new();
        };
        let mut more = Vec::new();
        if dice.hits(chance) {
            more.extend(self.old.get(dice.below(self.old.len())).cloned());
        }
        if dice.hits(chance) {
            let mut changed = frame.to_vec();
            let at = payload + dice.below(frame.len() - payload);
            changed[at] ^= 1 << dice.below(8);
            more.push(changed);
        }
        if self.old.len() == KEPT {
            self.old.pop_front();
        }
        self.old.push_back(frame.to_vec());
        more
    }
}
