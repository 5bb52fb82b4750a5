//! Somebody else says that a virtual IP is his.

use super::*;

#[test]
fn whoever_claims_a_held_address_is_reported_and_answered_once() {
    let mut server = Server::start(&[], false);
    server.turn(0, vec![hold(1, 20_000)]);
    for ms in (0..6_000).step_by(100) {
        server.turn(ms, vec![]);
    }
    let claim = |mac| Event::Heard {
        interface: "eth0".into(),
        claim: Claim {
            address: vip(1).address,
            mac,
        },
    };
    server.turn(6_000, vec![claim(OURS)]);
    assert_eq!(server.asked, [], "our own frame, come back");
    server.turn(6_100, vec![claim(THEIRS), claim(THEIRS)]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))]);
    assert_eq!(server.report().probe, ProbeAnswer::Foreign);
    server.turn(6_300, vec![]);
    server.turn(6_500, vec![claim(THEIRS)]);
    assert_eq!(server.asked, []);
    for ms in (6_600..16_500).step_by(100) {
        server.turn(ms, vec![]);
    }
    assert_eq!(server.report().probe, ProbeAnswer::Foreign);
    server.turn(16_500, vec![]);
    assert_eq!(
        server.report().probe,
        ProbeAnswer::Unknown,
        "10 s without a claim"
    );
    server.turn(16_501, vec![claim(THEIRS)]);
    assert_eq!(server.asked, [Work::Announce(VipId(0, 0))]);
}
