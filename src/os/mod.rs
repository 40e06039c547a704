//! The world: every system call that is not a read, a write or a poll of the loop.
//!
//! ```text
//!  startup   the first thing in main: signals, descriptors, limits, subreaper
//!  signals   the signals to k1s: a signalfd for SIGCHLD, handlers for the others
//!  spawn     a command → a process        child   what runs between clone and execve
//!            executable: whether it can be executed without a wait
//!            environment, variables, stdio, user, limits: what it inherits
//!  reap      a process → its exit status
//!  notify    the socket on which a run reports by sd_notify(3)
//!  looking   the descendants of k1s, and the run that each belongs to
//!            proc: what /proc says about a process; mark: the number that marks a run
//!  former    processes that an earlier k1s has left
//!  usage     memory, CPU time and descriptors of processes; listing: /proc in small pieces
//!  signalling  signals a group, a child, or exactly one process
//!  missing   what a job needs and this machine does not have
//!  console   k1s's own stdout and stderr, never blocking
//!  logfile   log files of jobs, in any directory
//!  local     the unix socket of the API
//!  syncer    fdatasync without a wait
//!  memory    counts memory, and returns what was freed
//!  terminal, file, pipe, socket, clock, random   small things that the loop needs
//! ```
//!
//! This is the only room with `unsafe`, and the only one that names nix, libc or signal-hook.
//! Nothing here knows the state of a job, decides about one, or waits: each function does one thing
//! to the system and returns its outcome. No library asks NSS, because the binary is static.

mod child;
pub mod clock;
pub mod console;
mod environment;
mod executable;
mod failure;
pub mod file;
mod former;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod glibc;
mod limits;
mod listing;
pub mod local;
pub mod logfile;
mod looking;
mod mark;
pub mod memory;
mod missing;
pub mod notify;
pub mod pipe;
mod proc;
mod random;
mod reap;
pub mod signalling;
pub mod signals;
pub mod socket;
mod spawn;
pub mod startup;
mod stdio;
pub mod syncer;
pub mod terminal;
mod usage;
mod user;
mod variables;

pub use child::Session;
pub use console::OwnStream;
pub use failure::SpawnError;
pub use former::{Seen, look};
pub use looking::{
    Descent, Family, Look, Membership, Search, Step, Tags, group_of, obstacle, session_of, stat_of,
};
pub use missing::missing;
pub use proc::{Proc, Stat, own_pid};
pub use random::instance_id;
pub use reap::{ChildState, Reaped, child_state, reap};
pub use spawn::{Output, SpawnRequest, Spawner, Stdin};
pub use startup::{Startup, prepare};
pub use usage::{Descriptors, Met, Walk, own_usage};
pub use user::is_root;
pub use variables::variables_of;

use nix::errno::Errno;

/// The system's reason, for people: `No such file or directory (ENOENT)`.
fn reason(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

/// The system's reason for an error of a socket, for people.
pub fn reason_of(error: &std::io::Error) -> String {
    reason(errno_of(error))
}

/// Whether the machine has run out of something that it may have again later.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOSPC)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

#[cfg(test)]
pub(crate) mod testing;
