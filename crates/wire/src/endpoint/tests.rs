use super::*;

fn names(all: &[&str]) -> Vec<NetworkName> {
    all.iter()
        .map(|n| NetworkName::new(n).expect("a name"))
        .collect()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// A server of a pair with two networks; each start takes the next session.
struct Server {
    me: &'static str,
    other: &'static str,
    session: u64,
    end: Endpoint,
    heard: u16,
}

impl Server {
    fn new(me: &'static str, other: &'static str, session: u64) -> Self {
        let seal = Seal::new("pair", &ClusterKey::from_bytes([1; 32]));
        let networks = names(&["red", "blue"]);
        Self {
            me,
            other,
            session,
            end: Endpoint::new(seal, node(me), session, networks, [node(other)]),
            heard: 0,
        }
    }

    fn restart(&mut self) {
        *self = Self::new(self.me, self.other, self.session + 1);
    }

    fn send(&mut self, network: usize) -> Vec<u8> {
        let heard = BTreeMap::from([(node(self.other), self.heard)]);
        let outgoing = Outgoing {
            arbiter_silent_ms: None,
            vip_held: None,
            heard: &heard,
            payload: b"x",
            news: false,
        };
        self.end.send(network, &outgoing).expect("it fits")
    }

    fn receive(&mut self, network: usize, bytes: &[u8]) -> Result<Received, DropReason> {
        let received = self.end.receive(network, bytes)?;
        self.heard |= 1 << network;
        Ok(received)
    }
}

fn pair() -> (Server, Server) {
    (
        Server::new("alpha", "beta", 100),
        Server::new("beta", "alpha", 200),
    )
}

/// One datagram each way on one network, lost ones left out; whether each was accepted.
fn exchange(a: &mut Server, b: &mut Server, network: usize) -> (bool, bool) {
    let from_a = a.send(network);
    let by_b = b.receive(network, &from_a).is_ok();
    let from_b = b.send(network);
    (a.receive(network, &from_b).is_ok(), by_b)
}

#[test]
fn two_new_servers_hear_each_other_within_two_exchanges() {
    let (mut a, mut b) = pair();
    assert_eq!(exchange(&mut a, &mut b, 0), (true, false));
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
    let bytes = a.send(1);
    let received = b.receive(1, &bytes).expect("accepted");
    assert_eq!(received.hears_me, 0b01, "alpha hears beta on red so far");
    assert_eq!(received.from, node("alpha"));
}

#[test]
fn either_or_both_may_restart_at_any_moment() {
    for (restart_a, restart_b) in [(true, false), (false, true), (true, true)] {
        let (mut a, mut b) = pair();
        for _ in 0..5 {
            for _ in 0..3 {
                exchange(&mut a, &mut b, 0);
                exchange(&mut a, &mut b, 1);
            }
            if restart_a {
                a.restart();
            }
            if restart_b {
                b.restart();
            }
            exchange(&mut a, &mut b, 0);
            assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
        }
    }
}

#[test]
fn who_starts_anew_is_never_told_that_it_is_not_heard() {
    let (mut a, mut b) = pair();
    for _ in 0..3 {
        for _ in 0..3 {
            exchange(&mut a, &mut b, 0);
            exchange(&mut a, &mut b, 1);
        }
        a.restart();
        let hello = a.send(0);
        let _ = b.receive(0, &hello);
        let answer = b.send(1);
        let received = a.receive(1, &answer).expect("it echoes us");
        assert_eq!(received.hears_me, 0b01);
    }
    // But not for ever, if nothing more arrives.
    a.restart();
    let hello = a.send(0);
    let _ = b.receive(0, &hello);
    for _ in 0..8 {
        b.send(0);
    }
    let answer = b.send(0);
    assert_eq!(a.receive(0, &answer).expect("it echoes us").hears_me, 0);
}

#[test]
fn a_replayed_datagram_has_no_effect() {
    let (mut a, mut b) = pair();
    let mut recorded = Vec::new();
    for _ in 0..10 {
        let bytes = a.send(0);
        let _ = b.receive(0, &bytes);
        recorded.push(bytes);
        let bytes = b.send(0);
        let _ = a.receive(0, &bytes);
    }
    for bytes in &recorded {
        assert_eq!(b.receive(0, bytes), Err(DropReason::Late));
        assert_eq!(b.receive(1, bytes), Err(DropReason::WrongNetwork));
    }
    let own = b.send(0);
    assert_eq!(b.receive(0, &own), Err(DropReason::NotForUs));
}

#[test]
fn a_replay_from_before_a_restart_of_the_sender_has_no_effect() {
    let (mut a, mut b) = pair();
    exchange(&mut a, &mut b, 0);
    let mut withheld = Vec::new();
    for _ in 0..5 {
        exchange(&mut a, &mut b, 0);
        withheld.push(a.send(0));
    }
    a.restart();
    exchange(&mut a, &mut b, 0);
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
    for bytes in &withheld {
        assert_eq!(b.receive(0, bytes), Err(DropReason::OlderSession));
    }
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
}

#[test]
fn a_session_that_was_never_seen_cannot_push_out_a_later_one() {
    let (mut a, mut b) = pair();
    exchange(&mut a, &mut b, 0);
    exchange(&mut a, &mut b, 0);
    // A whole run of alpha is recorded and never delivered. It did hear beta.
    a.restart();
    let unseen = a.send(0);
    let _ = b.receive(0, &unseen);
    let from_b = b.send(0);
    a.receive(0, &from_b).expect("beta echoes it");
    let proven_and_withheld = a.send(0);
    // The next run is delivered.
    a.restart();
    exchange(&mut a, &mut b, 0);
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
    // Now the recording arrives: authentic, proven once, and still too old.
    assert_eq!(
        b.receive(0, &proven_and_withheld),
        Err(DropReason::NotProven)
    );
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
}

#[test]
fn a_replay_from_before_a_restart_of_the_receiver_has_no_effect() {
    let (mut a, mut b) = pair();
    exchange(&mut a, &mut b, 0);
    let mut recorded = Vec::new();
    for _ in 0..5 {
        exchange(&mut a, &mut b, 0);
        recorded.push(a.send(0));
    }
    a.restart();
    exchange(&mut a, &mut b, 0);
    exchange(&mut a, &mut b, 0);
    b.restart();
    for bytes in &recorded {
        assert_eq!(b.receive(0, bytes), Err(DropReason::NotProven));
    }
    // Not even what beta now says because of the replays helps them.
    for bytes in &recorded {
        let _ = b.send(0);
        assert_eq!(b.receive(0, bytes), Err(DropReason::NotProven));
    }
    exchange(&mut a, &mut b, 0);
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
}

#[test]
fn what_was_overtaken_on_another_network_is_a_sign_of_life_and_nothing_else() {
    let (mut a, mut b) = pair();
    exchange(&mut a, &mut b, 0);
    exchange(&mut a, &mut b, 0);
    let slow = a.send(1);
    let fast = a.send(0);
    assert!(b.receive(0, &fast).expect("accepted").newest);
    assert!(!b.receive(1, &slow).expect("accepted").newest);
    let next = a.send(1);
    assert!(b.receive(1, &next).expect("accepted").newest);
}

#[test]
fn on_one_network_order_is_kept() {
    let (mut a, mut b) = pair();
    exchange(&mut a, &mut b, 0);
    exchange(&mut a, &mut b, 0);
    let first = a.send(0);
    let second = a.send(0);
    assert!(b.receive(0, &second).is_ok());
    assert_eq!(b.receive(0, &first), Err(DropReason::Late));
}

#[test]
fn who_is_not_in_the_configuration_is_not_heard() {
    let (_, mut b) = pair();
    let mut stranger = Server::new("gamma", "beta", 300);
    let bytes = stranger.send(0);
    assert_eq!(b.receive(0, &bytes), Err(DropReason::UnknownNode));
}

#[test]
fn servers_that_list_their_networks_in_another_order_understand_each_other() {
    let (mut a, mut b) = pair();
    let seal = Seal::new("pair", &ClusterKey::from_bytes([1; 32]));
    b.end = Endpoint::new(
        seal,
        node("beta"),
        201,
        names(&["blue", "red"]),
        [node("alpha")],
    );
    for _ in 0..2 {
        let bytes = a.send(0);
        let _ = b.receive(1, &bytes);
        let bytes = b.send(1);
        let _ = a.receive(0, &bytes);
    }
    let bytes = b.send(1);
    let received = a.receive(0, &bytes).expect("accepted");
    assert_eq!(received.hears_me, 0b01, "beta hears alpha on red");
    let bytes = b.send(0);
    assert!(a.receive(1, &bytes).is_ok(), "blue is blue on both");
}

#[test]
fn random_loss_and_restarts_never_wedge_a_pair() {
    // A fixed generator: the same losses in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chance = move |percent: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 100 < percent
    };
    let (mut a, mut b) = pair();
    for _ in 0..200 {
        if chance(30) {
            a.restart();
        }
        if chance(30) {
            b.restart();
        }
        for round in 0..10 {
            let network = round % 2;
            let bytes = a.send(network);
            if !chance(30) {
                let _ = b.receive(network, &bytes);
            }
            let bytes = b.send(network);
            if !chance(30) {
                let _ = a.receive(network, &bytes);
            }
        }
        exchange(&mut a, &mut b, 0);
        exchange(&mut a, &mut b, 0);
        assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
    }
}

#[test]
fn replays_do_not_keep_a_restarted_server_out() {
    let (mut a, mut b) = pair();
    let mut old = Vec::new();
    for _ in 0..20 {
        old.push(a.send(0));
        a.restart();
    }
    for bytes in &old {
        let _ = b.receive(0, bytes);
    }
    exchange(&mut a, &mut b, 0);
    assert_eq!(exchange(&mut a, &mut b, 0), (true, true));
    let length = b.send(0).len();
    assert!(
        length < 200,
        "the replays are not echoed for ever: {length}"
    );
}

#[test]
fn each_direction_of_each_network_has_its_own_loss() {
    let (mut a, mut b) = pair();
    for network in [0, 1, 0, 1] {
        exchange(&mut a, &mut b, network);
    }
    // On red every fourth datagram of alpha is lost; on blue all of beta's are.
    let mut last = None;
    for round in 0..200 {
        let red = a.send(0);
        if round % 4 != 0 {
            b.receive(0, &red).expect("accepted");
        }
        let blue = a.send(1);
        b.receive(1, &blue).expect("accepted");
        let red = b.send(0);
        last = Some(a.receive(0, &red).expect("accepted"));
        b.send(1);
    }
    let near = |share: Option<f32>, to: f32| share.is_some_and(|s| (s - to).abs() < 0.02);
    let (alpha, beta) = (node("alpha"), node("beta"));
    assert!(near(b.end.loss_in(&alpha, 0), 0.25));
    assert!(near(b.end.loss_in(&alpha, 1), 0.0));
    assert!(near(a.end.loss_in(&beta, 0), 0.0));
    assert!(near(a.end.loss_in(&beta, 1), 1.0), "known through red");
    let told = last.expect("one").loss_out;
    assert!(near(told[0], 0.25) && near(told[1], 0.0));
}
