//! The process `haarb-link-watcher`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    haarb_daemon::run(haarb_link_watcher::run)
}
