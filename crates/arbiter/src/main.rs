//! `haarb-arbiter`: decides for one server. See the library for how.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use haarb_api::transport;
use haarb_api::v1::{arbiter_server::ArbiterServer, control_server::ControlServer};
use haarb_arbiter::control::Operators;
use haarb_arbiter::hub::Hub;
use haarb_arbiter::inbox::INBOX_MESSAGES;
use haarb_arbiter::journal::Journal;
use haarb_arbiter::listen::{guard, listen};
use haarb_arbiter::serve::Arbiter;
use haarb_arbiter::store::{self, Store};
use haarb_daemon::{Context, Shutdown, clock};
use haarb_decision::Core;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;

fn main() -> ExitCode {
    haarb_daemon::run(arbiter)
}

async fn arbiter(context: Context) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen()?;
    let options = &context.options;
    std::fs::create_dir_all(&options.run_dir)
        .with_context(|| format!("--run-dir {} cannot be made", options.run_dir.display()))?;
    if let Err(error) = std::fs::create_dir_all(&options.state_dir) {
        tracing::warn!(
            "--state-dir {}: {error}; going on without a disk",
            options.state_dir.display()
        );
    }
    let agents = listen(&transport::agent_socket(&options.run_dir))?;
    let operators = listen(&transport::control_socket(&options.run_dir))?;
    haarb_daemon::prepare_real_time();

    let journal = Journal::open(&options.state_dir, context.me.clone());
    let record = store::load(&options.state_dir);
    let core = Core::new(
        context.config.segment(),
        context.me.clone(),
        record,
        clock::now(),
    )
    .map_err(|e| anyhow::anyhow!("{e}"))?;
    let (sender, inbox) = mpsc::channel(INBOX_MESSAGES);
    let (changed, changes) = watch::channel(0);
    let arbiter = Arbiter::new(
        &context,
        core,
        journal.clone(),
        Store::open(&options.state_dir),
        changed,
    );

    let hub = ArbiterServer::with_interceptor(Hub::new(sender.clone()), guard);
    tokio::spawn(
        Server::builder()
            .add_service(hub)
            .serve_with_incoming(streams(agents)),
    );
    let control = ControlServer::with_interceptor(Operators::new(sender, journal, changes), guard);
    tokio::spawn(
        Server::builder()
            .add_service(control)
            .serve_with_incoming(streams(operators)),
    );
    tracing::info!("arbiter of {} runs", context.me);
    arbiter.run(inbox, shutdown).await
}

/// The connections that arrive on a socket.
fn streams(listener: UnixListener) -> impl Stream<Item = io::Result<transport::Stream>> {
    UnixListenerStream::new(listener).map(|stream| transport::Stream::new(stream?))
}
