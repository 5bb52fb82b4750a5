//! Commands that change something: sent to the arbiter, answered by one line.

use std::time::Duration;

use haarb_api::v1;
use haarb_daemon::Options;
use haarb_model::ReserveName;

use crate::args::{Command, OnOff};
use crate::control::{answer_within, connect, with};
use crate::failure::{Failure, print};

/// A hand-over drains the replica and stops services: it may take its time.
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// Sends one of the commands that the arbiter carries out, and prints what it did.
pub(crate) fn send(options: &Options, command: Command) -> Result<(), Failure> {
    with(async {
        let command = checked(command)?;
        let mut client = connect(options).await?;
        let call = async {
            match command {
                Command::Switchover { reserve, to } => {
                    let request = v1::SwitchoverRequest {
                        reserve,
                        to: to.unwrap_or_default(),
                        expected_epoch: None,
                    };
                    client.switchover(request).await
                }
                Command::Promote {
                    reserve,
                    force,
                    accept_stale,
                } => {
                    let request = v1::PromoteRequest {
                        reserve,
                        force,
                        accept_stale,
                    };
                    client.promote(request).await
                }
                Command::Demote { reserve } => client.demote(v1::DemoteRequest { reserve }).await,
                Command::Clear { reserve } => client.clear(v1::ClearRequest { reserve }).await,
                Command::Maintenance { state } => {
                    let on = state == OnOff::On;
                    client.maintenance(v1::MaintenanceRequest { on }).await
                }
                other => Err(tonic::Status::internal(format!("{other:?} is not for it"))),
            }
        };
        let done = answer_within(options, DONE_WITHIN, call).await?;
        print(&format!("{}\n", done.text))
    })
}

/// Refuses a reserve that cannot be one before it is sent around.
fn checked(command: Command) -> Result<Command, Failure> {
    if let Command::Switchover { reserve, .. }
    | Command::Promote { reserve, .. }
    | Command::Demote { reserve }
    | Command::Clear { reserve } = &command
    {
        ReserveName::new(reserve)
            .map_err(|e| Failure::new(format!("reserve: {e}; `haarb status` lists them")))?;
    }
    Ok(command)
}
