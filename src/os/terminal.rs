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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::os::testing::*;
    use crate::os::{Launch, Output, Spawner, Stdin, prepare, signals};
    use nix::pty::openpty;
    use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
    use std::io::{BufRead, BufReader, Write};

    /// k1s on a new terminal that it leads, or that a process before it does.
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
                // Closing the last of it would hang up on this process, the leader.
                std::mem::forget(master.try_clone().unwrap());
                in_only_thread(|| check_run(master, false));
            }
        });
    }

    /// What the run reads, and what it says of its controlling terminal and of who is in the
    /// foreground there.
    fn check_run(mut master: std::fs::File, leads: bool) {
        let startup = prepare();
        assert!(stdin_is_terminal());
        assert_eq!(release(), leads);
        let mut signals = signals::install(signals::Audience::Init).unwrap();
        assert_eq!(signals::drain(&mut signals), []);
        let command = shell("read line; echo $line; cat /proc/self/stat");
        let launch = Launch {
            command: &command,
            job_id: "main",
            run_tag: "instance.main.1",
            mark: None,
            stdin: Stdin::Inherited,
            output: Output::Inherited,
            controlling_terminal: true,
        };
        let pid = Spawner::new(&startup).unwrap().spawn(launch).unwrap();
        master.write_all(b"hello\n").unwrap();
        let mut lines = BufReader::new(master).lines().map(Result::unwrap);
        // What was typed, echoed by the terminal; then by the run.
        assert_eq!(lines.next().unwrap(), "hello");
        assert_eq!(lines.next().unwrap(), "hello");
        let stat = lines.next().unwrap();
        let fields: Vec<&str> = stat.split(' ').collect();
        let (terminal, foreground) = (fields[6], fields[7]);
        assert_eq!(terminal != "0", leads);
        assert_eq!(foreground == pid.0.to_string(), leads);
        assert_eq!(wait(pid), ExitStatus::Code(0));
    }

    #[test]
    fn the_leader_hands_its_terminal_to_the_run() {
        check("os::terminal::tests::the_leader_hands_its_terminal_to_the_run", true);
    }

    #[test]
    fn a_terminal_of_another_session_is_used_as_it_is() {
        check("os::terminal::tests::a_terminal_of_another_session_is_used_as_it_is", false);
    }
}
