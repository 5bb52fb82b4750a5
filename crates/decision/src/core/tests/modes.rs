//! Manual modes.

use super::*;

/// The neighbour serves under `epoch`, then releases it to us; we serve.
fn released_to_us(bench: &mut Bench, epoch: u64) {
    bench.neighbour(Role::Active, epoch);
    bench.run(700);
    assert_eq!(bench.role(), Role::Standby);
    bench.advert(|advert, sip| {
        let part = advert.reserves.get_mut(sip).expect("the reserve");
        part.epoch = Epoch(epoch);
        part.released_to = Some(node("b"));
    });
    bench.run(50);
    assert_eq!(bench.role(), Role::Active);
}

#[test]
fn switchovers_that_an_operator_asked_for_are_no_flapping() {
    let mut bench = Bench::standby();
    let mut epoch = 3;
    for _ in 0..=Timing::telecom().max_switches {
        released_to_us(&mut bench, epoch);
        bench.neighbour(Role::Standby, epoch + 1);
        bench.run(50);
        bench.command(switchover(None, None)).expect("done");
        bench.run(50);
        assert_eq!(bench.role(), Role::Standby);
        epoch += 2;
    }
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
}

#[test]
fn takeovers_and_hand_overs_because_of_faults_are_flapping() {
    let mut bench = Bench::standby();
    let mut epoch = 3;
    for _ in 0..Timing::telecom().max_switches {
        bench.neighbour(Role::Active, epoch);
        bench.run(700);
        assert_eq!(bench.role(), Role::Standby);
        bench.heard = false;
        bench.silent = true;
        bench.run(100);
        assert_eq!(bench.role(), Role::Active, "B7");
        epoch += 2;
    }
    bench.heard = true;
    bench.silent = false;
    bench.neighbour(Role::Standby, epoch - 1);
    bench.run(50);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    bench.up = [true, false];
    bench.run(100);
    assert_eq!(bench.role(), Role::Standby, "A5");
    assert_eq!(bench.core.mode().mode, Mode::Flapping);
}

#[test]
fn another_configuration_is_manual_mode_until_it_is_the_same() {
    let mut bench = Bench::active();
    bench.advert(|advert, _| advert.config_digest = 8);
    bench.run(20);
    assert_eq!(bench.core.mode().mode, Mode::ConfigDiffers);
    assert!(bench.core.alarms().any(|alarm| alarm.rule == "X5"));
    bench.neighbour(Role::Standby, 4);
    assert_eq!(bench.core.mode().mode, Mode::Automatic);
    assert!(!bench.core.alarms().any(|alarm| alarm.rule == "X5"));
}
