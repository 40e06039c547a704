//! Collects children that have ended: those k1s has started, and orphans it has inherited.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use crate::job::{ExitStatus, Pid, Signal};

/// A child that has ended and was collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Which.
    pub pid: Pid,
    /// How it ended.
    pub status: ExitStatus,
    /// Its CPU time, including that of children it has waited for: wait4(2).
    pub cpu_time: Duration,
}

/// Collects the next child that has ended; `None` when there is none for now: wait4(2) with
/// `WNOHANG`. One SIGCHLD may stand for several children, so call this until it returns `None`, a
/// bounded number of times a turn.
///
/// Stopped and continued children are not reported. As k1s is PID 1 or a subreaper, the pid may
/// also be that of an orphan. Do not wait for a child anywhere else.
pub fn reap() -> Option<Reaped> {
    loop {
        let mut status: libc::c_int = 0;
        let mut used = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `status` is an int to write to, and `used` an rusage.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, used.as_mut_ptr()) };
        if pid > 0 {
            if let Some(status) = exit_status(status) {
                // SAFETY: it is all numbers, and was zeroed.
                let used = unsafe { used.assume_init() };
                let cpu_time = cpu_time(&used);
                return Some(Reaped { pid: Pid(pid), status, cpu_time });
            }
        } else if pid == 0 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// User and system time.
pub(super) fn cpu_time(used: &libc::rusage) -> Duration {
    let time = |of: libc::timeval| {
        let part = |number: i64| u64::try_from(number).unwrap_or(0);
        Duration::from_secs(part(of.tv_sec)) + Duration::from_micros(part(of.tv_usec))
    };
    time(used.ru_utime) + time(used.ru_stime)
}

/// Whether a child of k1s has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It is alive.
    Alive,
    /// It has ended, and was not reaped.
    Ended,
    /// k1s has no such child.
    None,
}

/// Whether a child has ended; it is not reaped: waitid(2) with `WNOWAIT`.
pub fn child_state(pid: Pid) -> ChildState {
    let Ok(id) = libc::id_t::try_from(pid.0) else { return ChildState::None };
    // SAFETY: a siginfo_t holds only numbers and raw pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a siginfo_t to write to.
    let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut info, flags) };
    // SAFETY: the call has written the fields of a child, or left them zero.
    match (result, unsafe { info.si_pid() }) {
        (0, 0) => ChildState::Alive,
        (0, _) => ChildState::Ended,
        (_, _) => ChildState::None,
    }
}

/// Decodes a wait status: wait(2). `None` for a stopped or continued child. nix does not know
/// realtime signals, and would lose such an end.
pub(super) fn exit_status(status: libc::c_int) -> Option<ExitStatus> {
    if libc::WIFEXITED(status) {
        u8::try_from(libc::WEXITSTATUS(status)).ok().map(ExitStatus::Code)
    } else if libc::WIFSIGNALED(status) {
        Signal::from_number(libc::WTERMSIG(status)).map(ExitStatus::Signal)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_told_apart() {
        let signal = |n| Some(ExitStatus::Signal(Signal::from_number(n).unwrap()));
        for (status, expected) in [
            (0x0000, Some(ExitStatus::Code(0))),
            (0xff00, Some(ExitStatus::Code(255))),
            (0x0009, signal(9)),
            (0x008b, signal(11)), // with a core dump
            (0x0022, signal(34)), // SIGRTMIN
            (0x137f, None),       // stopped by SIGSTOP
            (0xffff, None),       // continued
        ] {
            assert_eq!(exit_status(status), expected, "{status:#06x}");
        }
    }
}
