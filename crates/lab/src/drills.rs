//! The drills that exist. Each is a row of data; [`crate::drill`] runs them.

mod cold;
mod links;
mod load;
mod operator;
mod paths;
mod power;
mod services;
mod software;
mod tampering;

use crate::drill::{Active, Drill, Service};

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
    [
        power::drills(),
        links::drills(),
        paths::drills(),
        operator::drills(),
        software::drills(),
        services::drills(),
        load::drills(),
        tampering::drills(),
        cold::drills(),
    ]
    .concat()
}

/// A server serves on, and the clients notice nothing.
const UNDISTURBED: (Active, Service) = (Active::Stays, Service::Uninterrupted);
/// A server serves on; what the clients notice is measured.
const STAYS: (Active, Service) = (Active::Stays, Service::Resumes);
/// Another server takes over.
const TAKEOVER: (Active, Service) = (Active::Moves, Service::Resumes);
/// Somebody serves in the end.
const SOMEBODY: (Active, Service) = (Active::Someone, Service::Resumes);
/// Nobody serves, which is the point.
const NOBODY: (Active, Service) = (Active::Nobody, Service::Stops);

/// The drill called `name`.
#[must_use]
pub fn find(name: &str) -> Option<Drill> {
    all().into_iter().find(|drill| drill.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::Step::{self, Do, Flap};

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
    fn every_drill_has_a_fault() {
        for drill in all() {
            let is_fault = |step: &Step| matches!(step, Do(_) | Flap { .. });
            assert!(drill.steps.iter().any(is_fault), "{}", drill.name);
        }
    }

    #[test]
    fn every_drill_tells_the_operator_what_to_do() {
        for drill in all() {
            assert!(drill.advice.ends_with('.'), "{}", drill.name);
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
