//! What is sent, and when: regular requests and datagrams, the confirming burst, and
//! datagrams out of turn when there is something new to say.

use haarb_model::{Mono, Span};
use haarb_wire::Outgoing;

use super::{Engine, Outlet};
use crate::switch::SwitchWatch;

impl Engine {
    /// When something is to be sent next.
    pub(super) fn next_send(&self) -> Mono {
        let switches = self.switches.iter().any(Option::is_some);
        let bursts = self.neighbours.iter().filter_map(|n| n.detector.burst_at());
        [Some(self.next_probe), self.extra, self.ask_switches]
            .into_iter()
            .flatten()
            .chain(switches.then_some(self.next_switch))
            .chain(bursts)
            .min()
            .unwrap_or(Mono::FAR)
    }

    pub(super) fn send_due(&mut self, now: Mono, outlet: &mut impl Outlet) {
        let regular = now >= self.next_probe;
        if regular {
            self.next_probe = following(self.next_probe, self.timing.probe_interval, now);
        }
        let mut bursting = false;
        for index in 0..self.neighbours.len() {
            let detector = &mut self.neighbours[index].detector;
            let burst = detector.burst_at().is_some_and(|at| now >= at);
            if burst {
                bursting = true;
                detector.burst_sent(now);
            }
            if burst || regular {
                self.ask_neighbour(index, outlet);
            }
        }
        let round = now >= self.next_switch;
        if round {
            let interval = SwitchWatch::interval(&self.timing);
            self.next_switch = following(self.next_switch, interval, now);
        }
        let wanted = self.ask_switches.take().is_some();
        self.ask_switches(round || wanted, now, outlet);
        self.notice_news(now);
        let news = self.extra.is_some_and(|at| now >= at);
        if regular || news || bursting {
            if news {
                self.extra = None;
            }
            // Who is not heard at all may be starting, and waits for our word.
            let urgent = news || bursting || self.told.values().any(|&bits| bits == 0);
            self.tell(now, urgent, outlet);
        }
    }

    /// A datagram out of turn, but not so soon after the last one that a stranger's replays
    /// could make us send without end.
    pub(super) fn send_soon(&mut self, now: Mono) {
        let at = now.max(self.last_datagram + self.timing.probe_interval.part(4));
        self.extra = Some(self.extra.map_or(at, |extra| extra.min(at)));
    }

    /// Whom we hear and whether our arbiter lives is told at once when it changes.
    fn notice_news(&mut self, now: Mono) {
        let mut news = false;
        for neighbour in &self.neighbours {
            let hears = neighbour.detector.hears(now);
            let node = neighbour.detector.node();
            if self.told.get(node).copied().unwrap_or(0) != hears {
                self.told.insert(node.clone(), hears);
                news = true;
            }
        }
        let silent = now >= self.payload_until;
        if news || silent != self.told_silent {
            self.told_silent = silent;
            self.send_soon(now);
        }
    }

    fn tell(&mut self, now: Mono, news: bool, outlet: &mut impl Outlet) {
        self.last_datagram = now;
        for network in 0..self.networks.len() {
            let Some(bytes) = self.datagram_for(network, now, news) else {
                continue;
            };
            for neighbour in &self.neighbours {
                if let Some(&to) = neighbour.addresses.get(network) {
                    outlet.datagram(network, to, &bytes);
                }
            }
        }
    }

    /// The next datagram. A payload that does not fit is left out, and the arbiter counts as
    /// silent: what it says does not reach anybody.
    fn datagram_for(&mut self, network: usize, now: Mono, news: bool) -> Option<Vec<u8>> {
        if self.payload_fits {
            let silent = (now >= self.payload_until).then(|| millis(now.since(self.payload_until)));
            let outgoing = Outgoing {
                arbiter_silent_ms: silent,
                vip_held: None,
                heard: &self.told,
                payload: &self.payload,
                news,
            };
            match self.endpoint.send(network, &outgoing) {
                Ok(bytes) => return Some(bytes),
                Err(refused) => {
                    self.payload_fits = false;
                    tracing::error!(
                        "the arbiter's state cannot be told to the neighbours: {refused}"
                    );
                }
            }
        }
        let bare = Outgoing {
            arbiter_silent_ms: Some(millis(now.since(self.payload_until))),
            vip_held: None,
            heard: &self.told,
            payload: &[],
            news,
        };
        self.endpoint.send(network, &bare).ok()
    }

    fn ask_neighbour(&mut self, index: usize, outlet: &mut impl Outlet) {
        let Some(neighbour) = self.neighbours.get_mut(index) else {
            return;
        };
        for (network, &to) in neighbour.addresses.iter().enumerate() {
            self.echoes += 1;
            match outlet.echo(network, to, self.echoes) {
                Some(at) => neighbour.detector.echo_sent(network, self.echoes, at),
                None => neighbour.detector.cannot_send(network),
            }
        }
    }

    /// Asks all switches, or those whose answer is overdue.
    fn ask_switches(&mut self, all: bool, now: Mono, outlet: &mut impl Outlet) {
        for (network, switch) in self.switches.iter_mut().enumerate() {
            let Some(switch) = switch else { continue };
            if !all && switch.watch.burst_at(now).is_none_or(|at| at > now) {
                continue;
            }
            self.echoes += 1;
            match outlet.echo(network, switch.address, self.echoes) {
                Some(at) => switch.watch.echo_sent(self.echoes, at),
                None => switch.watch.cannot_send(),
            }
        }
    }
}

/// The next moment of a regular series after `now`, in phase with the last one.
fn following(last: Mono, interval: Span, now: Mono) -> Mono {
    let passed = now.since(last).as_micros() / interval.as_micros().max(1);
    last + interval.times(passed.saturating_add(1))
}

fn millis(span: Span) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
