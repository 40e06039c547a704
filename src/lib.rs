//! k1s: a process supervisor with a REST API. Start here if you want to change it.
//!
//! # Overview
//!
//! A pure core takes the time and what happened, and returns what to do. A thin shell around it
//! makes all system calls. There are two such cores, and only the shell knows both:
//!
//! ```text
//!                      bytes                            requests, answers
//!   sockets ◀────────────────────────▶ http::Connection ◀───────────────▶ api
//!      ▲                                                                   │ commands, views
//!      │   daemon: poll ─▶ read the clocks once ─▶ feed ─▶ drain           ▼
//!      ▼                                                               supervisor
//!   processes, pipes, signals ◀───────────── os ◀───────────────────── actions
//!                               exits, output ─────────────────────────▶ events
//! ```
//!
//! One thread, one poll loop, no callbacks. Tests use the supervisor as the daemon does, only
//! faster: ten thousand jobs, with exits, kills, clock steps and failed spawns in any order,
//! replayed from a seed.
//!
//! # The rooms, in reading order
//!
//! ```text
//!  main ─▶ cli ─▶ daemon ─▶ api ─▶ supervisor ─▶ job ─▶ schedule      a room may use those to
//!           │       ├──▶ state ─▶ ┘     └──▶ timer                    its right, never back;
//!           │       ├──▶ os ─▶ job                                    all may use time, and
//!           ├───────┴──▶ config ─▶ job, http's limits                 calendar to read or write
//!           ├──▶ explain ─▶ api                                       times
//!           └──▶ client ─▶ os, config, job                          daemon, api, supervisor and
//!                                                                     config know access
//! ```
//!
//! Pure, and read first:
//!
//! - [`time`]: the two clocks, and what each is for.
//! - [`pattern`]: names that match `web*`.
//! - [`access`]: who may do what, and which jobs are there for them.
//! - [`gather`]: collects into maps and sets, small in the binary.
//! - [`calendar`]: times as text: RFC 3339, and the dates of HTTP.
//! - [`timer`]: a timer wheel: sets, cancels and finds the next deadline, however many there are.
//! - [`schedule`]: an interval or a cron expression → the next time.
//! - [`job`]: what a job is: its specification, the records of its runs, their output.
//! - [`supervisor`]: what should run, when, and what follows when it ends. This is the heart: read
//!   the pictures at the top of `life/mod.rs` (a job) and `run.rs` (a run) first.
//! - [`state`]: what is remembered of jobs ↔ bytes: a log of changes, and how it is replayed.
//! - [`http`]: the server side of HTTP/1.1, as bytes in and bytes out.
//!
//! Translation:
//!
//! - [`config`]: TOML and the environment → settings and jobs, or an error with its line.
//! - [`api`]: requests → commands to the supervisor; what it shows → JSON. All routes are in one
//!   table.
//!
//! The world:
//!
//! - [`os`]: spawning, reaping, signals, limits, k1s's own output. The only room with `unsafe`.
//! - [`daemon`]: the poll loop: waits, reads, feeds, drains, acts.
//! - [`client`]: commands that ask a running k1s over its API, for people and scripts.
//! - [`explain`]: what fields, keys and routes mean, from the README's tables.
//! - [`cli`]: the command line → what is done, and the exit code.
//!
//! And only for tests and fuzzing: `properties`, which hold for any bytes. The feature of that name
//! switches them on: builds of tests have them, the binary does not.
//!
//! Words: a *job* is registered and has an id. A *run* is one process of a job with its
//! descendants, from when it is to start until none of them is left. A *result* is the record of a
//! finished run. *Leftovers* are processes of a run whose first process has ended. A run is
//! *deferred* while a *shortage* of this machine keeps it from starting. A *peer* is the other end
//! of a connection.
//!
//! # What never happens
//!
//! These are the invariants. `tests/it/tidy.rs` checks those that can be seen in the source, the
//! simulation and the end-to-end tests check the others.
//!
//! - Nothing in a pure room reads a clock, a file, the environment or a random number, makes a
//!   system call, or iterates a map whose order changes from run to run.
//! - Nothing waits except the poll (and a spawn, until the new process executes its program,
//!   and a write to a log file, until the file system takes it), and nothing holds up the loop: each socket, pipe, burst of exits or of spawns has a bounded share
//!   of a turn. At rest there is no system call at all. The exceptions: a file system that hangs
//!   below a job's directory or executable, a SIGSTOP to the new process before it executes its
//!   program, or a lease on an executable that k1s may not read or that is taken just then. They
//!   hold up the loop until they are over, as they would hold up posix_spawn(3), because the new
//!   process shares k1s's memory until then; copying it would make each spawn slower.
//! - Nothing that a peer, a job, a file or the kernel does ends k1s: there is no panic, no
//!   `unwrap`, no index that may be out of range. Input is answered, bugs are asserted. The
//!   exceptions: SIGKILL, and an allocation by k1s itself that fails.
//! - No process is started without a reader of its output: its pipes are created and watched first.
//! - Nothing is without a limit: jobs, connections, heads, bodies, unsent answers, output. Each
//!   limit is a key of the config, or a constant at the end of the file that uses it.
//! - No timer is stale: a state sets its timers when it is entered and cancels them when it is
//!   left, in one function.
//! - No elapsed time is computed from the wall clock, and no wall-clock time from elapsed time.
//! - No exit is lost: children are reaped until there are none, in one place, and each is reported
//!   to the supervisor once, after all of its output.
//! - Nothing is woken except by what it waits for: the core says which topic has changed, a
//!   pending answer names the topic that it waits for, and nothing compares whole states.
//! - No answer to a request that has changed something goes out before that is stored, if it is to
//!   be. Nothing else waits for the disk.
//! - No process is started before it is stored that its run may have one: a run number is used once,
//!   also across a crash. No job starts while processes of it are there that an earlier k1s has left.
//! - Nothing that was stored is overwritten: segments are only appended to, and go as a whole when
//!   what still counts of them is safe elsewhere.
//! - Reading events takes nothing from other readers: each has its own cursor.
//! - No token of the poll is used twice, so an event for something that is gone has no effect.
//! - No library asks NSS or another service: the binary is static and runs in an empty image.
//!
//! # Where a new thing goes
//!
//! - A field of a job: `job/spec.rs`, the table in `job/parse.rs`, `job/write.rs`, the code that
//!   uses it, `api/openapi.json`, the README's table, an example in `explain.rs` (tests compare
//!   them).
//! - A route: [`api::ROUTES`] with the scope that it needs, a handler next to it,
//!   `api/openapi.json` (`K1S_OPENAPI_UPDATE=1` compresses it), the README's table.
//! - The page for people: `ui/index.html`; then `K1S_PAGE_UPDATE=1 cargo test --test it -- page::`
//!   compresses it, and `.ci/page` looks at it in a browser.
//! - A metric: `api/metrics.rs`, the README's table. Counters of a job are in
//!   `supervisor/counts.rs`; what is looked up about its processes, or reported by the daemon about
//!   itself, is in `supervisor/measure.rs`.
//! - A key of the config: `config/mod.rs`, its line in `config/describe.rs`, the README's table.
//! - A rule about when jobs run or stop: `supervisor`, with a scene in `tests/it/scripts/`, and an
//!   event or invariant of the simulation if it can fail in an unexpected order of events.
//! - Log files: `daemon/logfiles/` decides when to write, rotate and try again, `os/logfile.rs`
//!   does it.
//! - Logs, and clients that follow them: the output that is kept is in `job/output.rs`, its order
//!   and the cursors of readers in `job/log.rs`. A follower is an answer in `api/answer/` that
//!   waits for the topic `Output`. A reader of events has a cursor into [`supervisor::EventLog`]
//!   and waits for the topic `Events`.
//! - Dependencies: `supervisor/depend.rs`, a graph of which job waits for which; it sees milestones
//!   of jobs. The order of stops is in `supervisor/stops.rs`. [`supervisor::Supervisor`] does what
//!   follows in its loop `settle`, like everything else that concerns several jobs. A probe is an action with an
//!   answer, like a survey.
//! - Something that is to survive a restart: `supervisor/remembered.rs`, its bytes in
//!   `state/entry.rs`, and what follows from it in `supervisor/life/remember.rs`. Once a turn
//!   `daemon/store` appends the jobs that have changed. What a job shows and is not there is forgotten.
//! - What a reload changes: of jobs, `supervisor/declare.rs`; of settings, those in
//!   `config::Live`, applied in `daemon/reload.rs`. A setting that needs a restart is in
//!   `config::Fixed`.
//! - A command of the client: its file in `client/`, its line in `client::Command` and in `cli`,
//!   the README's table.
//! - A system call: `os`, as a function that does one thing and returns its outcome; then an
//!   `Action` of the supervisor, or a call in [`daemon`].
//! - A source of events: a token and an arm in the loop of [`daemon`], with its share of a turn.
//! - Something that an answer shows of another job than the one that it is about: only if it is
//!   [`access::Visible`] to who asks.
//! - A crate: its one room, in the table of `tests/it/tidy.rs`; check the size of the binary.
//!
//! Unit tests are next to what they test. Tests of the whole binary are in `tests/it/`; its
//! `main.rs` says what goes where. `.ci/run` runs everything.

pub mod access;
pub mod api;
pub mod calendar;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod explain;
pub mod gather;
pub mod http;
pub mod job;
pub mod os;
pub mod pattern;
#[cfg(feature = "properties")]
pub mod properties;
pub mod schedule;
pub mod state;
pub mod supervisor;
pub mod time;
pub mod timer;
