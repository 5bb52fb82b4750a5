//! Network namespaces without names: they live as long as a descriptor or a process holds them.
//!
//! Nothing is ever put under `/run/netns`, so nothing can be left behind there. A thread that must act
//! inside a namespace is started for that one act and ends with it; the lab's own threads never move.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::PathBuf,
    sync::Arc,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::netlink::Netlink;

/// A network namespace, held by its descriptor.
#[derive(Clone, Debug)]
pub struct NetNs {
    file: Arc<File>,
}

impl NetNs {
    /// Makes a new, empty namespace.
    ///
    /// # Errors
    /// `EPERM` without the right to make one (see [`crate::sandbox`]).
    pub fn create() -> io::Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self {
                file: Arc::new(File::open("/proc/thread-self/ns/net")?),
            })
        })
    }

    /// Runs `act` in a thread inside this namespace and returns what it returns. Sockets opened there
    /// keep belonging to the namespace.
    ///
    /// # Errors
    /// What `act` returns, or the errno of entering.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_thread(|| {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            act()
        })
    }

    /// A request socket in this namespace.
    ///
    /// # Errors
    /// The errno of entering or of opening the socket.
    pub fn netlink(&self) -> io::Result<Netlink> {
        self.run(Netlink::open)
    }

    /// Writes settings below `/proc/sys/net`, given as `(path below it, value)`.
    ///
    /// # Errors
    /// The first that fails, with its path.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> io::Result<()> {
        self.run(|| {
            for (name, value) in settings {
                let path = PathBuf::from("/proc/sys/net").join(name);
                fs::write(&path, value).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot set {}: {error}", path.display()),
                    )
                })?;
            }
            Ok(())
        })
    }

    /// A path by which another process of the lab can open this namespace while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.file.as_raw_fd()
        ))
    }

    /// The descriptor's number, for netlink attributes.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn in_thread<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, act)?;
        thread.join().unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread in the network namespace panicked",
            ))
        })
    })
}
