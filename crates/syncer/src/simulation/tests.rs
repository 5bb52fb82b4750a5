//! Random worlds that must converge and lose nothing, and single ones in which one thing happens.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use haarb_model::Span;

use super::tree::contents;
use super::{EARLY, LATE, World, number};
use crate::message::Down;
use crate::settle::Hint;
use crate::source::WatchEvent;
use crate::version::Kind;

fn play(seed: u64) -> usize {
    play_out(seed).0
}

/// Plays a world and returns how much was kept needlessly, and the digest of what happened.
fn play_out(seed: u64) -> (usize, blake3::Hash) {
    let mut world = World::new(seed);
    let rounds = 60 + world.random.below(300);
    for _ in 0..rounds {
        world.step();
    }
    world.settle();
    let [alpha, beta] = world.trees();
    let paths: BTreeSet<&PathBuf> = alpha.keys().chain(beta.keys()).collect();
    let differing: Vec<_> = paths
        .into_iter()
        .filter(|path| alpha.get(*path) != beta.get(*path))
        .map(|path| (path, alpha.get(path), beta.get(path)))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    (world.needless, world.history.finalize())
}

#[test]
fn random_worlds_converge_and_lose_nothing() {
    if let Some(seed) = number("HAARB_SYNC_SEED") {
        println!("needless conflicts: {}", play(seed));
        return;
    }
    let mut needless = 0;
    let first = number("HAARB_SYNC_FIRST").unwrap_or(0);
    for seed in first..first + number("HAARB_SYNC_SEEDS").unwrap_or(100) {
        let played = std::panic::catch_unwind(|| play(seed));
        match played {
            Ok(count) => needless += count,
            Err(_) => panic!("replay with HAARB_SYNC_SEED={seed}"),
        }
    }
    println!("needless conflicts: {needless}");
}

#[test]
fn a_world_plays_the_same_way_again() {
    if std::env::var_os("HAARB_SYNC_ON").is_some() {
        return;
    }
    for seed in 0..8 {
        assert_eq!(play_out(seed), play_out(seed), "seed {seed}");
    }
}

/// A drain with a sink in sync needs no disk scan and less than a second; the roles then change
/// without a transfer.
#[test]
fn after_a_drain_the_roles_change_without_a_transfer() {
    let mut world = World::new(1);
    for _ in 0..20 {
        world.change(0);
    }
    world.start_source();
    world.settle();
    world.change(0);
    world.change(0);
    let source = world.source.as_mut().unwrap();
    source.drain();
    for _ in 0..1000 {
        // What was not finished at once is tried again after milliseconds.
        world.now += Span::from_millis(1);
        world.step_source();
        world.step_sink();
        if world.report().drained {
            break;
        }
    }
    assert!(world.report().drained, "{:?}", world.report());
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    world.fail_over();
    world.start_source();
    world.start_sink(None);
    let mut sent = 0;
    for _ in 0..2000 {
        world.now += Span::from_millis(2);
        world.connect();
        world.step_source();
        sent += world.sent.len();
        world.step_sink();
        if world.is_in_sync() {
            break;
        }
    }
    assert!(world.is_in_sync());
    assert_eq!(sent, 0);
    assert_eq!(world.sink.as_ref().unwrap().trees[0].conflicts, 0);
}

/// What the active one had not handed over when it died is kept when it comes back.
#[test]
fn unacknowledged_versions_of_a_returning_active_are_kept() {
    let mut world = World::new(2);
    let write = |world: &mut World, server: usize, name: &str, text: &str| {
        std::fs::write(world.roots[server].path().join(name), text).unwrap();
        world.note_had(server);
    };
    write(&mut world, 0, "common", "one");
    write(&mut world, 0, "changed", "one");
    world.start_source();
    world.settle();
    write(&mut world, 0, "changed", "only on alpha");
    write(&mut world, 0, "new", "only on alpha too");
    world.fail_over();
    write(&mut world, 1, "common", "two");
    world.start_source();
    world.settle();
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    let conflicts = contents(&world.roots[0].path().join(".haarb/conflicts"));
    let kept: BTreeSet<_> = conflicts
        .iter()
        .filter(|(path, _)| path.extension().is_none_or(|e| e != "jsonl"))
        .map(|(path, content)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, String::from_utf8(content.clone()).unwrap())
        })
        .collect();
    assert_eq!(
        kept,
        [("changed", "only on alpha"), ("new", "only on alpha too")]
            .map(|(n, t)| (n.to_owned(), t.to_owned()))
            .into()
    );
    assert_eq!(world.sink.as_ref().unwrap().trees[0].conflicts, 2);
}

/// Goes on, a millisecond at a time, until both sides have the same and say so.
fn until_equal(world: &mut World) {
    for _ in 0..5000 {
        world.now += Span::from_millis(1);
        world.step_source();
        world.step_sink();
        let [alpha, beta] = world.trees();
        if alpha == beta && world.is_in_sync() {
            return;
        }
    }
    panic!(
        "{:#?}\n{:?}\n{}",
        world.trees(),
        world.report(),
        world.source.as_ref().unwrap().describe()
    );
}

/// Goes on until all was sent, and returns that; then both sides are equal.
fn all_that_is_sent(world: &mut World) -> Vec<Down> {
    let mut sent = Vec::new();
    for _ in 0..5000 {
        world.now += Span::from_millis(1);
        world.step_source();
        let all = world.down.iter();
        sent.extend(all.map(|message| Down::decode(message).unwrap()));
        while !world.down.is_empty() {
            world.step_sink();
        }
        world.step_sink();
        if !sent.is_empty() && world.is_in_sync() {
            break;
        }
    }
    let [alpha, beta] = world.trees();
    assert_eq!(alpha, beta);
    sent
}

/// Somebody wrote a file of the active server and closed it.
fn tell_written(world: &World, name: &str) {
    for hint in [Hint::Written, Hint::Closed] {
        let root = world.roots[0].path();
        world.watch.tell(root, Path::new(name), hint);
    }
}

/// Goes on until a mark is about to arrive.
fn until_marked(world: &mut World) {
    let is_mark = |event: &WatchEvent| matches!(event, WatchEvent::Marked { .. });
    while !world.watch.events.lock().unwrap().iter().any(is_mark) {
        world.now += Span::from_millis(1);
        world.step_source();
    }
}

/// Writes a file so that it was told, and so early that its time stamp proves nothing.
fn write_in_doubt(world: &World, name: &str) {
    let at = world.roots[0].path().join(name);
    std::fs::write(&at, "new").unwrap();
    let written = at.metadata().unwrap();
    world
        .wall
        .set(written.ctime() * 1_000_000_000 + written.ctime_nsec());
    tell_written(world, name);
}

/// Renames as one user does them, told together; what was sent until both sides are equal.
fn after_renames(
    wall: i64,
    files: &[(&str, usize)],
    renames: &[(&str, &str)],
    new: &[&str],
) -> Vec<Down> {
    let mut world = World::new(8);
    let root = world.roots[0].path().to_owned();
    for (number, (name, size)) in files.iter().enumerate() {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [number as u8 + 1].repeat(*size)).unwrap();
    }
    world.start_source();
    world.settle();
    world.wall.set(wall);
    for (from, to) in renames {
        std::fs::rename(root.join(from), root.join(to)).unwrap();
        for name in [from, to] {
            world.watch.tell(&root, Path::new(name), Hint::Other);
        }
    }
    for name in new {
        std::fs::write(root.join(name), name).unwrap();
        tell_written(&world, name);
    }
    world.note_had(0);
    let sent = all_that_is_sent(&mut world);
    assert_eq!(world.sink.unwrap().trees[0].conflicts, 0);
    sent
}

/// How many files were sent as links, and how many as content.
fn costs(sent: &[Down]) -> (usize, usize) {
    let is_link = |message: &&Down| matches!(message, Down::Link { name, .. } if name.moved);
    let is_content = |message: &&Down| match message {
        Down::Put { version, .. } => version.kind == Kind::File,
        message => matches!(message, Down::Part { .. }),
    };
    let count = |is: &dyn Fn(&&Down) -> bool| sent.iter().filter(is).count();
    (count(&is_link), count(&is_content))
}

/// The sink has something in a directory that was renamed that the source does not know, or lacks
/// something: each entry goes its own way, and what is only there is kept.
#[test]
fn a_renamed_directory_that_is_not_the_same_goes_entry_by_entry() {
    type Differ = fn(&Path);
    let ways: [Differ; 3] = [
        |dir| std::fs::write(dir.join("own"), "only on beta").unwrap(),
        |dir| std::fs::write(dir.join("a"), "only on beta").unwrap(),
        |dir| std::fs::remove_file(dir.join("a")).unwrap(),
    ];
    for (number, differ) in ways.into_iter().enumerate() {
        let mut world = World::new(8);
        let [root, other] = [0, 1].map(|server: usize| world.roots[server].path().to_owned());
        std::fs::create_dir_all(root.join("from/below")).unwrap();
        std::fs::write(root.join("from/a"), "first").unwrap();
        std::fs::write(root.join("from/below/b"), "second").unwrap();
        world.start_source();
        world.settle();
        differ(&other.join("from"));
        world.note_had(1);
        std::fs::rename(root.join("from"), root.join("to")).unwrap();
        for name in ["from", "to"] {
            world.watch.tell(&root, Path::new(name), Hint::Other);
        }
        until_equal(&mut world);
        let kept = world.sink.unwrap().trees[0].conflicts;
        assert_eq!(kept, u64::from(number < 2), "{number}");
    }
}

/// A file grows again and again, one time not only at its end; what was sent of it each time.
fn after_growth(size: usize) -> Vec<Vec<Down>> {
    use std::io::Write;
    let mut world = World::new(8);
    let root = world.roots[0].path().to_owned();
    std::fs::write(root.join("log"), vec![1; size]).unwrap();
    world.start_source();
    world.settle();
    let mut log = std::fs::File::options()
        .append(true)
        .open(root.join("log"))
        .unwrap();
    let mut all = Vec::new();
    for round in 2..8u8 {
        log.write_all(&[round; 100]).unwrap();
        if round == 5 {
            let file = std::fs::File::options().write(true).open(root.join("log"));
            std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), b"in it", 3).unwrap();
        }
        world.note_had(0);
        world.watch.tell(&root, Path::new("log"), Hint::Written);
        let mut sent = all_that_is_sent(&mut world);
        sent.retain(|message| !matches!(message, Down::InSync { .. }));
        all.push(sent);
    }
    assert_eq!(world.sink.unwrap().trees[0].conflicts, 0);
    all
}

#[test]
fn of_a_file_that_grew_only_the_new_end_is_sent() {
    for size in [10_000, 3_000_000] {
        for (round, sent) in after_growth(size).into_iter().enumerate() {
            let [Down::Append { growth, .. }] = &sent[..] else {
                // It was changed elsewhere, too.
                assert_eq!(round, 3, "{size}: {sent:?}");
                continue;
            };
            assert_ne!(round, 3);
            assert_eq!(growth.tail, [round as u8 + 2; 100]);
            assert_eq!(growth.from, size as u64 + round as u64 * 100);
        }
    }
}

#[test]
fn what_is_renamed_is_not_sent_again() {
    // Looked at at once, and by a source that comes late.
    for wall in [EARLY, LATE] {
        let directory = [("from/below/a", 5000), ("from/below/b", 3), ("from/c", 9)];
        let sent = after_renames(wall, &directory, &[("from", "to")], &[]);
        assert_eq!(costs(&sent), (0, 0));
        let of_one = |message: &&Down| matches!(message, Down::Rename { .. });
        assert_eq!(sent.iter().filter(of_one).count(), 1, "{sent:?}");
        // Something is new in it: that alone is sent as well.
        let sent = after_renames(wall, &directory, &[("from", "to")], &["to/new"]);
        assert_eq!(costs(&sent), (0, 1));
        let large = [("a/large", 3_000_000), ("b/other", 5)];
        let sent = after_renames(wall, &large, &[("a/large", "b/large")], &[]);
        assert_eq!(costs(&sent), (1, 0));
        // As logs are rotated: the old name has another file at once.
        let logs = [("log", 4000), ("log.1", 5000)];
        let renames = [("log.1", "log.2"), ("log", "log.1")];
        let sent = after_renames(wall, &logs, &renames, &["log"]);
        assert_eq!(costs(&sent), (2, 1));
    }
}

/// The kernel tells of a change under the name through which it was made. That name is gone
/// before anybody looks.
#[test]
fn a_change_through_a_name_that_is_gone_again_is_seen() {
    type Go = fn(&Path, &Path);
    let ways: [Go; 2] = [
        |gone, _| std::fs::remove_file(gone).unwrap(),
        |gone, other| std::fs::rename(other, gone).unwrap(),
    ];
    for go in ways {
        let mut world = World::new(4);
        let root = world.roots[0].path().to_owned();
        let [one, two, other] = ["one", "two", "other"].map(|name| root.join(name));
        std::fs::write(&one, "first").unwrap();
        std::fs::write(&other, "other").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        world.start_source();
        world.settle();
        std::fs::write(&two, "second").unwrap();
        go(&two, &other);
        world.note_had(0);
        for (name, hint) in [
            ("two", Hint::Written),
            ("two", Hint::Other),
            ("other", Hint::Other),
        ] {
            world.watch.tell(&root, Path::new(name), hint);
        }
        world.settle();
        let [alpha, beta] = world.trees();
        assert_eq!(alpha, beta);
    }
}

/// A new name and, through it, a change whose time was set back: nothing but the content and a
/// time stamp that a name more would leave as well tells of it.
#[test]
fn a_change_that_hides_behind_a_new_name_is_seen() {
    let mut world = World::new(4);
    let root = world.roots[0].path().to_owned();
    std::fs::write(root.join("one"), "first").unwrap();
    std::fs::hard_link(root.join("one"), root.join("two")).unwrap();
    // Read so late that its time stamp proves what was read.
    world.start_source();
    world.wall.set(LATE);
    world.settle();
    let old = root.join("one").metadata().unwrap().modified().unwrap();
    std::fs::hard_link(root.join("one"), root.join("three")).unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(root.join("three"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"other", 0).unwrap();
    file.set_modified(old).unwrap();
    world.note_had(0);
    tell_written(&world, "three");
    until_equal(&mut world);
}

/// Events are lost, the mark among them for which a file waits.
#[test]
fn a_lost_mark_holds_nothing_up() {
    let mut world = World::new(4);
    world.start_source();
    world.settle();
    write_in_doubt(&world, "file");
    world.note_had(0);
    until_marked(&mut world);
    *world.watch.events.lock().unwrap() = [WatchEvent::Lost].into();
    until_equal(&mut world);
}

/// What waits for a person, or for a directory that is gone, is not due: whoever sleeps until
/// something is must not turn for ever.
#[test]
fn what_is_held_back_is_not_due() {
    let mut world = World::new(8);
    let root = world.roots[0].path().to_owned();
    let names = ["one", "two", "three", "four"];
    for name in names {
        std::fs::write(root.join(name), name).unwrap();
    }
    world.start_source();
    world.settle();
    for name in names {
        std::fs::remove_file(root.join(name)).unwrap();
        world.watch.tell(&root, Path::new(name), Hint::Other);
    }
    let due = |world: &mut World| {
        for _ in 0..1000 {
            world.now += Span::from_millis(1);
            world.step_source();
            world.step_sink();
        }
        let source = world.source.as_ref().unwrap();
        assert!(source.trees[0].guard.held().is_some());
        source.deadline(world.now)
    };
    let at = due(&mut world);
    assert!(
        at.is_some_and(|at| at > world.now),
        "an answer is looked for"
    );
    std::fs::remove_dir_all(&root).unwrap();
    world.watch.tell(&root, Path::new("one"), Hint::Other);
    let at = due(&mut world);
    assert!(at.is_some_and(|at| at > world.now), "it may come back");
}

/// What was on its way when the link broke is still to be sent, a large file and one that waits
/// for a mark included.
#[test]
fn what_waits_when_the_link_breaks_is_counted() {
    let mut world = World::new(4);
    let root = world.roots[0].path().to_owned();
    world.start_source();
    world.settle();
    std::fs::write(root.join("large"), vec![1; 3_000_000]).unwrap();
    world.watch.tell(&root, Path::new("large"), Hint::Other);
    world.wall.set(LATE);
    while world.down.is_empty() {
        world.now += Span::from_millis(1);
        world.step_source();
    }
    write_in_doubt(&world, "file");
    until_marked(&mut world);
    world.cut();
    assert_eq!(world.report().directories[0].pending_files, 2);
}
