//! The terminal that k1s was started on, which `k1s init` hands to its command, and on which the
//! client shows what k1s says.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, getpid, getsid, read, tcgetpgrp, tcsetpgrp};

use super::Session;

/// Whether k1s's own standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// The columns and lines of the window that standard output is; `None` if it is no terminal, or one
/// that does not say: TIOCGWINSZ(2const).
pub fn window_size() -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize.
    Errno::result(unsafe { libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) }).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Standard input without echo, lines and signals, so that keys come one by one: termios(3).
#[derive(Clone, Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Of standard input, if it and standard output are a terminal.
    pub fn of_stdin() -> Option<RawMode> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        Some(RawMode { before: tcgetattr(io::stdin()).ok()? })
    }

    /// Begins it.
    pub fn begin(&self) {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &raw);
    }

    /// Puts standard input back as it was.
    pub fn end(&self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }

    /// Waits for a key for so long: its first byte. The end of the input counts as Ctrl-C.
    pub fn key(&self, pause: Duration) -> Option<u8> {
        let stdin = io::stdin();
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        // A signal, such as that of a new size of the window, counts as the end of the pause.
        let ready = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout);
        if !matches!(ready, Ok(1..)) {
            return None;
        }
        let mut bytes = [0; 64];
        match read(&stdin, &mut bytes) {
            Ok(0) | Err(_) => Some(CTRL_C),
            Ok(_) => bytes.first().copied(),
        }
    }
}

/// Stops this process group, as Ctrl-Z does, until its shell lets it go on: kill(2).
pub fn suspend() {
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
}

/// Which session a run must be in to get the terminal, which must be standard input. To be called
/// once, before handlers are installed.
///
/// Its own session, if k1s leads the session of the terminal and can give the terminal up.
/// Otherwise another process leads that session (k1s was started from the prompt of a shell, or
/// below `unshare --fork`). Then the run stays in that session, and if k1s is in the foreground,
/// takes its place, so that job control, `/dev/tty` and Ctrl-C work. If k1s is in the background,
/// or the terminal is not that of its session, the run reads and writes it as far as it can.
pub fn session_for_run() -> Session {
    if release() {
        Session::WithTerminal
    } else if tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp()) {
        Session::Foreground
    } else {
        Session::Own
    }
}

/// Puts k1s's own group back in the foreground, for the process that started it: tcsetpgrp(3). A
/// group outside of the pid namespace has no id here, and its shell does so by itself.
pub fn take_back() {
    let blocked = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let _ = tcsetpgrp(io::stdin(), getpgrp());
    if let Ok(mask) = blocked {
        let _ = mask.thread_set_mask();
    }
}

/// Gives up k1s's controlling terminal, which must be its standard input, so that the session of a
/// run can take it: `TIOCNOTTY`, ioctl_tty(2). Returns whether the terminal is free now.
///
/// Only the leader of the terminal's session can. To be called before handlers are installed,
/// because the kernel then sends the session SIGHUP and SIGCONT, which k1s must not act on.
fn release() -> bool {
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

/// Drops a pending signal, by ignoring it for a moment, as POSIX says.
fn discard(which: Signal) {
    // SAFETY: ignoring a signal runs no code, and the disposition is restored.
    unsafe {
        if let Ok(before) = signal(which, SigHandler::SigIgn) {
            let _ = signal(which, before);
        }
    }
}

/// What a terminal sends for Ctrl-C when it sends no signal.
const CTRL_C: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::os::testing::*;
    use crate::os::{Output, SpawnRequest, Spawner, Stdin, prepare, signals};
    use nix::pty::openpty;
    use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
    use std::io::{BufRead, BufReader, Write};

    /// k1s on a new terminal, as the leader of its session, or below that.
    fn check(name: &str, leads: bool) {
        in_own_process(name, || {
            let pty = openpty(None, None).unwrap();
            dup2_stdin(&pty.slave).unwrap();
            dup2_stdout(&pty.slave).unwrap();
            dup2_stderr(&pty.slave).unwrap();
            setsid().unwrap();
            // SAFETY: takes a number.
            Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).unwrap();
            let master = std::fs::File::from(pty.master);
            if leads {
                check_run(master, true);
            } else {
                // Closing the last copy would send SIGHUP to this process, the leader.
                std::mem::forget(master.try_clone().unwrap());
                in_only_thread(|| check_run(master, false));
            }
        });
    }

    /// Checks what the run reads, its controlling terminal, and which group is in the foreground.
    fn check_run(mut master: std::fs::File, leads: bool) {
        let startup = prepare();
        assert!(stdin_is_terminal());
        let session = session_for_run();
        assert_eq!(session == Session::WithTerminal, leads);
        let mut signals = signals::install(signals::Audience::Init).unwrap();
        assert_eq!(signals::drain(&mut signals), []);
        let command = shell("read line; echo $line; cat /proc/self/stat");
        let request = SpawnRequest {
            stdin: Stdin::Inherited,
            session,
            ..request(&command, Output::Inherited)
        };
        let pid = Spawner::new(&startup).unwrap().spawn(request).unwrap();
        master.write_all(b"hello\n").unwrap();
        let mut lines = BufReader::new(master).lines().map(Result::unwrap);
        // What was typed: first echoed by the terminal, then by the run.
        assert_eq!(lines.next().unwrap(), "hello");
        assert_eq!(lines.next().unwrap(), "hello");
        let stat = lines.next().unwrap();
        let fields: Vec<&str> = stat.split(' ').collect();
        let (terminal, foreground) = (fields[6], fields[7]);
        assert_ne!(terminal, "0");
        assert_eq!(foreground, pid.0.to_string());
        assert_eq!(wait(pid), ExitStatus::Code(0));
        if session == Session::Foreground {
            take_back();
            assert_eq!(tcgetpgrp(io::stdin()), Ok(getpgrp()));
        }
    }

    #[test]
    fn the_leader_hands_its_terminal_to_the_run() {
        check("os::terminal::tests::the_leader_hands_its_terminal_to_the_run", true);
    }

    #[test]
    fn in_another_session_the_run_is_in_the_foreground() {
        check("os::terminal::tests::in_another_session_the_run_is_in_the_foreground", false);
    }
}
