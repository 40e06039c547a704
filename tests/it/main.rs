//! End-to-end tests: they start the real binary on a free port and use it like a user.
//!
//! Each module below tests one part of what k1s promises. A new test goes to the module of its
//! promise.
//!
//! No test sleeps to let something happen: [`harness::wait_until`] polls what can be seen. A test
//! that cannot run on this machine says why on stderr, in a line that begins with `SKIPPED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

/// Starts the binary, talks HTTP to it, waits for what can be seen, leaves nothing behind.
mod harness;

/// Tokens with scopes: who may do what, and for whom which jobs are there.
mod access;
/// The job object, and answers that wait for a milestone of a job.
mod answers;
/// The command line, the environment and the config: output, errors, exit codes.
mod cli;
/// The client: each of its commands, against a k1s, and what they say when there is none.
mod client;
/// `[job.ID]` tables of the config: jobs that start with k1s, and errors in them.
mod config_jobs;
/// The corpus of each fuzz target, through its property.
mod corpus;
/// Cron jobs by interval and by expression, over real seconds, and what their fields mean.
mod cron;
/// Jobs that wait for others, and the order in which jobs are stopped.
mod depend;
/// The stream of events.
mod events;
/// What machines, users and jobs do to k1s: shortages, stops, bursts.
mod faults;
/// Log files of jobs: rotation, errors, and which files are refused.
mod files;
/// Readiness and liveness, and commands beside runs: probes, reloads, stops.
mod health;
/// Variables from files, jobs that start only by request, handlers of failures, requests for many
/// jobs.
mod hooks;
/// Malformed and hostile requests, each with the answers that the RFCs permit.
mod hostile;
/// HTTP as bytes on a connection: framing, limits, deadlines, methods, errors.
mod http;
/// k1s at rest: no wake-ups, no leaked file descriptors, no zombies.
mod idle;
/// A config of several files, defaults in it, and jobs with instances.
mod include;
/// What a run gets from k1s: session, descriptors, signals, limits, user, standard input.
mod inherit;
/// `k1s init`: exit codes, signals, standard input, terminals, no open port.
mod init;
/// What the fields of a job mean for its process: environment, exit codes, output, stopping.
mod jobs;
/// The logs of a job, read and followed.
mod logs;
/// Metrics for Prometheus: the formats, the counters, memory and CPU time of running jobs.
mod metrics;
/// The description of the API, compared with the API.
mod openapi;
/// k1s's own stdout and stderr: forwarded output of jobs, and its own messages.
mod output;
/// The page for people: its headers, its compressed copy, and how it is switched off.
mod page;
/// The picture of `k1s ps` in README.md.
mod picture;
/// Signals to k1s itself, shutdown, and k1s as the first process of a PID namespace.
mod pid1;
/// Probes by HTTP and TCP, sd_notify, and a newline on a descriptor, with real servers and clients.
mod probes;
/// README.md: its tour, command by command, and its tables.
mod readme;
/// The config is read again while k1s runs: what that changes, and what it leaves alone.
mod reload;
/// The supervisor core, scene by scene, in a small text language.
mod script;
/// What the first k1s promised: paths, codes, messages, names of fields. These never change.
mod seed;
/// The simulation of the supervisor core in a hostile world.
mod simulation;
/// The unix socket: who may use it, what may be at its path before, and what is left of it.
mod socket;
/// State that survives the end of k1s.
mod state;
/// How all processes of a job are stopped: its groups, and leftovers.
mod stopping;
/// Rules for the source that a program can check.
mod tidy;
/// Payloads that are refused: 400, the field is named, nothing is created.
mod validation;
/// Requests for a job: put, patch, start, restart, run, signal, kill.
mod verbs;
