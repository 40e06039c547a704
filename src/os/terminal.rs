//! The terminal that k1s was started on, handed to the first process of a container.

use std::io::{self, IsTerminal};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};
use nix::unistd::{getpid, getsid};

/// Whether k1s's own standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Gives up k1s's controlling terminal, which must be its standard input, so that a run's
/// session can make it its own: `TIOCNOTTY`, ioctl_tty(2). True when the terminal is free now.
///
/// Only the leader of the terminal's session can; where the terminal belongs to somebody
/// else's session (k1s was started from an interactive shell) it is left to it: the run then
/// reads and writes the terminal without job control, and Ctrl-C comes to k1s, which forwards
/// it. Call it before handlers stand: the kernel tells the session with SIGHUP and SIGCONT
/// that its terminal is gone, and nobody asked k1s anything by that.
pub fn release() -> bool {
    if getsid(None) != Ok(getpid()) {
        return false;
    }
    let told = [Signal::SIGHUP, Signal::SIGCONT];
    let Ok(mask) = told.into_iter().collect::<SigSet>().thread_swap_mask(SigmaskHow::SIG_BLOCK)
    else {
        return false;
    };
    let ours = told.map(|signal| (signal, is_pending(signal)));
    // SAFETY: TIOCNOTTY takes no argument.
    let released = Errno::result(unsafe { libc::ioctl(0, libc::TIOCNOTTY) }).is_ok();
    for (signal, was_pending) in ours {
        if !was_pending {
            discard(signal);
        }
    }
    released && mask.thread_set_mask().is_ok()
}

fn is_pending(signal: Signal) -> bool {
    let mut pending = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigpending writes a whole sigset_t, which sigismember then reads.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), signal as libc::c_int) == 1
    }
}

/// Drops a pending signal: POSIX has one dropped when its disposition becomes "ignore".
fn discard(which: Signal) {
    // SAFETY: ignoring a signal runs no code, and the disposition is put back as it was.
    unsafe {
        if let Ok(before) = signal(which, SigHandler::SigIgn) {
            let _ = signal(which, before);
        }
    }
}
