//! Whether this server switches over by itself, and if not, why and until when (section 2).
//!
//! Manual(one network) follows only from this server's own loss of a network, never from
//! what a neighbour says about itself.

use std::collections::VecDeque;

use haarb_model::{Mode, Mono};

use crate::clock::Clock;
use crate::facts::Contact;
use crate::view::View;

/// The mode of one server.
#[derive(Clone, Debug)]
pub struct ModeState {
    /// The mode.
    pub mode: Mode,
    /// Since when.
    pub since: Mono,
    /// What ends it, for the operator; empty in automatic mode.
    pub ends: String,
    /// An operator switched maintenance on.
    pub maintenance: bool,
    one_network: bool,
    flapping: bool,
    switches: VecDeque<Mono>,
}

impl ModeState {
    /// The mode at the start of the arbiter.
    #[must_use]
    pub fn new(maintenance: bool, now: Mono) -> Self {
        Self {
            mode: Mode::Automatic,
            since: now,
            ends: String::new(),
            maintenance,
            one_network: false,
            flapping: false,
            switches: VecDeque::new(),
        }
    }

    /// A reserve moved because of a fault: too many of them in the window lead to
    /// manual(flapping). What an operator asked for does not count.
    pub fn count_switch(&mut self, now: Mono) {
        self.switches.push_back(now);
    }

    /// An operator has looked at it.
    pub fn clear(&mut self) {
        self.flapping = false;
        self.switches.clear();
    }

    /// Works out the mode of this moment. `operator`: a reserve is held by a command.
    /// Answers true if it changed.
    pub fn refresh(&mut self, view: &View, operator: bool, clock: &mut Clock) -> bool {
        self.judge_networks(view, clock);
        self.judge_switches(view, clock);
        let timing = view.segment.timing;
        let differs = view.neighbours.iter().find(|n| {
            n.advert
                .as_ref()
                .is_some_and(|(_, advert)| advert.config_digest != view.segment.digest)
        });
        let (mode, ends) = if self.maintenance {
            (Mode::Maintenance, "`haarb maintenance off`".into())
        } else if let Err((neighbour, theirs)) = view.common_protocols() {
            let what = format!(
                "a release on {neighbour} and here that have a version of the protocol in common ({theirs} there, {} here)",
                view.protocols
            );
            (Mode::VersionDiffers, what)
        } else if let Some(neighbour) = differs {
            let what = format!("the same configuration here and on {}", neighbour.name);
            (Mode::ConfigDiffers, what)
        } else if operator {
            (Mode::Operator, "`haarb clear`".into())
        } else if self.flapping {
            let what = format!(
                "`haarb clear`, or {} without a switch",
                timing.switch_window
            );
            (Mode::Flapping, what)
        } else if self.one_network {
            let what = format!(
                "all networks usable here and on the neighbour, or here for {} with the neighbour silent",
                timing.rearm_alone
            );
            (Mode::OneNetwork, what)
        } else {
            (Mode::Automatic, String::new())
        };
        self.ends = ends;
        let changed = mode != self.mode;
        if changed {
            self.mode = mode;
            self.since = clock.now();
        }
        changed
    }

    fn judge_networks(&mut self, view: &View, clock: &mut Clock) {
        let known = view.networks.iter().all(|n| n.works.is_some());
        let whole = view.networks.len();
        let usable = view.usable();
        if known && usable > 0 && usable < whole {
            self.one_network = true;
        }
        let Some(since) = view.whole_since().filter(|_| self.one_network && known) else {
            return;
        };
        let over = if view.contact(clock) == Contact::Heard {
            view.neighbours
                .iter()
                .filter_map(|n| n.said())
                .all(|advert| advert.usable.len() == whole)
        } else {
            let unheard = view.neighbours.iter().map(|n| n.unheard_since).max();
            let since = since.max(unheard.unwrap_or(Mono::ZERO));
            clock.passed(since, view.segment.timing.rearm_alone)
        };
        if over {
            self.one_network = false;
        }
    }

    fn judge_switches(&mut self, view: &View, clock: &mut Clock) {
        let timing = view.segment.timing;
        while let Some(first) = self.switches.front() {
            if !clock.passed(*first, timing.switch_window) {
                break;
            }
            self.switches.pop_front();
        }
        if self.switches.len() > timing.max_switches as usize {
            self.flapping = true;
        } else if self.switches.is_empty() {
            self.flapping = false;
        }
    }
}
