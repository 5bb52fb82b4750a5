//! `haarb-supervisor`: runs the services of the reserves, and is their keepers' program.

use std::process::ExitCode;

use haarb_daemon::{ArbiterLink, Context, Shutdown};
use haarb_model::Agent;
use haarb_supervisor::keeper;
use haarb_supervisor::supervisor::{Setup, Supervisor};

/// This very program, also after its file was replaced by a newer one (proc(5)).
const THIS_PROGRAM: &str = "/proc/self/exe";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(keeper::ARGUMENT) {
        return keeper::main(&arguments.next().unwrap_or_default());
    }
    haarb_daemon::run(supervise)
}

async fn supervise(context: Context) -> anyhow::Result<()> {
    let mut shutdown = Shutdown::listen()?;
    haarb_daemon::prepare_real_time();
    let Context {
        options,
        config,
        me,
    } = context;
    let arbiter = ArbiterLink::spawn(&options.run_dir, Agent::Supervisor, config.digest);
    let setup = Setup {
        config,
        me,
        run_dir: options.run_dir.clone(),
        program: THIS_PROGRAM.into(),
        reload: Box::new(move || Ok(options.load_config()?.0)),
    };
    Supervisor::new(setup, arbiter)?
        .run(shutdown.requested())
        .await?;
    Ok(())
}
