//! Which bytes are a path, and how paths sort.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

#[test]
fn nothing_that_could_leave_the_directory_is_a_path() {
    for (bytes, why) in [
        (&b"/etc/passwd"[..], BadPath::Leaves),
        (b"..", BadPath::Leaves),
        (b"a/../../b", BadPath::Leaves),
        (b"a/.", BadPath::Leaves),
        (b"a//b", BadPath::BadName),
        (b"a/", BadPath::BadName),
        (b"a\0b", BadPath::BadName),
        (b".haarb", BadPath::Private),
        (b".haarb/index", BadPath::Private),
        (&[b'x'; 256], BadPath::BadName),
        (&[b'x'; PATH_BYTES_MAX + 1], BadPath::TooLong),
    ] {
        assert_eq!(
            RelPath::parse(bytes),
            Err(why),
            "{:?}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn names_are_bytes() {
    for bytes in [
        &b"caf\xe9"[..],
        b"new\nline",
        b"...",
        b"sub/.haarb",
        b".haarbx",
        &[b'x'; 255],
    ] {
        assert_eq!(RelPath::parse(bytes).unwrap().as_bytes(), bytes);
    }
}

#[test]
fn a_subtree_is_one_range_after_its_directory() {
    let all: BTreeSet<_> = ["a", "a/x", "a/x/y", "a\u{1}", "a.b", "a0", "b"]
        .map(path)
        .into();
    let sorted: Vec<_> = all.iter().map(|p| p.show().into_owned()).collect();
    assert_eq!(sorted, ["a", "a/x", "a/x/y", "a\\x01", "a.b", "a0", "b"]);
    let a = path("a");
    let range: Vec<_> = all.range(a.clone()..a.after_subtree()).cloned().collect();
    assert_eq!(range, ["a", "a/x", "a/x/y"].map(path));
}

#[test]
fn parents_and_names() {
    let deep = path("a/b/c");
    assert_eq!(deep.name(), b"c");
    assert_eq!(deep.parent(), Some(path("a/b")));
    assert_eq!(path("a").parent(), Some(RelPath::root()));
    assert_eq!(RelPath::root().parent(), None);
    assert_eq!(deep.names().count(), 3);
    assert_eq!(RelPath::root().names().count(), 0);
    assert!(RelPath::root().join(PRIVATE).is_err());
    assert_eq!(path("a").join(b"b").unwrap(), path("a/b"));
}

proptest! {
    #[test]
    fn parsing_never_panics_and_never_lets_dots_through(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(path) = RelPath::parse(&bytes) {
            prop_assert!(path.names().all(|n| !n.is_empty() && n != b"." && n != b".."));
            prop_assert_eq!(path.as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn below_is_exactly_the_range(names in proptest::collection::vec("[a-c./\u{1}]{1,6}", 1..30)) {
        let all: BTreeSet<_> = names.iter().filter_map(|n| RelPath::parse(n.as_bytes()).ok()).collect();
        for dir in all.iter().filter(|p| !p.is_root()) {
            let ranged: Vec<_> = all.range(dir.clone()..dir.after_subtree()).filter(|p| *p != dir).collect();
            let below: Vec<_> = all.iter().filter(|p| p.is_below(dir)).collect();
            prop_assert_eq!(ranged, below);
        }
    }
}
