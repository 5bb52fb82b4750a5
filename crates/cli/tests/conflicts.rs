//! `haarb conflicts` as an operator runs it, on a server whose daemons do not run.

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = include_str!("../../config/tests/good.yaml");

fn haarb(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haarb"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HAARB_")) {
        command.env_remove(name);
    }
    command.args(["--config", "haarb.yaml", "--run-dir", "run"]);
    command.args(arguments).current_dir(dir).output().unwrap()
}

fn said(output: &Output) -> (bool, String) {
    let text = if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    };
    let text = String::from_utf8_lossy(text).into_owned();
    (output.status.success(), text)
}

#[test]
fn they_are_listed_compared_and_purged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let session = data.join(".haarb/conflicts/7-now");
    std::fs::create_dir_all(session.join("below")).unwrap();
    std::fs::write(session.join("below/file"), "kept\n").unwrap();
    std::fs::write(session.join("other"), "kept\n").unwrap();
    let reason = "{\"path\":\"below/file\",\"why\":\"it was here only\"}\n";
    std::fs::write(session.with_extension("jsonl"), reason).unwrap();
    let config = GOOD
        .replace("/srv/sip", data.to_str().unwrap())
        .replace("/srv/other", dir.path().join("none").to_str().unwrap());
    std::fs::write(dir.path().join("haarb.yaml"), config).unwrap();
    let run = |arguments: &[&str]| said(&haarb(dir.path(), arguments));

    let (done, text) = run(&["conflicts", "list"]);
    assert!(done, "{text}");
    assert!(text.contains("7-now/below/file\n"), "{text}");
    assert!(text.contains("it was here only"), "{text}");

    std::fs::create_dir(data.join("below")).unwrap();
    std::fs::write(data.join("below/file"), "now\n").unwrap();
    let (done, text) = run(&["conflicts", "diff", "7-now/below/file"]);
    assert!(done, "{text}");
    assert!(text.contains("-now\n+kept\n"), "{text}");

    // Who serves is asked of the arbiter: nothing is restored on a guess.
    let (done, text) = run(&["conflicts", "restore", "7-now/below/file"]);
    assert!(!done && text.contains("haarb run"), "{text}");
    let now = std::fs::read_to_string(data.join("below/file")).unwrap();
    assert_eq!(now, "now\n");

    let (done, text) = run(&["conflicts", "purge", "7-now/nothing"]);
    assert!(!done && text.contains("no such version"), "{text}");
    assert_eq!(
        run(&["conflicts", "purge", "7-now/below/file"]),
        (true, "deleted: 1\n".into())
    );
    assert!(!session.join("below").exists() && session.exists());
    assert_eq!(
        run(&["conflicts", "purge", "--all"]),
        (true, "deleted: 1\n".into())
    );
    assert!(!session.exists() && !session.with_extension("jsonl").exists());
    assert_eq!(
        run(&["conflicts", "list"]),
        (true, "no version is kept aside on this server\n".into())
    );
}
