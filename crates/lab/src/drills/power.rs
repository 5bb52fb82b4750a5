//! Power-offs of servers, and whole servers that pause.

use super::{NOBODY, SOMEBODY, STAYS, TAKEOVER, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Drill,
        Fault::{self, Pause, PowerOff, PowerOn, PowerOnAll, ResumeAll, Together},
        Ground,
        Step::{Do, OtherServes, Reach, SomebodyServes, Watch},
        Who::{Active, Standby},
    },
};

pub(super) fn drills() -> Vec<Drill> {
    let settled = || Reach(Goal::Settled);
    let power_off = || vec![Do(PowerOff(Active)), OtherServes, Watch(500)];
    let both_off = || Do(Together(vec![PowerOff(Active), PowerOff(Standby)]));
    vec![
        Drill::new("power-off-active", "power-off of the active server", power_off())
            .expect(TAKEOVER, &["B7"])
            .advice("Nothing at once; find out why it died and switch it on again: it returns as the standby."),
        Drill::new("return", "the dead server returns", vec![Do(PowerOnAll), settled()])
            .after("power-off-active")
            .expect(UNDISTURBED, &["W1"])
            .advice("Nothing; `haarb switchover` if the services should run on the returned server."),
        Drill::new("power-off-active-ipv6", "power-off of the active server, with IPv6 virtual IPs", power_off())
            .on(Ground::Ipv6)
            .expect(TAKEOVER, &["B7"])
            .advice("As for power-off-active."),
        Drill::new(
            "power-off-standby",
            "power-off of the standby",
            vec![Do(PowerOff(Standby)), Watch(2000)],
        )
        .expect(UNDISTURBED, &["A9"])
        .advice("Bring the standby back: until then nothing protects the service."),
        Drill::new(
            "power-off-both",
            "power-off of both servers, and both return together",
            vec![both_off(), Watch(500), Do(PowerOnAll), settled(), SomebodyServes],
        )
        .expect(SOMEBODY, &["S3"])
        .advice("Bring both back at the same time where that is possible: together they need no waiting time."),
        Drill::new(
            "power-off-both-active-returns-first",
            "power-off of both servers; the last active one returns alone, the other one later",
            vec![
                both_off(),
                Watch(500),
                Do(PowerOn(Active)),
                SomebodyServes,
                Watch(500),
                Do(PowerOn(Standby)),
                settled(),
            ],
        )
        .expect(STAYS, &["S2"])
        .advice("`haarb promote` saves the waiting time when it is known that the other server's data are older."),
        Drill::new(
            "power-off-both-standby-returns-first",
            "power-off of both servers; the standby returns alone, the last active one later",
            vec![
                both_off(),
                Watch(500),
                Do(PowerOn(Standby)),
                SomebodyServes,
                Watch(500),
                Do(PowerOn(Active)),
                settled(),
            ],
        )
        .expect(TAKEOVER, &["S2"])
        .advice("Bring the last active server back first where there is a choice; look at the place for conflicts."),
        Drill::new(
            "power-off-in-turn",
            "power-off of the active; when the other one serves, power-off of that one too",
            vec![Do(PowerOff(Active)), OtherServes, Watch(300), Do(PowerOff(Standby)), Watch(1000)],
        )
        .expect(NOBODY, &[])
        .advice("Bring the server back first that was switched off last: it has the newest data."),
        Drill::new(
            "pause-active",
            "the whole active server pauses, as a virtual machine does",
            vec![Do(Pause(Active)), OtherServes, Watch(200)],
        )
        .layout(Fault::Loss(0))
        .expect(TAKEOVER, &["B7"])
        .advice("Do not pause, snapshot or migrate an active server: `haarb switchover` first."),
        Drill::new(
            "resume",
            "the paused server goes on",
            vec![Do(ResumeAll), settled()],
        )
        .after("pause-active")
        .expect(UNDISTURBED, &["X1", "A1"])
        .residual("R3")
        .advice("Compare the place for conflicts; both servers told of the moment in `haarb events`."),
        Drill::new(
            "two-reserves-power-off",
            "power-off of one of two servers that both serve a reserve",
            power_off(),
        )
        .on(Ground::TwoReserves)
        .layout(Fault::SpreadReserves)
        .expect(TAKEOVER, &["B7"])
        .advice("Nothing at once; when the server is back, `haarb switchover` spreads the reserves again."),
    ]
}
