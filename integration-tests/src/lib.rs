//! Runs tests that need a lab: servers, switches and a client as namespaces of this machine.
//!
//! [`main`] moves the whole test program into the lab's sandbox before any thread starts. Where that is
//! not possible, every test is reported as *ignored* with the reason, never as passed. One lab runs at a
//! time on a machine, also when a runner starts one process per test: they queue at a file lock.

use std::{fs::File, path::PathBuf, process::ExitCode};

use haarb_lab::{
    error::LabError,
    plan::Plan,
    sandbox::{self, Sandbox},
    segment::Segment,
    server::Programs,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::fcntl::{Flock, FlockArg};

/// What a test gets.
#[derive(Clone)]
pub struct Bench {
    sandbox: Sandbox,
    name: &'static str,
}

/// One test: its name and what it does.
pub type Test = (&'static str, fn(&Bench) -> anyhow::Result<()>);

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
        let helper = std::env::current_exe()?;
        // target/<profile>/deps/<test> -> target/<profile>
        let bin_dir = helper.ancestors().nth(2).unwrap_or(&helper).to_owned();
        Ok(Programs { bin_dir, helper })
    }

    /// A segment of two servers that run only the measured service; all off.
    ///
    /// # Errors
    /// As the lab reports.
    pub fn bare_segment(&self) -> anyhow::Result<Segment> {
        let lab = Segment::build(
            Plan::pair(),
            self.dir(),
            self.programs()?,
            haarb_lab::fake::boot_service,
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
    let mut args = Arguments::from_args();
    // One lab at a time; and the harness must not run tests in threads of one process either.
    args.test_threads = Some(1);
    if args.list {
        return libtest_mimic::run(&args, trials(tests, None)).exit_code();
    }
    let _turn = take_turn();
    let outcome = sandbox::enter(&[]).map_err(|error| error.to_string());
    libtest_mimic::run(&args, trials(tests, Some(&outcome))).exit_code()
}

/// Waits until no other test program uses a lab. The lock ends with the process, however that ends.
fn take_turn() -> Option<Flock<File>> {
    let file = File::open(std::env::current_exe().ok()?).ok()?;
    Flock::lock(file, FlockArg::LockExclusive).ok()
}

fn trials(tests: &[Test], sandbox: Option<&Result<Sandbox, String>>) -> Vec<Trial> {
    tests
        .iter()
        .map(|(name, test)| {
            let (name, test) = (*name, *test);
            let sandbox = sandbox.cloned();
            Trial::ignorable_test(name, move || match sandbox {
                Some(Ok(sandbox)) => run(&Bench { sandbox, name }, test),
                Some(Err(reason)) => Ok(Completion::ignored_with(reason)),
                None => Ok(Completion::ignored_with("only listed")),
            })
        })
        .collect()
}

fn run(bench: &Bench, test: fn(&Bench) -> anyhow::Result<()>) -> Result<Completion, Failed> {
    test(bench)
        .map(|()| Completion::Completed)
        .map_err(|error| Failed::from(format!("{error:#}")))
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
