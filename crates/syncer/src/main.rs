//! The process `haarb-syncer`. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    haarb_daemon::run(haarb_syncer::run)
}
