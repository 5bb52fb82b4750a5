//! Interfaces and addresses that others change.

use super::*;

#[test]
fn an_address_that_somebody_removed_comes_back() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    server.kernel.remove(&VipId(0, 0));
    server.turn(20, vec![Event::AddressGone(found(&vip(1), true))]);
    assert_eq!(server.held(), 2);
    assert_eq!(server.asked.last(), Some(&Work::Announce(VipId(0, 0))));
    let notes = server.plan.take_notes();
    assert!(notes.contains(&Note::PutBack(vip(1), 1)), "{notes:?}");
    // A quarrel is slowed down, not given up.
    server.kernel.remove(&VipId(0, 0));
    server.turn(21, vec![Event::AddressGone(found(&vip(1), true))]);
    assert_eq!(server.held(), 1);
    assert!(server.plan.deadline(at(21)) <= at(30));
    server.turn(30, vec![]);
    assert_eq!(server.held(), 2);
}

#[test]
fn the_servers_own_address_is_an_error_and_stays() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![Event::Address(found(&vip(1), false)), hold(1, 500)]);
    assert_eq!(server.held(), 1);
    assert!(server.report().error.contains("not from haarb"));
    server.turn(1, vec![nothing(1)]);
    assert_eq!(
        server.asked,
        [Work::Remove(VipId(0, 1))],
        "only what is ours"
    );
}

#[test]
fn a_changed_lifetime_or_mark_is_put_right() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    let mut changed = found(&vip(1), true);
    changed.valid = None;
    server.turn(1, vec![Event::Address(changed)]);
    let again = Work::Refresh {
        id: VipId(0, 0),
        seconds: 1,
    };
    assert_eq!(
        server.asked,
        std::slice::from_ref(&again),
        "somebody made it last for ever"
    );
    server.turn(1, vec![Event::Address(found(&vip(1), false))]);
    assert_eq!(server.asked, [again,], "somebody took our mark away");
}

#[test]
fn an_interface_that_is_missing_is_an_error_until_it_comes() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![Event::LinkGone("eth0".into()), hold(1, 500)]);
    assert_eq!(server.held(), 1);
    assert!(server.report().error.contains("no interface eth0"));
    server.turn(1, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.held(), 2);
    assert_eq!(server.report().error, "");
}

#[test]
fn what_an_interface_may_have_swallowed_is_said_again() {
    let mut server = Server::start(&[], false);
    let unconfirmed = Link {
        confirmed: false,
        ..link(&vip(1), true)
    };
    server.turn(0, vec![Event::Link(unconfirmed), hold(1, 20_000)]);
    for ms in 1..100 {
        server.turn(ms, vec![]);
    }
    server.turn(100, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))], "confirmed");
    server.turn(101, vec![Event::Link(link(&vip(1), true))]);
    assert_eq!(server.asked, [], "nothing changed");
}

#[test]
fn nothing_is_asked_of_a_loopback_interface() {
    let mut server = Server::start(&[], false);
    let loopback = |host| {
        Event::Link(Link {
            mac: None,
            asks: false,
            ..link(&vip(host), true)
        })
    };
    let probing = VipDuty {
        probe: true,
        ..VipDuty::default()
    };
    server.turn(0, vec![loopback(1), loopback(2), duty(1, probing)]);
    assert_eq!(server.asked, []);
    assert_eq!(server.report().probe, ProbeAnswer::Silent);
    server.turn(1, vec![hold(1, 500)]);
    assert!(!server.asked.iter().any(|w| matches!(w, Work::Announce(_))));
    assert_eq!(server.held(), 2);
}

#[test]
fn a_report_goes_out_when_something_changed_or_to_show_life() {
    let mut server = Server::start(&[], false);
    assert!(matches!(server.reports[..], [Report::Vip(_)]));
    server.turn(199, vec![]);
    assert_eq!(server.reports, []);
    assert_eq!(server.plan.deadline(at(199)), at(210));
    server.turn(200, vec![]);
    assert_eq!(server.reports, [Report::Alive], "whatever it woke for");
    server.turn(201, vec![hold(1, 500)]);
    assert!(matches!(server.reports[..], [Report::Vip(_)]));
    server.turn(202, vec![Event::Attached]);
    assert!(
        matches!(server.reports[..], [Report::Vip(_)]),
        "everything anew"
    );
}
