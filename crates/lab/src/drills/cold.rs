//! Cold starts.

use super::{NOBODY, SOMEBODY};
use crate::{
    cluster::Goal,
    drill::{
        Active as WhoIsActive, Drill,
        Fault::{PowerOff, PowerOn, PowerOnAll, SwitchesOff, Together},
        Service,
        Step::{Do, Reach, SomebodyServes, Watch},
        Who::{Active, Standby},
    },
};

pub(super) fn drills() -> Vec<Drill> {
    let both_off = || Together(vec![PowerOff(Active), PowerOff(Standby)]);
    vec![
        Drill::new(
            "cold-start-both",
            "both servers are switched on after a stop of the whole segment",
            vec![
                Do(Together(vec![both_off(), PowerOnAll])),
                Reach(Goal::Settled),
                SomebodyServes,
            ],
        )
        .expect(SOMEBODY, &["S3"])
        .advice("Nothing."),
        Drill::new(
            "cold-start-one",
            "one server is switched on, the other one stays off",
            vec![
                Do(Together(vec![both_off(), PowerOn(Standby)])),
                SomebodyServes,
                Watch(300),
            ],
        )
        .expect(SOMEBODY, &["S2"])
        .advice("`haarb promote` saves the waiting time when it is known that the other server's data are older."),
        Drill::new(
            "cold-start-switch-dead",
            "both servers are switched on while one switch is dead",
            vec![
                Do(Together(vec![both_off(), SwitchesOff(&[0]), PowerOnAll])),
                Reach(Goal::AllManual),
                Watch(4000),
            ],
        )
        .expect((WhoIsActive::Someone, Service::Whatever), &["S3"])
        .advice("Repair the switch; nothing switches over by itself until then."),
        Drill::new(
            "cold-start-one-switch-dead",
            "one server is switched on while one switch is dead",
            vec![
                Do(Together(vec![both_off(), SwitchesOff(&[0]), PowerOn(Active)])),
                Watch(5000),
            ],
        )
        .expect(NOBODY, &["W4"])
        .advice("Repair the switch or bring the other server; or `haarb promote --force`."),
    ]
}
