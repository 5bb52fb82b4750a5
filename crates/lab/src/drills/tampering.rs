//! What careless or hostile hands do: addresses, configuration, keys, datagrams.

use super::{STAYS, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Drill,
        Fault::{
            ChangeConfig, ChangeKey, Loss, Mischief, RemoveVip, StrangerLeaves, StrangerTakes,
        },
        Step::{Do, Reach, Watch, WatchLong},
        Who::Standby,
    },
};

pub(super) fn drills() -> Vec<Drill> {
    vec![
        Drill::new(
            "vip-removed",
            "a virtual IP is removed from the active by hand",
            vec![Do(RemoveVip), Watch(1500), Reach(Goal::Settled)],
        )
        .expect(STAYS, &[])
        .takeovers(0)
        .advice("Nothing: it is put back. Use `haarb switchover` or `haarb demote` to move it."),
        Drill::new(
            "vip-taken",
            "a machine that is no server takes a virtual IP, and leaves again",
            vec![
                Do(StrangerTakes),
                Watch(2000),
                Do(StrangerLeaves),
                // One defence per ten seconds.
                Watch(11_000),
            ],
        )
        .expect(STAYS, &["X3"])
        .takeovers(0)
        .advice("Find the machine by its MAC address in the switches and take the address away from it."),
        Drill::new(
            "config-differs",
            "the standby starts with another configuration",
            vec![
                Do(ChangeConfig(Standby)),
                Reach(Goal::Manual("config differs")),
                Watch(500),
            ],
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Bring the same file to both servers; until then nothing switches over by itself."),
        Drill::new(
            "wrong-key",
            "the standby starts with another cluster key",
            vec![Do(ChangeKey(Standby)), Watch(3000)],
        )
        .expect(UNDISTURBED, &["A8"])
        .takeovers(0)
        .advice("Copy the key; `haarb status` counts the dropped datagrams."),
        Drill::new(
            "forged-datagrams",
            "old datagrams are sent again and changed ones beside the true ones",
            vec![Do(Mischief(50)), WatchLong],
        )
        .layout(Loss(0))
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Find who sends them; they have no effect but the count in `haarb status`."),
    ]
}
