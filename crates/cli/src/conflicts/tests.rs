//! Versions are exchanged and never overwritten.

use super::*;

fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join(PLACE).join("7-now");
    std::fs::create_dir_all(session.join("below")).unwrap();
    std::fs::write(session.join("below/file"), "kept").unwrap();
    std::fs::write(session.join("odd\n"), "odd").unwrap();
    std::fs::write(
        session.with_extension("jsonl"),
        "{\"path\":\"below/file\",\"why\":\"it was here only\"}\nnot json\n",
    )
    .unwrap();
    dir
}

fn found(dir: &tempfile::TempDir) -> Vec<Aside> {
    let mut found = Vec::new();
    in_directory("sip", dir.path(), &mut found).unwrap();
    found
}

fn named(dir: &tempfile::TempDir, name: &str) -> Aside {
    let mut all = found(dir);
    let at = all.iter().position(|aside| aside.name() == name).unwrap();
    all.remove(at)
}

#[test]
fn they_are_listed_with_the_reason() {
    let dir = place();
    let listed: Vec<_> = found(&dir)
        .iter()
        .map(|aside| (aside.name(), aside.kind(), aside.why.clone()))
        .collect();
    let line = |name: &str, why: &str| (name.to_owned(), "file", why.to_owned());
    assert_eq!(
        listed,
        [
            line("7-now/odd\\n", ""),
            line("7-now/below/file", "it was here only")
        ]
    );
}

#[test]
fn restoring_exchanges_and_takes_back() {
    let dir = place();
    let name = "7-now/below/file";
    let (now, kept) = {
        let aside = named(&dir, name);
        (aside.target(), aside.at())
    };
    // Nothing stands there.
    assert_eq!(put_back(&named(&dir, name)).unwrap(), "restored");
    assert_eq!(std::fs::read_to_string(&now).unwrap(), "kept");
    assert!(!kept.exists());
    // Something does.
    std::fs::rename(&now, &kept).unwrap();
    std::fs::write(&now, "newer").unwrap();
    for (in_place, aside) in [("kept", "newer"), ("newer", "kept")] {
        put_back(&named(&dir, name)).unwrap();
        assert_eq!(std::fs::read_to_string(&now).unwrap(), in_place);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), aside);
    }
}

#[test]
fn nothing_is_restored_through_a_symlink_or_over_a_directory() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = place();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("below")).unwrap();
    let refused = put_back(&named(&dir, "7-now/below/file")).unwrap_err();
    assert!(matches!(refused, Failure::Lines(text) if text.contains("leads elsewhere")));
    assert!(!elsewhere.path().join("file").exists());
    std::fs::remove_file(dir.path().join("below")).unwrap();
    std::fs::create_dir_all(dir.path().join("below/file")).unwrap();
    let refused = put_back(&named(&dir, "7-now/below/file")).unwrap_err();
    assert!(matches!(refused, Failure::Lines(text) if text.contains("a directory stands")));
    assert_eq!(found(&dir).len(), 2);
}

#[test]
fn no_directory_is_made_through_a_symlink() {
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = place();
    let kept = dir.path().join(PLACE).join("7-now/below/deep");
    std::fs::create_dir(&kept).unwrap();
    std::fs::write(kept.join("file"), "kept").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("below")).unwrap();
    let refused = put_back(&named(&dir, "7-now/below/deep/file")).unwrap_err();
    assert!(matches!(refused, Failure::Lines(text) if text.contains("leads elsewhere")));
    assert!(!elsewhere.path().join("deep").exists());
}
