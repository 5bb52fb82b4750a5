//! The channel over loopback: who gets in, and what a stranger gets.

use std::net::TcpListener;
use std::thread;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn key(seed: u8) -> ChannelKey {
    ChannelKey::new([seed; 32])
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

type Ends = (
    Result<(Sealer, Opener), ChannelError>,
    Result<(Sealer, Opener), ChannelError>,
);

fn open(client_key: u8, server_key: u8, client_cluster: &str) -> Ends {
    let (client, server) = sockets();
    let server = thread::spawn(move || respond(server, &key(server_key), "one", PATIENCE));
    let client = initiate(client, &key(client_key), client_cluster, PATIENCE);
    (client, server.join().unwrap())
}

#[test]
fn messages_of_every_size_arrive_both_ways() {
    let (client, server) = open(1, 1, "one");
    let ((mut up, mut from_server), (mut down, mut from_client)) =
        (client.unwrap(), server.unwrap());
    for size in [
        0,
        1,
        PLAIN_MAX - 4,
        PLAIN_MAX - 3,
        200_000,
        MESSAGE_BYTES_MAX,
    ] {
        let message: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        thread::scope(|scope| {
            scope.spawn(|| up.send(&message).unwrap());
            assert_eq!(from_client.receive().unwrap(), message);
            scope.spawn(|| down.send(&message).unwrap());
            assert_eq!(from_server.receive().unwrap(), message);
        });
    }
}

#[test]
fn another_key_or_cluster_gets_nothing() {
    for (client_key, cluster) in [(2, "one"), (1, "two")] {
        let (client, server) = open(client_key, 1, cluster);
        assert!(matches!(server, Err(ChannelError::NotOurs)));
        // Not one byte was answered: the stranger sees only the end.
        assert!(matches!(client, Err(ChannelError::Io(_))));
    }
}

#[test]
fn a_longer_message_is_refused_before_it_is_read() {
    let (client, server) = open(1, 1, "one");
    let ((mut up, _), (_, mut from_client)) = (client.unwrap(), server.unwrap());
    up.out.clear();
    up.seal(&(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes())
        .unwrap();
    up.stream.write_all(&up.out).unwrap();
    assert!(matches!(
        from_client.receive(),
        Err(ChannelError::Oversized(_))
    ));
}

/// Records what a client says to one server and plays it to another.
#[test]
fn a_recorded_session_is_worth_nothing() {
    let (client, server) = sockets();
    let recorder = thread::spawn(move || {
        let mut server = server;
        let mut first = vec![0; 50];
        server.read_exact(&mut first).unwrap();
        first
    });
    let _ = initiate(client, &key(1), "one", Duration::from_millis(300));
    let recorded = recorder.join().unwrap();
    let (mut replayer, server) = sockets();
    replayer.write_all(&recorded).unwrap();
    // A second recording of the same: the record after the handshake cannot be made.
    replayer.write_all(&[0, 20]).unwrap();
    replayer.write_all(&[7; 20]).unwrap();
    let outcome = respond(server, &key(1), "one", PATIENCE)
        .and_then(|(_, mut opener)| opener.receive().map(drop));
    assert!(matches!(outcome, Err(ChannelError::NotOurs)), "{outcome:?}");
}

#[test]
fn changed_repeated_and_dropped_records_do_not_open() {
    type Tamper = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Tamper); 3] = [
        ("changed", |mut one, _| {
            one[10] ^= 1;
            one
        }),
        ("repeated", |one, _| [one.clone(), one].concat()),
        ("dropped", |_, two| two),
    ];
    for (name, tamper) in cases {
        let (client, server) = open(1, 1, "one");
        let ((mut up, _keep), (_, mut from_client)) = (client.unwrap(), server.unwrap());
        let mut sealed = || {
            up.out.clear();
            let head = [&5u32.to_be_bytes()[..], b"hello"].concat();
            up.seal(&head).unwrap();
            up.out.clone()
        };
        let (one, two) = (sealed(), sealed());
        up.stream.write_all(&tamper(one, two)).unwrap();
        let mut outcome = from_client.receive();
        if name == "repeated" {
            assert_eq!(outcome.unwrap(), b"hello");
            outcome = from_client.receive();
        }
        assert!(matches!(outcome, Err(ChannelError::NotOurs)), "{name}");
    }
}

#[test]
fn strangers_that_are_silent_or_talk_something_else_do_not_hold_us() {
    let (mut client, server) = sockets();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let outcome = respond(server, &key(1), "one", PATIENCE).map(drop);
    assert!(matches!(outcome, Err(ChannelError::NotOurs)));
    let (_silent, server) = sockets();
    let outcome = respond(server, &key(1), "one", Duration::from_millis(50)).map(drop);
    assert!(matches!(outcome, Err(ChannelError::Io(_))));
}
