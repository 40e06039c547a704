//! The k1s process: the command line in, an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    k1s::cli::main()
}
