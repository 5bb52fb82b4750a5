//! What is known of a sink at a path never outlives a doubt about it.

use super::waiting::RETRY_LONGEST;
use super::*;
use crate::source::tree::Change;
use crate::version::Kind;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn version(content: u8) -> Version {
    Version {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime_ns: 1,
        size: 1,
        hash: [content; 32],
        xattrs: [0; 16],
    }
}

fn session() -> Session {
    let hello = DirHello {
        path: b"/srv".to_vec(),
        lineage: [1; 16],
        entries: 0,
        digest: [0; 32],
        error: String::new(),
    };
    let mut session = Session::new("beta".into(), vec![hello]);
    session.dirs[0].phase = Phase::Live;
    session
}

fn knows(old: Version) -> Pending {
    Pending {
        old: Some(old),
        ..Pending::since(Mono::ZERO)
    }
}

fn change(old: Version) -> Change {
    Change {
        path: path("file"),
        since: Mono::ZERO,
        old: Some(old),
        emptied: false,
        anew: false,
        vanished: Vec::new(),
        renamed: None,
    }
}

/// A version is on its way and touched once more; then the sink says that it could not take it.
/// What was touched says that the sink has it, and must not be believed.
#[test]
fn what_failed_is_sent_whatever_was_noted_meanwhile() {
    let failed = Pending {
        whole: true,
        ..Pending::since(Mono::ZERO)
    };
    let now = Mono::ZERO;
    type Fail = fn(&mut SessionDir, Pending);
    let ways: [Fail; 2] = [
        |dir, failed| dir.at_once(path("file"), failed),
        |dir, failed| dir.again_later(path("file"), failed, Mono::ZERO),
    ];
    for fail in ways {
        let mut session = session();
        let dir = &mut session.dirs[0];
        dir.changed(&change(version(1)), true);
        fail(dir, failed.clone());
        dir.changed(&change(version(1)), true);
        dir.wake(now + RETRY_LONGEST);
        let (_, pending) = dir.pop_live().unwrap();
        assert_eq!((pending.old, pending.whole), (None, true));
        assert_eq!(dir.waiting(), 0, "it waits in one place only");
    }
}

#[test]
fn what_the_sink_says_that_it_lacks_is_not_taken_for_sent() {
    let mut session = session();
    let dir = &mut session.dirs[0];
    dir.changed(&change(version(1)), true);
    dir.want(path("file"), Mono::ZERO);
    let (_, pending) = dir.pop_live().unwrap();
    assert_eq!(pending.old, None);
}

/// A file waits with what the sink had at first; something else is sent; then it is put back.
#[test]
fn what_was_sent_meanwhile_is_what_the_sink_has() {
    let mut session = session();
    session.dirs[0].again_soon(path("dir/file"), knows(version(1)), Mono::ZERO);
    let put = |at: &str, content| Sent::Put {
        path: path(at),
        version: version(content),
        sig: None,
        to: None,
    };
    let number = |session: &mut Session, sent| session.number(0, sent, knows(version(9)));
    number(&mut session, put("dir/file", 2));
    assert_eq!(
        session.dirs[0].retry[&path("dir/file")].1.old,
        Some(version(2))
    );
    // A file takes the place of the directory, or the directory is deleted.
    number(&mut session, put("dir", 3));
    assert_eq!(session.dirs[0].retry[&path("dir/file")].1.old, None);
    number(&mut session, put("dir/file", 2));
    number(&mut session, Sent::Delete { path: path("dir") });
    assert_eq!(session.dirs[0].retry[&path("dir/file")].1.old, None);
}
