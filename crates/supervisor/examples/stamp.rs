//! A service for measurements: appends the time of its `main` to a file, then waits.
//!
//! `stamp FILE`: microseconds of CLOCK_BOOTTIME, one line per start.

use std::fs::OpenOptions;
use std::io::Write;

fn main() -> std::io::Result<()> {
    let now = haarb_daemon::clock::now();
    let path = std::env::args_os().nth(1).unwrap_or_default();
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "{}", now.as_micros())?;
    loop {
        std::thread::park();
    }
}
