use super::*;

const INTERVAL: Span = Span::from_millis(10);

fn ms(ms: u64) -> Mono {
    Mono::from_micros(1_000_000 + ms * 1000)
}

/// Ten answered requests, the last at 90 ms; replies take 100 us.
fn steady() -> Echoes {
    let mut echoes = Echoes::new(INTERVAL);
    for n in 0..10 {
        echoes.sent(n, ms(n * 10));
        assert!(echoes.reply(n, ms(n * 10) + Span::from_micros(100)));
    }
    echoes
}

#[test]
fn a_reply_is_missing_once_it_has_had_its_time() {
    let mut echoes = steady();
    echoes.sent(10, ms(100));
    assert_eq!(echoes.missing(ms(100)), 0);
    assert_eq!(echoes.missing(ms(100) + GRACE_MIN), 1);
    echoes.sent(11, ms(110));
    echoes.sent(12, ms(120));
    assert_eq!(echoes.missing(ms(130)), 3);
    assert_eq!(echoes.missing_at(3), Some(ms(120) + GRACE_MIN));
    assert_eq!(echoes.missing_at(4), None);
    assert!(echoes.reply(12, ms(130)));
    assert_eq!(echoes.missing(ms(140)), 0);
}

#[test]
fn what_was_overtaken_is_lost_and_not_missing() {
    let mut echoes = steady();
    assert!(echoes.loss() == 0.0);
    echoes.sent(10, ms(100));
    echoes.sent(11, ms(110));
    assert!(echoes.reply(11, ms(110) + Span::from_micros(100)));
    assert_eq!(echoes.missing(ms(119)), 0);
    assert!(
        (echoes.loss() - 1.0 / 12.0).abs() < 1e-9,
        "{}",
        echoes.loss()
    );
    assert!(!echoes.reply(10, ms(115)), "it comes too late to count");
}

#[test]
fn reordered_replies_are_not_lost() {
    let mut echoes = steady();
    echoes.sent(10, ms(100));
    echoes.sent(11, ms(100));
    assert!(echoes.reply(11, ms(100) + Span::from_micros(90)));
    assert!(echoes.reply(10, ms(100) + Span::from_micros(110)));
    assert!(echoes.loss() == 0.0);
    assert!(!echoes.reply(10, ms(101)), "a duplicate");
}

#[test]
fn an_outage_is_not_loss() {
    let mut echoes = steady();
    for n in 10..500 {
        echoes.sent(n, ms(n * 10));
    }
    assert_eq!(echoes.missing(ms(5000)), 490);
    assert_eq!(echoes.missing_at(3), Some(Mono::ZERO));
    assert!((echoes.loss_now(ms(5000)) - 1.0).abs() < 1e-6);
    echoes.sent(500, ms(5000));
    assert!(echoes.reply(500, ms(5000) + Span::from_micros(100)));
    assert_eq!(echoes.missing(ms(5009)), 0);
    assert!(echoes.loss() == 0.0);
}

#[test]
fn a_slow_link_is_given_its_round_trip() {
    let mut echoes = Echoes::new(Span::from_millis(100));
    assert_eq!(
        echoes.grace(),
        Span::from_millis(50),
        "nothing is known yet"
    );
    for n in 0..100 {
        echoes.sent(n, ms(n * 100));
        assert!(echoes.reply(n, ms(n * 100 + 20)));
    }
    assert_eq!(echoes.rtt_us(), 20_000);
    let grace = echoes.grace();
    assert!(
        grace >= Span::from_millis(20) && grace < Span::from_millis(30),
        "{grace}"
    );
}
