//! How a daemon starts and ends.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use haarb_config::Config;
use haarb_model::NodeName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Options;

#[derive(Debug, Parser)]
#[command(version, about = None, long_about = None)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// What a daemon knows when it starts.
#[derive(Debug)]
pub struct Context {
    /// Where its things are.
    pub options: Options,
    /// The configuration.
    pub config: Config,
    /// This server.
    pub me: NodeName,
}

/// Waits for the request to stop.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Listens for SIGTERM and SIGINT from now on. Inside a tokio runtime only.
    ///
    /// # Errors
    /// The kernel refuses a handler: it does not for these signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when either signal arrives. Cancel-safe.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Starts a daemon: reads its options and configuration, starts logging, runs `body` on a
/// single-threaded runtime. Whatever goes wrong is one line per problem on standard error.
///
/// Exit status: 0 the body ended well, 1 it failed or could not start, 2 wrong usage.
pub fn run<F>(body: impl FnOnce(Context) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    // clap ends the process with status 2 on wrong usage, 0 on --help and --version.
    let CommandLine { options } = CommandLine::parse();
    let (config, me) = match options.load_config() {
        Ok(loaded) => loaded,
        Err(problems) => return fail(&problems),
    };
    let _guard = crate::log::start();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no event loop: {error}")),
    };
    let outcome = runtime.block_on(body(Context {
        options,
        config,
        me,
    }));
    // Threads that still read a disk or wait for a process do not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn fail(problems: &str) -> ExitCode {
    let program = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .unwrap_or_default();
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for line in problems.lines() {
        eprintln!("{name}: {line}");
    }
    ExitCode::FAILURE
}
