//! Sends signals: to a group, to a child, to exactly one process.
//!
//! The kernel uses pids again. A child keeps its pid until it is collected, and a group keeps its
//! id while a member is left. Any other process is named by its pid and start time.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::proc::{Proc, Stat, known};
use crate::job::{Pid, Signal};

/// Sends `signal` to a process group: kill(2). Returns whether it has a member; a zombie counts
/// until it is collected.
pub fn signal_group(group: Pid, signal: Signal) -> bool {
    is_number(group) && kill(-group.0, signal.number())
}

/// Sends `signal` to a process group, and then SIGCONT (unless it was SIGKILL) so that stopped
/// processes can act.
pub fn stop_group(group: Pid, signal: Signal) {
    with_continue(signal, |signal| signal_group(group, signal));
}

/// Sends `signal` to a child of k1s that was not collected, so that the pid is still its own:
/// kill(2). Returns whether it was there.
pub fn signal_process(pid: Pid, signal: Signal) -> bool {
    is_number(pid) && kill(pid.0, signal.number())
}

/// Sends `signal`, and then SIGCONT (unless it was SIGKILL), to a child of k1s that was not
/// collected.
pub fn stop_process(pid: Pid, signal: Signal) {
    with_continue(signal, |signal| signal_process(pid, signal));
}

/// Sends `signal`, and then SIGCONT (unless it was SIGKILL), to exactly this process, not to a
/// later one with the same pid.
pub fn stop_exactly(process: Proc, signal: Signal) {
    with_continue(signal, |signal| signal_exactly(process, signal));
}

/// Whether a process group has a member; a zombie counts until it is collected.
pub fn group_is_there(group: Pid) -> bool {
    is_number(group) && kill(-group.0, 0)
}

/// Whether there is a process with this pid; a zombie counts until it is collected.
pub fn is_there(pid: Pid) -> bool {
    is_number(pid) && kill(pid.0, 0)
}

/// Sends `signal`, and then SIGCONT (unless it was SIGKILL), to every process of the pid namespace
/// except k1s: kill(2) with -1. Returns whether there was one.
///
/// # Errors
/// `EPERM` unless k1s is PID 1: no other process should do this.
pub fn stop_all(signal: Signal) -> io::Result<bool> {
    let is_left = signal_all(signal.number())?;
    if signal != Signal::KILL {
        signal_all(Signal::CONT.number())?;
    }
    Ok(is_left)
}

/// Whether there is any process in the pid namespace except k1s; a zombie counts until it is
/// collected.
///
/// # Errors
/// As [`stop_all`].
pub fn any_is_there() -> io::Result<bool> {
    signal_all(0)
}

fn signal_all(signal: i32) -> io::Result<bool> {
    if std::process::id() != 1 {
        return Err(Errno::EPERM.into());
    }
    Ok(kill(-1, signal))
}

/// Opens a pidfd, checks that it is the right process, and signals it through that. Without a pidfd
/// (Linux before 5.3, or no free descriptor) the pid could be used again between the check and the
/// signal.
fn signal_exactly(process: Proc, signal: Signal) -> bool {
    let pidfd = match pidfd_open(process.pid) {
        Err(Errno::ESRCH) => return false,
        result => result.ok(),
    };
    let pidfd = match is_known_alive(process) {
        Some(true) => pidfd,
        Some(false) => return false,
        // If the pidfd has taken the last descriptor, close it: the check is worth more.
        None => {
            drop(pidfd);
            if is_known_alive(process) != Some(true) {
                return false;
            }
            None
        }
    };
    let Some(pidfd) = pidfd else {
        return kill(process.pid.0, signal.number());
    };
    // SAFETY: a null pointer asks for the usual siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.number(),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    result == 0
}

/// `None` in a shortage of descriptors or memory.
fn is_known_alive(process: Proc) -> Option<bool> {
    let stat = known(Stat::read(process.pid))?;
    Some(stat.is_some_and(|stat| stat.process == process && !stat.is_dead))
}

fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes numbers alone.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the descriptor is new and has no other owner; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// kill(2) gives -1, 0 and 1 another meaning, also with a minus before them.
fn is_number(pid: Pid) -> bool {
    pid.0 > 1
}

fn with_continue(signal: Signal, send: impl Fn(Signal) -> bool) {
    send(signal);
    if signal != Signal::KILL {
        send(Signal::CONT);
    }
}

/// Returns whether the process exists, even if k1s may not signal it.
fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: takes numbers alone.
    let result = Errno::result(unsafe { libc::kill(pid, signal) });
    matches!(result, Ok(_) | Err(Errno::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::proc::own_pid;
    use crate::os::testing::in_own_process;

    #[test]
    fn this_very_process_is_alive_and_another_of_its_number_is_not() {
        let own = Stat::read(own_pid()).unwrap().process;
        assert_eq!(is_known_alive(own), Some(true));
        let other = Proc { start_time: own.start_time + 1, ..own };
        assert_eq!(is_known_alive(other), Some(false));
        assert!(!signal_exactly(other, Signal::KILL));
        assert!(signal_exactly(own, Signal::CONT));
    }

    #[test]
    fn only_pid_1_may_signal_everything() {
        let name = "os::signalling::tests::only_pid_1_may_signal_everything";
        in_own_process(name, || {
            assert_eq!(stop_all(Signal::KILL).unwrap_err().raw_os_error(), Some(libc::EPERM));
        });
    }
}
