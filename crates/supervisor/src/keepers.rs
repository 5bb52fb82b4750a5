//! The supervisor's end of its keepers: finds the one of a service or starts it, and talks.
//!
//! The one thing to know: a keeper that was found may have been started by an earlier
//! supervisor; its first message says what it does, and that is the truth.

use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::keeper;
use crate::order::{FromKeeper, ToKeeper};
use crate::sweep;

/// What the service manager means for the supervisor alone, not for what it starts.
pub(crate) const NOT_PASSED_ON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// The end of a socket's name.
const SUFFIX: &str = ".keeper";

/// What comes from a keeper.
#[derive(Debug)]
pub(crate) enum News {
    /// It said something.
    Said(FromKeeper),
    /// The connection ended: the keeper is gone.
    Gone,
}

/// Where keepers are and how they are started.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// The directory of their sockets.
    pub(crate) dir: PathBuf,
    /// The supervisor's own program.
    pub(crate) program: PathBuf,
}

impl Home {
    /// The socket of a service's keeper: short whatever the names, for the 108 bytes of
    /// unix(7).
    pub(crate) fn socket(&self, label: &str) -> PathBuf {
        let hash = crate::hash::fnv1a(label.as_bytes());
        self.dir.join(format!("{hash:016x}{SUFFIX}"))
    }

    /// Ends the keepers of all services but these: they are not in the configuration any
    /// more, and what nobody can be told to stop must not run.
    pub(crate) fn retire_all_but(&self, labels: &[&str]) {
        let known: Vec<PathBuf> = labels.iter().map(|label| self.socket(label)).collect();
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return; // whoever needs the directory says so
        };
        let sockets = entries.flatten().map(|entry| entry.path());
        for path in sockets.filter(|path| path.to_string_lossy().ends_with(SUFFIX)) {
            if !known.contains(&path) {
                retire(&path);
            }
        }
    }
}

/// Tells a keeper to stop its service and to end.
fn retire(path: &Path) {
    let told = UnixStream::connect(path).and_then(|mut stream| {
        tracing::warn!("stopping a service that is not in the configuration any more");
        let mut line = serde_json::to_vec(&ToKeeper::Retire)?;
        line.push(b'\n');
        stream.write_all(&line)
    });
    if let Err(error) = told {
        tracing::debug!("{}: {error}", path.display());
        sweep::kill_left_behind(path);
    }
    // Nobody will look for it here again. Gone already is as good.
    let _ = std::fs::remove_file(path);
}

/// One connection to a keeper.
#[derive(Debug)]
pub(crate) struct Link {
    /// Written past tokio, whose readiness lags behind: an order must not wait for a turn.
    write: UnixStream,
}

impl Link {
    /// Connects to the keeper of `label`, or starts one; what it says goes into `inbox`,
    /// wrapped by `wrap`.
    pub(crate) fn open<E: Send + 'static>(
        home: &Home,
        label: &str,
        inbox: mpsc::Sender<E>,
        wrap: impl Fn(News) -> E + Send + 'static,
    ) -> io::Result<Self> {
        let path = home.socket(label);
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                start(home, label, &path)?
            }
            Err(e) => return Err(e),
        };
        stream.set_nonblocking(true)?;
        let write = stream.try_clone()?;
        let read = tokio::net::UnixStream::from_std(stream)?;
        tokio::spawn(listen(read, inbox, wrap));
        Ok(Self { write })
    }

    /// Says something without waiting.
    ///
    /// # Errors
    /// The keeper is gone, or does not read: a message is far smaller than the socket's buffer.
    pub(crate) fn send(&self, order: &ToKeeper) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        match (&self.write).write(&line)? {
            written if written == line.len() => Ok(()),
            _ => Err(io::Error::new(ErrorKind::WouldBlock, "it does not read")),
        }
    }
}

impl Drop for Link {
    /// Ends the connection for the listening task too.
    fn drop(&mut self) {
        // Fails where the keeper has ended it already.
        let _ = self.write.shutdown(std::net::Shutdown::Both);
    }
}

fn start(home: &Home, label: &str, path: &Path) -> io::Result<UnixStream> {
    // No keeper: what an earlier one may have left behind must not run beside a new start.
    sweep::kill_left_behind(path);
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Connected before it runs: it ends by itself when nobody is.
    let stream = UnixStream::connect(path)?;
    let mut command = tokio::process::Command::new(&home.program);
    for name in NOT_PASSED_ON {
        command.env_remove(name);
    }
    command
        .arg0("haarb-supervisor")
        .arg(keeper::ARGUMENT)
        .arg(label)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()?;
    Ok(stream)
}

async fn listen<E>(read: tokio::net::UnixStream, inbox: mpsc::Sender<E>, wrap: impl Fn(News) -> E) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(news) => {
                if inbox.send(wrap(News::Said(news))).await.is_err() {
                    return;
                }
            }
            // A newer keeper may say what this version does not know.
            Err(error) => tracing::warn!("not understood from a keeper: {error}"),
        }
    }
    let _ = inbox.send(wrap(News::Gone)).await;
}
