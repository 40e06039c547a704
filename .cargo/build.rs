//! Leaves out of the release binary what only tests need: see `release.ld`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/release.ld");
    // The script needs lld, which rustc brings for this architecture.
    let has_lld = env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64");
    if env::var("PROFILE").as_deref() == Ok("release") && has_lld {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/.cargo/release.ld");
    }
}
