//! Our own networks: losses, whose they are, modes that follow.

use super::*;

#[test]
fn manual_one_network_follows_only_from_our_own_loss() {
    let mut bench = Bench::active();
    bench.advert(|advert, sip| {
        advert.usable = networks().into_iter().take(1).collect();
        advert.mode = Mode::OneNetwork;
        advert.reserves.get_mut(sip).expect("the reserve").epoch = Epoch(4);
    });
    bench.run(5_000);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    bench.up = [true, false];
    bench.run(20);
    assert_eq!(bench.core.mode().mode, Mode::OneNetwork);
    assert_eq!(
        bench.role(),
        Role::Active,
        "A6: the neighbour is not better off"
    );
}

/// The eligible standby of [`Bench::active`], which confirms these networks.
fn confirms(bench: &mut Bench, confirmed: &[NetworkName]) {
    bench.advert(|advert, sip| {
        advert.confirms = confirmed.iter().cloned().collect();
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.epoch = Epoch(4);
        part.eligible = true;
    });
    bench.report();
}

#[test]
fn a_link_that_the_neighbour_confirms_is_handed_over_without_waiting() {
    let mut bench = Bench::active();
    let blue = &networks()[1..];
    // What was said before the loss says nothing about it.
    confirms(&mut bench, blue);
    bench.up = [true, false];
    bench.run(10);
    assert_eq!(bench.role(), Role::Active, "it may be the switch");
    confirms(&mut bench, &networks()[..1]);
    assert_eq!(
        bench.role(),
        Role::Active,
        "the other network's switch lives"
    );
    confirms(&mut bench, blue);
    assert_eq!(bench.role(), Role::Releasing, "A5");
}

#[test]
fn without_a_word_from_the_neighbours_switch_a_loss_has_to_settle() {
    let mut bench = Bench::active();
    let settle = bench.core.view().settle();
    bench.up = [true, false];
    bench.report();
    bench.now += settle - Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Active);
    bench.now += Span::from_millis(1);
    bench.report();
    assert_eq!(bench.role(), Role::Releasing, "A5");
}

#[test]
fn a_neighbours_loss_is_confirmed_once_the_switch_has_answered_since() {
    let mut bench = Bench::standby();
    let lost = |bench: &mut Bench, usable: &[NetworkName]| {
        bench.advert(|advert, sip| {
            advert.usable = usable.iter().cloned().collect();
            let part = advert.reserves.get_mut(sip).expect("the reserve");
            part.role = Role::Active;
            part.epoch = Epoch(3);
        });
    };
    let pause = Span::from_millis(5);
    assert_eq!(bench.core.view().segment.timing.switch_interval, pause);
    lost(&mut bench, &networks()[..1]);
    let asked = |bench: &Bench| bench.core.duties(bench.now).links.ask_switches;
    assert!(asked(&bench).is_empty(), "its power may be failing");
    bench.now += pause;
    bench.feed(Input::Tick);
    assert_eq!(asked(&bench), networks()[1..].iter().cloned().collect());
    assert!(bench.core.advert().confirms.is_empty());
    bench.now += Span::from_micros(200);
    bench.report();
    assert_eq!(bench.core.advert().confirms, asked(&bench));
    lost(&mut bench, &networks());
    assert!(bench.core.advert().confirms.is_empty());
}

/// The replica leaves a network as soon as either server says that it is gone, before anybody can be
/// missed on it.
#[test]
fn a_network_that_either_server_lost_is_none_on_which_the_other_is_heard() {
    let mut bench = Bench::standby();
    let [red, blue] = [networks().remove(0), networks().remove(1)];
    let heard = |bench: &Bench| bench.core.view().heard().remove(&node("a")).unwrap();
    let both = [red.clone(), blue.clone()].into();
    bench.report();
    assert_eq!(heard(&bench), both);
    let blue_only = [blue].into();
    bench.advert(|advert, _| advert.usable.retain(|name| *name != red));
    assert_eq!(heard(&bench), blue_only, "the neighbour lost it");
    bench.advert(|_, _| ());
    assert_eq!(heard(&bench), both);
    bench.up[0] = false;
    bench.report();
    assert_eq!(heard(&bench), blue_only, "we lost it");
}
