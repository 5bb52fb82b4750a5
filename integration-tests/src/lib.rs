//! Runs tests that need a lab: servers, switches and a client as namespaces of this machine.
//!
//! [`main`] moves the whole test program into the lab's sandbox before any thread starts. Where that is
//! not possible, every test is reported as *ignored* with the reason, never as passed. One lab runs at a
//! time on a machine, also when a runner starts one process per test: they queue at a file lock.

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use haarb_lab::{
    clock::Stamp,
    drill::{self, Drill, Ground, verdict::Outcome},
    error::LabError,
    fake,
    plan::Plan,
    sandbox::{self, Sandbox},
    segment::Segment,
    server::Programs,
    setup::{self, ClusterOptions},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::fcntl::{Flock, FlockArg};

/// The segment that drills share, as the last one left it.
struct Held {
    ground: Ground,
    lab: Segment,
    previous: Option<&'static str>,
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// Times that no drill measures, and that would only be waited for: the cold start of a minute and the
/// thirty seconds until a server that is left alone rearms.
const SHORT: [(&str, &str); 2] = [("cold-start", "3s"), ("rearm-alone", "3s")];
/// Duration of the drills under lasting loss, flapping and load.
const LONG: Duration = Duration::from_secs(4);

/// Switches the shared segment off: it would disturb what comes.
fn release() {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// What a test gets.
#[derive(Clone)]
pub struct Bench {
    sandbox: Sandbox,
    name: &'static str,
}

fn programs() -> std::io::Result<Programs> {
    let helper = std::env::current_exe()?;
    // target/<profile>/deps/<test> -> target/<profile>
    let bin_dir = helper.ancestors().nth(2).unwrap_or(&helper).to_owned();
    Ok(Programs { bin_dir, helper })
}

/// What [`Test::needing`] asks of a test of real daemons: that they are built.
///
/// # Errors
/// Which binaries are missing, and how to build them.
pub fn daemons_are_built(_: &Sandbox) -> Result<(), String> {
    let programs = programs().map_err(|error| error.to_string())?;
    setup::check_binaries(&programs.bin_dir).map_err(|error| error.to_string())
}

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    name: &'static str,
    run: fn(&Bench) -> anyhow::Result<()>,
    needs: fn(&Sandbox) -> Result<(), String>,
}

impl Test {
    /// A test that runs wherever a lab does.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(&Bench) -> anyhow::Result<()>) -> Self {
        Self {
            name,
            run,
            needs: |_| Ok(()),
        }
    }

    /// The same test, run only where `needs` finds nothing missing; its error is the reason shown.
    #[must_use]
    pub const fn needing(self, needs: fn(&Sandbox) -> Result<(), String>) -> Self {
        Self { needs, ..self }
    }
}

impl Bench {
    /// A private directory for this test.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.sandbox.dir.join(self.name)
    }

    /// The programs that servers run here: the binaries beside the test program, and the test program
    /// itself as the lab's helper.
    ///
    /// # Errors
    /// When the test program does not know where it lies.
    pub fn programs(&self) -> anyhow::Result<Programs> {
        Ok(programs()?)
    }

    /// The test's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs a drill, and those that lead to it, on a segment that the next drill will use, too: to start
    /// a cluster takes longer than most drills. Returns what came of all of them. After anything
    /// unexpected the segment is thrown away.
    ///
    /// # Errors
    /// As the lab reports or as `judge` does.
    pub fn drill(
        &self,
        drill: &Drill,
        judge: impl Fn(&Segment, &Outcome) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |held: &Held| held.ground == drill.ground;
        let mut here = match held.take().filter(fits) {
            Some(held) => held,
            None => self.ground(drill.ground)?,
        };
        let lab = &mut here.lab;
        let prepared = drill::whole::prepare(lab, drill, here.previous, LONG);
        for outcome in with_logs(lab, prepared)? {
            judge(lab, &outcome)?;
        }
        let outcome = drill::run::run_for(lab, drill, LONG)?;
        judge(lab, &outcome)?;
        here.previous = Some(drill.name);
        *held = Some(here);
        Ok(())
    }

    fn ground(&self, ground: Ground) -> anyhow::Result<Held> {
        let options = ClusterOptions {
            profile: "telecom".into(),
            files: true,
        };
        let (plan, programs) = (ground.plan(), self.programs()?);
        let mut lab = setup::build_with_times(plan, self.dir(), programs, &options, &SHORT)?;
        let started = drill::run::start(&mut lab, |_| Ok(()));
        with_logs(&lab, started)?;
        Ok(Held {
            ground,
            lab,
            previous: None,
        })
    }

    /// A segment of two servers that run haarb with the times of the telecom profile, settled.
    ///
    /// # Errors
    /// As the lab reports, with the servers' logs.
    pub fn cluster(&self) -> anyhow::Result<Segment> {
        release();
        let options = ClusterOptions {
            profile: "telecom".into(),
            files: true,
        };
        let mut lab = setup::build(Plan::pair(), self.dir(), self.programs()?, &options)?;
        let started = drill::run::start(&mut lab, |_| Ok(()));
        with_logs(&lab, started)?;
        Ok(lab)
    }

    /// A segment of two servers that run only the measured service; all off.
    ///
    /// # Errors
    /// As the lab reports.
    pub fn bare_segment(&self) -> anyhow::Result<Segment> {
        release();
        let lab = Segment::build(
            Plan::pair(),
            self.dir(),
            self.programs()?,
            fake::boot_service,
        )?;
        Ok(lab)
    }
}

/// Runs the tests as the command line asks, in a sandbox.
#[must_use]
pub fn main(tests: &[Test]) -> ExitCode {
    // A role of the lab must be served before anything looks at the arguments.
    if let Some(code) = haarb_lab::roles::dispatch() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    if std::env::args().nth(1).as_deref() == Some(SIT) {
        return sit();
    }
    let mut args = Arguments::from_args();
    // One lab at a time; and the harness must not run tests in threads of one process either.
    args.test_threads = Some(1);
    // What cannot run is known when the tests are listed, too: a runner that starts one process per
    // test would otherwise count it as passed.
    let _turn = if args.list { None } else { take_turn() };
    let sandbox = sandbox::enter(&[]).map_err(|error| error.to_string());
    let trials = tests
        .iter()
        .map(|test| trial(*test, &sandbox, args.list))
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}

/// Waits until no other test program uses a lab. The lock ends with the process, however that ends.
fn take_turn() -> Option<Flock<File>> {
    let file = File::open(std::env::current_exe().ok()?).ok()?;
    Flock::lock(file, FlockArg::LockExclusive).ok()
}

fn trial(test: Test, sandbox: &Result<Sandbox, String>, listing: bool) -> Trial {
    let ready = sandbox
        .clone()
        .and_then(|sandbox| (test.needs)(&sandbox).map(|()| sandbox));
    let ignored = listing && ready.is_err();
    let run = move || match ready {
        Ok(sandbox) => run(
            &Bench {
                sandbox,
                name: test.name,
            },
            test.run,
        ),
        // nextest runs what is listed as ignored only when it is asked for it by name.
        Err(reason) if std::env::var_os("NEXTEST").is_some() => {
            Err(Failed::from(format!("cannot run here: {reason}")))
        }
        Err(reason) => Ok(Completion::ignored_with(reason)),
    };
    Trial::ignorable_test(test.name, run).with_ignored_flag(ignored)
}

fn run(bench: &Bench, test: fn(&Bench) -> anyhow::Result<()>) -> Result<Completion, Failed> {
    test(bench)
        .map(|()| Completion::Completed)
        .map_err(|error| Failed::from(format!("{error:#}")))
}

/// First argument that makes the test program build a lab of its own, say `ready`, and sit there until
/// it is killed or its standard input ends: a lab for tests that look at one from outside.
pub const SIT: &str = "@sit";

fn sit() -> ExitCode {
    let sat = || -> anyhow::Result<()> {
        let sandbox = sandbox::enter(&[])?;
        let bench = Bench {
            sandbox,
            name: "sit",
        };
        let mut lab = bench.bare_segment()?;
        for server in 0..lab.plan().servers.len() {
            lab.power_on(server)?;
        }
        let since = Stamp::now();
        for vip in 0..lab.plan().vips.len() {
            fake::take(&lab, 0, vip)?;
        }
        with_logs(
            &lab,
            lab.until_served_by(0, since, false, Duration::from_secs(10)),
        )?;
        writeln!(std::io::stdout(), "ready")?;
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        Ok(())
    };
    match sat() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The logs of all servers, for a failing test to show.
#[must_use]
pub fn logs(lab: &Segment) -> String {
    (0..lab.plan().servers.len())
        .map(|server| lab.logs(server, 40))
        .collect()
}

/// Adds the logs of all servers to an error.
pub fn with_logs<T>(lab: &Segment, result: Result<T, LabError>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow::anyhow!("{error}\n{}", logs(lab)))
}
