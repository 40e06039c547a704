//! What the process does first, before it reads or opens any file.
//!
//! Nothing here fails, because k1s may be PID 1, which has to start in any case. A step that fails
//! becomes a note for the log.

use std::fs;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal as NixSignal, signal};
use nix::sys::stat::Mode;

use super::{limits, reason};

/// How k1s was started.
#[derive(Debug)]
pub struct Startup {
    /// Whether k1s is the first process of its pid namespace: then it reaps everything in it, and
    /// everything ends with k1s.
    pub is_pid_1: bool,
    /// How many descriptors k1s may have open: its soft limit, which was raised to the hard one.
    pub max_descriptors: u64,
    /// Which steps failed, a line each, for the log.
    pub notes: Vec<String>,
    /// The signals that were blocked when k1s was started.
    pub(super) blocked: SigSet,
    /// The `nofile` limit that k1s was started with, which jobs get; `None` when it was not
    /// changed.
    pub(super) nofile: Option<libc::rlimit64>,
}

impl Startup {
    /// Lets processes of the same user see k1s in `/proc` again: for `k1s init` without an API,
    /// which has no token. Writing to `/proc/1/fd/1` is common in containers.
    pub fn reveal(&self) {
        // If that fails, k1s stays hidden, and only such writes fail.
        let _ = prctl::set_dumpable(true);
    }

    /// Restores the original signal mask, for a command that supervises nothing. Signals that came
    /// since [`prepare`] are delivered now.
    pub fn release_signals(&self) {
        let _ = self.blocked.thread_set_mask();
    }
}

/// Prepares the process to be k1s. To be called once, first thing in main.
///
/// In this order: all signals are blocked until [`signals::install`](super::signals::install),
/// because PID 1 loses those that come without a handler, and SIGCHLD is reset to its default.
/// Closed descriptors among 0, 1 and 2 are opened on `/dev/null`, and all above are set to close on
/// exec. k1s is made non-dumpable, so that a job of the same user cannot read its memory or
/// environment, and the token in it, from `/proc`: PR_SET_DUMPABLE(2const). It becomes a subreaper,
/// to inherit the orphans of jobs: PR_SET_CHILD_SUBREAPER(2const). Its soft `nofile` limit is
/// raised to the hard one.
///
/// `oom_score_adj` is never changed, so jobs inherit the value that k1s was started with.
pub fn prepare() -> Startup {
    let mut notes = Vec::new();
    let mut note = |what: &str, result: nix::Result<()>| {
        if let Err(errno) = result {
            notes.push(format!("{what}: {}", reason(errno)));
        }
    };
    let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    note("cannot block signals", blocked.map(|_| ()));
    note("cannot reset SIGCHLD", reset_sigchld());
    note("cannot open /dev/null", fill_standard_descriptors());
    note("cannot mark descriptors close-on-exec", close_rest_on_exec());
    note("cannot hide from jobs", prctl::set_dumpable(false));
    let is_pid_1 = std::process::id() == 1;
    if !is_pid_1 {
        note("cannot adopt orphans", prctl::set_child_subreaper(true));
    }
    let nofile = limits::nofile();
    let raised = nofile.and_then(|limit| {
        let raised = libc::rlimit64 { rlim_cur: limit.rlim_max, ..limit };
        limits::set_nofile(raised).map(|()| raised)
    });
    note("cannot raise the nofile limit", raised.map(drop));
    Startup {
        is_pid_1,
        max_descriptors: raised.or(nofile).map_or(FEWEST_DESCRIPTORS, |limit| limit.rlim_cur),
        notes,
        blocked: blocked.unwrap_or_else(|_| SigSet::empty()),
        nofile: raised.and(nofile).ok(),
    }
}

/// The parent of k1s may have ignored SIGCHLD, which exec keeps. Then the kernel would not keep the
/// exit status of children, nor send SIGCHLD: wait(2), NOTES.
fn reset_sigchld() -> nix::Result<()> {
    // SAFETY: k1s has no handler for it, and the default runs no code.
    unsafe { signal(NixSignal::SIGCHLD, SigHandler::SigDfl) }.map(|_| ())
}

/// Opens `/dev/null` on those of 0, 1 and 2 that are closed. Otherwise k1s would print to the first
/// file that it opens.
fn fill_standard_descriptors() -> nix::Result<()> {
    loop {
        let fd = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        if std::os::fd::AsRawFd::as_raw_fd(&fd) > 2 {
            return Ok(());
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // It is a standard descriptor now, and never closed.
        std::mem::forget(fd);
    }
}

/// Sets inherited descriptors from 3 up to close on exec, once, so that no run gets them.
fn close_rest_on_exec() -> nix::Result<()> {
    // SAFETY: close_range(2) takes three numbers; with CLOEXEC it closes nothing now.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // Linux before 5.11, or a sandbox that does not know it refuses it.
        Err(_) => close_listed_on_exec(),
    }
}

fn close_listed_on_exec() -> nix::Result<()> {
    let list = fs::read_dir("/proc/self/fd");
    let list = list.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::ENOENT)))?;
    let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for fd in numbers.filter(|fd: &RawFd| *fd > 2) {
        // SAFETY: sets a flag of a descriptor, or fails if that is closed by now.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// What k1s assumes if the limit cannot be read: the default soft limit of Linux (getrlimit(2)).
const FEWEST_DESCRIPTORS: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::os::spawn::Spawner;
    use crate::os::testing::{command, finish, in_own_process, open_descriptors, stdout_of};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_process_without_standard_descriptors_gets_them_and_spawns() {
        let name =
            "os::startup::tests::a_process_without_standard_descriptors_gets_them_and_spawns";
        in_own_process(name, || {
            for fd in 0..3 {
                // SAFETY: takes a number.
                unsafe { libc::close(fd) };
            }
            // There is nothing to print to, so the exit code says which step failed.
            let check = |code, good: bool| {
                if !good {
                    std::process::exit(code)
                }
            };
            let startup = prepare();
            for fd in 0..3 {
                let link = fs::read_link(format!("/proc/self/fd/{fd}"));
                check(50, link.is_ok_and(|target| target.as_os_str() == "/dev/null"));
                // SAFETY: takes numbers.
                check(51, unsafe { libc::fcntl(fd, libc::F_GETFD) } == 0);
            }
            let Ok(mut spawner) = Spawner::new(&startup) else {
                return check(52, false);
            };
            let mut cat = command("cat", &[]);
            cat.stdin = Some("text".into());
            let finished = finish(&mut spawner, &cat);
            check(53, finished == (ExitStatus::Code(0), "text".into(), String::new()));
        });
    }

    #[test]
    fn the_nofile_limit_is_raised_for_k1s_and_restored_for_jobs() {
        let name = "os::startup::tests::the_nofile_limit_is_raised_for_k1s_and_restored_for_jobs";
        in_own_process(name, || {
            let lower = libc::rlimit64 { rlim_cur: 40, rlim_max: 60 };
            limits::set_nofile(lower).unwrap();
            let startup = prepare();
            assert_eq!(startup.max_descriptors, 60);
            assert_eq!(limits::nofile().unwrap().rlim_cur, 60);
            assert!(!startup.is_pid_1);
            let mut spawner = Spawner::new(&startup).unwrap();
            let ulimit = command("sh", &["-c", "ulimit -n; ulimit -Hn"]);
            assert_eq!(stdout_of(&mut spawner, &ulimit), "40\n60\n");
        });
    }

    #[test]
    fn inherited_descriptors_close_on_exec_also_without_close_range() {
        let name =
            "os::startup::tests::inherited_descriptors_close_on_exec_also_without_close_range";
        in_own_process(name, || {
            for way in [close_rest_on_exec, close_listed_on_exec] {
                let file = fs::File::open("/dev/null").unwrap();
                // SAFETY: takes two numbers.
                let fd = unsafe { libc::dup2(file.as_raw_fd(), 77) };
                let flags = || fcntl(&file, FcntlArg::F_GETFD);
                assert_eq!(fd, 77);
                fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                way().unwrap();
                assert_eq!(flags(), Ok(libc::FD_CLOEXEC));
                // SAFETY: takes two numbers.
                let flags = unsafe { libc::fcntl(77, libc::F_GETFD) };
                assert_eq!(flags, libc::FD_CLOEXEC);
                assert!(open_descriptors().contains(&"77".to_owned()));
            }
        });
    }
}
