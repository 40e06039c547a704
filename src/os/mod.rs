//! The world: every system call that is not a read, a write or a poll of the loop.
//!
//! ```text
//!  startup   first thing in main: signals, descriptors, limits, subreaper
//!  signals   what k1s is sent: a signalfd for SIGCHLD, handlers for the rest
//!  spawn     a command → a process        child   what runs between clone and execve
//!            environment, stdio, user, limits: what it inherits
//!  reap      a process → its exit status
//!  process   who is alive, who belongs to whom; sending signals
//!            proc: what /proc says of one
//!  missing   what a job needs and the machine lacks
//!  console   k1s's own stdout and stderr, never blocking
//!  memory    giving back what was freed
//!  terminal, pipe, socket, clock, random   small things that the loop asks for
//! ```
//!
//! This is the only room with `unsafe`, and the only one that names nix, libc or signal-hook.
//! Nothing here knows a job's state, decides what becomes of one, or waits: each function does one
//! thing to the system and says how it went. No library asks NSS: the binary is static.

mod child;
pub mod clock;
pub mod console;
mod environment;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod glibc;
mod limits;
pub mod memory;
mod missing;
pub mod pipe;
mod proc;
pub mod process;
mod random;
mod reap;
pub mod signals;
pub mod socket;
mod spawn;
pub mod startup;
mod stdio;
pub mod terminal;
mod user;

pub use console::Console;
pub use missing::missing;
pub use process::{Proc, Snapshot};
pub use random::instance_id;
pub use reap::reap;
pub use spawn::{Launch, Output, SpawnError, Spawner, Stdin};
pub use startup::{Startup, prepare};

use nix::errno::Errno;

/// The system's reason, for people: `No such file or directory (ENOENT)`.
fn reason(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

#[cfg(test)]
pub(crate) mod testing;
