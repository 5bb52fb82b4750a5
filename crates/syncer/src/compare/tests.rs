//! Digests find every difference, and only differences.

use proptest::prelude::*;

use super::*;
use crate::version::Kind;

fn version(kind: Kind, seed: u8) -> Version {
    Version {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_ns: i64::from(seed),
        size: 1,
        hash: [seed; 32],
        xattrs: [0; 16],
    }
}

fn tree(entries: &[(&str, Kind, u8)]) -> BTreeMap<RelPath, Version> {
    entries
        .iter()
        .map(|(path, kind, seed)| {
            (
                RelPath::parse(path.as_bytes()).unwrap(),
                version(*kind, *seed),
            )
        })
        .collect()
}

fn unlinked<'a>((path, version): (&'a RelPath, &'a Version)) -> (&'a RelPath, &'a Version, Link) {
    (path, version, Link::default())
}

fn root_digest(tree: &BTreeMap<RelPath, Version>) -> Hash {
    digests(tree.iter().map(unlinked))[&RelPath::root()]
}

#[test]
fn a_change_deep_down_changes_the_digests_above_it_and_no_others() {
    let before = tree(&[
        ("a", Kind::Directory, 0),
        ("a/b", Kind::Directory, 0),
        ("a/b/f", Kind::File, 1),
        ("c", Kind::Directory, 0),
        ("c/g", Kind::File, 1),
    ]);
    let mut after = before.clone();
    after
        .get_mut(&RelPath::parse(b"a/b/f").unwrap())
        .unwrap()
        .mtime_ns += 1;
    let (old, new) = (
        digests(before.iter().map(unlinked)),
        digests(after.iter().map(unlinked)),
    );
    for (path, differs) in [("", true), ("a", true), ("a/b", true), ("c", false)] {
        let path = RelPath::parse(path.as_bytes()).unwrap();
        assert_eq!(old[&path] != new[&path], differs, "{path:?}");
    }
}

#[test]
fn the_same_files_elsewhere_are_another_tree() {
    let one = tree(&[
        ("a", Kind::Directory, 0),
        ("a/f", Kind::File, 1),
        ("b", Kind::Directory, 0),
    ]);
    let other = tree(&[
        ("a", Kind::Directory, 0),
        ("b", Kind::Directory, 0),
        ("b/f", Kind::File, 1),
    ]);
    assert_ne!(root_digest(&one), root_digest(&other));
}

#[test]
fn children_skip_what_is_below_them() {
    let t = tree(&[
        ("a", Kind::Directory, 0),
        ("a/x", Kind::File, 1),
        ("a.b", Kind::File, 1),
        ("a/y", Kind::File, 1),
    ]);
    let names = |dir: &str| -> Vec<String> {
        children(&t, &RelPath::parse(dir.as_bytes()).unwrap())
            .map(|(p, _)| p.show().into_owned())
            .collect()
    };
    assert_eq!(names(""), ["a", "a.b"]);
    assert_eq!(names("a"), ["a/x", "a/y"]);
    assert!(names("a/x").is_empty());
    let orphan = tree(&[("d/f", Kind::File, 1)]);
    assert_eq!(children(&orphan, &RelPath::root()).count(), 0);
}

#[test]
fn each_kind_of_difference_is_named() {
    let listed = |name: &str, kind, seed| Listed {
        name: name.into(),
        version: Version {
            mtime_ns: 0,
            ..version(kind, if kind == Kind::Directory { 0 } else { seed })
        },
        link: Link::default(),
        digest: if kind == Kind::Directory {
            [seed; 32]
        } else {
            [0; 32]
        },
    };
    let ours = [
        listed("changed", Kind::File, 1),
        listed("deeper", Kind::Directory, 1),
        listed("equal", Kind::File, 1),
        listed("new", Kind::File, 1),
        listed("turned", Kind::Directory, 1),
    ];
    let theirs = [
        listed("changed", Kind::File, 2),
        listed("deeper", Kind::Directory, 2),
        listed("equal", Kind::File, 1),
        listed("old", Kind::File, 1),
        listed("turned", Kind::File, 1),
    ];
    use Difference::*;
    assert_eq!(
        differences(&ours, &theirs),
        [
            Ours(b"changed".into()),
            Below(b"deeper".into()),
            Ours(b"new".into()),
            Ours(b"turned".into()),
            Theirs(b"old".into()),
        ]
    );
}

proptest! {
    /// Two trees have one digest exactly if they are one tree.
    #[test]
    fn digests_are_equal_exactly_for_equal_trees(
        one in proptest::collection::btree_map("[ab]{1,2}(/[ab]){0,2}", 0u8..3, 0..8),
        other in proptest::collection::btree_map("[ab]{1,2}(/[ab]){0,2}", 0u8..3, 0..8),
    ) {
        let build = |spec: &BTreeMap<String, u8>| {
            let mut tree = BTreeMap::new();
            for (path, seed) in spec {
                let path = RelPath::parse(path.as_bytes()).unwrap();
                let mut dir = path.parent();
                while let Some(d) = dir.filter(|d| !d.is_root()) {
                    dir = d.parent();
                    tree.insert(d, version(Kind::Directory, 0));
                }
                tree.entry(path).or_insert(version(Kind::File, *seed));
            }
            tree
        };
        let (one, other) = (build(&one), build(&other));
        prop_assert_eq!(root_digest(&one) == root_digest(&other), one == other);
    }
}
