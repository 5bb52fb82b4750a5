//! Nothing of a lab is left behind, however it ends; and it does not need root.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use haarb_integration_tests::{Bench, SIT, Test};
use haarb_lab::{clock::Stamp, sandbox::Sandbox};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::LIMIT;

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "sandbox::sigkill_leaves_no_process_behind",
        sigkill_leaves_no_process_behind,
    ),
    Test::new(
        "sandbox::sigterm_reaches_the_lab_and_its_status_comes_back",
        sigterm_reaches_the_lab,
    ),
    Test::new(
        "sandbox::an_ordinary_user_has_a_lab_too",
        an_ordinary_user_has_a_lab_too,
    )
    .needing(root_with_a_public_program),
];

/// Starts a lab of its own, marked in its environment, and waits until it is ready.
fn sitting_lab(mark: &str, configure: impl FnOnce(&mut Command)) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(SIT)
        .env("HAARB_LAB_MARK", mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    configure(&mut command);
    let mut child = command.spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.as_mut() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let _ = child.kill();
        let mut said = String::new();
        if let Some(err) = child.stderr.as_mut() {
            err.read_to_string(&mut said)?;
        }
        anyhow::bail!("the lab did not start: {said}");
    }
    Ok(child)
}

/// Processes that carry a mark in their environment, or have children that do; this program's own
/// helpers of the outer lab do not.
fn marked(mark: &str) -> Vec<String> {
    let Ok(all) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        let environment = fs::read(path.join("environ")).ok()?;
        let carries = environment
            .split(|byte| *byte == 0)
            .any(|one| one == format!("HAARB_LAB_MARK={mark}").as_bytes());
        carries.then(|| {
            format!(
                "{} {}",
                path.display(),
                fs::read_to_string(path.join("comm"))
                    .unwrap_or_default()
                    .trim()
            )
        })
    })
    .collect()
}

fn until_none_is_left(mark: &str) -> anyhow::Result<()> {
    let end = Stamp::now().plus(LIMIT);
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Stamp::now() < end, "still there: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn sigkill_leaves_no_process_behind(bench: &Bench) -> anyhow::Result<()> {
    let mark = format!("kill-{}", bench.dir().display());
    let mut child = sitting_lab(&mark, |_| {})?;
    // Outer process, init, worker, and per server a launcher at least: the mark works.
    anyhow::ensure!(marked(&mark).len() >= 5, "{:?}", marked(&mark));
    child.kill()?;
    child.wait()?;
    until_none_is_left(&mark)
}

fn sigterm_reaches_the_lab(bench: &Bench) -> anyhow::Result<()> {
    let mark = format!("term-{}", bench.dir().display());
    let mut child = sitting_lab(&mark, |_| {})?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let status = child.wait()?;
    anyhow::ensure!(
        status.code() == Some(128 + Signal::SIGTERM as i32) && status.signal().is_none(),
        "{status}"
    );
    until_none_is_left(&mark)
}

/// Only root can become another user, who then must be able to read the test program.
fn root_with_a_public_program(sandbox: &Sandbox) -> Result<(), String> {
    if !sandbox.privileged {
        return Err(
            "only root can become another user; as an ordinary user every test shows it".into(),
        );
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    if reachable_for_others(&program) {
        Ok(())
    } else {
        Err(format!("{} is not for other users", program.display()))
    }
}

fn an_ordinary_user_has_a_lab_too(bench: &Bench) -> anyhow::Result<()> {
    const NOBODY: u32 = 65534;
    let mark = format!("nobody-{}", bench.dir().display());
    let mut child = sitting_lab(&mark, |command| {
        command.uid(NOBODY).gid(NOBODY);
    })?;
    drop(child.stdin.take()); // end of its input: it ends by itself
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "{status}");
    until_none_is_left(&mark)
}

fn reachable_for_others(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    program
        .ancestors()
        .all(|part| fs::metadata(part).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}
