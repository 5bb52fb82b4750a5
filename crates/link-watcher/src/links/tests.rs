use super::*;

const UP: u32 = IFF_UP | IFF_LOWER_UP;

fn told(sequence: u32, index: u32, name: &str, flags: u32) -> Message {
    Message::Link {
        sequence,
        link: Link {
            index,
            flags,
            name: name.into(),
        },
    }
}

const fn done(sequence: u32) -> Message {
    Message::Done {
        sequence,
        interrupted: false,
    }
}

/// Watches eth0 and eth1; a first dump has found eth0 up.
fn watching() -> Links {
    let mut links = Links::new(vec!["eth0".into(), "eth1".into()]);
    links.dump_begins(1);
    assert_eq!(links.take(told(1, 1, "lo", UP)), Next::Nothing);
    assert_eq!(links.take(told(1, 2, "eth0", UP)), Next::Nothing);
    assert_eq!(links.take(done(1)), Next::Complete);
    links
}

fn reasons(links: &Links) -> Vec<String> {
    links
        .report()
        .into_iter()
        .map(|l| if l.up { "up".into() } else { l.reason })
        .collect()
}

#[test]
fn every_state_has_its_reason() {
    let mut links = watching();
    for (flags, reason) in [
        (UP, "up"),
        (IFF_UP, "no carrier"),
        (IFF_LOWER_UP, "administratively down"),
        (0, "administratively down"),
    ] {
        links.take(told(0, 2, "eth0", flags));
        assert_eq!(reasons(&links), [reason, "does not exist"]);
    }
    links.take(Message::Gone { index: 2 });
    assert_eq!(reasons(&links), ["does not exist", "does not exist"]);
    // Another one takes its name.
    links.take(told(0, 9, "eth9", UP));
    links.take(told(0, 9, "eth0", UP));
    assert_eq!(reasons(&links), ["up", "does not exist"]);
}

#[test]
fn what_is_told_during_a_dump_is_not_undone_by_it() {
    let mut links = watching();
    links.dump_begins(2);
    links.take(told(0, 2, "eth0", IFF_UP));
    links.take(told(2, 2, "eth0", UP)); // the dump read it before
    links.take(told(0, 3, "eth1", UP)); // came after the dump passed its place
    assert_eq!(links.take(done(2)), Next::Complete);
    assert_eq!(reasons(&links), ["no carrier", "up"]);
    links.dump_begins(3);
    links.take(Message::Gone { index: 3 });
    links.take(told(3, 3, "eth1", UP));
    links.take(told(3, 2, "eth0", UP));
    links.take(done(3));
    assert_eq!(reasons(&links), ["up", "does not exist"]);
}

#[test]
fn a_dump_finds_what_was_lost_with_the_messages() {
    let mut links = watching();
    links.dump_begins(2);
    links.take(told(2, 5, "eth1", UP)); // eth0 went, eth1 came, and nobody heard of it
    assert_eq!(links.take(done(2)), Next::Complete);
    assert_eq!(reasons(&links), ["does not exist", "up"]);
}

#[test]
fn a_disturbed_dump_is_asked_again_and_an_old_one_ends_nothing() {
    let mut links = watching();
    links.dump_begins(2);
    let disturbed = Message::Done {
        sequence: 2,
        interrupted: true,
    };
    assert_eq!(links.take(disturbed), Next::DumpAgain);
    assert_eq!(reasons(&links), ["up", "does not exist"], "nothing is lost");
    links.dump_begins(3);
    assert_eq!(links.take(done(2)), Next::Nothing);
    let refused = Message::Refused {
        sequence: 3,
        errno: 16,
    };
    assert_eq!(links.take(refused), Next::DumpAgain);
}

#[test]
fn the_driver_is_asked_once_for_each_loss_of_carrier() {
    let mut links = watching();
    assert_eq!(links.unexplained(), Vec::<String>::new());
    links.take(told(0, 2, "eth0", IFF_UP));
    assert_eq!(links.unexplained(), ["eth0"]);
    assert_eq!(links.unexplained(), Vec::<String>::new());
    links.detail("eth0", "no cable".into());
    assert_eq!(reasons(&links)[0], "no carrier: no cable");
    links.take(told(0, 2, "eth0", UP));
    assert_eq!(links.unexplained(), Vec::<String>::new());
    assert_eq!(reasons(&links)[0], "up");
    links.take(told(0, 2, "eth0", IFF_UP));
    assert_eq!(
        reasons(&links)[0],
        "no carrier",
        "an old reason is not kept"
    );
    assert_eq!(links.unexplained(), ["eth0"]);
}
