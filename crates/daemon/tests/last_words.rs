//! A daemon whose standard error nobody reads: it goes on, it ends in order, and when it panics
//! it ends at once, wherever the panic was. The daemon is this very program, started again.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

const CONFIG: &str = "\
cluster: test
networks: [{ name: red }]
nodes:
  - name: alpha
    networks: { red: { interface: lo, address: 10.77.1.1 } }
reserves:
  - name: sip
    vips: [{ address: 10.77.1.100/32, interface: lo }]
";

/// What the daemon does, as its environment says.
const ROLE: &str = "HAARB_TEST_ROLE";
/// Far above all that a stall of the machine adds; a daemon that waits for a reader waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return haarb_daemon::run(async move |_| daemon(&role).await);
    }
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let tests = vec![
        test(
            "a_panic_is_told_to_the_reader",
            a_panic_is_told_to_the_reader,
        ),
        test("nobody_reads_and_the_loop_panics", || {
            ends_unread("panic", 101);
        }),
        test("nobody_reads_and_a_task_panics", || {
            ends_unread("task", 101);
        }),
        test("nobody_reads_and_a_thread_panics", || {
            ends_unread("thread", 101);
        }),
        test("nobody_reads_and_it_fails", || ends_unread("chatter", 1)),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

async fn daemon(role: &str) -> anyhow::Result<()> {
    match role {
        "panic" => panic!("the loop"),
        "task" => {
            tokio::spawn(async { panic!("the task") });
            std::future::pending().await
        }
        "thread" => {
            std::thread::spawn(|| panic!("the thread"));
            std::future::pending().await
        }
        _ => {
            for _ in 0..20_000 {
                tracing::warn!("more than fits into a pipe and a queue");
            }
            anyhow::bail!("it fails")
        }
    }
}

fn start(role: &str, stderr: impl Into<Stdio>) -> (Child, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("haarb.yaml");
    std::fs::write(&config, CONFIG).expect("a file");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .env(ROLE, role)
        .arg("--config")
        .arg(&config)
        .args(["--node", "alpha"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("a child");
    (child, dir)
}

fn status(mut child: Child, role: &str) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{role}: still there after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_panic_is_told_to_the_reader() {
    let (mut child, _dir) = start("task", Stdio::piped());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(status(child, "task"), Some(101));
    assert!(said.contains("last_words.rs"), "where: {said}");
    assert!(said.contains("the task"), "what: {said}");
    assert!(said.contains("this is a bug"), "what follows: {said}");
}

/// A pipe full to the brim that nobody reads.
fn ends_unread(role: &str, expected: i32) {
    let (_reader, writer) = io::pipe().expect("a pipe");
    let flags = |flags| fcntl(&writer, FcntlArg::F_SETFL(flags)).expect("flags of a pipe");
    flags(OFlag::O_NONBLOCK);
    // Whole pages first, then the rest byte by byte.
    for block in [&[b'x'; 4096][..], b"x"] {
        while (&writer).write(block).is_ok() {}
    }
    flags(OFlag::empty());
    let (child, _dir) = start(role, writer);
    assert_eq!(status(child, role), Some(expected), "{role}");
}
