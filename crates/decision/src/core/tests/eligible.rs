//! Who may take over, and when: eligibility, lead, claims.

use super::*;

#[test]
fn what_is_advertised_is_what_permits_and_only_after_lead() {
    let mut bench = Bench::new("b", Record::default());
    bench.neighbour(Role::Active, 3);
    bench.run(20);
    assert_eq!(bench.role(), Role::Standby);
    assert!(bench.advertised().eligible);
    // The neighbour dies before the eligibility has been advertised for `lead`.
    bench.heard = false;
    bench.silent = true;
    bench.run(500);
    assert_eq!(bench.role(), Role::Standby, "lead has not passed");
    assert!(bench.advertised().eligible);
    bench.run(200);
    assert!(bench.role().serves(), "lead has passed");
}

#[test]
fn whatever_takes_eligibility_away_is_advertised_and_holds_back() {
    type Spoil = fn(&mut Bench);
    let spoils: [(&str, Spoil); 4] = [
        ("a network", |b| b.up = [true, false]),
        ("the data", |b| b.data = Data::Inconsistent),
        ("an operator", |b| {
            b.command(Command::Demote { reserve: sip() }).expect("done");
        }),
        ("maintenance", |b| {
            b.command(Command::Maintenance(true)).expect("done");
        }),
    ];
    for (what, spoil) in spoils {
        let mut bench = Bench::standby();
        spoil(&mut bench);
        bench.run(20);
        assert!(!bench.advertised().eligible, "{what}");
        bench.heard = false;
        bench.silent = true;
        bench.run(5_000);
        assert!(!bench.role().serves(), "{what}");
    }
}

#[test]
fn without_its_vip_agent_a_server_that_let_go_claims_nothing() {
    let mut bench = Bench::active();
    bench.feed(Input::Lost(Agent::VipAgent));
    let mut roles = Vec::new();
    for _ in 0..400 {
        bench.now += Span::from_millis(5);
        let probe = bench.probe();
        bench.feed(Input::Report(Agent::Prober, Report::Probe(probe)));
        for agent in [Agent::LinkWatcher, Agent::Syncer, Agent::Supervisor] {
            bench.feed(Input::Report(agent, Report::Alive));
        }
        if roles.last() != Some(&bench.role()) {
            roles.push(bench.role());
        }
        assert!(!bench.advertised().claims, "after {roles:?}");
    }
    assert_eq!(roles, [Role::Active, Role::Starting], "A14");
}

#[test]
fn when_claims_cross_the_order_decides() {
    for (me, stays) in [("a", true), ("b", false)] {
        let mut bench = Bench::new(me, Record::default());
        bench.neighbour(Role::Starting, 0);
        bench.run(2_500);
        assert!(bench.advertised().claims, "{me} claims");
        bench.advert(|advert, sip| {
            let part = advert.reserves.get_mut(sip).expect("the reserve");
            part.role = Role::Starting;
            part.claims = true;
        });
        bench.run(20);
        let other = if stays { None } else { Some(node("a")) };
        assert_eq!(bench.advertised().claims, stays, "{me}");
        assert_eq!(bench.advertised().yields_to, other, "{me}");
        assert!(!bench.role().serves(), "{me} has no consent");
    }
}

#[test]
fn a_claim_wins_only_with_consent() {
    let mut bench = Bench::new("a", Record::default());
    bench.neighbour(Role::Starting, 0);
    bench.run(5_000);
    assert!(bench.advertised().claims);
    assert!(!bench.role().serves());
    bench.advert(|advert, sip| {
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.role = Role::Starting;
        part.yields_to = Some(node("a"));
    });
    bench.run(20);
    assert!(bench.role().serves());
}
