//! Tests of the lab itself and of real daemons in it. Each needs namespaces; see the library.

mod cluster;
mod drills;
mod faults;
mod files;
mod measures;
mod sandbox;
mod support;

fn main() -> std::process::ExitCode {
    let tests = [
        measures::TESTS,
        faults::TESTS,
        sandbox::TESTS,
        cluster::TESTS,
        files::TESTS,
        &drills::tests(),
    ]
    .concat();
    haarb_integration_tests::main(&tests)
}
