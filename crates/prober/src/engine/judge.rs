//! What is reported, and when: at once when a fact changes, otherwise now and then.

use haarb_model::{
    Mono, NeighbourReport, ProbeReport, Report, Span, SwitchAnswer, SwitchReport, sign_interval,
};

use super::{Asked, Engine, Neighbour};

impl Engine {
    /// Puts a report together if one is due. True where there is news for the arbiter.
    pub(super) fn judge(&mut self, now: Mono) -> bool {
        // What else is to be told goes with what is known at that moment.
        let mut news = std::mem::take(&mut self.report_all);
        let patience = self.switch_patience();
        for neighbour in &mut self.neighbours {
            let facts = neighbour.detector.facts(now);
            news |= facts != neighbour.reported;
            neighbour.reported = facts;
        }
        let signs = self.neighbours.iter();
        let last_sign = signs.filter_map(|n| n.detector.last_sign()).max();
        let mut switches = self.switches.iter().flatten();
        let all_missing = switches.all(|s| s.watch.is_missing(now, patience, last_sign));
        let alone = self.hears_nobody(now, last_sign);
        for switch in self.switches.iter_mut().flatten() {
            let hurry = all_missing || alone && switch.watch.is_missing(now, patience, last_sign);
            let answer = switch.watch.answer(now, hurry);
            news |= answer != switch.reported;
            switch.reported = answer;
            if let Asked::Since(asked) = switch.asked
                && switch.watch.last_answer().is_some_and(|at| at > asked)
            {
                switch.asked = Asked::Told;
                news = true;
            }
        }
        if news || now + self.ahead() > self.next_report() {
            self.last_report = now;
            let report = self.probe_report(now);
            self.reports.push(Report::Probe(report));
        }
        news
    }

    /// No neighbour has given a sign of life on any network for two probes: it may have to be
    /// judged soon, and by then this server must know its own networks.
    fn hears_nobody(&self, now: Mono, last_sign: Option<Mono>) -> bool {
        let quiet = self.timing.probe_interval.times(2);
        last_sign.is_none_or(|at| now >= at + quiet)
    }

    /// When a report is due if no fact changes.
    pub(super) fn next_report(&self) -> Mono {
        self.last_report + sign_interval(self.timing.lease)
    }

    /// So much earlier than it must a report goes out: with a probe, where the next one would be
    /// too late. A report alone is worth no turn.
    fn ahead(&self) -> Span {
        let interval = sign_interval(self.timing.lease);
        self.timing.probe_interval.min(interval.part(2))
    }

    fn probe_report(&self, now: Mono) -> ProbeReport {
        let switches = self.networks.iter().zip(&self.switches);
        let dropped = self.dropped.iter();
        ProbeReport {
            at: now,
            switches: switches
                .map(|(network, switch)| SwitchReport {
                    network: network.clone(),
                    answer: switch
                        .as_ref()
                        .map_or(SwitchAnswer::NotAsked, |s| s.reported),
                    last_answer: switch.as_ref().and_then(|s| s.watch.last_answer()),
                    missing: switch.as_ref().map_or(0, |s| s.watch.missing(now)),
                })
                .collect(),
            neighbours: self
                .neighbours
                .iter()
                .map(|n| self.neighbour_report(n, now))
                .collect(),
            dropped: dropped
                .map(|(&reason, &count)| (reason.to_owned(), count))
                .collect(),
        }
    }

    /// What is known of a neighbour, with what its datagrams tell.
    fn neighbour_report(&self, neighbour: &Neighbour, now: Mono) -> NeighbourReport {
        let mut report = neighbour.detector.report(now);
        if !report.paths.iter().any(|path| path.heard) {
            return report; // what it said once is not true for ever
        }
        for (network, path) in report.paths.iter_mut().enumerate() {
            path.loss_in = self.endpoint.loss_in(&report.node, network);
            path.loss_out = neighbour.loss_out.get(network).copied().flatten();
        }
        report
    }
}
