//! The inside of a server: its root file system, its pid 1 and the programs it boots.
//!
//! A server sees the machine's programs and libraries (read-only) but its own `/etc`, `/run`, `/tmp`,
//! `/var`, `/srv`, its own processes, host name and network. What a real server would have on its disk
//! lies in a directory of the lab and is bound in, so that it outlives a power-off.
//!
//! Runs as a role (see [`crate::roles`]): a launcher, which stays as the parent, and its child, which is
//! pid 1 of the server. Single-threaded throughout.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsFd, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, pipe, pivot_root, sethostname, setsid},
};
use serde::{Deserialize, Serialize};

pub mod debian;

use crate::{
    roles::HELPER,
    sandbox::{die_with_parent, fork_alone},
};

/// Where the binaries under test are inside a server.
pub const BIN_DIR: &str = "/opt/haarb/bin";

/// Directories that are on the server's disk: name on the disk, place in the server.
pub const ON_DISK: [(&str, &str); 4] = [
    ("etc", "/etc/haarb"),
    ("state", "/var/lib/haarb"),
    ("srv", "/srv"),
    ("log", "/var/log"),
];

/// Everything a server's init needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Host name.
    pub name: String,
    /// Path of the network namespace, already cabled.
    pub netns: PathBuf,
    /// An empty directory to build the root file system on.
    pub root: PathBuf,
    /// The directory that holds the server's disk.
    pub disk: PathBuf,
    /// The binaries under test, seen in the server as [`BIN_DIR`].
    pub bin_dir: PathBuf,
    /// This program, seen in the server as [`HELPER`].
    pub helper: PathBuf,
    /// Programs that the server starts when it boots. Their output goes to `/var/log/<name>.log`.
    pub boot: Vec<BootCommand>,
    /// A whole Debian system instead of that, which boots itself; `boot` is nothing to it.
    pub debian: Option<debian::DebianSpec>,
}

/// A program started at boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootCommand {
    /// Name of its log.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// The environment of every program in a server.
pub(crate) fn environment() -> Vec<(&'static str, String)> {
    let mut all = vec![
        (
            "PATH",
            format!("{BIN_DIR}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ),
        ("HOME", "/root".to_owned()),
    ];
    for name in ["TERM", "RUST_LOG", "RUST_BACKTRACE", "HAARB_LOG"] {
        if let Ok(value) = std::env::var(name) {
            all.push((name, value));
        }
    }
    all
}

/// The launcher. Prints the server's pid 1 (as its parent sees it), then `up` once it has booted.
pub(crate) fn play(args: &[OsString]) -> io::Result<i32> {
    let [spec] = args else {
        return Err(io::Error::other("usage: guest SPEC"));
    };
    let spec: GuestSpec = serde_json::from_str(&spec.to_string_lossy())?;
    setns(File::open(&spec.netns)?, CloneFlags::CLONE_NEWNET)?;
    let mut spaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if let Some(debian) = &spec.debian {
        match fs::create_dir(&debian.cgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(debian.cgroup.join("cgroup.procs"), "0")?;
        spaces |= CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(spaces)?;
    let (lifeline, keep) = pipe()?;
    match fork_alone()? {
        ForkResult::Parent { child } => {
            drop(lifeline);
            writeln!(io::stdout(), "pid {child}")?;
            let _ = waitpid(child, None);
            drop(keep);
            Ok(0)
        }
        ForkResult::Child => {
            drop(keep);
            die_with_parent(lifeline.as_fd());
            init(&spec)
        }
    }
}

/// Pid 1 of the server: boots, then reaps until the power goes.
fn init(spec: &GuestSpec) -> io::Result<i32> {
    setsid()?; // a Ctrl-C at the user's terminal is for the lab, not for the server's daemons
    sethostname(&spec.name)?;
    if let Some(debian) = &spec.debian {
        // Whoever waits for it to be up asks systemd.
        writeln!(io::stdout(), "up")?;
        return debian::boot(spec, debian);
    }
    build_root(spec)?;
    for command in &spec.boot {
        start(command)?;
    }
    let mut out = io::stdout();
    writeln!(out, "up")?;
    out.flush()?;
    loop {
        // ECHILD: nothing runs (yet); commands that are run in the server later do not become our
        // children unless they are orphaned, so look again now and then.
        if waitpid(None, None).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}

fn start(command: &BootCommand) -> io::Result<()> {
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Ok(());
    };
    let log = Path::new("/var/log").join(format!("{}.log", command.name));
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))
}

/// Top-level directories of the machine that a server shares, read-only: programs and libraries.
const SHARED: [&str; 9] = [
    "bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "nix", "gnu",
];

/// Files of `/etc` that programs need to run at all; name resolution is left out on purpose.
const FROM_ETC: [&str; 20] = [
    "passwd",
    "group",
    "shadow",
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "alternatives",
    "localtime",
    "login.defs",
    "pam.d",
    "security",
    "protocols",
    "services",
    "bash.bashrc",
    "profile",
    "inputrc",
    "terminfo",
];

fn build_root(spec: &GuestSpec) -> io::Result<()> {
    let root = &spec.root;
    fs::create_dir_all(root)?;
    plain_mount("tmpfs", root, "tmpfs", MsFlags::MS_NOSUID, Some("mode=755"))?;
    for name in SHARED {
        let (source, place) = (Path::new("/").join(name), root.join(name));
        let Ok(kind) = fs::symlink_metadata(&source) else {
            continue;
        };
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, place)?;
        } else if kind.is_dir() {
            fs::create_dir(&place)?;
            bind(&source, &place)?;
            // An ordinary user cannot write there anyway and may not be allowed to change the flags.
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let _ = mount(None::<&str>, &place, None::<&str>, flags, None::<&str>);
        }
    }
    for dir in [
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "tmp",
        "var/tmp",
        "root",
        "opt/haarb/bin",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    symlink("/run", root.join("var/run"))?;
    bind(Path::new("/dev"), &root.join("dev"))?;
    if root.join("dev/shm").is_dir() {
        plain_mount(
            "tmpfs",
            &root.join("dev/shm"),
            "tmpfs",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            None,
        )?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    plain_mount("proc", &root.join("proc"), "proc", quiet, None)?;
    if plain_mount("sysfs", &root.join("sys"), "sysfs", quiet, None).is_err() {
        bind(Path::new("/sys"), &root.join("sys"))?;
    }
    fill_etc(spec, &root.join("etc"))?;
    for (name, place) in ON_DISK {
        let source = spec.disk.join(name);
        fs::create_dir_all(&source)?;
        let place = root.join(place.trim_start_matches('/'));
        fs::create_dir_all(&place)?;
        bind(&source, &place)?;
    }
    bind(&spec.bin_dir, &root.join(BIN_DIR.trim_start_matches('/')))?;
    let helper = root.join(HELPER.trim_start_matches('/'));
    File::create(&helper)?;
    bind(&spec.helper, &helper)?;

    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

fn fill_etc(spec: &GuestSpec, etc: &Path) -> io::Result<()> {
    for name in FROM_ETC {
        let source = Path::new("/etc").join(name);
        let place = etc.join(name);
        let Ok(kind) = fs::metadata(&source) else {
            continue;
        };
        if kind.is_dir() {
            fs::create_dir(&place)?;
            bind(&source, &place)?;
        } else {
            // Not readable for an ordinary user (shadow): then the server does without, too.
            let _ = fs::copy(&source, &place);
        }
    }
    fs::write(etc.join("hostname"), format!("{}\n", spec.name))?;
    fs::write(
        etc.join("hosts"),
        format!(
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {}\n",
            spec.name
        ),
    )?;
    fs::write(etc.join("resolv.conf"), "# no name service in the lab\n")
}

fn bind(source: &Path, place: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), place, None::<&str>, flags, None::<&str>).map_err(|errno| {
        io::Error::other(format!(
            "cannot show {} as {}: {errno}",
            source.display(),
            place.display()
        ))
    })
}

fn plain_mount(
    source: &str,
    place: &Path,
    kind: &str,
    flags: MsFlags,
    data: Option<&str>,
) -> io::Result<()> {
    mount(Some(source), place, Some(kind), flags, data).map_err(|errno| {
        io::Error::other(format!(
            "cannot mount {kind} on {}: {errno}",
            place.display()
        ))
    })
}
