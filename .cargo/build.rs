//! Leaves out of the release binary what only tests need: see `release.ld`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/release.ld");
    if env::var("PROFILE").as_deref() == Ok("release") {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/.cargo/release.ld");
    }
}
