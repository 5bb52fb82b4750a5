//! `haarb-vip-agent`: holds the virtual IPs of this server under the arbiter's lease.
//!
//! It never decides who holds them. Signals: SIGTERM and SIGINT let go of every VIP and end;
//! SIGUSR1 ends and leaves them under their leases, for a restart without an effect (in a
//! systemd unit: `RestartKillSignal=SIGUSR1`); the next start goes on with them. After
//! SIGKILL it is the same, and if nobody starts it again the kernel ends the addresses.

use std::process::ExitCode;

use haarb_daemon::{ArbiterLink, Context, Shutdown, prepare_real_time};
use haarb_model::Agent as AgentKind;
use haarb_vip_agent::agent::{Agent, End};
use haarb_vip_agent::error::AgentError;
use haarb_vip_agent::lease::Record;
use haarb_vip_agent::system;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    haarb_daemon::run(serve)
}

async fn serve(context: Context) -> anyhow::Result<()> {
    let Context {
        options,
        config,
        me,
    } = context;
    system::check_privileges()?;
    let mut shutdown = Shutdown::listen().map_err(AgentError::Loop)?;
    let mut restart = signal(SignalKind::user_defined1()).map_err(AgentError::Loop)?;
    prepare_real_time();
    let record = Record::open(&options.run_dir)?;
    let arbiter = ArbiterLink::spawn(&options.run_dir, AgentKind::VipAgent, config.digest);
    let mut agent = Agent::start(&config, &me, record, arbiter).await?;
    let end = async {
        tokio::select! {
            () = shutdown.requested() => End::Stop,
            _ = restart.recv() => End::Restart,
        }
    };
    agent.run(end).await?;
    Ok(())
}
