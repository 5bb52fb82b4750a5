//! A source that has the key and means harm: what a sink does not let it do.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use haarb_model::NetworkName;

use super::*;
use crate::ChannelKey;
use crate::channel::{Opener, Sealer, respond};
use crate::codec::put_bytes;
use crate::counters::{ESCAPE, OVERSIZED};
use crate::path::RelPath;
use crate::version::{Kind, Version};

struct Hostile {
    home: tempfile::TempDir,
    counters: Arc<Counters>,
    listener: TcpListener,
    following: Arc<Following>,
    thread: JoinHandle<Vec<Data>>,
}

impl Hostile {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("data");
        std::fs::create_dir(&directory).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = |text| NodeName::new(text).unwrap();
        let own: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let addresses: BTreeMap<_, _> = [
            (name("alpha"), vec![listener.local_addr().unwrap()]),
            (name("beta"), vec![own]),
        ]
        .into();
        let reserve = ReserveName::new("reserve").unwrap();
        let directories = vec![Replicated::at(&directory)];
        let settings = Arc::new(Settings {
            cluster: "test".into(),
            me: name("beta"),
            key: ChannelKey::new([1; 32]),
            networks: vec![NetworkName::new("red").unwrap()],
            addresses,
            reserves: vec![(reserve.clone(), directories.clone())],
            state_dir: home.path().join("state"),
            look_around: Duration::from_secs(600),
            patience: Duration::from_secs(5),
        });
        let followed = Followed {
            source: name("alpha"),
            epoch: 1,
            data: Vec::new(),
            paths: Arc::default(),
        };
        let counters = Arc::new(Counters::default());
        let (board, _) = Board::new(Vec::new());
        let remember = Box::new(|_| {});
        let (following, thread) = Following::start(
            &settings,
            reserve,
            &directories,
            followed,
            board,
            Arc::clone(&counters),
            remember,
        )
        .unwrap();
        Self {
            home,
            counters,
            listener,
            following,
            thread,
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.home.path().join("data")
    }

    /// Lets the sink in as its source would.
    fn accept(&self) -> (Sealer, Opener) {
        let (stream, _) = self.listener.accept().unwrap();
        let key = ChannelKey::new([1; 32]);
        let (mut sealer, mut opener) =
            respond(stream, &key, "test", Duration::from_secs(5)).unwrap();
        while !matches!(
            Up::decode(&opener.receive().unwrap()).unwrap(),
            Up::Hello(_)
        ) {}
        sealer.send(&Down::welcome_by_alpha().encode()).unwrap();
        (sealer, opener)
    }

    fn end(self) {
        self.following.stop();
        self.thread.join().unwrap();
    }
}

/// Waits until the sink hangs up.
fn hung_up(opener: &mut Opener) {
    while opener.receive().is_ok() {}
}

fn put(seq: u64, path: &str, content: &[u8]) -> Down {
    let version = Version {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_ns: 1,
        size: content.len() as u64,
        hash: *blake3::hash(content).as_bytes(),
        xattrs: [0; 16],
    };
    Down::Put {
        seq,
        dir: 0,
        path: RelPath::parse(path.as_bytes()).unwrap(),
        version,
        content: content.to_vec(),
        sparse: false,
        xattrs: Vec::new(),
    }
}

fn acknowledged(opener: &mut Opener, seq: u64) {
    loop {
        match Up::decode(&opener.receive().unwrap()).unwrap() {
            Up::Ack { upto, problems } if upto >= seq => {
                assert_eq!(problems, []);
                return;
            }
            _ => {}
        }
    }
}

#[test]
fn a_path_that_leaves_ends_the_session_and_is_counted() {
    let hostile = Hostile::new();
    std::fs::write(hostile.home.path().join("victim"), b"x").unwrap();
    for (count, path) in (1..).zip([&b"../victim"[..], b"/etc/hostname", b"a/../../victim"]) {
        let (mut sealer, mut opener) = hostile.accept();
        let mut delete = vec![7];
        delete.extend_from_slice(&1u64.to_le_bytes());
        delete.extend_from_slice(&0u16.to_le_bytes());
        put_bytes(&mut delete, path);
        sealer.send(&delete).unwrap();
        hung_up(&mut opener);
        assert_eq!(hostile.counters.get().get(ESCAPE), Some(&count));
    }
    assert!(hostile.home.path().join("victim").exists());
    hostile.end();
}

#[test]
fn a_symlink_on_the_way_is_moved_aside_and_never_followed() {
    let hostile = Hostile::new();
    let outside = hostile.home.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, hostile.data().join("way")).unwrap();
    let (mut sealer, mut opener) = hostile.accept();
    sealer.send(&put(1, "way/file", b"new").encode()).unwrap();
    acknowledged(&mut opener, 1);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(
        std::fs::read(hostile.data().join("way/file")).unwrap(),
        b"new"
    );
    let kept = |dir: &Path| std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path());
    let aside: Vec<_> = kept(&hostile.data().join(".haarb/conflicts"))
        .filter(|path| path.is_dir())
        .flat_map(|place| kept(&place).collect::<Vec<_>>())
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].read_link().unwrap(), outside);
    hostile.end();
}

#[test]
fn an_oversized_message_and_a_number_out_of_order_end_the_session() {
    let hostile = Hostile::new();
    let (mut sealer, mut opener) = hostile.accept();
    let _ = sealer.send(&vec![0; crate::message::MESSAGE_BYTES_MAX + 1]);
    hung_up(&mut opener);
    assert_eq!(hostile.counters.get().get(OVERSIZED), Some(&1));
    let (mut sealer, mut opener) = hostile.accept();
    sealer.send(&put(7, "file", b"x").encode()).unwrap();
    hung_up(&mut opener);
    assert!(!hostile.data().join("file").exists());
    hostile.end();
}

/// Content that is not what it says never goes live; the rest of the batch does.
#[test]
fn content_that_does_not_match_its_hash_is_refused_alone() {
    let hostile = Hostile::new();
    let (mut sealer, mut opener) = hostile.accept();
    let mut lie = put(1, "lie", b"one");
    if let Down::Put { content, .. } = &mut lie {
        *content = b"two".to_vec();
    }
    sealer.send(&lie.encode()).unwrap();
    sealer.send(&put(2, "truth", b"x").encode()).unwrap();
    let mut failed = Vec::new();
    loop {
        if let Up::Ack { upto, problems } = Up::decode(&opener.receive().unwrap()).unwrap() {
            failed.extend(problems.into_iter().map(|(seq, _)| seq));
            if upto >= 2 {
                break;
            }
        }
    }
    assert_eq!(failed, [1]);
    assert!(!hostile.data().join("lie").exists());
    assert!(hostile.data().join("truth").exists());
    hostile.end();
}
