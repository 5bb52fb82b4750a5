//! No way out of a root, whatever stands in it.

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn enter(dir: &Path) -> Root {
    Place::new(dir.into()).enter().unwrap()
}

#[test]
fn symlinks_are_not_followed_on_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"x").unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::os::unix::fs::symlink("in", dir.path().join("inner")).unwrap();
    let root = enter(dir.path());
    for way in ["out", "inner"] {
        assert!(root.walk(&path(way)).is_err(), "{way} in one call");
        assert!(root.walk_by_name(&path(way)).is_err(), "{way} by name");
    }
    assert!(root.walk(&path("in")).is_ok());
    assert!(root.walk_by_name(&path("in")).is_ok());
    assert_eq!(root.find(&path("out/secret")).unwrap(), None);
    assert!(root.open_file(&path("out/secret")).is_err());
    assert_eq!(
        root.find(&path("out")).unwrap().unwrap().kind,
        Some(Kind::Symlink)
    );
}

#[test]
fn a_path_longer_than_one_call_takes_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let root = enter(dir.path());
    let name = "n".repeat(200);
    let mut at = root.walk(&RelPath::root()).unwrap();
    let mut deep = RelPath::root();
    for _ in 0..40 {
        fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = fs::openat(&at, name.as_str(), DIR_FLAGS, Mode::empty()).unwrap();
        deep = deep.join(name.as_bytes()).unwrap();
    }
    assert!(deep.as_bytes().len() > 4096);
    assert!(root.walk(&deep).is_ok());
    assert!(root.find(&deep).unwrap().is_some());
}

#[test]
fn another_directory_in_its_place_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let mut place = Place::new(mount.clone());
    place.enter().unwrap();
    std::fs::rename(&mount, dir.path().join("elsewhere")).unwrap();
    assert!(matches!(place.enter(), Err(RootError::Missing(_))));
    std::fs::create_dir(&mount).unwrap();
    assert!(matches!(place.enter(), Err(RootError::Exchanged(_))));
    std::fs::remove_dir(&mount).unwrap();
    std::fs::write(&mount, b"").unwrap();
    assert!(matches!(place.enter(), Err(RootError::NotDirectory(_))));
}

#[test]
fn our_own_place_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let root = enter(dir.path());
    root.private(&[b"tmp"]).unwrap();
    std::fs::write(dir.path().join("f"), b"").unwrap();
    assert!(dir.path().join(".haarb/tmp").is_dir());
    assert_eq!(root.names(&RelPath::root()).unwrap(), [b"f"]);
}
