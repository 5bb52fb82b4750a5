//! The drills that exist. Each is a row of data; [`crate::drill`] runs them.

use crate::{
    cluster::Goal,
    drill::{Active, Drill, Expect, Fault, Service, Step, Who},
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
    use Step::{Do, OtherServes, Reach, SomebodyServes, Watch};
    let settled = Reach(Goal::Settled);
    let drill = |name, what, after, steps, active, service, rules| Drill {
        name,
        what,
        after,
        steps,
        expect: Expect {
            active,
            service,
            rules,
        },
    };
    vec![
        drill(
            "power-off-active",
            "power-off of the active server",
            None,
            vec![Do(Fault::PowerOff(Who::Active)), OtherServes, Watch(500)],
            Active::Moves,
            Service::Resumes,
            &["B7"],
        ),
        drill(
            "return",
            "the dead server returns",
            Some("power-off-active"),
            vec![Do(Fault::PowerOnAll), settled.clone()],
            Active::Stays,
            Service::Uninterrupted,
            &["W1"],
        ),
        drill(
            "power-off-standby",
            "power-off of the standby",
            None,
            vec![Do(Fault::PowerOff(Who::Standby)), Watch(1000)],
            Active::Stays,
            Service::Uninterrupted,
            &["A9"],
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
            Active::Stays,
            Service::Uninterrupted,
            &["A6"],
        ),
        drill(
            "switch-on",
            "that switch on again",
            Some("switch-off"),
            vec![Do(Fault::SwitchesOn(&[0])), settled.clone()],
            Active::Stays,
            Service::Uninterrupted,
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
            Active::Nobody,
            Service::Stops,
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
            Active::Someone,
            Service::Resumes,
            &["W2", "W3"],
        ),
        drill(
            "cable-active",
            "one cable of the active pulled",
            None,
            vec![Do(Fault::Pull(Who::Active, 0)), OtherServes, Watch(500)],
            Active::Moves,
            Service::Resumes,
            &["A5"],
        ),
        drill(
            "cable-back",
            "that cable plugged in again",
            Some("cable-active"),
            vec![Do(Fault::PlugAll), settled.clone()],
            Active::Stays,
            Service::Uninterrupted,
            &[],
        ),
        drill(
            "cable-standby",
            "one cable of the standby pulled",
            None,
            vec![Do(Fault::Pull(Who::Standby, 0)), Watch(1000)],
            Active::Stays,
            Service::Uninterrupted,
            &[],
        ),
        drill(
            "switchover",
            "planned switchover",
            None,
            vec![Do(Fault::Switchover), OtherServes, Watch(500)],
            Active::Moves,
            Service::Resumes,
            &["A12"],
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
            assert!(
                matches!(drill.steps.first(), Some(Step::Do(_))),
                "{}",
                drill.name
            );
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
