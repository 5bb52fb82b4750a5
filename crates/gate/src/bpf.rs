//! bpf(2): the map of deadlines, the programs, and test runs. Nothing else of it.
//!
//! The descriptors may be closed: what is attached to an interface lives on in the kernel with
//! its map, and that is the point.

use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use haarb_model::Mono;

use crate::program::{self, Direction, KEY_BYTES};

/// Commands of bpf(2).
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapUpdate = 2,
    MapDelete = 3,
    ProgLoad = 5,
    ProgTestRun = 10,
}

const MAP_TYPE_HASH: u32 = 1;
const PROG_TYPE_SCHED_CLS: u32 = 3;
/// More virtual IPs than any server has; the map is small all the same.
const ENTRIES_MAX: u32 = 1024;
/// None of the functions that the program calls asks for a licence of the kernel's own kind.
const LICENSE: &[u8] = b"MIT\0";

/// `union bpf_attr`: numbers and addresses at fixed places. Every address in it belongs to a
/// slice that is borrowed for `'a`.
struct Attr<'a> {
    words: [u64; 16],
    slices: PhantomData<&'a mut [u8]>,
}

impl<'a> Attr<'a> {
    const fn new() -> Self {
        Self {
            words: [0; 16],
            slices: PhantomData,
        }
    }

    /// A number of 32 bits at a byte offset that is a multiple of 4.
    fn u32(mut self, offset: usize, value: u32) -> Self {
        let mut halves = self.words[offset / 8].to_ne_bytes();
        halves[offset % 8..][..4].copy_from_slice(&value.to_ne_bytes());
        self.words[offset / 8] = u64::from_ne_bytes(halves);
        self
    }

    /// The address of bytes that the kernel reads, at a byte offset that is a multiple of 8.
    fn input(mut self, offset: usize, bytes: &'a [u8]) -> Self {
        self.words[offset / 8] = bytes.as_ptr().expose_provenance() as u64;
        self
    }

    /// The address of bytes that the kernel writes.
    fn output(mut self, offset: usize, bytes: &'a mut [u8]) -> Self {
        self.words[offset / 8] = bytes.as_mut_ptr().expose_provenance() as u64;
        self
    }

    /// Up to 15 bytes of a name.
    fn name(mut self, offset: usize, name: &[u8]) -> Self {
        for (i, byte) in name.iter().take(15).enumerate() {
            let at = offset + i;
            let mut word = self.words[at / 8].to_ne_bytes();
            word[at % 8] = *byte;
            self.words[at / 8] = u64::from_ne_bytes(word);
        }
        self
    }

    fn call(&mut self, command: Command) -> io::Result<i32> {
        // SAFETY: the attribute is at least as large as it is said to be; its addresses are
        // those of slices borrowed for as long as the attribute lives, and the functions below
        // give with each one the length that it has.
        #[expect(unsafe_code, reason = "no safe wrapper of bpf(2) is among our crates")]
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                self.words.as_mut_ptr(),
                size_of_val(&self.words),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result as i32)
    }

    fn open(&mut self, command: Command) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        #[expect(unsafe_code, reason = "a descriptor that only a raw system call makes")]
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(fd)
    }
}

/// The deadlines: address to nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Debug)]
pub struct Deadlines(OwnedFd);

impl Deadlines {
    /// An empty map.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF (or in a user namespace), `ENOSYS` on a kernel without eBPF.
    pub fn create() -> io::Result<Self> {
        Attr::new()
            .u32(0, MAP_TYPE_HASH)
            .u32(4, KEY_BYTES as u32)
            .u32(8, size_of::<u64>() as u32)
            .u32(12, ENTRIES_MAX)
            .name(28, b"haarb_deadline")
            .open(Command::MapCreate)
            .map(Self)
    }

    /// From `until` on, the address is neither reachable nor sent from. [`Mono::ZERO`]: at once.
    ///
    /// # Errors
    /// `E2BIG`: the map is full.
    pub fn set(&self, address: IpAddr, until: Mono) -> io::Result<()> {
        let nanoseconds = until.as_micros().saturating_mul(1000).to_ne_bytes();
        Attr::new()
            .u32(0, self.number())
            .input(8, &key(address))
            .input(16, &nanoseconds)
            .call(Command::MapUpdate)
            .map(drop)
    }

    /// The address is none of ours any more. One that is not there is as good.
    ///
    /// # Errors
    /// None that a right map gives.
    pub fn remove(&self, address: IpAddr) -> io::Result<()> {
        let removed = Attr::new()
            .u32(0, self.number())
            .input(8, &key(address))
            .call(Command::MapDelete);
        match removed {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    fn number(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }
}

fn key(address: IpAddr) -> [u8; KEY_BYTES] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The gate's program for one direction, loaded.
#[derive(Debug)]
pub struct Loaded(OwnedFd);

impl Loaded {
    /// Loads it over a map, which it keeps alive.
    ///
    /// # Errors
    /// As the kernel refuses; `EINVAL` where it is too old (before 5.8).
    pub fn load(direction: Direction, deadlines: &Deadlines) -> io::Result<Self> {
        let code = program::build(direction, deadlines.0.as_raw_fd());
        let name: &[u8] = match direction {
            Direction::Ingress => b"haarb_gate_in",
            Direction::Egress => b"haarb_gate_out",
        };
        Attr::new()
            .u32(0, PROG_TYPE_SCHED_CLS)
            .u32(4, (code.len() / 8) as u32)
            .input(8, &code)
            .input(16, LICENSE)
            .name(48, name)
            .open(Command::ProgLoad)
            .map(Self)
    }

    /// Its descriptor, for the filter that runs it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.as_raw_fd().cast_unsigned()
    }

    /// Runs it once on a frame and returns its verdict: [`program::DROP`] or [`program::PASS`].
    ///
    /// # Errors
    /// `EINVAL` for a frame shorter than an Ethernet header.
    pub fn judge(&self, frame: &[u8]) -> io::Result<i32> {
        let mut out = vec![0; frame.len()];
        let mut attr = Attr::new()
            .u32(0, self.number())
            .u32(8, frame.len() as u32)
            .u32(12, out.len() as u32)
            .input(16, frame)
            .output(24, &mut out)
            .u32(32, 1);
        attr.call(Command::ProgTestRun)?;
        let [_, _, _, _, a, b, c, d] = attr.words[0].to_ne_bytes();
        Ok(i32::from_ne_bytes([a, b, c, d]))
    }

    /// How long one run takes on a frame, in nanoseconds, averaged by the kernel over `times`.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn cost(&self, frame: &[u8], times: u32) -> io::Result<u32> {
        let mut attr = Attr::new()
            .u32(0, self.number())
            .u32(8, frame.len() as u32)
            .input(16, frame)
            .u32(32, times);
        attr.call(Command::ProgTestRun)?;
        let [_, _, _, _, a, b, c, d] = attr.words[4].to_ne_bytes();
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }
}
