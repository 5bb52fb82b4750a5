//! Our own networks: which work, which count, and whose loss a loss is.

use super::*;

/// One of our own networks.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Our interface in it.
    pub interface: String,
    /// It works at this moment; `None`: not yet known.
    pub works: Option<bool>,
    /// Since when.
    pub works_since: Mono,
    /// It counts: it works, and has for `link-hold` if it was down before.
    pub usable: bool,
    /// Since when it counts or does not.
    pub since: Mono,
    /// Why it does not work; empty if it does.
    pub reason: String,
    /// How often it came and went lately: its hold grows with that.
    pub flaps: Flaps,
    /// When it will count again if nothing interrupts it; `None`: it counts, or does not work.
    pub counts_at: Option<Mono>,
}

/// A network that works here and that a neighbour has lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostElsewhere {
    since: Mono,
    /// Since when our switch is asked for a sign of life.
    asked: Option<Mono>,
}

impl View {
    /// Works out which networks count now. Called once per step, before anything looks.
    /// Says which ones changed, so that announcements can follow.
    pub fn refresh(&mut self, clock: &mut Clock) -> Vec<usize> {
        let hold = self.segment.timing.link_hold;
        let mut changed = Vec::new();
        for i in 0..self.networks.len() {
            let Some((works, reason)) = self.works(i, clock) else {
                continue;
            };
            let network = &mut self.networks[i];
            network.reason = reason;
            let first = network.works.is_none();
            if network.works != Some(works) {
                if network.works == Some(true) {
                    network.flaps.down(clock.now(), hold);
                }
                network.works = Some(works);
                network.works_since = clock.now();
            }
            let held = network.flaps.hold(hold);
            let usable =
                works && (first || network.usable || clock.passed(network.works_since, held));
            network.counts_at = (works && !usable).then(|| network.works_since + held);
            if usable != network.usable || first {
                network.usable = usable;
                network.since = clock.now();
                changed.push(i);
            } else if usable
                && network.flaps.count() > 0
                && clock.passed(network.since, held.times(2))
            {
                network.flaps.forgive();
            }
        }
        self.refresh_lost_elsewhere(clock);
        changed
    }

    /// A switch that loses its power drops its ports one after the other, and may answer
    /// until the last one: it is asked a little later.
    fn refresh_lost_elsewhere(&mut self, clock: &mut Clock) {
        let pause = self.segment.timing.switch_interval;
        for network in self.networks.iter() {
            let lost = self.neighbours.iter().any(|neighbour| {
                let said = neighbour.said();
                said.is_some_and(|advert| !advert.usable.contains(&network.name))
            });
            if !(lost && network.usable) {
                self.lost_elsewhere.remove(&network.name);
                continue;
            }
            let entry = self.lost_elsewhere.entry(network.name.clone());
            let entry = entry.or_insert(LostElsewhere {
                since: clock.now(),
                asked: None,
            });
            if entry.asked.is_none() && clock.passed(entry.since, pause) {
                entry.asked = Some(clock.now());
            }
        }
    }

    /// Networks whose switch is to be asked at once: a neighbour lost them, and we can tell it
    /// whether the switch still lives.
    #[must_use]
    pub fn ask_switches(&self) -> BTreeSet<NetworkName> {
        let lost = self.lost_elsewhere.iter();
        lost.filter(|(_, lost)| lost.asked.is_some())
            .map(|(network, _)| network.clone())
            .collect()
    }

    /// Those of them whose switch has answered since.
    #[must_use]
    pub fn confirms(&self) -> BTreeSet<NetworkName> {
        let answered = |network: &NetworkName, asked| {
            let at = self.switch_answered.get(network);
            at.is_some_and(|&at| at > asked)
        };
        let lost = self.lost_elsewhere.iter();
        lost.filter(|(network, lost)| lost.asked.is_some_and(|asked| answered(network, asked)))
            .map(|(network, _)| network.clone())
            .collect()
    }

    /// Whether a network works at this moment, and why not. `None`: cannot be told yet.
    fn works(&self, i: usize, clock: &mut Clock) -> Option<(bool, String)> {
        let network = &self.networks[i];
        if !self.links_known {
            return None;
        }
        match self.links.get(&network.interface) {
            None => return Some((false, format!("no interface {}", network.interface))),
            Some(link) if !link.up => {
                let reason = if link.reason.is_empty() {
                    "no carrier".into()
                } else {
                    link.reason.clone()
                };
                return Some((false, reason));
            }
            Some(_) => {}
        }
        let heard = self.neighbours.iter().any(|n| n.heard_on(&network.name));
        match self.switches.get(&network.name) {
            _ if heard => Some((true, String::new())),
            Some(SwitchAnswer::Answers) => Some((true, String::new())),
            Some(SwitchAnswer::NotAsked) => Some((true, String::new())),
            None if !self.segment.networks[i].switch_answers => Some((true, String::new())),
            None => None,
            Some(SwitchAnswer::Silent) if clock.reached(self.asked_from) => Some((
                false,
                "carrier, but the switch does not answer and no neighbour is heard".into(),
            )),
            Some(SwitchAnswer::Silent) => None,
        }
    }

    /// How many networks count.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.networks.iter().filter(|n| n.usable).count()
    }

    /// When every network came to count; `None` while one does not.
    #[must_use]
    pub fn whole_since(&self) -> Option<Mono> {
        let whole = self.usable() == self.networks.len();
        let last = self.networks.iter().map(|n| n.since).max()?;
        whole.then_some(last)
    }

    /// How long after a change of our networks a neighbour with the same change has told us
    /// about its own: four switch probes and two datagrams.
    #[must_use]
    pub fn settle(&self) -> Span {
        let timing = self.segment.timing;
        timing.switch_interval.times(4) + timing.probe_interval.times(2)
    }

    /// The carrier is lost here, and a neighbour says that the network works there and that the
    /// switch has answered it since: the loss is ours alone. A switch that is merely not heard
    /// is not judged so fast: that may be a lossy link.
    fn ours_alone(&self, network: &Network) -> bool {
        let link = self.links.get(&network.interface);
        let dark = link.is_some_and(|link| !link.up);
        dark && self.neighbours.iter().any(|neighbour| {
            let advert = neighbour.advert.as_ref();
            let since = advert.is_some_and(|(at, _)| *at > network.since);
            let confirms = |advert: &Advert| {
                advert.usable.contains(&network.name) && advert.confirms.contains(&network.name)
            };
            since && neighbour.said().is_some_and(confirms)
        })
    }

    /// The fact `links`. A loss counts once it can be told apart whose loss it is: as soon as a
    /// neighbour confirms that the switch lives, otherwise when it has settled.
    pub fn links(&self, clock: &mut Clock) -> Links {
        if self.networks.iter().any(|n| n.works.is_none()) {
            return Links::Unknown;
        }
        let usable = self.usable();
        if usable == self.networks.len() {
            return Links::All;
        }
        if usable == 0 {
            return Links::None;
        }
        let settle = self.settle();
        let mut lost = self.networks.iter().filter(|n| !n.usable);
        if lost.clone().all(|network| self.ours_alone(network)) {
            return Links::Some;
        }
        if lost.all(|network| clock.passed(network.since, settle)) {
            Links::Some
        } else {
            Links::Fresh
        }
    }
}
