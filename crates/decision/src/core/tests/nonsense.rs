//! Whatever is said to it, it neither panics nor holds what it must not.

use super::*;

/// SplitMix64, so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Inputs that fit together no better than chance: adverts that contradict themselves,
/// agents that come and go, time that jumps and goes back.
fn nonsense(bench: &Bench, chance: &mut Chance) -> Input {
    let agent = Agent::ALL[chance.below(5) as usize];
    match chance.below(12) {
        0 => Input::Tick,
        1 => Input::Attached(agent),
        2 => Input::Lost(agent),
        3 => Input::Report(agent, Report::Alive),
        4 => Input::Report(agent, Report::Stalled(Span::from_millis(chance.below(900)))),
        5 => Input::Stalled(Span::from_millis(chance.below(900))),
        6 => Input::Report(agent, Report::Probe(bench.probe())),
        7 => Input::Command(match chance.below(6) {
            0 => Command::Switchover {
                reserve: sip(),
                to: chance.yes().then(|| node("a")),
                expected_epoch: None,
            },
            1 => Command::Promote {
                reserve: sip(),
                force: chance.yes(),
                accept_stale: chance.yes(),
            },
            2 => Command::Demote { reserve: sip() },
            3 => Command::Maintenance(chance.yes()),
            _ => Command::Clear { reserve: sip() },
        }),
        _ => {
            let named = |chance: &mut Chance| match chance.below(4) {
                0 => Some(node("a")),
                1 => Some(node("b")),
                2 => Some(node("stranger")),
                _ => None,
            };
            let part = AdvertReserve {
                role: Role::ALL[chance.below(7) as usize],
                epoch: Epoch(if chance.below(50) == 0 {
                    u64::MAX
                } else {
                    chance.below(9)
                }),
                eligible: chance.yes(),
                unable: chance.yes(),
                data: [Data::Current, Data::Stale, Data::Inconsistent][chance.below(3) as usize],
                was_active: chance.yes(),
                released_to: named(chance),
                claims: chance.yes(),
                yields_to: named(chance),
                asks_for: named(chance),
            };
            let advert = Advert {
                protocol: 1,
                protocol_oldest: 0,
                config_digest: 7 + u64::from(chance.below(20) == 0),
                usable: networks().into_iter().filter(|_| chance.yes()).collect(),
                confirms: networks().into_iter().filter(|_| chance.yes()).collect(),
                mode: Mode::ALL[chance.below(6) as usize],
                leaving: chance.below(9) == 0,
                macs: Default::default(),
                lease_exact: chance.yes(),
                reserves: [(sip(), part)].into(),
            };
            let from = named(chance).unwrap_or_else(|| node("a"));
            let at = bench.now;
            Input::Report(agent, Report::Advert { from, at, advert })
        }
    }
}

#[test]
fn nonsense_never_breaks_it() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut bench = Bench::new("b", Record::default());
        for _ in 0..600 {
            bench.heard = chance.yes();
            bench.silent = !bench.heard && chance.yes();
            bench.hears_me = chance.yes();
            bench.up = [chance.below(5) > 0, chance.below(5) > 0];
            bench.now = match chance.below(20) {
                0 => bench.now - Span::from_millis(chance.below(500)),
                1 => bench.now + Span::from_millis(chance.below(3_000)),
                _ => bench.now + Span::from_millis(chance.below(20)),
            };
            let input = nonsense(&bench, &mut chance);
            let seen = format!("seed {seed}: {input:?}");
            let step = bench.core.step(bench.now, input);
            assert!(step.events.len() < 40, "{seen}");
            let reserve = bench.core.reserve(&sip()).expect("the reserve");
            // Nothing is told before it is known what is held.
            let (holds, runs) = bench
                .core
                .duties(bench.now)
                .reserves
                .pop()
                .map_or((false, false), |duty| (duty.vip.hold, duty.services.run));
            assert!(!holds || reserve.role.serves(), "{seen}");
            assert!(!runs || holds, "{seen}");
            let cut_off = reserve.facts.links == crate::facts::Links::None;
            let frozen = bench.core.mode().mode == Mode::Maintenance;
            assert!(!(holds && cut_off) || frozen, "{seen}");
            if chance.below(4) == 0 {
                let now = bench.now;
                bench.now = now.max(bench.core.now);
                bench.report();
            }
        }
    }
}
