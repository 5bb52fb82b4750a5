use proptest::prelude::*;

use super::*;

fn seal() -> Seal {
    Seal::new("telecom-7", &ClusterKey::from_bytes([7; 32]))
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn network(name: &str) -> NetworkName {
    NetworkName::new(name).expect("a name")
}

fn sample() -> Datagram {
    Datagram {
        from: node("alpha"),
        session: 0x0123_4567_89ab_cdef,
        counter: 42,
        networks: vec![network("red"), network("blue")],
        network: 1,
        arbiter_silent_ms: Some(700),
        vip_held: Some(true),
        hears: vec![Hears {
            node: node("beta"),
            session: 9,
            counter: 8,
            networks: 0b11,
            lost: vec![Some(0), None],
        }],
        payload: b"what the arbiter says".to_vec(),
        news: true,
        sent: vec![21, 20],
    }
}

prop_compose! {
    fn any_datagram()(
        from in "[a-z][a-z0-9-]{0,20}",
        session in any::<u64>(),
        counter in any::<u64>(),
        networks in prop::collection::vec("[a-z]{1,8}", 1..=MAX_NETWORKS),
        pick in any::<prop::sample::Index>(),
        arbiter_silent_ms in any::<Option<u32>>(),
        vip_held in any::<Option<bool>>(),
        hears in prop::collection::vec(("[a-z]{1,8}", any::<(u64, u64, u16)>()), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..400),
        news in any::<bool>(),
        loss in any::<Option<(u32, u8)>>(),
    ) -> Datagram {
        let count = networks.len();
        Datagram {
            from: node(&from),
            session,
            counter,
            network: pick.index(networks.len()),
            networks: networks.iter().map(|n| network(n)).collect(),
            arbiter_silent_ms,
            vip_held,
            hears: hears
                .into_iter()
                .map(|(name, (session, counter, networks))| Hears {
                    node: node(&name),
                    session,
                    counter,
                    networks,
                    lost: loss.map_or(vec![], |l| vec![(l.1 < LOSS_UNKNOWN).then_some(l.1); count]),
                })
                .collect(),
            payload,
            news,
            sent: loss.map_or(vec![], |(sent, _)| vec![sent; count]),
        }
    }
}

proptest! {
    #[test]
    fn what_is_closed_opens_as_it_was(datagram in any_datagram()) {
        let bytes = seal().close(&datagram).expect("it fits");
        prop_assert!(bytes.len() <= MAX_DATAGRAM);
        prop_assert_eq!(seal().open(&bytes), Ok(datagram));
    }

    #[test]
    fn any_bytes_give_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(seal().open(&bytes).is_err());
    }

    /// Bytes that somebody with the key has sealed: the parser alone stands between them
    /// and us.
    #[test]
    fn any_authentic_bytes_are_read_without_harm(
        start in any_datagram(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut content = seal().close(&start).expect("it fits");
        content.truncate(content.len() - TAG);
        for (at, byte) in changes {
            let at = at.index(content.len());
            content[at] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        let tag = blake3::keyed_hash(&seal().key, &content);
        content.extend_from_slice(tag.as_bytes());
        // What can be read is what it says: closed again it gives the same bytes.
        if let Ok(read) = seal().open(&content) {
            let mut again = seal().close(&read).expect("it was a datagram");
            // The silence is not kept where its flag is off.
            if read.arbiter_silent_ms.is_none() {
                again[28..32].copy_from_slice(&content[28..32]);
                again.truncate(again.len() - TAG);
                content.truncate(content.len() - TAG);
            }
            prop_assert_eq!(again, content);
        }
    }
}

#[test]
fn a_change_of_any_bit_is_noticed() {
    let bytes = seal().close(&sample()).expect("it fits");
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(seal().open(&changed).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(seal().open(&bytes[..length]).is_err(), "length {length}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(seal().open(&longer), Err(DropReason::WrongKey));
}

#[test]
fn each_reason_has_its_datagram() {
    let good = seal().close(&sample()).expect("it fits");
    let mut version = good.clone();
    version[2] = 2;
    let other_key = Seal::new("telecom-7", &ClusterKey::from_bytes([8; 32]));
    let other_cluster = Seal::new("telecom-8", &ClusterKey::from_bytes([7; 32]));
    let outside = Datagram {
        network: 2,
        ..sample()
    };
    for (bytes, reason) in [
        (vec![], DropReason::TooShort),
        (good[..64].to_vec(), DropReason::TooShort),
        (version, DropReason::WrongVersion),
        (vec![0; 100], DropReason::WrongVersion),
        (
            other_cluster.close(&sample()).expect("it fits"),
            DropReason::WrongCluster,
        ),
        (
            other_key.close(&sample()).expect("it fits"),
            DropReason::WrongKey,
        ),
        (
            seal().close(&outside).expect("it fits"),
            DropReason::Malformed,
        ),
    ] {
        assert_eq!(seal().open(&bytes), Err(reason));
    }
}

#[test]
fn a_payload_that_does_not_fit_is_refused_with_its_length() {
    let mut datagram = sample();
    datagram.payload = vec![0; MAX_DATAGRAM];
    let refused = seal().close(&datagram).expect_err("too long");
    assert!(refused.length > MAX_DATAGRAM);
    // The longest that fits.
    datagram.payload = vec![0; 2 * MAX_DATAGRAM - refused.length];
    assert_eq!(
        seal().close(&datagram).expect("it fits").len(),
        MAX_DATAGRAM
    );
    datagram.payload.push(0);
    assert!(seal().close(&datagram).is_err());
    datagram.payload = vec![0; 70_000];
    assert!(seal().close(&datagram).is_err());
}
