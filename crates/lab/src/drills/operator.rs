//! What operators ask for: switchovers and upgrades.

use super::{SOMEBODY, STAYS, TAKEOVER, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Drill,
        Fault::{
            Restart, SpreadReserves, SwapReserves, Switchover, SwitchoverOnBoth, TrySwitchover,
            WriteData,
        },
        Ground,
        Step::{self, Do, OtherServes, Reach, SomebodyServes, Watch},
        Who::{self, Active, Standby},
    },
};

/// In the order of an upgrade: what decides comes last.
const DAEMONS: [&str; 6] = [
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-vip-agent",
    "haarb-syncer",
    "haarb-supervisor",
    "haarb-arbiter",
];

/// Every daemon of a server is restarted, the next one when all is settled again.
fn upgrade(who: Who) -> Vec<Step> {
    let one = |daemon| [Do(Restart(who, daemon)), Watch(300), Reach(Goal::Settled)];
    DAEMONS.into_iter().flat_map(one).collect()
}

pub(super) fn drills() -> Vec<Drill> {
    let switchover = || vec![Do(Switchover), OtherServes, Watch(500)];
    vec![
        Drill::new("switchover", "planned switchover", switchover())
            .expect(TAKEOVER, &["A12"])
            .advice("`haarb switchover RESERVE` before any work on the active server."),
        Drill::new(
            "switchover-ipv6",
            "planned switchover, with IPv6 virtual IPs",
            switchover(),
        )
        .on(Ground::Ipv6)
        .expect(TAKEOVER, &["A12"])
        .advice("As for switchover."),
        Drill::new(
            "switchover-asked-on-both",
            "planned switchover, asked on both servers at once",
            vec![Do(SwitchoverOnBoth), OtherServes, Watch(1500)],
        )
        .expect(TAKEOVER, &["A12"])
        .takeovers(1)
        .advice("Nothing: the second request is refused or changes nothing."),
        Drill::new(
            "switchover-during-sync",
            "planned switchover while 48 MiB wait to be replicated",
            vec![
                Do(TrySwitchover),
                SomebodyServes,
                Watch(1500),
                Reach(Goal::Settled),
            ],
        )
        .layout(WriteData(48))
        .expect(SOMEBODY, &[])
        .takeovers(1)
        .advice("Nothing: it is done once the data are there, or refused with the reason."),
        Drill::new(
            "two-reserves-swap",
            "two reserves on two servers change places at the same moment",
            vec![Do(SwapReserves), Watch(2000), Reach(Goal::Settled)],
        )
        .on(Ground::TwoReserves)
        .layout(SpreadReserves)
        .expect(TAKEOVER, &["A12"])
        .takeovers(2)
        .advice("Nothing."),
        Drill::new(
            "upgrade-standby",
            "rolling upgrade: every daemon of the standby restarted, one after the other",
            upgrade(Standby),
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Upgrade the standby first, then switch over, then the other one."),
        Drill::new(
            "upgrade-active",
            "rolling upgrade: every daemon of the active restarted, one after the other",
            upgrade(Active),
        )
        .expect(STAYS, &[])
        .takeovers(0)
        .advice("Upgrade the standby first, then switch over, then the other one."),
    ]
}
