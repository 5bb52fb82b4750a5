//! Switches and cables.

use super::{NOBODY, SOMEBODY, STAYS, TAKEOVER, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Drill,
        Fault::{
            PlugAll, PowerOff, Pull, SpreadReserves, SwitchHangs, SwitchesOff, SwitchesOn, Together,
        },
        Ground,
        Step::{Before, Do, Flap, OtherServes, Reach, SomebodyServes, Watch},
        Who::{Active, Standby},
    },
};

pub(super) fn drills() -> Vec<Drill> {
    [switches(), cables()].concat()
}

fn switches() -> Vec<Drill> {
    let settled = || Reach(Goal::Settled);
    vec![
        Drill::new(
            "switch-off",
            "one switch off",
            vec![Do(SwitchesOff(&[0])), Reach(Goal::AllManual), Watch(500)],
        )
        .expect(UNDISTURBED, &["A6"])
        .advice("Repair the switch; until then nothing switches over by itself."),
        Drill::new(
            "switch-on",
            "that switch on again",
            vec![Do(SwitchesOn(&[0])), settled()],
        )
        .after("switch-off")
        .expect(UNDISTURBED, &[])
        .advice("Nothing."),
        Drill::new(
            "switch-hangs",
            "a switch hangs with its carriers up",
            vec![Do(SwitchHangs(0)), Reach(Goal::AllManual), Watch(500)],
        )
        .expect(UNDISTURBED, &["A6"])
        .advice("Restart the switch; give every switch an address in the configuration, which is how this is seen."),
        Drill::new(
            "both-switches-off",
            "both switches off",
            vec![
                Do(SwitchesOff(&[0, 1])),
                Reach(Goal::NobodyServes),
                Watch(300),
            ],
        )
        .expect(NOBODY, &["A3"])
        .advice("Bring the switches back: no client reaches anything, and both servers wait for that."),
        Drill::new(
            "both-switches-on",
            "both switches on again",
            vec![Do(SwitchesOn(&[0, 1])), settled(), SomebodyServes],
        )
        .after("both-switches-off")
        .expect(SOMEBODY, &["W2", "W3"])
        .advice("Nothing."),
        Drill::new(
            "both-switches-off-on-in-turn",
            "both switches off; they return one after the other",
            vec![
                Do(SwitchesOff(&[0, 1])),
                Reach(Goal::NobodyServes),
                Do(SwitchesOn(&[0])),
                Watch(3000),
                Reach(Goal::NobodyServes),
                Do(SwitchesOn(&[1])),
                settled(),
                SomebodyServes,
            ],
        )
        .expect(SOMEBODY, &["W2", "W3"])
        .advice("With one switch back for long, `haarb promote --force` serves on it; otherwise wait for the other one."),
        Drill::new(
            "dies-in-manual-mode",
            "one switch off, then power-off of the active; later the switch returns",
            vec![
                Before(SwitchesOff(&[0])),
                Reach(Goal::AllManual),
                Do(PowerOff(Active)),
                Watch(1000),
                Do(SwitchesOn(&[0])),
                OtherServes,
                Watch(300),
            ],
        )
        .expect(TAKEOVER, &["B7", "B2a"])
        .advice("Two faults at once are the operator's: when the active server is really dead, `haarb promote --force` on the other one."),
    ]
}

fn cables() -> Vec<Drill> {
    let settled = || Reach(Goal::Settled);
    let cable_active = || vec![Do(Pull(Active, 0)), OtherServes, Watch(500)];
    let all_of = |who| Do(Together(vec![Pull(who, 0), Pull(who, 1)]));
    vec![
        Drill::new(
            "cable-active",
            "one cable of the active pulled",
            cable_active(),
        )
        .expect(TAKEOVER, &["A5"])
        .advice("Repair the link; the services run where both networks are."),
        Drill::new(
            "cable-back",
            "that cable plugged in again",
            vec![Do(PlugAll), settled()],
        )
        .after("cable-active")
        .expect(UNDISTURBED, &[])
        .advice("Nothing; the services stay where they are."),
        Drill::new(
            "cable-active-ipv6",
            "one cable of the active pulled, with IPv6 virtual IPs",
            cable_active(),
        )
        .on(Ground::Ipv6)
        .expect(TAKEOVER, &["A5"])
        .advice("As for cable-active."),
        Drill::new(
            "two-reserves-cable",
            "one cable pulled of one of two servers that both serve a reserve",
            cable_active(),
        )
        .on(Ground::TwoReserves)
        .layout(SpreadReserves)
        .expect(TAKEOVER, &["A5"])
        .advice("Repair the link, then `haarb switchover` spreads the reserves again."),
        Drill::new(
            "cable-standby",
            "one cable of the standby pulled",
            vec![Do(Pull(Standby, 0)), Watch(2000)],
        )
        .expect(UNDISTURBED, &[])
        .advice("Repair the link: until then the standby does not take over."),
        Drill::new(
            "all-cables-active",
            "all cables of the active pulled",
            vec![all_of(Active), OtherServes, Watch(500)],
        )
        .expect(TAKEOVER, &["B7"])
        .advice(
            "Repair the links; the cut-off server has let go by itself and returns as the standby.",
        ),
        Drill::new(
            "all-cables-active-back",
            "those cables plugged in again",
            vec![Do(PlugAll), settled()],
        )
        .after("all-cables-active")
        .expect(UNDISTURBED, &["W1"])
        .advice("Nothing."),
        Drill::new(
            "all-cables-standby",
            "all cables of the standby pulled",
            vec![all_of(Standby), Watch(2000)],
        )
        .expect(UNDISTURBED, &["A9"])
        .advice("Repair the links: until then nothing protects the service."),
        Drill::new(
            "crossed-cables",
            "the active loses one network and the standby the other one",
            vec![
                Do(Together(vec![Pull(Active, 0), Pull(Standby, 1)])),
                Watch(2000),
            ],
        )
        .expect(STAYS, &["A7"])
        .advice("Repair either link; clients of the lost network reach nothing until then."),
        Drill::new(
            "crossed-cables-back",
            "both plugged in again",
            vec![Do(PlugAll), settled()],
        )
        .after("crossed-cables")
        .expect(UNDISTURBED, &[])
        .advice("Nothing."),
        Drill::new(
            "flapping-standby",
            "a cable of the standby flaps",
            vec![
                Flap {
                    who: Standby,
                    network: 0,
                    down_ms: 300,
                    up_ms: 700,
                },
                settled(),
            ],
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Exchange the cable or the port; while it flaps the standby does not take over."),
        Drill::new(
            "flapping-active",
            "a cable of the active flaps",
            vec![
                Flap {
                    who: Active,
                    network: 0,
                    down_ms: 300,
                    up_ms: 700,
                },
                settled(),
            ],
        )
        .expect(TAKEOVER, &["A5"])
        .takeovers(1)
        .advice(
            "Exchange the cable or the port; the services have moved once and stay away from it.",
        ),
    ]
}
