//! Whatever happens in whatever order.

use proptest::prelude::*;

use super::*;

/// Something that happens, and the time that passes before it.
#[derive(Clone, Debug)]
enum Happens {
    Hold { epoch: u64, for_ms: u64 },
    Nothing { epoch: u64 },
    Probe,
    RemovedByHand(u8),
    StaticAdded(u8),
    StaticRemoved(u8),
    Carrier(u8, bool),
    Claimed(u8),
    KernelRefuses(bool),
    Quiet,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let host = 1..=2_u8;
    let what = prop_oneof![
        4 => (0..4_u64, 0..=LEASE_MS).prop_map(|(epoch, for_ms)| Happens::Hold { epoch, for_ms }),
        2 => (0..4_u64).prop_map(|epoch| Happens::Nothing { epoch }),
        1 => Just(Happens::Probe),
        2 => host.clone().prop_map(Happens::RemovedByHand),
        1 => host.clone().prop_map(Happens::StaticAdded),
        1 => host.clone().prop_map(Happens::StaticRemoved),
        1 => (host.clone(), any::<bool>()).prop_map(|(h, up)| Happens::Carrier(h, up)),
        1 => host.prop_map(Happens::Claimed),
        1 => any::<bool>().prop_map(Happens::KernelRefuses),
        2 => Just(Happens::Quiet),
    ];
    (prop_oneof![8 => 0..60_u64, 1 => 400..900_u64], what)
}

proptest! {
    /// Whatever happens in whatever order: nothing is held without a lease, under a lower
    /// epoch than was seen, or by touching the server's own addresses; and the loop never
    /// spins.
    #[test]
    fn nothing_is_ever_held_without_a_right(story in proptest::collection::vec(happens(), 1..80)) {
        let mut server = Server::start(&[], false);
        let (mut ms, mut seen) = (0, 0);
        // The latest moment until which any accepted grant allows holding.
        let mut allowed_until = 0;
        let mut statics = [false; 2];
        for (passed, what) in story {
            // The loop turns by itself in between unless it is frozen.
            if passed <= LEASE_MS {
                server.turn(ms + passed / 2, vec![]);
            } else {
                allowed_until = 0;
            }
            ms += passed;
            let event = match what {
                Happens::Hold { epoch, for_ms } => {
                    if epoch >= seen {
                        allowed_until = ms + for_ms;
                    }
                    seen = seen.max(epoch);
                    Some(hold(epoch, ms + for_ms))
                }
                Happens::Nothing { epoch } => {
                    allowed_until = 0;
                    seen = seen.max(epoch);
                    Some(nothing(epoch))
                }
                Happens::Probe => {
                    allowed_until = 0;
                    let vip = VipDuty { probe: true, ..VipDuty::default() };
                    Some(duty(seen, vip))
                }
                Happens::RemovedByHand(h) => {
                    let id = VipId(0, usize::from(h - 1));
                    let had = server.kernel.remove(&id).is_some();
                    had.then(|| Event::AddressGone(found(&vip(h), true)))
                }
                Happens::StaticAdded(h) => {
                    let free = !server.kernel.contains_key(&VipId(0, usize::from(h - 1)));
                    statics[usize::from(h - 1)] |= free;
                    free.then(|| Event::Address(found(&vip(h), false)))
                }
                Happens::StaticRemoved(h) => {
                    let had = std::mem::take(&mut statics[usize::from(h - 1)]);
                    had.then(|| Event::AddressGone(found(&vip(h), false)))
                }
                Happens::Carrier(h, up) => Some(Event::Link(link(&vip(h), up))),
                Happens::Claimed(h) => Some(Event::Heard {
                    interface: vip(h).interface,
                    claim: Claim { address: vip(h).address, mac: THEIRS },
                }),
                Happens::KernelRefuses(refuses) => {
                    server.refuses = refuses;
                    None
                }
                Happens::Quiet => None,
            };
            server.turn(ms, event.into_iter().collect());
            for (id, ends) in &server.kernel {
                prop_assert!(ms < allowed_until, "{id:?} held at {ms}, allowed until {allowed_until}");
                prop_assert!(*ends <= at(allowed_until + 3_100), "the kernel would hold it long after");
                prop_assert!(!statics[id.1], "took over an address of the server");
            }
            prop_assert!(server.plan.deadline(at(ms)) > at(ms), "the loop would spin");
            prop_assert_eq!(server.held(), server.report().vips.iter().filter(|v| v.held).count());
        }
    }
}
