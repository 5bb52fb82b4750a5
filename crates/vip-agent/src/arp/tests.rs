use proptest::prelude::*;

use super::*;

const US: Mac = Mac([2, 0, 0, 0, 0, 1]);

#[test]
fn a_probe_claims_nothing_and_asks_for_the_address() {
    let vip = Ipv4Addr::new(10, 77, 1, 100);
    let frame = probe(US, vip);
    assert_eq!(frame[28..32], [0, 0, 0, 0], "sender address of a probe");
    assert_eq!(frame[38..42], vip.octets());
    assert_eq!(frame[..6], [0xff; 6]);
    assert_eq!(parse(&frame), None);
}

#[test]
fn both_announcements_claim_the_address() {
    let vip = Ipv4Addr::new(10, 77, 1, 100);
    let [request, reply] = announcements(US, vip);
    assert_eq!((request[21], reply[21]), (1, 2));
    for frame in [request, reply] {
        let claim = Claim {
            address: vip.into(),
            mac: US,
        };
        assert_eq!(parse(&frame), Some(claim));
        assert_eq!(
            frame[28..32],
            frame[38..42],
            "sender and target are the same"
        );
    }
}

#[test]
fn frames_of_another_kind_claim_nothing() {
    let good = announcements(US, Ipv4Addr::new(10, 0, 0, 1))[0];
    for (at, value, why) in [
        (12, 0x86, "another EtherType"),
        (15, 6, "another hardware"),
        (16, 0x86, "another protocol"),
        (18, 8, "longer hardware addresses"),
        (21, 8, "InARP"),
    ] {
        let mut frame = good;
        frame[at] = value;
        assert_eq!(parse(&frame), None, "{why}");
    }
    assert_eq!(parse(&good[..FRAME_LEN - 1]), None, "cut short");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_built_is_understood(mac in any::<[u8; 6]>(), address in any::<[u8; 4]>(), tail in 0..20usize) {
        let (mac, address) = (Mac(mac), Ipv4Addr::from(address));
        prop_assume!(mac != Mac::ZERO && !address.is_unspecified());
        for frame in announcements(mac, address) {
            // Drivers pad frames to 60 bytes.
            let padded = [&frame[..], &vec![0; tail]].concat();
            prop_assert_eq!(parse(&padded), Some(Claim { address: address.into(), mac }));
        }
    }
}
