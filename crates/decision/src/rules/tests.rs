//! The table, walked whole: for every role all combinations of the facts that its rows name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use expect_test::expect_file;
use haarb_model::Role;

use crate::facts::{
    Cond, Deaf, Eligible, Facts, Hands, Kind, Lease, Links, Probe, Rival, Stall, Wish,
};
use crate::rule::{Outcome, Rule, decide};
use crate::rules::RULES;

/// The facts that the rows of a role name.
fn kinds(role: Role) -> Vec<Kind> {
    let rows = RULES.iter().filter(|rule| rule.roles.contains(&role));
    let kinds: BTreeSet<Kind> = rows
        .flat_map(|rule| rule.when)
        .map(|cond| cond.kind())
        .collect();
    kinds.into_iter().collect()
}

/// Calls `f` with every combination of the facts that matter in a role.
fn each(role: Role, mut f: impl FnMut(&Facts)) {
    let kinds = kinds(role);
    let mut place = vec![0; kinds.len()];
    let mut facts = Facts::default();
    loop {
        f(&facts);
        let mut k = 0;
        loop {
            if k == kinds.len() {
                return;
            }
            place[k] = (place[k] + 1) % kinds[k].len();
            kinds[k].set(&mut facts, place[k]);
            if place[k] != 0 {
                break;
            }
            k += 1;
        }
    }
}

/// What one walk over everything has seen.
#[derive(Default)]
struct Walk {
    /// How often each row was the one taken, or stood as an alarm, per role.
    taken: BTreeMap<(&'static str, Role), u64>,
    /// Rows of which the first hides the second in some combination.
    hides: BTreeMap<(&'static str, &'static str), BTreeSet<Role>>,
    /// What must never be and was.
    wrong: BTreeSet<String>,
    cases: u64,
}

fn walk() -> &'static Walk {
    static WALK: OnceLock<Walk> = OnceLock::new();
    WALK.get_or_init(|| {
        let mut walk = Walk::default();
        for role in Role::ALL {
            each(role, |facts| look(&mut walk, role, facts));
        }
        walk
    })
}

fn look(walk: &mut Walk, role: Role, facts: &Facts) {
    walk.cases += 1;
    let mut first: Option<&'static Rule> = None;
    for rule in RULES.iter().filter(|rule| rule.matches(role, facts)) {
        if rule.then.is_alarm() {
            *walk.taken.entry((rule.id, role)).or_default() += 1;
            continue;
        }
        match first {
            None => {
                first = Some(rule);
                *walk.taken.entry((rule.id, role)).or_default() += 1;
            }
            // The last row of a role is there to be hidden.
            Some(first) if !rule.when.is_empty() => {
                walk.hides
                    .entry((first.id, rule.id))
                    .or_default()
                    .insert(role);
            }
            Some(_) => {}
        }
    }
    let Some(rule) = first else {
        walk.wrong.insert(format!("{role}: no row at all"));
        return;
    };
    for (what, is) in never(role, facts, rule) {
        if is {
            walk.wrong.insert(format!("{role}, {}: {what}", rule.id));
        }
    }
}

/// Whether the server holds the virtual IP after the rule.
fn serves_after(role: Role, rule: &Rule) -> bool {
    match rule.then {
        Outcome::Go(to) => to.serves(),
        Outcome::Release => false,
        Outcome::Resume
        | Outcome::HandOver(_)
        | Outcome::Abandon
        | Outcome::Take
        | Outcome::TakeMarked => true,
        Outcome::Stay
        | Outcome::Alarm
        | Outcome::Announce
        | Outcome::Seal
        | Outcome::Claim
        | Outcome::Renumber => role.serves(),
    }
}

/// What must never be, whatever the facts.
fn never(role: Role, facts: &Facts, rule: &Rule) -> [(&'static str, bool); 10] {
    let serves = serves_after(role, rule);
    let takes = matches!(rule.then, Outcome::Take | Outcome::TakeMarked);
    let by_itself = takes && facts.wish == Wish::None;
    let consent = ["B3", "B5", "W2", "W7", "S3"].contains(&rule.id);
    let frozen = facts.hands == Hands::Frozen;
    let holding = matches!(role, Role::Taking | Role::Active | Role::Releasing);
    [
        (
            "keeps the VIP with n = 0",
            // T1 only names what is; the table is asked again at once.
            holding && facts.links == Links::None && serves && !frozen && rule.id != "T1",
        ),
        (
            "keeps it against one that comes before",
            holding && facts.rival == Rival::Above && serves,
        ),
        (
            "lets go for one that comes after",
            holding
                && facts.rival == Rival::Below
                && !serves
                && facts.links == Links::All
                && facts.deaf == Deaf::No
                && facts.lease == Lease::Valid
                && facts.stall == Stall::No
                && facts.wish == Wish::None
                && role != Role::Releasing,
        ),
        (
            "keeps it though an eligible neighbour does not hear us",
            holding && facts.deaf == Deaf::Yes && serves && !frozen && rule.id != "T1",
        ),
        (
            "keeps it without a lease",
            holding && facts.lease == Lease::Lapsed && serves && !frozen,
        ),
        (
            "keeps it after a stall",
            holding && facts.stall == Stall::Yes && serves && !frozen,
        ),
        (
            "takes what another one serves",
            takes && facts.rival != Rival::None && facts.wish != Wish::Force,
        ),
        (
            "takes what somebody answers for",
            by_itself
                && match facts.probe {
                    Probe::Silent => false,
                    // Where everybody consents, an address may be impossible to probe.
                    Probe::Unknown => !consent,
                    Probe::Neighbour | Probe::Foreign => rule.id != "B3",
                },
        ),
        (
            "takes alone without being eligible",
            by_itself && !consent && facts.eligible != Eligible::Yes,
        ),
        (
            "takes without a network",
            by_itself && facts.links == Links::None,
        ),
    ]
}

#[test]
fn nothing_happens_that_must_never_happen() {
    let wrong = &walk().wrong;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(walk().cases > 100_000, "only {} cases", walk().cases);
}

#[test]
fn every_row_can_be_taken_in_every_role_it_names() {
    for rule in RULES {
        for role in rule.roles {
            assert!(
                walk().taken.contains_key(&(rule.id, *role)),
                "{} is never taken in {role}",
                rule.id
            );
        }
    }
}

#[test]
fn rows_that_hide_others_are_known() {
    let mut text = String::from(
        "# Which row comes before which other one that matches too, and in which roles.\n\
         # UPDATE_EXPECT=1 writes it anew; look at every line that changes.\n",
    );
    for ((first, second), roles) in &walk().hides {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        text.push_str(&format!("{first} before {second}: {}\n", roles.join(", ")));
    }
    expect_file!["overlaps.txt"].assert_eq(&text);
}

#[test]
fn every_role_ends_with_a_row_that_always_matches() {
    for role in Role::ALL {
        let rows = RULES.iter().filter(|rule| rule.roles.contains(&role));
        let last = rows.rev().find(|rule| !rule.then.is_alarm());
        assert!(
            last.is_some_and(|rule| rule.when.is_empty()),
            "{role} may fall through"
        );
    }
}

#[test]
fn names_are_unique_and_sentences_whole() {
    let mut ids = BTreeSet::new();
    for rule in RULES {
        assert!(ids.insert(rule.id), "{} twice", rule.id);
        assert!(rule.why.ends_with('.'), "{}: {}", rule.id, rule.why);
        assert!(
            rule.look.is_empty() || rule.look.ends_with('.'),
            "{}",
            rule.id
        );
        let conds: BTreeSet<Kind> = rule.when.iter().map(|cond| cond.kind()).collect();
        assert_eq!(
            conds.len(),
            rule.when.len(),
            "{} asks a fact twice",
            rule.id
        );
        let vain = rule.when.iter().any(|cond| all_values(*cond));
        assert!(!vain, "{} has a condition that always holds", rule.id);
        if rule.then.is_alarm() {
            assert!(
                !rule.look.is_empty(),
                "{} tells nobody what to look at",
                rule.id
            );
        }
    }
}

fn all_values(cond: Cond) -> bool {
    let mut facts = Facts::default();
    (0..cond.kind().len()).all(|i| {
        cond.kind().set(&mut facts, i);
        cond.holds(&facts)
    })
}

#[test]
fn rules_that_change_settle_after_a_few() {
    // A change of role with the same facts must not lead back: two rules that undo each
    // other would turn for ever.
    for role in Role::ALL {
        each(role, |facts| {
            if facts.stall == Stall::Yes {
                return; // over with the first change
            }
            let mut seen = vec![role];
            let mut now = role;
            while let Some(Outcome::Go(to)) = decide(now, facts).map(|rule| rule.then) {
                assert!(
                    !seen.contains(&to),
                    "{role}: {seen:?} and back to {to} with {:?}",
                    facts.words()
                );
                seen.push(to);
                now = to;
            }
        });
    }
}

#[test]
fn the_printed_table_is_the_table() {
    expect_file!["../../../../docs/rules.md"].assert_eq(&crate::rules_markdown());
}
