//! What is reported, and when: at once when a fact changes, otherwise now and then.

use haarb_model::{Mono, ProbeReport, Report, SwitchAnswer, SwitchReport};

use super::{Asked, Engine, NUMBERS_EVERY};

impl Engine {
    /// Puts a report together if one is due. True where there is news for the arbiter.
    pub(super) fn judge(&mut self, now: Mono) -> bool {
        let adverts = !self.reports.is_empty();
        let mut news = std::mem::take(&mut self.report_all);
        let patience = self.switch_patience();
        for neighbour in &mut self.neighbours {
            let facts = neighbour.detector.facts(now);
            news |= facts != neighbour.reported;
            neighbour.reported = facts;
        }
        let mut switches = self.switches.iter().flatten();
        let all_missing = switches.all(|s| s.watch.is_missing(now, patience));
        let alone = self.hears_nobody(now);
        for switch in self.switches.iter_mut().flatten() {
            let hurry = all_missing || alone && switch.watch.is_missing(now, patience);
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
        if news || now >= self.last_numbers + NUMBERS_EVERY {
            self.last_numbers = now;
            let report = self.probe_report(now);
            self.reports.push(Report::Probe(report));
        }
        if self.reports.is_empty() && now >= self.last_report + self.timing.lease.part(10) {
            self.reports.push(Report::Alive);
        }
        if !self.reports.is_empty() {
            self.last_report = now;
        }
        news || adverts
    }

    /// No neighbour has given a sign of life on any network for two probes: it may have to be
    /// judged soon, and by then this server must know its own networks.
    fn hears_nobody(&self, now: Mono) -> bool {
        let quiet = self.timing.probe_interval.times(2);
        let mut signs = self.neighbours.iter().map(|n| n.detector.last_sign());
        signs.all(|sign| sign.is_none_or(|at| now >= at + quiet))
    }

    /// When a report is due if no fact changes.
    pub(super) fn next_report(&self) -> Mono {
        (self.last_numbers + NUMBERS_EVERY).min(self.last_report + self.timing.lease.part(10))
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
                .map(|n| n.detector.report(now))
                .collect(),
            dropped: dropped
                .map(|(&reason, &count)| (reason.to_owned(), count))
                .collect(),
        }
    }
}
