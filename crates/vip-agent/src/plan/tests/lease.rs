//! What the lease, the clock and the gate make of a directive.

use super::*;

#[test]
fn what_is_held_follows_from_the_last_directive_and_the_clock() {
    for (name, directives, ms, expected) in [
        ("told to hold", vec![hold(1, 500)], 1, 2),
        ("until just before the end", vec![hold(1, 500)], 499, 2),
        ("never at the end", vec![hold(1, 500)], 500, 0),
        ("a lease that is over", vec![hold(1, 0)], 1, 0),
        ("told not to", vec![hold(1, 500), nothing(1)], 1, 0),
        ("a lower epoch", vec![nothing(5), hold(4, 500)], 1, 0),
        ("the same epoch", vec![nothing(5), hold(5, 500)], 1, 2),
        (
            "a lower epoch does not end a higher one",
            vec![hold(5, 500), hold(4, 900)],
            1,
            2,
        ),
        ("nor lengthen it", vec![hold(5, 300), hold(4, 900)], 301, 0),
        (
            "told not to, by any epoch",
            vec![hold(5, 500), nothing(1)],
            1,
            0,
        ),
        ("a shorter lease", vec![hold(1, 500), hold(1, 200)], 201, 0),
        ("renewed", vec![hold(1, 200), hold(1, 500)], 201, 2),
    ] {
        let mut server = Server::start(&[], false);
        for directive in directives {
            server.turn(0, vec![directive]);
        }
        server.turn(ms, vec![]);
        assert_eq!(server.held(), expected, "{name}");
    }
}

#[test]
fn addresses_come_first_and_announcements_at_once() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    let (a, b) = (VipId(0, 0), VipId(0, 1));
    let seconds = 1;
    assert_eq!(
        server.asked,
        [
            Work::Add { id: a, seconds },
            Work::Add { id: b, seconds },
            Work::Announce(a),
            Work::Announce(b),
        ]
    );
    server.turn(0, vec![nothing(1)]);
    assert_eq!(server.asked, [Work::Remove(a), Work::Remove(b)]);
}

#[test]
fn a_renewed_lease_never_lets_the_kernel_end_first() {
    let mut server = Server::start(&[], false);
    let mut refreshed = 0;
    for ms in (0..60_000).step_by(50) {
        server.turn(ms, vec![hold(1, ms + LEASE_MS)]);
        refreshed += server
            .asked
            .iter()
            .filter(|w| matches!(w, Work::Refresh { .. }))
            .count();
        for ends in server.kernel.values() {
            assert!(
                *ends > at(ms + LEASE_MS),
                "the kernel would end it within the lease"
            );
            assert!(
                *ends <= at(ms + LEASE_MS + 1_100),
                "much later than the lease"
            );
        }
    }
    assert!(
        refreshed < 300,
        "a refresh for every directive is too many: {refreshed}"
    );
}

#[test]
fn a_freeze_lets_go_before_anything_else_and_voids_older_grants() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 500)]);
    // Frozen for 600 ms; the arbiter went on renewing, and that waits in the queue.
    server.turn(600, vec![hold(1, 1_050)]);
    assert_eq!(server.held(), 0);
    assert!(
        matches!(server.reports[..], [Report::Stalled(gap), Report::Vip(_)] if gap == Span::from_millis(600)),
        "{:?}",
        server.reports
    );
    server.turn(610, vec![hold(1, 1_099)]);
    assert_eq!(server.held(), 0, "granted before the thaw");
    server.turn(620, vec![hold(1, 1_110)]);
    assert_eq!(server.held(), 2, "granted after it");
}

#[test]
fn a_renewal_is_told_with_the_signs_of_life_and_everything_to_who_asks_anew() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, LEASE_MS)]);
    let mut told = Vec::new();
    for ms in (100..=1_000).step_by(100) {
        server.turn(ms, vec![hold(1, ms + LEASE_MS)]);
        told.append(&mut server.reports);
    }
    let ends = told.iter().map(|report| match report {
        Report::Vip(report) => report.reserves[0].lease_until,
        other => panic!("{other:?}"),
    });
    let every_second = (200..=1_000).step_by(200).map(|ms| at(ms + LEASE_MS));
    assert!(ends.eq(every_second), "{told:?}");
    server.turn(1_050, vec![Event::Attached]);
    let [Report::Vip(told)] = &server.reports[..] else {
        panic!("not told anew: {:?}", server.reports);
    };
    assert_eq!(told.reserves[0].lease_until, at(1_000 + LEASE_MS));
    server.turn(1_060, vec![nothing(1)]);
    assert!(matches!(server.reports[..], [Report::Vip(_)]), "let go");
}

#[test]
fn a_lease_for_maintenance_outlives_a_freeze() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 3_600_000)]);
    server.turn(5_000, vec![]);
    assert_eq!(server.held(), 2, "nothing is stopped");
    assert!(matches!(server.reports[0], Report::Stalled(_)));
    let hour = server.kernel[&VipId(0, 0)];
    server.turn(5_010, vec![hold(1, 5_510)]);
    assert_eq!(
        server.held(),
        2,
        "the longer lease is cut short by a later word"
    );
    assert!(server.kernel[&VipId(0, 0)] < hour);
}

#[test]
fn after_every_stall_what_is_still_ours_is_announced() {
    let announced = |server: &Server| {
        let announcements = server.asked.iter();
        announcements
            .filter(|work| matches!(work, Work::Announce(_)))
            .count()
    };
    for (stall, lease, again) in [
        (200, 499, false),
        (300, 499, true),
        (900, 3_600_000, true),
        // Over: there is nothing to announce.
        (600, 499, false),
    ] {
        let mut server = Server::start(&[], false);
        server.turn(0, vec![hold(1, lease)]);
        for ms in [2, 8, 100] {
            server.turn(ms, vec![]);
        }
        server.turn(100 + stall, vec![]);
        let expected = if again { 2 } else { 0 };
        assert_eq!(announced(&server), expected, "stalled for {stall} ms");
    }
}

#[test]
fn the_gate_is_open_for_the_lease_and_shut_until_the_address_is_gone() {
    use haarb_gate::Door;
    let doors = |server: &Server, ms| server.plan.doors(at(ms)).into_values().collect::<Vec<_>>();
    let mut server = Server::start(&[], false);
    assert_eq!(doors(&server, 0), []);
    server.plan.feed(at(0), hold(1, 500));
    let open = [Door::Until(at(500)); 2];
    assert_eq!(doors(&server, 0), open, "before the address comes");
    server.turn(0, vec![]);
    assert_eq!(doors(&server, 499), open);
    assert_eq!(doors(&server, 500), [Door::Shut; 2], "still here");
    server.turn(500, vec![]);
    assert_eq!(doors(&server, 500), [], "let go");

    // What an earlier run left without a lease is shut out until it is removed.
    let mut server = Server::start(&[], true);
    server
        .plan
        .feed(at(1), Event::Address(found(&vip(1), true)));
    assert_eq!(doors(&server, 1), [Door::Shut]);
    server.turn(2, vec![]);
    assert_eq!(doors(&server, 2), []);

    // The server's own address is never put behind a gate.
    server.turn(3, vec![Event::Address(found(&vip(1), false)), hold(1, 500)]);
    assert_eq!(doors(&server, 3), [Door::Until(at(500))]);
    assert!(!server.plan.doors(at(3)).contains_key(&vip(1).address));
}

#[test]
fn a_restarted_agent_keeps_what_its_lease_still_covers() {
    let lease = |until_ms| Lease {
        reserve: sip(),
        epoch_seen: Epoch(5),
        epoch_held: Epoch(5),
        until: at(until_ms),
    };
    let mut server = Server::start(&[lease(300)], true);
    assert_eq!(server.asked, [], "no flap");
    assert_eq!((server.held(), server.report().epoch), (2, Epoch(5)));
    server.turn(100, vec![hold(5, 600)]);
    assert!(
        !server
            .asked
            .iter()
            .any(|w| matches!(w, Work::Remove(_) | Work::Add { .. }))
    );
    assert!(server.asked.contains(&Work::Announce(VipId(0, 0))));

    let mut server = Server::start(&[lease(300)], true);
    server.turn(300, vec![]);
    assert_eq!(server.held(), 0, "nobody confirmed it");

    let mut server = Server::start(&[lease(300)], false);
    server.turn(100, vec![]);
    assert_eq!(server.held(), 0, "an old lease takes nothing");
    server.turn(110, vec![hold(4, 600)]);
    assert_eq!(server.held(), 0, "the epoch is remembered");

    for (name, recorded) in [
        ("no record", vec![]),
        ("a lease that is over", vec![lease(0)]),
    ] {
        let server = Server::start(&recorded, true);
        assert_eq!(server.held(), 0, "{name}: leftovers go at once");
    }
}
