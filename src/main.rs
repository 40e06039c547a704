//! The k1s process: the command line in, an exit code out.

fn main() {}
