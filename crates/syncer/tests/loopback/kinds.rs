//! Everything that a directory can hold, through two real syncers.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat};

use crate::pair::{Pair, read, sink_of, source, write};

const MIB: u64 = 1024 * 1024;

/// Kind, mode, owner, group, time (0 for fifos and devices), number, all names, content.
type Entry = (
    FileType,
    u32,
    u32,
    u32,
    (i64, i64),
    u64,
    Vec<PathBuf>,
    Vec<u8>,
);

fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut paths = Vec::new();
    let mut to_visit = vec![root.to_owned()];
    while let Some(dir) = to_visit.pop() {
        // What goes while it is looked at is as good as gone before.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name() == ".haarb" {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                to_visit.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let found = paths.into_iter().filter_map(|path| {
        let meta = path.symlink_metadata().ok()?;
        Some((path, meta))
    });
    let found: BTreeMap<_, _> = found.collect();
    for (path, meta) in found.iter().filter(|(_, meta)| meta.is_file()) {
        let name = path.strip_prefix(root).unwrap().to_owned();
        names.entry(meta.ino()).or_default().push(name);
    }
    let describe = |(path, meta): (&PathBuf, &std::fs::Metadata)| {
        let kind = FileType::from_raw_mode(meta.mode());
        let node = meta.file_type().is_fifo() || meta.rdev() != 0;
        let content = match kind {
            FileType::RegularFile => std::fs::read(path).ok()?,
            FileType::Symlink => std::fs::read_link(path).ok()?.as_os_str().as_bytes().into(),
            _ => Vec::new(),
        };
        let entry = (
            kind,
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            if node {
                (0, 0)
            } else {
                (meta.mtime(), meta.mtime_nsec())
            },
            meta.rdev(),
            names.get(&meta.ino()).cloned().unwrap_or_default(),
            content,
        );
        Some((path.strip_prefix(root).unwrap().to_owned(), entry))
    };
    found.iter().filter_map(describe).collect()
}

fn wait_same(pair: &Pair) {
    pair.wait_for(|| tree(pair.alpha.dir()) == tree(pair.beta.dir()));
    assert_eq!(pair.beta.reserve().conflicts, 0);
}

fn ino(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |meta| meta.ino())
}

fn allocated(path: &Path) -> u64 {
    path.symlink_metadata()
        .map_or(0, |meta| meta.blocks() * 512)
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let mut pair = Pair::new();
    let at = |name: &str| pair.alpha.dir().join(name);
    std::fs::create_dir_all(at("d/e")).unwrap();
    write(pair.alpha.dir(), "one", "first");
    std::fs::hard_link(at("one"), at("d/two")).unwrap();
    pair.start(1);
    wait_same(&pair);

    // A third name in another directory, then a change through the one that is watched least.
    std::fs::hard_link(at("d/two"), at("d/e/three")).unwrap();
    wait_same(&pair);
    let file = File::options().write(true).open(at("d/e/three")).unwrap();
    file.write_all_at(b"SECOND VERSION", 0).unwrap();
    drop(file);
    wait_same(&pair);
    assert_eq!(read(pair.beta.dir(), "one"), "SECOND VERSION");

    // The first name goes, another one becomes a file of its own with the same content.
    std::fs::remove_file(at("one")).unwrap();
    wait_same(&pair);
    std::fs::copy(at("d/two"), at("copy")).unwrap();
    std::fs::rename(at("copy"), at("d/two")).unwrap();
    wait_same(&pair);
    std::fs::hard_link(at("d/two"), at("four")).unwrap();
    wait_same(&pair);

    // Nothing of this is forgotten or sent again after a restart of both sides.
    let before = ino(&pair.beta.dir().join("four"));
    assert_eq!(before, ino(&pair.beta.dir().join("d/two")));
    pair.alpha.restart();
    pair.beta.restart();
    pair.start(2);
    pair.wait_in_sync();
    wait_same(&pair);
    assert_eq!(before, ino(&pair.beta.dir().join("four")));
    // And in the other direction.
    pair.alpha.hold(sink_of("beta"), 3);
    pair.beta.hold(source(), 3);
    pair.wait_for(|| pair.alpha.is_receiving());
    std::fs::remove_file(pair.beta.dir().join("four")).unwrap();
    std::fs::hard_link(
        pair.beta.dir().join("d/e/three"),
        pair.beta.dir().join("five"),
    )
    .unwrap();
    wait_same(&pair);
    assert!(!pair.alpha.dir().join("four").exists());
    assert_eq!(
        ino(&pair.alpha.dir().join("five")),
        ino(&pair.alpha.dir().join("d/e/three"))
    );
}

/// What happens in a directory right after it was renamed is seen, and what happens there later.
#[test]
fn a_renamed_directory_is_the_same_directory_under_another_name() {
    let pair = Pair::new();
    let at = |name: &str| pair.alpha.dir().join(name);
    std::fs::create_dir_all(at("old/below")).unwrap();
    write(pair.alpha.dir(), "old/file", "first");
    write(pair.alpha.dir(), "old/below/log", "line\n");
    pair.start(1);
    pair.wait_in_sync();
    wait_same(&pair);
    let there = |name: &str| ino(&pair.beta.dir().join(name));
    let (dir, file) = (there("old"), there("old/file"));

    std::fs::rename(at("old"), at("new")).unwrap();
    write(pair.alpha.dir(), "new/below/log", "line\nanother\n");
    write(pair.alpha.dir(), "new/more", "more");
    wait_same(&pair);
    write(pair.alpha.dir(), "new/below/more", "more");
    std::fs::remove_file(at("new/more")).unwrap();
    wait_same(&pair);
    assert_eq!(there("new/file"), file, "not sent again");

    // Nothing else is under way: the standby's directory is renamed, not made anew.
    pair.wait_in_sync();
    let before = there("new");
    std::fs::rename(at("new"), at("newer")).unwrap();
    wait_same(&pair);
    assert_eq!((there("newer"), there("newer/file")), (before, file));
    assert_ne!(dir, 0);
}

#[test]
fn a_large_file_with_names_is_sent_once() {
    let pair = Pair::with_relays();
    let at = |name: &str| pair.alpha.dir().join(name);
    let content: Vec<u8> = (0..3 * MIB).map(|i| (i * i / 7) as u8).collect();
    std::fs::write(at("b"), &content).unwrap();
    for name in ["a", "c"] {
        std::fs::hard_link(at("b"), at(name)).unwrap();
    }
    pair.start(1);
    wait_same(&pair);
    let carried = || pair.relays().iter().map(|r| r.carried()).sum::<u64>();
    assert!(carried() < 4 * MIB, "{} bytes", carried());
}

#[test]
fn a_sparse_file_arrives_sparse() {
    let pair = Pair::with_relays();
    let at = |name: &str| pair.alpha.dir().join(name);
    let file = File::create(at("small")).unwrap();
    file.write_all_at(b"end", 200_000).unwrap();
    let file = File::create(at("large")).unwrap();
    file.write_all_at(&[7; 5000], 9 * MIB + 17).unwrap();
    file.write_all_at(b"x", 30 * MIB).unwrap();
    file.set_len(64 * MIB).unwrap();
    // Zeros that take room on one side take room on the other one.
    std::fs::write(at("zeros"), vec![0; 2 * MIB as usize]).unwrap();
    file.sync_all().unwrap();
    pair.start(1);
    wait_same(&pair);
    let there = |name: &str| allocated(&pair.beta.dir().join(name));
    assert!(there("small") < 100_000, "{} bytes", there("small"));
    assert!(there("large") < MIB, "{} bytes", there("large"));
    assert!(there("zeros") >= 2 * MIB, "{} bytes", there("zeros"));
    let carried = || pair.relays().iter().map(|r| r.carried()).sum::<u64>();
    assert!(carried() < 6 * MIB, "{} bytes for holes", carried());

    // A change is sent as a difference, and the holes stay holes.
    file.write_all_at(b"changed", 40 * MIB + 1).unwrap();
    drop(file);
    let before = carried();
    wait_same(&pair);
    assert!(there("large") < MIB, "{} bytes", there("large"));
    assert!(carried() < before + 3 * MIB, "{} bytes", carried() - before);
}

#[test]
fn fifos_and_devices_arrive_and_become_something_else() {
    let pair = Pair::new();
    let at = |name: &str| pair.alpha.dir().join(name);
    let root = rustix::process::geteuid().is_root();
    let node = |name: &str, kind, number| {
        let mode = Mode::from_raw_mode(0o640);
        mknodat(CWD, at(name), kind, mode, number)
    };
    node("fifo", FileType::Fifo, 0).unwrap();
    // Root of a container may not make devices: then there is none to send.
    let devices = root && node("null", FileType::CharacterDevice, makedev(1, 3)).is_ok();
    if devices {
        node("loop", FileType::BlockDevice, makedev(7, 300)).unwrap();
    }
    write(pair.alpha.dir(), "file", "content");
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    pair.start(1);
    let without_socket = || {
        let mut ours = tree(pair.alpha.dir());
        ours.remove(Path::new("socket"));
        ours
    };
    pair.wait_for(|| without_socket() == tree(pair.beta.dir()));
    assert!(!pair.beta.dir().join("socket").exists());
    drop(socket);
    std::fs::remove_file(at("socket")).unwrap();

    if devices {
        // Another number under the same name, and another mode.
        std::fs::remove_file(at("null")).unwrap();
        node("null", FileType::CharacterDevice, makedev(1, 5)).unwrap();
        wait_same(&pair);
    }
    std::fs::remove_file(at("fifo")).unwrap();
    write(pair.alpha.dir(), "fifo", "a file now");
    wait_same(&pair);
    std::fs::remove_file(at("fifo")).unwrap();
    std::fs::create_dir(at("fifo")).unwrap();
    write(pair.alpha.dir(), "fifo/below", "x");
    wait_same(&pair);
    std::fs::remove_dir_all(at("fifo")).unwrap();
    node("fifo", FileType::Fifo, 0).unwrap();
    wait_same(&pair);
}

#[test]
fn times_of_directories_are_kept() {
    let pair = Pair::new();
    let at = |name: &str| pair.alpha.dir().join(name);
    std::fs::create_dir_all(at("old/older")).unwrap();
    let past = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    for name in ["old/older", "old"] {
        File::open(at(name)).unwrap().set_modified(past).unwrap();
    }
    pair.start(1);
    wait_same(&pair);
    // An entry more, and one less.
    write(pair.alpha.dir(), "old/older/entry", "x");
    wait_same(&pair);
    std::fs::remove_file(at("old/older/entry")).unwrap();
    wait_same(&pair);
    File::open(at("old")).unwrap().set_modified(past).unwrap();
    wait_same(&pair);
    assert_eq!(
        std::fs::metadata(pair.beta.dir().join("old"))
            .unwrap()
            .modified()
            .unwrap(),
        past
    );
}

/// Names of 255 bytes down to more than `PATH_MAX`, where no call takes the whole path.
#[test]
fn a_path_longer_than_any_call_takes_arrives() {
    let pair = Pair::new();
    let name = [b'n'; 255];
    let name = Path::new(std::ffi::OsStr::from_bytes(&name));
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let descend = |root: &Path, make: bool| {
        let mut at = openat(CWD, root, flags, Mode::empty()).ok()?;
        for _ in 0..20 {
            if make {
                mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            at = openat(&at, name, flags, Mode::empty()).ok()?;
        }
        Some(at)
    };
    let at = descend(pair.alpha.dir(), true).unwrap();
    let deepest = "line\nbreak";
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file: File = openat(&at, deepest, create, Mode::RUSR).unwrap().into();
    file.write_all_at(b"deep", 0).unwrap();
    drop(file);
    pair.start(1);
    let content = || {
        let at = descend(pair.beta.dir(), false)?;
        let file: File = openat(&at, deepest, OFlags::RDONLY, Mode::empty())
            .ok()?
            .into();
        std::io::read_to_string(file).ok()
    };
    pair.wait_for(|| content().as_deref() == Some("deep"));
}
