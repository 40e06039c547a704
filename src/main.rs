//! The k1s process: from the command line to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    k1s::cli::main()
}
