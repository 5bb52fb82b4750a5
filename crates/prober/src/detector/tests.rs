use proptest::prelude::*;

use super::*;

const RED: usize = 0;
const BLUE: usize = 1;

fn networks() -> [NetworkName; 2] {
    ["red", "blue"].map(|n| NetworkName::new(n).expect("a name"))
}

fn us(us: u64) -> Span {
    Span::from_micros(us)
}

fn start() -> Mono {
    Mono::from_micros(1_000_000_000)
}

/// What the network and the neighbour do with what is sent. Times are microseconds after the
/// start.
trait Fate {
    /// After how many microseconds the reply to an ECHO request is back; `None`: never.
    fn echo(&mut self, network: usize, at: u64) -> Option<u64>;
    /// Whether the neighbour's datagram arrives.
    fn datagram(&mut self, network: usize, at: u64) -> bool;
    /// Whether we can send.
    fn can_send(&self, _network: usize, _at: u64) -> bool {
        true
    }
}

/// Drives a detector as the engine does: regular requests, the burst when it is due, replies in
/// order of time; asks for the verdict at every deadline.
struct World<F> {
    detector: Detector,
    timing: Timing,
    fate: F,
    now: Mono,
    next_probe: Mono,
    next_datagram: Mono,
    replies: Vec<(Mono, usize, u64)>,
    number: u64,
    silent_at: Option<Mono>,
}

impl<F: Fate> World<F> {
    fn new(timing: Timing, datagram_phase: Span, fate: F) -> Self {
        let node = NodeName::new("beta").expect("a name");
        Self {
            detector: Detector::new(node, &networks(), timing, start()),
            timing,
            fate,
            now: start(),
            next_probe: start(),
            next_datagram: start() + datagram_phase,
            replies: Vec::new(),
            number: 0,
            silent_at: None,
        }
    }

    fn passed(&self) -> u64 {
        self.now.since(start()).as_micros()
    }

    fn run_until(&mut self, end: Mono) {
        while self.now < end {
            let deadline = self.detector.deadline(self.now);
            let reply = self.replies.iter().map(|r| r.0).min().unwrap_or(Mono::FAR);
            self.now = deadline
                .min(reply)
                .min(self.next_probe)
                .min(self.next_datagram)
                .min(end);
            self.turn();
        }
    }

    /// One turn of the loop: first what arrived, then what is due, then the verdict.
    fn turn(&mut self) {
        self.receive();
        if self.detector.burst_at().is_some_and(|at| self.now >= at) {
            self.ask();
            self.detector.burst_sent(self.now);
        }
        if self.now >= self.next_probe {
            self.ask();
            self.next_probe += self.timing.probe_interval;
        }
        let silent = self.detector.is_silent(self.now);
        match self.silent_at {
            None if silent => self.silent_at = Some(self.now),
            Some(_) if !silent => self.silent_at = None,
            _ => {}
        }
    }

    fn receive(&mut self) {
        self.replies.sort_unstable();
        let due = self.replies.partition_point(|r| r.0 <= self.now);
        for (at, network, number) in self.replies.drain(..due).collect::<Vec<_>>() {
            self.detector.echo_reply(network, number, at);
        }
        while self.now >= self.next_datagram {
            let at = self.next_datagram.since(start()).as_micros();
            for network in [RED, BLUE] {
                if self.fate.datagram(network, at) {
                    let heard = Heard {
                        arbiter_live: true,
                        hears_me: 0b11,
                        newest: true,
                    };
                    self.detector.datagram(network, self.next_datagram, heard);
                }
            }
            self.next_datagram += self.timing.probe_interval;
        }
    }

    fn ask(&mut self) {
        for network in [RED, BLUE] {
            if !self.fate.can_send(network, self.passed()) {
                self.detector.cannot_send(network);
                continue;
            }
            self.number += 1;
            self.detector.echo_sent(network, self.number, self.now);
            if let Some(after) = self.fate.echo(network, self.passed()) {
                self.replies
                    .push((self.now + us(after), network, self.number));
            }
        }
    }
}

/// Answers everything until it dies.
struct DiesAt(u64);

impl Fate for DiesAt {
    fn echo(&mut self, _: usize, at: u64) -> Option<u64> {
        (at < self.0).then_some(60)
    }
    fn datagram(&mut self, _: usize, at: u64) -> bool {
        at < self.0
    }
}

/// The verdict comes `dead-after` after the last sign of life, whatever the phase between our
/// requests, the neighbour's datagrams and its death.
#[test]
fn a_death_is_known_at_dead_after_and_not_before() {
    for (name, timing) in [
        ("telecom", Timing::telecom()),
        ("lan", Timing::lan()),
        ("wan", Timing::wan()),
    ] {
        let interval = timing.probe_interval.as_micros();
        let mut worst = 0;
        for phase in 0..20 {
            for moment in 0..20 {
                let phase = interval * phase / 20;
                let death = 50 * interval + interval * moment / 20 + 3;
                let mut world = World::new(timing, us(phase), DiesAt(death));
                world.run_until(start() + us(death) + timing.dead_after.times(2));
                let last = world.detector.report(world.now).last_sign.expect("a sign");
                let verdict = world.silent_at.expect("a verdict").since(last);
                assert!(
                    verdict >= timing.dead_after,
                    "{name}: {verdict} after the last sign"
                );
                worst = worst.max(verdict.as_micros() - timing.dead_after.as_micros());
            }
        }
        assert!(worst <= 1000, "{name}: {worst} us late");
    }
}

/// ECHO alone, on one network alone; the other has never worked.
struct Pattern<'a> {
    lost: &'a [bool],
    asked: usize,
}

impl Fate for Pattern<'_> {
    fn echo(&mut self, network: usize, _: u64) -> Option<u64> {
        if network != RED {
            return None;
        }
        self.asked += 1;
        let lost = self.lost.get(self.asked - 1).copied().unwrap_or(false);
        (!lost).then_some(100)
    }
    fn datagram(&mut self, _: usize, _: u64) -> bool {
        false
    }
}

proptest! {
    /// Mission E2: fewer than three replies missing in a row never make a neighbour silent.
    #[test]
    fn two_missing_replies_in_a_row_are_never_silence(
        lost in prop::collection::vec(any::<bool>(), 1..300),
        profile in 0..3_usize,
    ) {
        let mut lost = lost;
        lost[0] = false;
        for i in 2..lost.len() {
            if lost[i - 1] && lost[i - 2] {
                lost[i] = false;
            }
        }
        let timing = [Timing::telecom(), Timing::lan(), Timing::wan()][profile];
        let mut world = World::new(timing, Span::ZERO, Pattern { lost: &lost, asked: 0 });
        for _ in 0..lost.len() {
            world.run_until(world.now + timing.probe_interval);
            prop_assert_eq!(world.silent_at, None, "at {} us", world.passed());
        }
    }
}

/// Every packet is lost with the same chance, each direction on its own.
struct Lossy {
    state: u64,
    percent: u64,
}

impl Lossy {
    fn arrives(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % 100 >= self.percent
    }
}

impl Fate for Lossy {
    fn echo(&mut self, _: usize, _: u64) -> Option<u64> {
        let (there, back) = (self.arrives(), self.arrives());
        (there && back).then_some(150)
    }
    fn datagram(&mut self, _: usize, _: u64) -> bool {
        self.arrives()
    }
}

#[test]
fn half_an_hour_of_thirty_percent_loss_is_not_silence() {
    for seed in 1..=3 {
        let mut fate = Lossy {
            state: seed * 0x9e37_79b9,
            percent: 0,
        };
        fate.arrives();
        let mut world = World::new(Timing::telecom(), us(4000), fate);
        world.run_until(start() + Span::from_secs(2));
        assert_eq!(world.detector.dead_after(), Span::from_millis(30));
        world.fate.percent = 30;
        let mut longest = Span::ZERO;
        for _ in 0..6000 {
            world.run_until(world.now + Span::from_millis(100));
            assert_eq!(world.silent_at, None, "seed {seed}, {} us", world.passed());
            longest = longest.max(world.detector.dead_after());
        }
        assert!(longest > Span::from_millis(60), "it stretches: {longest}");
        assert!(longest < Span::from_millis(400), "within reason: {longest}");
        world.fate.percent = 0;
        world.run_until(world.now + Span::from_secs(2));
        assert_eq!(world.detector.dead_after(), Span::from_millis(30));
    }
}

/// Loss that begins from one moment to the next has not been measured when it matters most.
#[test]
fn sudden_loss_is_not_silence() {
    for seed in 1..=1000 {
        let mut fate = Lossy {
            state: 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed),
            percent: 0,
        };
        fate.arrives();
        let mut world = World::new(Timing::telecom(), us(seed * 37 % 10_000), fate);
        world.run_until(start() + Span::from_millis(300));
        assert_eq!(world.detector.dead_after(), Span::from_millis(30));
        world.fate.percent = 30;
        for _ in 0..50 {
            world.run_until(world.now + Span::from_millis(10));
            assert_eq!(world.silent_at, None, "seed {seed}, {} us", world.passed());
        }
    }
}

/// A dead neighbour costs one burst, not one for ever.
#[test]
fn a_dead_neighbour_is_not_flooded() {
    let mut world = World::new(Timing::telecom(), us(5000), DiesAt(200_000));
    world.run_until(start() + us(200_000));
    let before = world.number;
    world.run_until(start() + us(1_200_000));
    let asked = world.number - before;
    let regular = 2 * 100;
    assert!(asked <= regular + 2 * u64::from(BURST), "{asked}");
}

#[test]
fn a_death_on_a_lossy_link_is_known_at_the_stretched_time() {
    let fate = Lossy {
        state: 77,
        percent: 30,
    };
    let mut world = World::new(Timing::telecom(), us(4000), fate);
    world.run_until(start() + Span::from_secs(5));
    world.fate.percent = 100;
    world.run_until(world.now + Span::from_secs(1));
    let last = world.detector.report(world.now).last_sign.expect("a sign");
    let verdict = world.silent_at.expect("a verdict").since(last);
    let stretched = world.detector.dead_after();
    assert!(stretched > Span::from_millis(30));
    assert!(
        verdict >= stretched && verdict < stretched + Span::from_millis(11),
        "{verdict} with {stretched}"
    );
}

#[test]
fn who_was_never_heard_is_silent_after_dead_after() {
    let mut world = World::new(Timing::telecom(), Span::ZERO, DiesAt(0));
    world.run_until(start() + Span::from_millis(29));
    assert_eq!(world.silent_at, None);
    world.run_until(start() + Span::from_millis(45));
    assert!(world.silent_at.is_some());
    let report = world.detector.report(world.now);
    assert!(!report.suspect && report.last_sign.is_none());
}

#[test]
fn the_burst_starts_before_the_verdict_and_a_reply_ends_the_suspicion() {
    let mut world = World::new(Timing::telecom(), us(0), DiesAt(200_001));
    world.run_until(start() + us(200_000) + Span::from_millis(25));
    assert!(world.detector.facts(world.now).suspect);
    assert!(!world.detector.is_silent(world.now));
    let paths = world.detector.report(world.now).paths;
    assert!(paths.iter().all(|p| p.missing >= 3), "{paths:?}");
    world.detector.echo_reply(BLUE, world.number, world.now);
    assert!(!world.detector.facts(world.now).suspect);
}

/// Dies as well, and never answers on a network on which we cannot send.
struct CanSend {
    dies_at: u64,
    on: [bool; 2],
}

impl Fate for CanSend {
    fn echo(&mut self, _: usize, at: u64) -> Option<u64> {
        (at < self.dies_at).then_some(60)
    }
    fn datagram(&mut self, network: usize, at: u64) -> bool {
        at < self.dies_at && self.on[network]
    }
    fn can_send(&self, network: usize, _: u64) -> bool {
        self.on[network]
    }
}

#[test]
fn a_network_that_we_cannot_use_is_not_waited_for_and_none_at_all_proves_nothing() {
    for (on, silent) in [([true, false], true), ([false, false], false)] {
        let fate = CanSend {
            dies_at: 200_000,
            on,
        };
        let mut world = World::new(Timing::telecom(), Span::ZERO, fate);
        world.run_until(start() + Span::from_millis(400));
        assert_eq!(world.silent_at.is_some(), silent, "{on:?}");
    }
}

/// Its software hangs; its kernel answers.
struct SoftwareDiesAt(u64);

impl Fate for SoftwareDiesAt {
    fn echo(&mut self, _: usize, _: u64) -> Option<u64> {
        Some(60)
    }
    fn datagram(&mut self, _: usize, at: u64) -> bool {
        at < self.0
    }
}

#[test]
fn dead_software_on_a_live_kernel_is_not_heard_and_not_silent() {
    let mut world = World::new(Timing::telecom(), us(5000), SoftwareDiesAt(200_000));
    world.run_until(start() + us(195_000 + 24_000));
    let facts = |world: &World<SoftwareDiesAt>| {
        let report = world.detector.report(world.now);
        (
            report.paths.iter().any(|p| p.heard),
            report.paths.iter().all(|p| p.kernel),
            world.detector.hears(world.now),
        )
    };
    assert_eq!(facts(&world), (true, true, 0b11));
    // Its prober may only have paused: while its kernel answers, it is told that we hear it.
    world.run_until(start() + us(195_000 + 25_000));
    assert_eq!(facts(&world), (false, true, 0b11));
    world.run_until(start() + us(195_000 + 499_000));
    assert_eq!(facts(&world), (false, true, 0b11));
    world.run_until(start() + us(195_000 + 500_000));
    assert_eq!(facts(&world), (false, true, 0));
    world.run_until(start() + Span::from_secs(2));
    assert_eq!(world.silent_at, None);
}

/// What the neighbour sends does not arrive; what we send does.
struct OneWay(u64);

impl Fate for OneWay {
    fn echo(&mut self, _: usize, at: u64) -> Option<u64> {
        (at < self.0).then_some(60)
    }
    fn datagram(&mut self, _: usize, at: u64) -> bool {
        at < self.0
    }
}

/// Rule A4 needs it: the neighbour must let go before we call it dead.
#[test]
fn a_network_that_works_one_way_is_told_before_the_verdict() {
    for moment in 0..20 {
        let cut = 200_000 + moment * 500;
        let mut world = World::new(Timing::telecom(), us(5000), OneWay(cut));
        world.run_until(start() + us(cut));
        assert_eq!(world.detector.hears(world.now), 0b11);
        while world.detector.hears(world.now) != 0 {
            world.run_until(world.detector.deadline(world.now));
            assert_eq!(world.silent_at, None);
        }
        let told = world.now;
        world.run_until(told + Span::from_millis(30));
        let verdict = world.silent_at.expect("a verdict");
        assert!(verdict.since(told) >= Span::from_millis(4), "{cut}");
    }
}

#[test]
fn time_in_which_we_stood_still_does_not_count() {
    let mut world = World::new(Timing::telecom(), us(5000), DiesAt(200_000));
    world.run_until(start() + us(205_000));
    // The last sign was at 195 ms. We stand still for a second and find empty sockets.
    let from = world.now;
    world.now += Span::from_secs(1);
    world.detector.stood_still(from, world.now);
    let woke = world.now;
    world.next_probe = woke;
    world.next_datagram = woke;
    world.turn();
    assert_eq!(world.silent_at, None);
    world.run_until(woke + Span::from_millis(100));
    let verdict = world.silent_at.expect("a verdict").since(woke);
    // 10 of the 30 ms had passed before.
    assert!(
        verdict >= Span::from_millis(20) && verdict <= Span::from_millis(26),
        "{verdict}"
    );
    // And what is silent stays silent over another stall.
    let from = world.now;
    world.now += Span::from_secs(1);
    world.detector.stood_still(from, world.now);
    assert!(world.detector.is_silent(world.now));
}

#[test]
fn a_silent_arbiter_is_no_live_one_and_only_the_newest_datagram_speaks() {
    let mut world = World::new(Timing::telecom(), us(5000), DiesAt(0));
    let at = start() + us(100);
    let say = |arbiter_live, newest, hears_me| Heard {
        arbiter_live,
        hears_me,
        newest,
    };
    world.detector.datagram(RED, at, say(false, true, 0b10));
    let report = world.detector.report(at);
    assert!(report.arbiter_silent && report.hears_me && report.last_heard.is_none());
    assert!(!report.paths[RED].heard && report.paths[RED].kernel);
    assert!(!report.paths[RED].hears_me && report.paths[BLUE].hears_me);
    assert_eq!(world.detector.hears(at), 0b01);
    // An older one, overtaken: a sign of life, nothing more.
    world.detector.datagram(BLUE, at, say(true, false, 0));
    let report = world.detector.report(at);
    assert!(report.arbiter_silent && report.hears_me);
    assert!(report.paths[BLUE].heard);
}
