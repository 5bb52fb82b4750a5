//! The cases, as data: what is measured, in which unit, and what haarb has to reach.

use super::system::System;

/// A bound that haarb is measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// The median is at most this.
    Median(f64),
    /// The 99th percentile is at most this.
    P99(f64),
    /// Every value is at most this.
    Each(f64),
    /// In every run at most this many bytes were sent. Moves with `--scale`.
    Sent(f64),
    /// In every run at most this many bytes were sent for each byte that changed.
    SentPerByte(f64),
    /// The median of this system, multiplied, is not better.
    Against(&'static str, f64),
    /// The best median of the encrypted peers, multiplied, is not better.
    AgainstEncrypted(f64),
    /// In every run at most this many bytes of memory for each file and side.
    MemoryPerFile(f64),
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub title: &'static str,
    /// What the numbers are.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// What haarb has to reach.
    pub bounds: &'static [Bound],
    /// Measured only when it is named: it takes many minutes.
    pub long: bool,
    /// Needs something that only haarb has.
    pub haarb_only: bool,
}

const fn case(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    bounds: &'static [Bound],
) -> Case {
    Case {
        name,
        title,
        unit,
        more_is_better: false,
        bounds,
        long: false,
        haarb_only: false,
    }
}

/// Every case, in the order of the tables. Cases that share their preparation stand together.
pub const ALL: [Case; 18] = [
    case(
        "C1",
        "a file of 1 KiB is rewritten: until the new content is in the replica",
        "ms",
        &[Bound::Median(5.0), Bound::P99(15.0)],
    ),
    case(
        "C1x",
        "20 status files of constant size, rewritten every 0.25 s, then quiet: stale for ever (two rounds)",
        "files",
        &[Bound::Each(0.0)],
    ),
    case(
        "C2",
        "first transfer of 100,000 files of 1 to 8 KiB",
        "s",
        &[Bound::Against("rsync-daemon", 0.5)],
    ),
    case(
        "C3",
        "nothing changes in that tree: CPU of both sides over 10 s",
        "% of a core",
        &[Bound::Median(0.5)],
    ),
    case(
        "C1-tree",
        "C1 with that tree beside it",
        "ms",
        &[Bound::Median(5.0), Bound::P99(15.0)],
    ),
    Case {
        long: true,
        ..case(
            "C2-million",
            "first transfer of 1,000,000 files of 1 to 8 KiB",
            "s",
            &[Bound::MemoryPerFile(500.0)],
        )
    },
    Case {
        more_is_better: true,
        ..case(
            "C4",
            "one file of 1 GiB",
            "MB/s",
            &[Bound::AgainstEncrypted(3.0)],
        )
    },
    case(
        "C5",
        "1 % of that file changed in place, in pieces of 4 KiB all over it",
        "s",
        &[Bound::Median(2.0), Bound::Sent(16e6)],
    ),
    case(
        "C6",
        "50 logs grow by 100 lines of 100 bytes a second, for 20 s: age of each line when it is in the replica",
        "ms",
        &[
            Bound::Median(20.0),
            Bound::P99(100.0),
            Bound::SentPerByte(1.3),
        ],
    ),
    case(
        "C7",
        "a directory of 10,000 files is renamed",
        "s",
        &[Bound::Median(0.2), Bound::Sent(100e3)],
    ),
    case(
        "C8",
        "it is deleted: from the first unlink until nothing is left in the replica",
        "s",
        &[Bound::Median(1.0)],
    ),
    case(
        "C9",
        "50,000 files of 1 KiB created as fast as possible: equal after the last",
        "s",
        &[Bound::Median(5.0)],
    ),
    Case {
        long: true,
        ..case(
            "C9-many",
            "500,000 files of 1 KiB created as fast as possible: equal after the last",
            "s",
            &[Bound::Median(5.0)],
        )
    },
    case(
        "C10",
        "both networks cut for 5 s in the middle of 1 GiB: whole after the mending",
        "s",
        &[Bound::SentPerByte(1.1)],
    ),
    Case {
        long: true,
        ..case(
            "C10-minute",
            "both networks cut for 60 s in the middle of 1 GiB: whole after the mending",
            "s",
            &[Bound::SentPerByte(1.1)],
        )
    },
    Case {
        haarb_only: true,
        ..case(
            "C10-source",
            "the sending process killed in the middle of 1 GiB: whole after the kill",
            "s",
            &[Bound::SentPerByte(1.1)],
        )
    },
    Case {
        haarb_only: true,
        ..case(
            "C10-sink",
            "the receiving process killed in the middle of 1 GiB: whole after the kill",
            "s",
            &[Bound::SentPerByte(1.1)],
        )
    },
    case(
        "C11",
        "everything that a directory can hold: kinds of loss",
        "kinds",
        &[Bound::Each(0.0)],
    ),
];

/// The case called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.name.eq_ignore_ascii_case(name))
}

/// Names of all cases, for messages.
#[must_use]
pub fn all_names() -> String {
    let names: Vec<&str> = ALL.iter().map(|case| case.name).collect();
    names.join(", ")
}

impl Case {
    /// Whether it is tried on this system.
    #[must_use]
    pub const fn takes(&self, system: &System) -> bool {
        system.is_haarb() || !self.haarb_only
    }

    /// Whether rsync is told to compare nanoseconds: with whole seconds it leaves files stale for ever,
    /// and C1x is to show what can be had.
    #[must_use]
    pub fn with_exact_times(&self) -> bool {
        self.name == "C1x"
    }

    /// The case that prepares the ground for this one in the same run; often itself.
    #[must_use]
    pub fn group(&self) -> &'static str {
        match self.name {
            "C2" | "C3" | "C1-tree" => "C2",
            "C4" | "C5" => "C4",
            "C7" | "C8" => "C7",
            _ => self.name,
        }
    }
}

impl Bound {
    /// In words, for the tables.
    #[must_use]
    pub fn in_words(&self, case: &Case, scale: f64) -> String {
        let unit = case.unit;
        match self {
            Self::Median(most) => format!("median at most {most} {unit}"),
            Self::P99(most) => format!("p99 at most {most} {unit}"),
            Self::Each(most) => format!("at most {most} {unit}"),
            Self::Sent(most) => format!("at most {} sent", bytes(most * scale)),
            Self::SentPerByte(most) => format!("at most {most} bytes sent per byte"),
            Self::Against(system, factor) => format!("at most {factor} of {system}"),
            Self::AgainstEncrypted(factor) => format!("{factor} times the best encrypted peer"),
            Self::MemoryPerFile(most) => {
                format!("at most {most} bytes of memory per file and side")
            }
        }
    }
}

/// Bytes for people.
#[must_use]
pub fn bytes(count: f64) -> String {
    if count >= 0.9995e6 {
        format!("{:.1} MB", count / 1e6)
    } else {
        format!("{:.1} KB", count / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_everything_referred_to_exists() {
        let all: BTreeSet<&str> = ALL.iter().map(|case| case.name).collect();
        assert_eq!(all.len(), ALL.len());
        for case in &ALL {
            assert!(find(case.group()).is_some(), "{}", case.name);
            for bound in case.bounds {
                if let Bound::Against(system, _) = bound {
                    assert!(crate::sync::system::find(system).is_some());
                }
            }
        }
        assert_eq!(find("c1X").map(|case| case.name), Some("C1x"));
    }

    #[test]
    fn a_target_says_what_it_asks() {
        let words = |name: &str, number: usize| {
            let case = find(name).expect("a case");
            case.bounds[number].in_words(case, 0.5)
        };
        assert_eq!(words("C1", 0), "median at most 5 ms");
        assert_eq!(words("C5", 1), "at most 8.0 MB sent");
        assert_eq!(words("C7", 1), "at most 50.0 KB sent");
    }
}
