//! Whole Debian servers that systemd boots, with haarb from its package: what an operator does with it.
//!
//! Needs root, a Debian with systemd, and the package (`cargo xtask test` makes it); see `pair.rs` for how
//! a pair is shared by tests.

mod package;
mod pair;
mod restart;
mod takeover;

fn main() -> std::process::ExitCode {
    let tests = [package::TESTS, takeover::TESTS, restart::TESTS].concat();
    let code = haarb_integration_tests::main(&tests);
    // Its control groups would outlive the program.
    pair::release();
    code
}
