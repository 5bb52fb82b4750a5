//! Compiles the `.proto` files in pure Rust (protox), so that no `protoc` is needed.

use std::error::Error;

const FILES: [&str; 3] = [
    "haarb/v1/advert.proto",
    "haarb/v1/agent.proto",
    "haarb/v1/control.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(FILES, [root])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
