//! What probers and link-watchers send, and what comes back.

use super::*;

impl World {
    pub(super) fn lost(&mut self, net: NetIx) -> bool {
        let loss = self.fabric.loss;
        (loss > 0.0 && self.rng.chance(loss)) || self.blown_away(net)
    }

    fn blown_away(&mut self, net: NetIx) -> bool {
        let Some(gusts) = self.rough.gusts else {
            return false;
        };
        let turn = if self.gusty[net] {
            gusts.end
        } else {
            gusts.begin
        };
        self.gusty[net] ^= self.rng.chance(turn);
        self.gusty[net] && self.rng.chance(gusts.loss)
    }

    pub(super) fn way(&mut self) -> Span {
        let (low, high) = self.fabric.delay_us;
        let span = self.rng.span(low, high);
        if self.rough.detour > 0.0 && self.rng.chance(self.rough.detour) {
            return span + self.rng.span(0, self.rough.detour_us);
        }
        span
    }

    pub(super) fn probe(&mut self, n: NodeIx, run: u32) {
        let interval = self.timing(n).probe_interval;
        self.timer(self.now + interval, Event::Probe(n, run));
        let count = self.servers[n]
            .prober
            .as_ref()
            .map_or(0, |p| p.neighbours.len());
        for neighbour in 0..count {
            self.ask(n, neighbour);
        }
        self.send_datagrams(n);
        self.prober_turn(n);
    }

    pub(super) fn ask(&mut self, n: NodeIx, neighbour: usize) {
        let now = self.now;
        let run = self.servers[n].runs[Process::Prober.ix()];
        for net in 0..self.fabric.nets.len() {
            let can = self.fabric.carrier(net, n);
            let Some(prober) = &mut self.servers[n].prober else {
                return;
            };
            let to = prober.neighbours[neighbour].ix;
            let number = prober.ask(neighbour, net, can, now);
            let there = self.fabric.passes(net, n, to, Kind::Icmp) && !self.lost(net);
            let back = self.fabric.passes(net, to, n, Kind::Icmp) && !self.lost(net);
            if there && back && self.servers[to].alive() {
                let span = self.way() + self.way();
                let reply = Event::Reply {
                    at: n,
                    from: to,
                    net,
                    number,
                    run,
                };
                self.travel(span, reply);
            }
        }
    }

    pub(super) fn send_datagrams(&mut self, n: NodeIx) {
        let now = self.now;
        let count = self.servers[n]
            .prober
            .as_ref()
            .map_or(0, |p| p.neighbours.len());
        for neighbour in 0..count {
            for net in 0..self.fabric.nets.len() {
                let Some(prober) = &mut self.servers[n].prober else {
                    return;
                };
                let to = prober.neighbours[neighbour].ix;
                let datagram = prober.say(neighbour, now);
                if self.fabric.passes(net, n, to, Kind::Udp) && !self.lost(net) {
                    let span = self.way();
                    let event = Event::Datagram {
                        at: to,
                        from: n,
                        net,
                        datagram: Box::new(datagram),
                    };
                    self.travel(span, event);
                }
            }
        }
    }

    pub(super) fn switches(&mut self, n: NodeIx, run: u32) {
        let timing = self.timing(n);
        let interval = timing.probe_interval.max(timing.switch_interval);
        self.timer(self.now + interval, Event::Switches(n, run));
        for net in 0..self.fabric.nets.len() {
            self.ask_switch(n, net);
        }
        self.prober_turn(n);
    }

    pub(super) fn ask_switch(&mut self, n: NodeIx, net: NetIx) {
        let now = self.now;
        let run = self.servers[n].runs[Process::Prober.ix()];
        let can = self.fabric.carrier(net, n);
        let Some(prober) = &mut self.servers[n].prober else {
            return;
        };
        let number = prober.ask_switch(net, can, now);
        if self.fabric.switch_answers(net, n) && !self.lost(net) && !self.lost(net) {
            let span = self.way() + self.way();
            let reply = Event::SwitchReply {
                at: n,
                net,
                number,
                run,
            };
            self.travel(span, reply);
        }
    }

    /// Burst, news, reports: what every input of the prober may lead to.
    pub(super) fn prober_turn(&mut self, n: NodeIx) {
        let now = self.now;
        let lease = self.timing(n).lease;
        let interval = self.timing(n).probe_interval;
        let gap = now.since(self.servers[n].prober_turned);
        self.servers[n].prober_turned = now;
        if gap > interval.times(2)
            && let Some(prober) = &mut self.servers[n].prober
        {
            prober.stood_still(gap);
            if gap > lease {
                self.tell(n, Agent::Prober, Up::Report(Report::Stalled(gap)));
            }
        }
        let Some(prober) = &mut self.servers[n].prober else {
            return;
        };
        let reports = prober.reports(now);
        let bursts = prober.bursts(now);
        let news = prober.has_news(now);
        for report in reports {
            self.tell(n, Agent::Prober, Up::Report(report));
        }
        for neighbour in bursts {
            if let Some(prober) = &mut self.servers[n].prober {
                prober.burst_sent(neighbour, now);
            }
            self.ask(n, neighbour);
        }
        let asks = self.servers[n]
            .prober
            .as_ref()
            .map(|prober| prober.switch_bursts(now));
        for net in asks.into_iter().flatten() {
            self.ask_switch(n, net);
        }
        if news {
            self.send_datagrams(n);
        }
        let Some(prober) = &self.servers[n].prober else {
            return;
        };
        let wake = prober.wake(now);
        if wake != self.servers[n].prober_wake {
            self.servers[n].prober_wake = wake;
            let run = self.servers[n].runs[Process::Prober.ix()];
            self.timer(wake, Event::ProberWake(n, run));
        }
    }

    /// The kernels notice what changed in the networks.
    pub fn notice_links(&mut self) {
        for n in 0..self.servers.len() {
            let run = self.servers[n].runs[Process::LinkWatcher.ix()];
            let span = self.rng.span(200, 1500);
            self.after(span, Event::Links(n, run));
        }
    }

    pub(super) fn links(&mut self, n: NodeIx) {
        let interfaces = self.segment.nodes[n].interfaces.clone();
        let links = interfaces.into_iter().enumerate().map(|(net, interface)| {
            let up = self.fabric.carrier(net, n);
            LinkReport {
                interface,
                up,
                reason: String::new(),
            }
        });
        let links = links.collect();
        self.tell(n, Agent::LinkWatcher, Up::Report(Report::Links(links)));
        self.wake_agent(n, Process::LinkWatcher, sign_interval(self.timing(n).lease));
    }
}
