//! The drills that exist. Each is a row of data; [`crate::drill`] runs them.

use crate::{
    cluster::Goal,
    drill::{
        Active, Drill, Expect, Fault, Service,
        Step::{self, Do, OtherServes, Reach, SomebodyServes, Watch},
        Who,
    },
};

/// The drills of the demo, in their order: each leaves the segment as the next one needs it.
pub const DEMO: [&str; 9] = [
    "power-off-active",
    "return",
    "switch-off",
    "switch-on",
    "both-switches-off",
    "both-switches-on",
    "cable-active",
    "cable-back",
    "switchover",
];

/// Every drill.
#[must_use]
pub fn all() -> Vec<Drill> {
    [demo(), links(), software()].concat()
}

fn drill(
    name: &'static str,
    what: &'static str,
    after: Option<&'static str>,
    steps: Vec<Step>,
    (active, service): (Active, Service),
    rules: &'static [&'static str],
) -> Drill {
    Drill {
        name,
        what,
        after,
        layout: None,
        steps,
        expect: Expect {
            active,
            service,
            rules,
        },
    }
}

/// A server serves on, and the clients notice nothing.
const UNDISTURBED: (Active, Service) = (Active::Stays, Service::Uninterrupted);
/// Another server takes over.
const TAKEOVER: (Active, Service) = (Active::Moves, Service::Resumes);

fn demo() -> Vec<Drill> {
    let settled = Reach(Goal::Settled);
    vec![
        drill(
            "power-off-active",
            "power-off of the active server",
            None,
            vec![Do(Fault::PowerOff(Who::Active)), OtherServes, Watch(500)],
            TAKEOVER,
            &["B7"],
        ),
        drill(
            "return",
            "the dead server returns",
            Some("power-off-active"),
            vec![Do(Fault::PowerOnAll), settled.clone()],
            UNDISTURBED,
            &["W1"],
        ),
        drill(
            "switch-off",
            "one switch off",
            None,
            vec![
                Do(Fault::SwitchesOff(&[0])),
                Reach(Goal::AllManual),
                Watch(500),
            ],
            UNDISTURBED,
            &["A6"],
        ),
        drill(
            "switch-on",
            "that switch on again",
            Some("switch-off"),
            vec![Do(Fault::SwitchesOn(&[0])), settled.clone()],
            UNDISTURBED,
            &[],
        ),
        drill(
            "both-switches-off",
            "both switches off",
            None,
            vec![
                Do(Fault::SwitchesOff(&[0, 1])),
                Reach(Goal::NobodyServes),
                Watch(300),
            ],
            (Active::Nobody, Service::Stops),
            &["A3"],
        ),
        drill(
            "both-switches-on",
            "both switches on again",
            Some("both-switches-off"),
            vec![
                Do(Fault::SwitchesOn(&[0, 1])),
                settled.clone(),
                SomebodyServes,
            ],
            (Active::Someone, Service::Resumes),
            &["W2", "W3"],
        ),
        drill(
            "cable-active",
            "one cable of the active pulled",
            None,
            vec![Do(Fault::Pull(Who::Active, 0)), OtherServes, Watch(500)],
            TAKEOVER,
            &["A5"],
        ),
        drill(
            "cable-back",
            "that cable plugged in again",
            Some("cable-active"),
            vec![Do(Fault::PlugAll), settled],
            UNDISTURBED,
            &[],
        ),
        drill(
            "switchover",
            "planned switchover",
            None,
            vec![Do(Fault::Switchover), OtherServes, Watch(500)],
            TAKEOVER,
            &["A12"],
        ),
    ]
}

/// Faults of power, links and switches beyond the demo.
fn links() -> Vec<Drill> {
    let on_one_network = (Active::Stays, Service::Resumes);
    vec![
        drill(
            "power-off-standby",
            "power-off of the standby",
            None,
            vec![Do(Fault::PowerOff(Who::Standby)), Watch(2000)],
            UNDISTURBED,
            &["A9"],
        ),
        drill(
            "cable-standby",
            "one cable of the standby pulled",
            None,
            vec![Do(Fault::Pull(Who::Standby, 0)), Watch(2000)],
            UNDISTURBED,
            &[],
        ),
        drill(
            "switch-hangs",
            "a switch hangs with its carriers up",
            None,
            vec![
                Do(Fault::SwitchHangs(0)),
                Reach(Goal::AllManual),
                Watch(500),
            ],
            UNDISTURBED,
            &["A6"],
        ),
        drill(
            "hole-on-one-network",
            "a layer-2 hole between the servers on one network",
            None,
            vec![Do(Fault::Hole(0)), Watch(2000)],
            UNDISTURBED,
            &[],
        ),
        Drill {
            layout: Some(Fault::Loss(0)),
            ..drill(
                "loss-30",
                "30 % random loss on every cable for 10 s",
                None,
                vec![Do(Fault::Loss(30)), Watch(10_000)],
                on_one_network,
                &[],
            )
        },
    ]
}

/// Faults of haarb's own software: each daemon killed once on either server, and the whole user space
/// frozen. A daemon that comes back in time changes no role; what the clients notice is measured.
fn software() -> Vec<Drill> {
    let kill = |name, what, who, program| {
        let steps = vec![Do(Fault::Kill(who, program)), Watch(2500)];
        drill(
            name,
            what,
            None,
            steps,
            (Active::Stays, Service::Resumes),
            &[],
        )
    };
    let (a, s) = (Who::Active, Who::Standby);
    vec![
        kill(
            "kill-arbiter-active",
            "arbiter of the active killed",
            a,
            "haarb-arbiter",
        ),
        kill(
            "kill-link-watcher-active",
            "link-watcher of the active killed",
            a,
            "haarb-link-watcher",
        ),
        kill(
            "kill-prober-active",
            "prober of the active killed",
            a,
            "haarb-prober",
        ),
        kill(
            "kill-vip-agent-active",
            "vip-agent of the active killed",
            a,
            "haarb-vip-agent",
        ),
        kill(
            "kill-syncer-active",
            "syncer of the active killed",
            a,
            "haarb-syncer",
        ),
        kill(
            "kill-supervisor-active",
            "supervisor of the active killed",
            a,
            "haarb-supervisor",
        ),
        kill(
            "kill-arbiter-standby",
            "arbiter of the standby killed",
            s,
            "haarb-arbiter",
        ),
        kill(
            "kill-link-watcher-standby",
            "link-watcher of the standby killed",
            s,
            "haarb-link-watcher",
        ),
        kill(
            "kill-prober-standby",
            "prober of the standby killed",
            s,
            "haarb-prober",
        ),
        kill(
            "kill-vip-agent-standby",
            "vip-agent of the standby killed",
            s,
            "haarb-vip-agent",
        ),
        kill(
            "kill-syncer-standby",
            "syncer of the standby killed",
            s,
            "haarb-syncer",
        ),
        kill(
            "kill-supervisor-standby",
            "supervisor of the standby killed",
            s,
            "haarb-supervisor",
        ),
        drill(
            "freeze-active",
            "user space of the active frozen",
            None,
            vec![Do(Fault::Freeze(Who::Active)), OtherServes, Watch(500)],
            TAKEOVER,
            &["B6"],
        ),
        drill(
            "thaw",
            "the frozen server wakes up",
            Some("freeze-active"),
            vec![Do(Fault::ThawAll), Reach(Goal::Settled)],
            UNDISTURBED,
            &[],
        ),
    ]
}

/// The drill called `name`.
#[must_use]
pub fn find(name: &str) -> Option<Drill> {
    all().into_iter().find(|drill| drill.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_reference_exists() {
        let names: Vec<&str> = all().iter().map(|drill| drill.name).collect();
        let unique: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        for name in DEMO
            .into_iter()
            .chain(all().iter().filter_map(|drill| drill.after))
        {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_drill_begins_with_a_fault() {
        for drill in all() {
            assert!(matches!(drill.steps.first(), Some(Do(_))), "{}", drill.name);
        }
    }

    #[test]
    fn in_the_demo_what_a_drill_needs_comes_right_before_it() {
        let mut before = None;
        for name in DEMO {
            let drill = find(name).expect("a drill");
            if drill.after.is_some() {
                assert_eq!(drill.after, before, "{name}");
            }
            before = Some(drill.name);
        }
    }
}
