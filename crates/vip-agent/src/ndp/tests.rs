use proptest::prelude::*;

use super::*;

const TARGET: usize = ICMP + 8;
const OPTIONS: usize = TARGET + 16;
const US: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn vip() -> Ipv6Addr {
    "fd77:1::6:1234".parse().unwrap()
}

/// `change` is applied before the checksum is made right again.
fn changed(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    frame[ICMP + 2..ICMP + 4].fill(0);
    let source = address(&frame[IP + 8..IP + 24]).unwrap();
    let to = address(&frame[IP + 24..IP + 40]).unwrap();
    let sum = checksum(source, to, &frame[ICMP..]);
    frame[ICMP + 2..ICMP + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn a_probe_goes_to_the_solicited_node_group_and_claims_nothing() {
    let frame = probe(US, vip());
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x06, 0x12, 0x34]);
    assert_eq!(
        address(&frame[IP + 24..IP + 40]).unwrap(),
        "ff02::1:ff06:1234".parse::<Ipv6Addr>().unwrap()
    );
    assert_eq!(parse(&frame), None);
}

#[test]
fn the_checksum_is_the_one_of_the_rfc() {
    // Worked by hand: ff02 + 1 (to) + 32 (length) + 58 + 8800 (type) + 2000 (override), the
    // address twice, the option 0201 0200 0000 0001.
    let frame = announcement(US, vip());
    let twice = 2 * (0xfd77 + 1 + 6 + 0x1234);
    let mut sum: u32 = 0xff02 + 1 + 32 + 58 + 0x8800 + 0x2000 + twice + 0x0201 + 0x0200 + 1;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(frame[ICMP + 2..ICMP + 4], (!(sum as u16)).to_be_bytes());
}

#[test]
fn an_announcement_claims_the_address_and_overrides() {
    let frame = announcement(US, vip());
    assert_eq!(frame[ICMP + 4], FLAG_OVERRIDE);
    let claim = Claim {
        address: vip().into(),
        mac: US,
    };
    assert_eq!(parse(&frame), Some(claim));
}

#[test]
fn an_advertisement_without_option_is_at_the_sender_of_its_frame() {
    let frame = changed(announcement(US, vip()), |f| {
        f.truncate(OPTIONS);
        f[IP + 5] = 24;
    });
    assert_eq!(parse(&frame).map(|c| c.mac), Some(US));
}

#[test]
fn a_solicitation_with_a_source_claims_its_source() {
    let frame = changed(probe(US, "fd77:1::7".parse().unwrap()), |f| {
        f[IP + 8..IP + 24].copy_from_slice(&vip().octets());
    });
    assert_eq!(parse(&frame).map(|c| c.address), Some(vip().into()));
}

#[test]
fn what_fails_the_checks_of_the_rfc_claims_nothing() {
    let good = announcement(US, vip());
    let bad = |why: &str, change: &dyn Fn(&mut Vec<u8>)| {
        assert_eq!(parse(&changed(good.clone(), |f| change(f))), None, "{why}");
    };
    bad("crossed a router", &|f| f[IP + 7] = 254);
    bad("code", &|f| f[ICMP + 1] = 1);
    bad("solicited to all nodes", &|f| f[ICMP + 4] = FLAG_SOLICITED);
    bad("multicast target", &|f| f[TARGET] = 0xff);
    bad("option of length zero", &|f| f[OPTIONS + 1] = 0);
    bad("option longer than the message", &|f| f[OPTIONS + 1] = 2);
    bad("router advertisement", &|f| f[ICMP] = 134);
    bad("TCP", &|f| f[IP + 6] = 6);
    let mut garbled = good.clone();
    garbled[TARGET + 9] ^= 1;
    assert_eq!(parse(&garbled), None, "checksum");
    assert_eq!(parse(&good[..good.len() - 1]), None, "cut short");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_message_behind_good_headers_is_parsed_without_a_panic(
        kind in prop_oneof![Just(SOLICITATION), Just(ADVERTISEMENT)],
        rest in proptest::collection::vec(any::<u8>(), 23..80),
    ) {
        let message = [&[kind, 0, 0, 0], &rest[3..]].concat();
        let _ = parse(&frame(US, vip(), ALL_NODES, &message));
    }

    #[test]
    fn what_is_built_is_understood(mac in any::<[u8; 6]>(), address in any::<[u8; 16]>()) {
        let (mac, address) = (Mac(mac), Ipv6Addr::from(address));
        prop_assume!(mac != Mac::ZERO && !address.is_multicast());
        prop_assert_eq!(parse(&announcement(mac, address)), Some(Claim { address: address.into(), mac }));
        prop_assert_eq!(parse(&probe(mac, address)), None);
    }
}
