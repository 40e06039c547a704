//! Collecting what has ended: k1s's own children, and the orphans that landed on it.

use nix::errno::Errno;
use nix::libc;

use crate::job::{ExitStatus, Pid, Signal};

/// The next child that has ended, or `None` when there is none for now: waitpid(2) with
/// `WNOHANG`. SIGCHLD coalesces, so call it until it says `None`, a bounded number a turn.
///
/// A stop or a continuation is not an end and is not asked for. Children are k1s's own and,
/// as it is PID 1 or a subreaper, every orphan of theirs: what a pid meant is the caller's
/// to know. Do not wait for a child anywhere else.
pub fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        let mut status: libc::c_int = 0;
        // SAFETY: `status` is an int to write to.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            if let Some(exit) = exit_status(status) {
                return Some((Pid(pid), exit));
            }
        } else if pid == 0 || Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// What a wait status says: wait(2). `None` for a stop or a continuation. By hand, as nix
/// knows no death by a realtime signal, and would lose the exit.
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
