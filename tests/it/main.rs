//! The end-to-end tests: the real binary, started on a free port and driven as a user would.
//!
//! Each module is one chapter of what k1s promises. A new test goes where its promise is:
//! the rows that the first k1s gave to `seed`, what a job's fields mean to `jobs`, what a
//! payload may not say to `validation`, bytes on a connection to `http`, the command line and
//! the configuration to `cli`, what k1s writes itself to `output`, being told to stop and being
//! the first process to `pid1`, what k1s costs when nothing happens to `idle`, what the README
//! shows to `readme`. How the source itself is kept is `tidy`.
//!
//! Nothing here sleeps to let something happen: [`harness::wait_until`] polls what can be seen.
//! A test that cannot run on this machine says why, on stderr, in a line that begins `SKIPPED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

/// Starts the binary, talks HTTP to it, waits for what can be seen, leaves nothing behind.
mod harness;

/// The command line, the environment and the configuration file: what is said, exit code 2.
mod cli;
/// What fuzzing has kept, through the properties that it was kept for.
mod corpus;
/// Cron jobs by interval and by expression, over real seconds, and what their fields mean.
mod cron;
/// Requests that no client sends, each with the answers that the RFCs permit.
mod hostile;
/// HTTP as bytes on a connection: framing, limits, deadlines, methods, errors.
mod http;
/// Rest costs nothing: no wake-ups, no leaked file descriptors, no zombies.
mod idle;
/// What the fields of a job mean for its process: environment, exit codes, output, stopping.
mod jobs;
/// The description of the API, held against the API.
mod openapi;
/// k1s's own stdout and stderr: what jobs print, passed on, and its own messages.
mod output;
/// Signals to k1s itself, shutdown, and life as the first process of a PID namespace.
mod pid1;
/// README.md: its tour, command by command, and its tables.
mod readme;
/// The supervisor core, scene by scene, in a small text language.
mod script;
/// What the first k1s promised, row by row: paths, codes, messages, field names.
mod seed;
/// The supervisor core in a seeded world that does its worst.
mod simulation;
/// The house rules that a machine can check, on the text of the source.
mod tidy;
/// Payloads that are refused: 400, the field is named, nothing is created.
mod validation;
