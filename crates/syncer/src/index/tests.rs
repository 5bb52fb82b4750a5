//! The journal's form: replay, torn tails, damage.

use proptest::prelude::*;

use super::*;
use crate::version::Kind;

fn entry(seed: u8, kind: Kind) -> Entry {
    Entry {
        version: Version {
            kind,
            mode: 0o600,
            uid: 1,
            gid: 2,
            mtime_ns: 3,
            size: 4,
            hash: [seed; 32],
            xattrs: [0; 16],
        },
        sig: seed.is_multiple_of(2).then_some(Sig {
            ino: 1,
            size: 2,
            mtime_ns: 3,
            ctime_ns: 4,
        }),
        before: seed.is_multiple_of(3).then_some([9; 32]),
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let path = "[ab](/[ab]){0,2}".prop_map(|p| RelPath::parse(p.as_bytes()).unwrap());
    prop_oneof![
        6 => (path.clone(), any::<u8>(), any::<bool>()).prop_map(|(p, s, dir)| {
            Record::Put(p, entry(s, if dir { Kind::Directory } else { Kind::File }))
        }),
        2 => path.prop_map(Record::Remove),
        1 => Just(Record::Forget),
        1 => any::<[u8; 16]>().prop_map(|lineage| Record::Header(Header {
            lineage,
            stage: Stage::Filling,
            with: vec!["beta".into()],
        })),
    ]
}

fn journal(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = MAGIC.to_vec();
    let mut ends = vec![bytes.len()];
    for record in records {
        record.write(&mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #[test]
    fn a_torn_journal_is_a_prefix(records in proptest::collection::vec(any_record(), 0..20), cut in any::<prop::sample::Index>()) {
        let (bytes, ends) = journal(&records);
        let cut = cut.index(bytes.len() + 1);
        let kept = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let mut expected = Index::default();
        for record in &records[..kept] {
            expected.apply(record.clone());
        }
        let (index, count, whole) = replay(&bytes[..cut]);
        prop_assert_eq!(index, expected);
        prop_assert_eq!(count as usize, kept);
        prop_assert_eq!(whole, if cut < MAGIC.len() { 0 } else { ends[kept] });
    }

    #[test]
    fn a_flipped_bit_never_invents_an_entry(records in proptest::collection::vec(any_record(), 1..10), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut bytes, ends) = journal(&records);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let untouched = ends.iter().filter(|end| **end <= at).count().saturating_sub(1);
        let (_, count, _) = replay(&bytes);
        prop_assert_eq!(count as usize, untouched);
    }

    #[test]
    fn compacting_keeps_the_index(records in proptest::collection::vec(any_record(), 0..20)) {
        let (bytes, _) = journal(&records);
        let (index, _, _) = replay(&bytes);
        let (compact, _) = journal(&index.records().collect::<Vec<_>>());
        prop_assert_eq!(replay(&compact).0, index);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = replay(&bytes);
        let mut with_magic = MAGIC.to_vec();
        with_magic.extend_from_slice(&bytes);
        let _ = replay(&with_magic);
    }
}

#[test]
fn a_file_in_place_of_a_directory_takes_its_subtree_along() {
    let path = |p: &str| RelPath::parse(p.as_bytes()).unwrap();
    let mut index = Index::default();
    index.apply(Record::Put(path("d"), entry(0, Kind::Directory)));
    index.apply(Record::Put(path("d/f"), entry(1, Kind::File)));
    index.apply(Record::Put(path("d"), entry(2, Kind::File)));
    assert_eq!(index.entries.len(), 1);
}
