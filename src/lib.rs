//! k1s: a process supervisor with a REST API. This page is the way in for whoever changes it.
//!
//! # From above
//!
//! A pure core is handed the time and what happened, and hands back what to do; a thin shell
//! around it owns every system call. There are two such cores, and only the shell sees both:
//!
//! ```text
//!                      bytes                            requests, answers
//!   sockets ◀────────────────────────▶ http::Connection ◀───────────────▶ api
//!      ▲                                                                   │ commands, views
//!      │   daemon: poll ─▶ one reading of the clocks ─▶ feed ─▶ drain      ▼
//!      ▼                                                               supervisor
//!   processes, pipes, signals ◀───────────── os ◀───────────────────── actions
//!                               exits, output ─────────────────────────▶ events
//! ```
//!
//! One thread, one poll loop, no callbacks. What a test does with the supervisor (ten thousand
//! jobs, with exits, kills, clock steps and failed spawns in any order, replayed from a seed)
//! is what the daemon does with it, only faster.
//!
//! # The rooms, in reading order
//!
//! ```text
//!  main ─▶ cli ─▶ daemon ─▶ api ─▶ supervisor ─▶ job ─▶ schedule      who may know whom: those
//!           │       ├──▶ os ─▶ job      └──▶ timer                    to the right, never back;
//!           └───────┴──▶ config ─▶ job, http's limits                 time is open to all, and
//!                                                                     calendar where times are
//!                                                                     read or written
//! ```
//!
//! Pure, and read first:
//!
//! - [`time`]: the two clocks, and which is for what.
//! - [`calendar`]: times as text: RFC 3339, and the dates of HTTP.
//! - [`timer`]: a timer wheel. Setting, cancelling and the next deadline, whatever their number.
//! - [`schedule`]: an interval or a cron expression → the next time.
//! - [`job`]: what a job is: its specification, its runs' records, the output that is kept.
//! - [`supervisor`]: what should run, when, and what becomes of it. The heart: read the pictures
//!   at the top of `life/mod.rs` (a job) and `run.rs` (one process) first.
//! - [`http`]: the server's side of HTTP/1.1, as bytes in and bytes out.
//!
//! Translation:
//!
//! - [`config`]: TOML and the environment → settings and jobs, or the line that is wrong.
//! - [`api`]: requests → commands to the supervisor; what it shows → JSON. All routes in one table.
//!
//! The world:
//!
//! - [`os`]: spawning, reaping, signals, limits, k1s's own output. The only room with `unsafe`.
//! - [`daemon`]: the poll loop: waits, reads, feeds, drains, performs.
//! - [`cli`]: what was typed → what is done, and the exit code.
//!
//! Beside them, for tests and fuzzing alone: `properties`, what holds for any bytes at all. The
//! feature of that name switches it on; whatever builds tests has it, the binary has not.
//!
//! What a word means is said once: a *job* is registered and has an id; a *run* is one process of
//! it, from when it is wanted until nothing of it is left; a *result* is the record of a run
//! that is over; a *peer* is whoever holds a connection.
//!
//! # What does not happen
//!
//! The invariants. `tests/it/tidy.rs` holds those that can be seen in the text of the source, the
//! simulation and the end-to-end tests the others.
//!
//! - Nothing in a pure room reads a clock, a file, the environment or a random number, makes a
//!   system call, or iterates a map whose order changes from run to run.
//! - Nothing waits but the poll (and a spawn, until the new process executes its program), and
//!   nothing holds the loop: each socket, pipe, burst of exits or of spawns has a bounded share
//!   of a turn. At rest there is no system call at all. The exception: a file system that hangs
//!   under a job's directory or executable, a SIGSTOP to the new process before it executes its
//!   program, or a lease on an executable that k1s may not read or that is taken just then, holds
//!   the loop until that is over, as it would hold posix_spawn(3). The two
//!   share their memory until then, so k1s cannot go on; a copy of it would cost each spawn more.
//! - Nothing that a peer, a job, a file or the kernel does ends k1s: no panic, no `unwrap`, no
//!   index that may be out of range. Input is answered, bugs are asserted. The exceptions:
//!   SIGKILL, and an allocation of k1s's own that is refused.
//! - No process is started whose output nobody watches: its pipes are there, and watched, first.
//! - Nothing is without a limit: jobs, connections, heads, bodies, unsent answers, output. What
//!   they are is a key of the config or a constant at the end of the file that uses it.
//! - No timer is stale: a state arms its timers as it is entered and disarms them as it is left,
//!   in one function.
//! - No elapsed time is computed from the wall clock, and no calendar from the other.
//! - No exit is lost: children are reaped until there are none, in one place, and each is told
//!   to the supervisor once, after the output that came before it.
//! - Nobody is woken but by what it waits for: the core says which topic has changed, an answer
//!   under way names the one that it wants, and nothing compares the whole with before.
//! - No reader of events takes anything from another: each holds a cursor.
//! - No token of the poll is used twice: an event for what is gone is found nowhere.
//! - No library asks NSS or another service: the binary is static and runs in an empty image.
//!
//! # Where a new thing goes
//!
//! - A field of a job: `job/spec.rs`, the table in `job/parse.rs`, `job/write.rs`, what uses it,
//!   `api/openapi.json`, the README's table (tests compare them).
//! - A route: [`api::ROUTES`], a handler beside it, `api/openapi.json`, the README's table.
//! - A metric: `api/metrics.rs`, the README's table. What is counted of a job is
//!   `supervisor/counts.rs`; what is looked up of its processes, or told by the daemon of itself,
//!   `supervisor/measure.rs`.
//! - A key of the config: `config/mod.rs`, its line in `config/describe.rs`, the README's table.
//! - A rule about when jobs run or stop: `supervisor`, with a scene in `tests/it/scripts/`, and
//!   an event or invariant of the simulation if it can go wrong in an order nobody thinks of.
//! - Logs, and whoever follows them: what is kept of the output is `job/output.rs`; its order and
//!   the cursors of readers belong beside it, as `job/log.rs`. A follower is an answer in
//!   `api/answer/` that wants the topic `Output`; whoever reads events holds a cursor into
//!   [`supervisor::EventLog`] and wants the topic `Events`.
//! - Dependencies: `supervisor/depend.rs`, a graph of who waits for whom and the order of stops. It
//!   sees milestones of a job, and [`supervisor::Supervisor`] draws its consequences where all
//!   are drawn, in its loop `settle`; a probe is an action and an answer, as a survey is.
//! - State that survives: a pure room `state`, plain data ↔ bytes, that writes specifications by
//!   `job/write.rs`; the daemon appends which jobs the topics say have changed, once a turn.
//! - Reload: `config` reads the whole anew, and the difference is drawn in `supervisor`, on put and
//!   remove (`supervisor/request.rs`); which settings count at once is said in `config`.
//! - A system call: `os`, as a function that does one thing and says how it went; then an
//!   `Action` of the supervisor, or a call in [`daemon`].
//! - A source of events: a token and an arm in [`daemon`]'s loop, with its share of a turn.
//! - A crate: its one room, in the table of `tests/it/tidy.rs`; and the size of the binary.
//!
//! Tests are beside what they test, and in `tests/it/` for what the whole binary does; its
//! `main.rs` says what goes where. `.ci/run` runs all there is.

pub mod api;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
pub mod job;
pub mod os;
#[cfg(feature = "properties")]
pub mod properties;
pub mod schedule;
pub mod supervisor;
pub mod time;
pub mod timer;
