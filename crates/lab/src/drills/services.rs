//! Services that fail.

use super::{SOMEBODY, TAKEOVER, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Drill,
        Fault::{KillService, Mood, Switchover, Together},
        Step::{Do, OtherServes, Reach, SomebodyServes, Watch},
        Who::{Active, Standby},
    },
};

pub(super) fn drills() -> Vec<Drill> {
    vec![
        Drill::new(
            "service-crash",
            "the service dies once",
            vec![Do(KillService(Active)), Watch(1500), Reach(Goal::Settled)],
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Look into the service's log; it has been started again."),
        Drill::new(
            "service-crash-loop",
            "the service dies, and again at every start on this server",
            vec![
                Do(Together(vec![Mood(Active, "crash"), KillService(Active)])),
                OtherServes,
                Watch(500),
            ],
        )
        .expect(TAKEOVER, &["A10"])
        .takeovers(1)
        .advice("Mend the service there, then `haarb clear`."),
        Drill::new(
            "service-start-fails",
            "planned switchover to a server on which the service cannot start",
            vec![
                Do(Together(vec![Mood(Standby, "crash"), Switchover])),
                Watch(3000),
                SomebodyServes,
                Watch(500),
            ],
        )
        .expect(SOMEBODY, &["A10"])
        .takeovers(2)
        .advice("Mend the service on that server, then `haarb clear` and switch over again."),
        Drill::new(
            "service-refuses-to-stop",
            "planned switchover of a service that ignores SIGTERM",
            vec![Do(Switchover), Watch(11_000), SomebodyServes, Watch(300)],
        )
        .layout(Together(vec![Mood(Active, "stubborn"), KillService(Active)]))
        .expect(SOMEBODY, &["A12"])
        .takeovers(1)
        .advice("Give the service a `stop-timeout` below `drain-max`, after which it is killed; or the switchover is abandoned and it serves on."),
    ]
}
