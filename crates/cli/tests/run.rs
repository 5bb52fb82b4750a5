//! `haarb run` with daemons that are shell scripts: what it refuses, how it restarts, how it
//! stops, and that nothing outlives it. Needs CAP_NET_ADMIN for the refusal to be silent, so
//! an ordinary user runs it in a user namespace of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use expect_test::expect;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

const DAEMONS: [&str; 6] = [
    "haarb-arbiter",
    "haarb-vip-agent",
    "haarb-supervisor",
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-syncer",
];

/// Says its pid, ends on SIGTERM with a word, and otherwise waits for ever.
const PATIENT: &str = "#!/bin/sh
trap 'echo bye; kill $!; exit 0' TERM
echo up $$ >&2
sleep 1000 >/dev/null 2>&1 &
wait
";

/// Long enough for a stalled test machine; no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(lab.path().join("haarb.yaml"), CONFIG).unwrap();
        let key = "ab".repeat(32);
        std::fs::write(lab.path().join("key"), key).unwrap();
        lab.mode("key", 0o600);
        std::fs::create_dir(lab.path().join("bin")).unwrap();
        for name in DAEMONS {
            lab.daemon(name, PATIENT);
        }
        lab
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn mode(&self, name: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path().join(name), permissions).unwrap();
    }

    fn daemon(&self, name: &str, script: &str) {
        std::fs::write(self.path().join("bin").join(name), script).unwrap();
        self.mode(&format!("bin/{name}"), 0o755);
    }

    fn command(&self) -> Command {
        let haarb = env!("CARGO_BIN_EXE_haarb");
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new(haarb)
        } else {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--net", haarb]);
            command
        };
        command.current_dir(self.path()).args([
            "run",
            "--config",
            "haarb.yaml",
            "--node",
            "alpha",
            "--run-dir",
            "run",
            "--state-dir",
            "state",
            "--key",
            "key",
            "--bin-dir",
            "bin",
        ]);
        command
    }

    /// What a refused start says.
    fn refusal(&self) -> String {
        let output = self.command().output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).replace(&self.path().display().to_string(), "DIR")
    }

    fn start(&self) -> Run {
        let mut child = self
            .command()
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Run {
            child,
            lines,
            said: Vec::new(),
        }
    }
}

struct Run {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Run {
    /// Waits for a line that contains a text.
    fn line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|e| panic!("no line with {text:?} ({e}): {:#?}", self.said));
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits until all fake daemons run; returns their pids in the order of [`DAEMONS`].
    fn pids(&mut self) -> Vec<Pid> {
        let mut pids = vec![None; DAEMONS.len()];
        while pids.contains(&None) {
            let line = self.line(": up ");
            let (name, pid) = line.split_once(": up ").unwrap();
            let i = DAEMONS.iter().position(|d| *d == name).unwrap();
            pids[i] = Some(Pid::from_raw(pid.parse().unwrap()));
        }
        pids.into_iter().flatten().collect()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Everything it said until its end, and its exit status.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (std::mem::take(&mut self.said), status.code())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A failed test must not leave daemons; the parent-death signal ends them.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gone(pid: Pid) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return true,
            // A zombie that some reaper has not come to yet has ended all the same.
            Ok(stat) if stat.contains(") Z ") => return true,
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}

#[test]
fn everything_wrong_is_said_at_once_and_nothing_starts() {
    let lab = Lab::new();
    let config = CONFIG.replace("lo, address", "no-such-if, address");
    std::fs::write(lab.path().join("haarb.yaml"), config).unwrap();
    lab.mode("key", 0o644);
    std::fs::remove_file(lab.path().join("bin/haarb-prober")).unwrap();
    std::fs::write(lab.path().join("run"), "in the way").unwrap();
    let refusal = lab.refusal();
    let stable: String = refusal
        .lines()
        .map(|l| match l.split_once("write one of ") {
            Some((head, _)) => format!("{head}...\n"),
            None => format!("{l}\n"),
        })
        .collect();
    expect![[r#"
        haarb: haarb.yaml:5:35: the interface "no-such-if" does not exist on this server; ...
        haarb: key: the cluster key is open to others (mode 0644); run `chmod 600 key`, and if a stranger may have read it, make a new one
        haarb: bin: these daemons are not there or not executable: haarb-prober; install them beside haarb, or name their directory with --bin-dir
        haarb: run: the run directory cannot be created (File exists (os error 17)); run it as root, or choose another --run-dir
    "#]].assert_eq(&stable);
}

#[test]
fn a_run_directory_that_is_too_deep_is_refused() {
    let mut lab = Lab::new();
    let deep = lab
        .path()
        .join("a-very-long-name-of-a-directory/".repeat(4));
    std::fs::create_dir_all(&deep).unwrap();
    let mut command = lab.command();
    let output = command.args(["--run-dir"]).arg(&deep).output().unwrap();
    // The option given twice is wrong usage; by the environment it is refused.
    assert_eq!(output.status.code(), Some(2));
    lab = Lab::new();
    let output = Command::new(env!("CARGO_BIN_EXE_haarb"))
        .args([
            "run",
            "--node",
            "alpha",
            "--config",
            "haarb.yaml",
            "--key",
            "key",
            "--bin-dir",
            "bin",
            "--state-dir",
            "state",
        ])
        .env("HAARB_RUN_DIR", &deep)
        .current_dir(lab.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("too long a path for the sockets in it"),
        "{error}"
    );
}

#[test]
fn a_second_run_in_the_same_place_is_refused() {
    let lab = Lab::new();
    let mut first = lab.start();
    first.pids();
    expect![[r#"
        haarb: run: haarb runs here already; stop it first (SIGTERM to `haarb run`, or `systemctl stop haarb.target`), or give this server its own --run-dir
    "#]].assert_eq(&lab.refusal());
}

#[test]
fn a_killed_daemon_is_back_at_once_and_the_reason_is_told() {
    let lab = Lab::new();
    let mut run = lab.start();
    let prober = run.pids()[4];
    kill(prober, Signal::SIGKILL).unwrap();
    let line = run.line("haarb: haarb-prober was killed by SIGKILL");
    assert!(line.ends_with("; started again at once"), "{line}");
    run.line("haarb-prober: up ");
}

#[test]
fn a_daemon_that_goes_on_dying_is_started_with_growing_pauses() {
    let lab = Lab::new();
    lab.daemon("haarb-syncer", "#!/bin/sh\necho no disk >&2\nexit 3\n");
    let mut run = lab.start();
    for pause in ["at once", "in 50ms", "in 100ms", "in 200ms"] {
        let line = run.line("haarb: haarb-syncer ended with status 3");
        assert!(
            line.ends_with(&format!("; started again {pause}")),
            "{line}"
        );
    }
    assert!(run.said.iter().any(|l| l == "haarb-syncer: no disk"));
}

/// A pipe that is full and that nobody reads, and the end that keeps it from being closed.
fn unread() -> (std::io::PipeReader, std::io::PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    // Whole pages first, then the rest byte by byte.
    for block in [&[b'x'; 4096][..], b"x"] {
        while (&writer).write(block).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_journal_that_stands_still_holds_up_neither_the_daemons_nor_their_restart_nor_the_end() {
    let lab = Lab::new();
    let starts = lab.path().join("starts");
    lab.daemon(
        "haarb-prober",
        &PATIENT.replacen(
            "echo up $$ >&2",
            &format!("echo $$ >> {}", starts.display()),
            1,
        ),
    );
    // Far more than every pipe and queue on the way takes.
    let through = lab.path().join("through");
    let talks = format!("yes | head -c 2000000 >&2\ntouch {}", through.display());
    lab.daemon(
        "haarb-syncer",
        &PATIENT.replacen("echo up $$ >&2", &talks, 1),
    );
    let (_out, stdout) = unread();
    let (_err, stderr) = unread();
    let child = lab.command().stdout(stdout).stderr(stderr).spawn().unwrap();
    let (_, lines) = channel();
    let mut run = Run {
        child,
        lines,
        said: Vec::new(),
    };
    until("a daemon that talks goes on", || through.exists());
    let pids = || -> Vec<i32> {
        let text = std::fs::read_to_string(&starts).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    until("the prober starts", || pids().len() == 1);
    kill(Pid::from_raw(pids()[0]), Signal::SIGKILL).unwrap();
    until("the prober is started again", || pids().len() == 2);
    run.signal(Signal::SIGTERM);
    let mut status = None;
    until("it ends", || {
        status = run.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn a_signal_stops_the_daemons_in_order() {
    let lab = Lab::new();
    let mut run = lab.start();
    run.pids();
    run.signal(Signal::SIGTERM);
    let (said, status) = run.end();
    assert_eq!(status, Some(0), "{said:#?}");
    let byes: Vec<&str> = said
        .iter()
        .filter_map(|l| l.strip_suffix(": bye"))
        .collect();
    let order = [
        "haarb-supervisor",
        "haarb-vip-agent",
        "haarb-syncer",
        "haarb-prober",
        "haarb-link-watcher",
        "haarb-arbiter",
    ];
    assert_eq!(byes, order);
}

#[test]
fn a_daemon_that_does_not_end_is_killed_and_a_second_signal_hurries() {
    let lab = Lab::new();
    let stubborn = "#!/bin/sh\ntrap '' TERM\necho up $$ >&2\nwhile :; do sleep 1000; done\n";
    lab.daemon("haarb-supervisor", stubborn);
    let mut run = lab.start();
    let supervisor = run.pids()[2];
    run.signal(Signal::SIGINT);
    run.line("no hand-over");
    run.signal(Signal::SIGINT);
    run.line("second signal: not waiting long for haarb-supervisor");
    let (said, status) = run.end();
    assert_eq!(status, Some(1), "{said:#?}");
    assert!(
        said.iter()
            .any(|l| l == "haarb: haarb-supervisor does not end; killing it")
    );
    let last = said.last().unwrap();
    assert!(
        last.starts_with("haarb: stopped, but haarb-supervisor had to be killed"),
        "{last}"
    );
    assert!(gone(supervisor));
}

#[test]
fn nothing_outlives_a_killed_run_and_whoever_holds_something_may_let_go() {
    let lab = Lab::new();
    let note = lab.path().join("let-go");
    let script = format!(
        "#!/bin/sh\ntrap 'touch {}; exit 0' TERM\necho up $$ >&2\nsleep 1000 >/dev/null 2>&1 &\nwait\n",
        note.display()
    );
    lab.daemon("haarb-vip-agent", &script);
    let mut run = lab.start();
    let pids = run.pids();
    run.signal(Signal::SIGKILL);
    for (pid, name) in pids.into_iter().zip(DAEMONS) {
        assert!(gone(pid), "{name} lives on");
    }
    assert!(note.exists());
}

#[test]
fn without_a_hand_over_the_services_that_outlive_the_supervisor_are_waited_for() {
    let lab = Lab::new();
    // Ends at SIGTERM and leaves a process behind that needs a moment, as a keeper does.
    let script = "#!/bin/sh
trap 'exit 0' TERM
echo up $$ >&2
(trap '' TERM; read _ < go; sleep 0.3; touch service-stopped) &
wait
wait
";
    let made = Command::new("mkfifo").arg(lab.path().join("go")).status();
    assert!(made.unwrap().success());
    lab.daemon("haarb-supervisor", script);
    let mut run = lab.start();
    let supervisor = run.pids()[2];
    run.signal(Signal::SIGTERM);
    assert!(gone(supervisor));
    std::fs::write(lab.path().join("go"), "\n").unwrap();
    let (said, status) = run.end();
    assert_eq!(status, Some(0), "{said:#?}");
    assert!(lab.path().join("service-stopped").exists());
}
