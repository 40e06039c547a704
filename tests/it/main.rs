//! The end-to-end tests: the real binary, started on a free port and driven as a user would.
//!
//! Each module is one chapter of what k1s promises. A new test goes where its promise is:
//! the rows that the first k1s gave to `seed`, what a job's fields mean to `jobs`, what a
//! payload may not say to `validation`, bytes on a connection to `http`, the command line and
//! the configuration to `cli`, jobs that it declares to `config_jobs`, what is asked of a job that
//! is there to `verbs`, how a job shows itself to `answers`, what it has written to `logs`, what
//! happens to it to `events`, how all that a job runs is ended to `stopping`, metrics for Prometheus
//! to `metrics`, log files to `files`, what a run gets from k1s to `inherit`, what k1s writes itself to `output`, being
//! told to stop and being the first
//! process to `pid1`, `k1s init` to `init`, what the machine does to k1s to `faults`, what k1s
//! costs when nothing happens to `idle`, what the README shows to `readme`. How the source itself
//! is kept is `tidy`.
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

/// How a job shows itself to who asks, now or when it is so far.
mod answers;
/// The command line, the environment and the configuration file: what is said, exit code 2.
mod cli;
/// `[job.ID]` tables: jobs that start with k1s, and what is wrong with one.
mod config_jobs;
/// What fuzzing has kept, through the properties that it was kept for.
mod corpus;
/// Cron jobs by interval and by expression, over real seconds, and what their fields mean.
mod cron;
/// What happens, told as it happens.
mod events;
/// What machines, users and jobs do to k1s: shortages, stops, bursts.
mod faults;
/// Log files of jobs: rotation, trouble, and what is not written to.
mod files;
/// Requests that no client sends, each with the answers that the RFCs permit.
mod hostile;
/// HTTP as bytes on a connection: framing, limits, deadlines, methods, errors.
mod http;
/// Rest costs nothing: no wake-ups, no leaked file descriptors, no zombies.
mod idle;
/// What a run gets from k1s: session, descriptors, signals, limits, user, standard input.
mod inherit;
/// `k1s init`: exit codes, signals, standard input, terminals, no open door.
mod init;
/// What the fields of a job mean for its process: environment, exit codes, output, stopping.
mod jobs;
/// The output of a job, read and followed.
mod logs;
/// Metrics for Prometheus: the formats, the counters, memory and CPU time of running jobs.
mod metrics;
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
/// How all that a job runs is ended: its group, what has left it, what outlives a run.
mod stopping;
/// The house rules that a machine can check, on the text of the source.
mod tidy;
/// Payloads that are refused: 400, the field is named, nothing is created.
mod validation;
/// What is asked of a job that is there: put, start, restart, run, signal, kill.
mod verbs;
