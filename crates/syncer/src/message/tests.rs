//! What is sent arrives; what else arrives is refused without harm.

use proptest::prelude::*;

use super::*;
use crate::codec::{Malformed, put_bytes};
use crate::version::Kind;

impl Down {
    /// As alpha welcomes a sink to its one directory.
    pub(crate) fn welcome_by_alpha() -> Self {
        Self::Welcome {
            protocol: PROTOCOL,
            node: "alpha".into(),
            epoch: 1,
            directories: vec![DirWelcome {
                lineage: [1; 16],
                error: String::new(),
                exclude: Vec::new(),
            }],
        }
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    (
        prop_oneof![
            Just(Kind::File),
            Just(Kind::Directory),
            Just(Kind::Symlink),
            Just(Kind::Fifo),
            Just(Kind::CharDevice),
            Just(Kind::BlockDevice)
        ],
        0u32..=0o7777,
        any::<u32>(),
        any::<i64>(),
        any::<u64>(),
        any::<[u8; 32]>(),
    )
        .prop_map(|(kind, mode, owner, mtime_ns, size, hash)| Version {
            kind,
            mode,
            uid: owner,
            gid: !owner,
            mtime_ns,
            size,
            hash,
            xattrs: [hash[0]; 16],
        })
}

fn any_path() -> impl Strategy<Value = RelPath> {
    "[a-z]{1,4}(/[a-z]{1,4}){0,3}".prop_map(|text| RelPath::parse(text.as_bytes()).unwrap())
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn any_xattrs() -> impl Strategy<Value = Xattrs> {
    proptest::collection::vec((any_bytes(), any_bytes()), 0..3)
}

fn any_down() -> impl Strategy<Value = Down> {
    let op = || (any::<u64>(), any::<u16>(), any_path());
    let piece = prop_oneof![
        any_bytes().prop_map(Piece::Data),
        any::<u64>().prop_map(|segment| Piece::Copy { segment }),
        (any::<u64>(), any_bytes()).prop_map(|(segment, delta)| Piece::Delta { segment, delta }),
        any::<u32>().prop_map(|length| Piece::Hole { length }),
    ];
    prop_oneof![
        (any::<u64>(), any_bytes()).prop_map(|(epoch, lineage)| Down::Welcome {
            protocol: PROTOCOL,
            node: "alpha".into(),
            epoch,
            directories: vec![DirWelcome {
                lineage: [lineage.len() as u8; 16],
                error: "why".into(),
                exclude: Vec::new(),
            }],
        }),
        any::<u64>().prop_map(|epoch| Down::Refuse {
            why: Refusal::LowerEpoch,
            epoch
        }),
        Just(Down::Ping),
        any_path().prop_map(|path| Down::List { dir: 1, path }),
        (op(), any_version(), any_bytes(), any_xattrs()).prop_map(
            |((seq, dir, path), version, content, xattrs)| Down::Put {
                seq,
                dir,
                path,
                version,
                sparse: content.len() % 2 == 0,
                content,
                xattrs
            }
        ),
        (op(), any_path()).prop_map(|((seq, dir, path), from)| Down::Rename {
            seq,
            dir,
            from,
            path,
        }),
        (op(), any_version(), any_bytes()).prop_map(|((seq, dir, path), version, tail)| {
            Down::Append {
                seq,
                dir,
                path,
                growth: Growth::new(&version, &version, tail),
            }
        }),
        (op(), any_version(), any_xattrs()).prop_map(|((seq, dir, path), version, xattrs)| {
            Down::Meta {
                seq,
                dir,
                path,
                version,
                xattrs,
            }
        }),
        (op(), any_path(), any_version(), any_xattrs()).prop_map(
            |((seq, dir, path), to, version, xattrs)| Down::Link {
                seq,
                dir,
                path,
                name: NewName {
                    to,
                    moved: dir % 2 == 0,
                    version,
                    xattrs
                }
            }
        ),
        op().prop_map(|(seq, dir, path)| Down::Delete { seq, dir, path }),
        op().prop_map(|(transfer, dir, path)| Down::Begin {
            transfer,
            dir,
            path,
            sparse: dir % 2 == 0,
        }),
        (any::<u64>(), any::<u32>()).prop_map(|(first, count)| Down::Sums {
            transfer: 9,
            first,
            count
        }),
        piece.prop_map(|piece| Down::Part { transfer: 9, piece }),
        (any::<u64>(), any_version(), any_xattrs()).prop_map(|(seq, version, xattrs)| Down::End {
            seq,
            transfer: 9,
            version,
            xattrs
        }),
        any::<u64>().prop_map(|transfer| Down::Cancel { transfer }),
        proptest::collection::vec(any_path(), 0..4).prop_map(|paths| Down::Held { dir: 3, paths }),
        any::<u64>().prop_map(|seq| Down::InSync { seq, dir: 0 }),
    ]
}

fn any_up() -> impl Strategy<Value = Up> {
    prop_oneof![
        (any::<u64>(), any_bytes()).prop_map(|(epoch, path)| Up::Hello(Hello {
            protocol: PROTOCOL,
            reserve: "sip".into(),
            node: "beta".into(),
            epoch,
            directories: vec![DirHello {
                path,
                lineage: [3; 16],
                entries: epoch,
                digest: [4; 32],
                error: String::new(),
            }],
        })),
        Just(Up::Ping),
        (any_path(), any_bytes(), any_version()).prop_map(|(path, name, version)| Up::Listing {
            dir: 0,
            path,
            entries: vec![Listed {
                name,
                version,
                link: [6; 8],
                digest: [7; 32]
            }],
            last: true,
        }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(transfer, segments)| Up::Base { transfer, segments }),
        (any::<u64>(), any_bytes()).prop_map(|(segment, signature)| Up::Signature {
            transfer: 1,
            segment,
            hash: [1; 32],
            signature
        }),
        any::<u64>().prop_map(|upto| Up::Ack {
            upto,
            problems: vec![
                (1, Problem::NeedContent),
                (2, Problem::Failed("disk full".into()))
            ],
        }),
        any_path().prop_map(|path| Up::Local { dir: 0, path }),
    ]
}

proptest! {
    #[test]
    fn what_travels_together_arrives(messages in proptest::collection::vec(any_down(), 0..5)) {
        let encoded: Vec<Vec<u8>> = messages.iter().map(Down::encode).collect();
        let together = Down::together(&encoded);
        prop_assert_eq!(Down::decode_all(&together).unwrap(), messages);
        for one in &encoded {
            prop_assert_eq!(Down::decode_all(one).unwrap(), vec![Down::decode(one).unwrap()]);
        }
        if !encoded.is_empty() {
            prop_assert!(Down::decode_all(&together[..together.len() - 1]).is_err());
        }
    }

    #[test]
    fn down_survives_the_way(message in any_down()) {
        prop_assert_eq!(Down::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn up_survives_the_way(message in any_up()) {
        prop_assert_eq!(Up::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn a_cut_or_lengthened_message_is_refused(message in any_down(), cut in 0usize..100) {
        let bytes = message.encode();
        if cut < bytes.len() {
            prop_assert!(Down::decode(&bytes[..cut]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Down::decode(&longer).is_err());
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Down::decode(&bytes);
        let _ = Up::decode(&bytes);
    }
}

#[test]
fn a_path_that_leaves_is_refused_while_it_is_parsed() {
    let mut bytes = Vec::new();
    bytes.push(7);
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes());
    put_bytes(&mut bytes, b"../../etc/passwd");
    assert_eq!(Down::decode(&bytes), Err(Malformed(crate::codec::ESCAPE)));
}

#[test]
fn an_unknown_protocol_is_recognised_before_its_content() {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&99u16.to_le_bytes());
    bytes.extend_from_slice(b"whatever version 99 says here");
    let Ok(Up::Hello(hello)) = Up::decode(&bytes) else {
        panic!("not a hello");
    };
    assert_eq!(hello.protocol, 99);
}

#[test]
fn a_count_does_not_allocate_what_is_not_there() {
    let mut bytes = vec![6];
    bytes.extend_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(Up::decode(&bytes).is_err());
}
