//! The way to the arbiter, and what to say when it cannot be gone.

use std::io::ErrorKind;
use std::time::Duration;

use haarb_api::transport::{ConnectError, connect_control, control_socket};
use haarb_api::v1::control_client::ControlClient;
use haarb_daemon::Options;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::failure::Failure;

/// An arbiter that does not answer a question in this time stands still.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Runs one command against the arbiter on a runtime of its own.
pub(crate) fn with<T>(body: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("no event loop: {e}")))?;
    runtime.block_on(body)
}

/// Connects to the arbiter of this server.
pub(crate) async fn connect(options: &Options) -> Result<ControlClient<Channel>, Failure> {
    let connected = tokio::time::timeout(ANSWER_WITHIN, connect_control(&options.run_dir)).await;
    match connected {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(_) => Err(silent(options)),
    }
}

/// The same, and where no arbiter runs, what keeps this server from being started.
pub(crate) async fn connect_or_explain(
    options: &Options,
) -> Result<ControlClient<Channel>, Failure> {
    connect(options).await.map_err(|failure| match failure {
        Failure::Lines(line) => {
            let lines = std::iter::once(line).chain(missing(options));
            Failure::new(lines.collect::<Vec<_>>().join("\n"))
        }
        other => other,
    })
}

/// What a server lacks that was installed but not configured, and what to do about it.
fn missing(options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    let absent = |path: &std::path::Path| matches!(path.try_exists(), Ok(false));
    if absent(&options.config) {
        lines.push(format!(
            "{}: no configuration yet; write it (there is an example in /usr/share/doc/haarb/examples) and check it with `haarb config check`",
            options.config.display()
        ));
    } else if let Err(problems) = options.load_config() {
        lines.push(problems);
    }
    if absent(&options.key) {
        lines.push(format!(
            "{0}: no cluster key yet; make it on one server with `haarb key generate {0}` and copy it to the others",
            options.key.display()
        ));
    }
    lines
}

/// Waits for an answer, not for ever.
pub(crate) async fn answer<T>(
    options: &Options,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failure> {
    answer_within(options, ANSWER_WITHIN, call).await
}

/// The same with another bound.
pub(crate) async fn answer_within<T>(
    options: &Options,
    bound: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(bound, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(silent(options)),
    }
}

fn unreachable(error: &ConnectError) -> Failure {
    let todo = match error.kind {
        ErrorKind::PermissionDenied => "run this as root or as the user of haarb",
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            "start this server with `systemctl start haarb` or `haarb run`, or name its directory with --run-dir"
        }
        _ => "look at its log, or restart it",
    };
    Failure::new(format!("{error}; {todo}"))
}

fn silent(options: &Options) -> Failure {
    Failure::new(format!(
        "the arbiter does not answer on {} in time; look at its log, or restart it: nothing that is held is lost by that",
        control_socket(&options.run_dir).display()
    ))
}

/// What the arbiter said. Its refusals are whole lines already.
pub(crate) fn refused(status: &Status) -> Failure {
    Failure::new(match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound => {
            status.message().to_owned()
        }
        Code::Unavailable | Code::Cancelled | Code::Unknown => format!(
            "the arbiter went away while it was asked ({}); see `haarb status`, then try again",
            status.message()
        ),
        Code::PermissionDenied => format!(
            "the arbiter refuses this user ({}); run this as root or as the user of haarb",
            status.message()
        ),
        Code::Unimplemented => {
            "the arbiter does not know this command: it is of another version; restart it"
                .to_owned()
        }
        code => format!(
            "the arbiter could not do it ({code}: {}); see its log",
            status.message()
        ),
    })
}
