//! Tests of the lab itself and of real daemons in it. Each needs namespaces; see the library.

mod measures;

fn main() -> std::process::ExitCode {
    haarb_integration_tests::main(measures::TESTS)
}
