//! Whether anybody answers for one address. Pure; the frames are made elsewhere.
//!
//! The one thing to know: silence needs proof. It counts only from a probe that left through
//! an interface with carrier, with further probes after it, so that an agent that was
//! stalled itself, or has no cable, never calls an address free.

use haarb_model::{Mono, ProbeAnswer, Span};

use crate::claim::Mac;

/// Probes that must have left, unanswered, before silence is believed (RFC 5227 sends 3).
const PROBES_MIN: u32 = 3;

/// A probe that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// When it began.
    since: Mono,
    /// `vip-probe`: how long the address must stay unanswered.
    window: Span,
    /// When the next question is due.
    next: Mono,
    /// First question since the last answer or loss of carrier, and how many since then.
    quiet: Option<(Mono, u32)>,
    /// The last answer.
    answer: Option<Mac>,
}

impl Probe {
    pub(crate) fn start(now: Mono, window: Span) -> Self {
        Self {
            since: now,
            window,
            next: now,
            quiet: None,
            answer: None,
        }
    }

    /// When it began.
    pub(crate) fn since(&self) -> Mono {
        self.since
    }

    /// Whether a question is due now.
    pub(crate) fn take_due(&mut self, now: Mono) -> bool {
        if self.next > now {
            return false;
        }
        // A quarter: three questions fit before the verdict, even if one is late.
        self.next = now + self.window.part(4);
        true
    }

    /// A question left.
    pub(crate) fn asked(&mut self, now: Mono) {
        let (_, count) = self.quiet.get_or_insert((now, 0));
        *count = count.saturating_add(1);
    }

    /// Questions cannot leave: nothing that was or was not heard counts.
    pub(crate) fn deaf(&mut self) {
        self.quiet = None;
        self.answer = None;
    }

    /// Somebody answered.
    pub(crate) fn answered(&mut self, by: Mac) {
        self.answer = Some(by);
        self.quiet = None;
    }

    /// What is known now; `neighbours` are the MAC addresses of the other servers.
    pub(crate) fn verdict(&self, now: Mono, neighbours: &[[u8; 6]]) -> ProbeAnswer {
        let silent = self
            .quiet
            .is_some_and(|(first, count)| count >= PROBES_MIN && now.since(first) >= self.window);
        match self.answer {
            _ if silent => ProbeAnswer::Silent,
            Some(mac) => who(mac, neighbours),
            None => ProbeAnswer::Unknown,
        }
    }

    /// When it needs attention next: a question is due, or the verdict may change.
    pub(crate) fn deadline(&self, now: Mono) -> Mono {
        match self.quiet {
            Some((first, _)) if first + self.window > now => self.next.min(first + self.window),
            _ => self.next,
        }
    }
}

/// Whether a MAC address belongs to another server of the cluster.
pub(crate) fn who(mac: Mac, neighbours: &[[u8; 6]]) -> ProbeAnswer {
    if neighbours.contains(&mac.0) {
        ProbeAnswer::Neighbour
    } else {
        ProbeAnswer::Foreign
    }
}

/// The answer for a whole reserve: the worst of its addresses, silent only if all are.
pub(crate) fn worst(answers: impl Iterator<Item = ProbeAnswer>) -> ProbeAnswer {
    let weight = |answer: &ProbeAnswer| match answer {
        ProbeAnswer::Silent => 0,
        ProbeAnswer::Unknown => 1,
        ProbeAnswer::Neighbour => 2,
        ProbeAnswer::Foreign => 3,
    };
    answers.max_by_key(weight).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span::from_millis(8);
    const BETA: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn at(ms: u64) -> Mono {
        Mono::ZERO + Span::from_millis(1_000 + ms)
    }

    /// Turns once per millisecond from `from` to `to` and returns each change of the verdict.
    fn run(probe: &mut Probe, from: u64, to: u64) -> Vec<(u64, ProbeAnswer)> {
        let mut changes = Vec::new();
        for ms in from..=to {
            if probe.take_due(at(ms)) {
                probe.asked(at(ms));
            }
            let verdict = probe.verdict(at(ms), &[BETA.0]);
            if changes.last().is_none_or(|&(_, last)| last != verdict) {
                changes.push((ms, verdict));
            }
        }
        changes
    }

    #[test]
    fn silence_takes_the_whole_window() {
        let mut probe = Probe::start(at(0), WINDOW);
        let changes = run(&mut probe, 0, 30);
        assert_eq!(
            changes,
            [(0, ProbeAnswer::Unknown), (8, ProbeAnswer::Silent)]
        );
    }

    #[test]
    fn an_answer_counts_at_once_and_until_a_whole_window_of_silence() {
        let mut probe = Probe::start(at(0), WINDOW);
        run(&mut probe, 0, 4);
        probe.answered(BETA);
        // The next question leaves at 6, so the window ends at 14.
        assert_eq!(
            run(&mut probe, 5, 30),
            [(5, ProbeAnswer::Neighbour), (14, ProbeAnswer::Silent)]
        );
        probe.answered(Mac([6; 6]));
        assert_eq!(
            probe.verdict(at(31), &[BETA.0]),
            ProbeAnswer::Foreign,
            "no server has this MAC"
        );
    }

    #[test]
    fn a_stalled_agent_asks_again_before_it_calls_an_address_free() {
        let mut probe = Probe::start(at(0), WINDOW);
        assert!(probe.take_due(at(0)));
        probe.asked(at(0));
        // Stalled until 100: much time has passed, but only one question was asked.
        assert_eq!(
            run(&mut probe, 100, 120),
            [(100, ProbeAnswer::Unknown), (102, ProbeAnswer::Silent)]
        );
    }

    #[test]
    fn without_carrier_there_is_no_silence() {
        let mut probe = Probe::start(at(0), WINDOW);
        run(&mut probe, 0, 20);
        probe.deaf();
        assert_eq!(probe.verdict(at(500), &[]), ProbeAnswer::Unknown);
    }

    #[test]
    fn a_reserve_is_silent_only_if_all_its_addresses_are() {
        use ProbeAnswer::{Foreign, Neighbour, Silent, Unknown};
        for (answers, expected) in [
            (vec![Silent, Silent], Silent),
            (vec![Silent, Unknown], Unknown),
            (vec![Neighbour, Unknown], Neighbour),
            (vec![Neighbour, Foreign, Silent], Foreign),
            (vec![], Unknown),
        ] {
            assert_eq!(worst(answers.iter().copied()), expected, "{answers:?}");
        }
    }
}
