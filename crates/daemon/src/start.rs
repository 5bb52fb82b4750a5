//! How a daemon starts and ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use haarb_config::Config;
use haarb_model::NodeName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Options, Voice};

/// How long the end waits for the reader of the log.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// Between two looks at a configuration that cannot be used.
const CONFIG_AGAIN_AFTER: Duration = Duration::from_secs(2);

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
/// single-threaded runtime. Whatever goes wrong is one line per problem on standard error, which
/// may be read late or never: nothing waits for it.
///
/// Exit status: 0 the body ended well, 1 it failed or could not start, 2 wrong usage, 101 a
/// panic, wherever in the process.
pub fn run<F>(body: impl FnOnce(Context) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    // clap ends the process with status 2 on wrong usage, 0 on --help and --version.
    let CommandLine { options } = CommandLine::parse();
    let (name, voice) = (own_name(), Voice::start(&own_name()));
    let code = match started(options, &name, &voice, body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for line in problems.lines() {
                voice.say(format!("{name}: {line}"));
            }
            ExitCode::FAILURE
        }
    };
    voice.finish(LAST_WORDS_WITHIN);
    code
}

fn started<F>(
    options: Options,
    name: &str,
    voice: &Voice,
    body: impl FnOnce(Context) -> F,
) -> Result<(), String>
where
    F: Future<Output = anyhow::Result<()>>,
{
    crate::notify::start();
    let loaded = options.load_config();
    if loaded.is_err() && crate::notify::is_managed() {
        // Started again at once, it would find the same: a person must change the file first.
        std::thread::sleep(CONFIG_AGAIN_AFTER);
    }
    let (config, me) = loaded?;
    crate::log::start(voice);
    crate::log::die_of_panics(name.to_owned(), voice);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no event loop: {error}"))?;
    let outcome = runtime.block_on(body(Context {
        options,
        config,
        me,
    }));
    // Threads that still read a disk or wait for a process do not hold up the end.
    runtime.shutdown_background();
    outcome.map_err(|error| format!("{error:#}"))
}

fn own_name() -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.unwrap_or_default();
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
