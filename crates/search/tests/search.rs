//! A short search of the whole, and what the classifier of residual cases says.

use std::time::Duration;

use haarb_model::{Mono, Span};
use haarb_search::events::Alphabet;
use haarb_search::residual::{Case, Moment, classify};
use haarb_search::walk::{Plan, search};
use haarb_search::{Start, shortened};
use haarb_sim::options::Options;

#[test]
fn one_event_from_every_start_leaves_one_server_serving() {
    let options = shortened(Options::pair());
    let plan = Plan {
        waits: vec![options.timing.dead_after.part(2)],
        options,
        depth: 1,
        alphabet: Alphabet::Core,
        starts: Start::ALL.to_vec(),
        mirror: true,
        at_most: Duration::from_secs(600),
        jobs: 2,
    };
    let result = search(&plan).expect("events that the simulation knows");
    assert!(result.findings.is_empty(), "{:#?}", result.findings);
    assert_eq!(result.depth, 1);
    assert!(result.states() > 60, "only {} states", result.states());
    let cases: Vec<Case> = result.cases.keys().copied().collect();
    assert_eq!(cases, [Case::Pause], "one event is enough only for R3");
}

fn moment() -> Moment {
    Moment {
        now: Mono::from_micros(1_000_000),
        apart: None,
        never_met: None,
        not_read: None,
        unseen: None,
        dead_after: Span::from_millis(30),
        slack: Span::from_millis(21),
        same_moment: false,
        degrees: (2, 2, 2),
        resumed: None,
        forced: None,
        unheard: None,
        patience: Span::from_secs(2),
    }
}

#[test]
fn servers_that_could_talk_have_no_excuse() {
    assert_eq!(classify(&moment()), None);
    let long_ago = (Mono::from_micros(100_000), Mono::from_micros(900_000));
    let too_short = (Mono::from_micros(995_000), Mono::from_micros(1_000_000));
    for apart in [long_ago, too_short] {
        let moment = Moment {
            apart: Some(apart),
            ..moment()
        };
        assert_eq!(classify(&moment), None, "{apart:?}");
    }
}

#[test]
fn each_residual_case_is_told_from_the_others() {
    let apart = Some((Mono::from_micros(900_000), Mono::from_micros(1_000_000)));
    let hole = Moment { apart, ..moment() };
    assert_eq!(classify(&hole), Some(Case::HoleOnBoth));
    let link = Moment {
        degrees: (1, 2, 2),
        ..hole
    };
    assert_eq!(classify(&link), Some(Case::LinkAndHole));
    let pause = Moment {
        resumed: Some(Mono::from_micros(1_000_000)),
        ..moment()
    };
    assert_eq!(classify(&pause), Some(Case::Pause));
    let never_met = Moment {
        never_met: apart,
        ..moment()
    };
    assert_eq!(classify(&never_met), Some(Case::NeverMet));
    let not_read = Moment {
        not_read: apart,
        ..moment()
    };
    assert_eq!(classify(&not_read), Some(Case::NotRead));
    let unseen = Moment {
        unseen: apart,
        ..moment()
    };
    assert_eq!(classify(&unseen), Some(Case::Unseen));
    let forced = Moment {
        unheard: Some((Mono::from_micros(985_000), Mono::from_micros(1_000_000))),
        forced: Some(Mono::from_micros(990_000)),
        ..moment()
    };
    assert_eq!(classify(&forced), Some(Case::Forced));
    let same_moment = Moment {
        same_moment: true,
        forced: None,
        ..forced
    };
    assert_eq!(classify(&same_moment), Some(Case::SameMoment));
    let they_met = Moment {
        unheard: None,
        ..same_moment
    };
    assert_eq!(classify(&they_met), None);
}
