//! The child's side of a spawn: from clone to execve.
//!
//! The child runs in k1s's own memory (`CLONE_VM`), on its own stack, while k1s is suspended
//! (`CLONE_VFORK`), as in posix_spawn(3): nothing is copied, so the cost does not grow with k1s.
//! Therefore nothing here allocates, panics, or calls a library function that keeps state;
//! everything is prepared in a [`Plan`]. A step that fails is written to a [`Report`], which k1s
//! reads when the child has ended.
//!
//! The order of the steps matters. The terminal needs the session. `nice`, `oomScoreAdj` and limits
//! need the privileges that `user` gives up. The working directory is looked up as that user, as in
//! systemd, because it may be on a file system that only the user may enter.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::limits::RawLimit;

/// Which session a run is in. It always leads its own process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its own session, without a terminal.
    Own,
    /// Its own session; standard input becomes its controlling terminal, if that is free.
    WithTerminal,
    /// The session of k1s; its group is put in the foreground of the terminal on standard input.
    Foreground,
}

/// Everything the child needs, ready to use. `argv` and `envp` point into strings that the owner of
/// the plan keeps alive.
#[derive(Debug)]
pub(super) struct Plan {
    /// The paths to try in turn, as execvp(3) does.
    pub(super) candidates: Vec<CString>,
    /// Ends with a null pointer.
    pub(super) argv: Vec<*const c_char>,
    /// Ends with a null pointer.
    pub(super) envp: Vec<*const c_char>,
    /// Where to run.
    pub(super) working_directory: CString,
    /// The future descriptors 0, 1 and 2; `None` keeps k1s's own.
    pub(super) stdio: [Option<RawFd>; 3],
    /// A descriptor that it gets besides them, and its future number, which is 3 or more.
    pub(super) extra: Option<(RawFd, RawFd)>,
    /// If the child shares the descriptor table until now: the first descriptor that its own copy
    /// does not need.
    pub(super) unshare_from: Option<u32>,
    /// Which session it is in.
    pub(super) session: Session,
    /// File mode creation mask.
    pub(super) umask: Option<u32>,
    /// Nice value.
    pub(super) nice: Option<i32>,
    /// The text for /proc/self/oom_score_adj.
    pub(super) oom_score_adj: Option<CString>,
    /// Resource limits.
    pub(super) limits: Vec<RawLimit>,
    /// RLIMIT_LOCKS, which marks the processes of the run.
    pub(super) mark: Option<libc::rlimit64>,
    /// User, group and supplementary groups; `None` leaves one as it is.
    pub(super) ids: Ids,
    /// Where the child writes what failed.
    pub(super) report: Report,
}

/// The user and the groups that the child changes to.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Supplementary groups.
    pub(super) groups: Option<Vec<u32>>,
    /// Group id.
    pub(super) gid: Option<u32>,
    /// User id.
    pub(super) uid: Option<u32>,
}

impl Ids {
    /// Whether the child changes any of them.
    pub(super) fn is_change(&self) -> bool {
        self.gid.is_some() || self.uid.is_some()
    }
}

/// The steps that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// Getting its own descriptor table.
    Unshare = 1,
    /// setsid(2), setpgid(2).
    Session,
    /// dup2(2) onto 0, 1, 2 or another; the index in the report says which.
    Descriptors,
    /// setpriority(2).
    Nice,
    /// A write to /proc/self/oom_score_adj.
    OomScoreAdj,
    /// setrlimit(2); the index in the report says which.
    Limit,
    /// setgroups(2) and setresgid(2).
    Group,
    /// setresuid(2).
    User,
    /// chdir(2).
    WorkingDirectory,
    /// No candidate exists.
    NotFound,
    /// The candidate exists, but its interpreter or loader does not.
    Interpreter,
    /// execve(2) refused the candidate; the index in the report says which.
    Execute,
}

/// Where the child writes before it exits, in memory that it shares with k1s.
#[derive(Debug, Default)]
pub(super) struct Report {
    step: AtomicU8,
    errno: AtomicI32,
    index: AtomicUsize,
}

/// Which step failed, why, and for which of several limits or candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The step.
    pub(super) step: Step,
    /// The system's reason.
    pub(super) errno: Errno,
    /// The index of the limit or the candidate.
    pub(super) index: usize,
}

impl Report {
    /// What the child wrote; `None` when it executed its program (or was killed).
    pub(super) fn failure(&self) -> Option<Failure> {
        let number = self.step.load(Ordering::Acquire);
        let step = STEPS.into_iter().find(|step| *step as u8 == number)?;
        Some(Failure {
            step,
            errno: Errno::from_raw(self.errno.load(Ordering::Acquire)),
            index: self.index.load(Ordering::Acquire),
        })
    }

    fn write(&self, failure: Failure) {
        self.errno.store(failure.errno as i32, Ordering::Release);
        self.index.store(failure.index, Ordering::Release);
        self.step.store(failure.step as u8, Ordering::Release);
    }
}

/// The child's main function, for clone(2); `plan` points to a [`Plan`].
pub(super) extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes a pointer to a Plan, and is suspended while the child uses it.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let failure = match prepare(plan) {
        Ok(()) => execute(plan),
        Err(failure) => failure,
    };
    plan.report.write(failure);
    // SAFETY: ends only the child, without running any code of the parent.
    unsafe { libc::_exit(127) }
}

fn prepare(plan: &Plan) -> Result<(), Failure> {
    default_dispositions();
    if let Some(first) = plan.unshare_from {
        let arguments = [c_long::from(first), c_long::from(u32::MAX), UNSHARE];
        at(Step::Unshare, system_call(libc::SYS_close_range, arguments))?;
    }
    let separate = match plan.session {
        Session::Own | Session::WithTerminal => libc::SYS_setsid,
        Session::Foreground => libc::SYS_setpgid,
    };
    at(Step::Session, system_call(separate, [0; 3]))?;
    for (target, source) in (0..).zip(plan.stdio) {
        if let Some(source) = source {
            // SAFETY: both are numbers; `source` is never `target`, so CLOEXEC is cleared.
            let result = unsafe { libc::dup2(source, target) };
            at(Step::Descriptors, Errno::result(c_long::from(result)))?;
        }
    }
    // Only now: its number may be that of a source above.
    pass_extra(plan)?;
    take_terminal(plan.session);
    if let Some(umask) = plan.umask {
        // SAFETY: takes a number and cannot fail. The child has a umask of its own.
        unsafe { libc::umask(umask) };
    }
    if let Some(nice) = plan.nice {
        let arguments = [c_long::from(libc::PRIO_PROCESS), 0, c_long::from(nice)];
        at(Step::Nice, system_call(libc::SYS_setpriority, arguments))?;
    }
    if let Some(score) = &plan.oom_score_adj {
        at(Step::OomScoreAdj, adjust_oom_score(score))?;
    }
    for (index, limit) in plan.limits.iter().enumerate() {
        // SAFETY: `value` is an rlimit64 to read from.
        let result = unsafe { libc::setrlimit64(limit.resource, &raw const limit.value) };
        at(Step::Limit, Errno::result(c_long::from(result)))
            .map_err(|failure| Failure { index, ..failure })?;
    }
    if let Some(mark) = &plan.mark {
        // If that is refused, `K1S_RUN` remains.
        // SAFETY: an rlimit64 to read from.
        unsafe { libc::setrlimit64(libc::RLIMIT_LOCKS, mark) };
    }
    become_user(&plan.ids)?;
    // SAFETY: a string that ends in NUL.
    let result = unsafe { libc::chdir(plan.working_directory.as_ptr()) };
    at(Step::WorkingDirectory, Errno::result(c_long::from(result)))?;
    empty_mask();
    Ok(())
}

/// A descriptor that already has its number would keep CLOEXEC over dup2(2).
fn pass_extra(plan: &Plan) -> Result<(), Failure> {
    let Some((source, target)) = plan.extra else { return Ok(()) };
    let result = if source == target {
        // SAFETY: takes numbers alone.
        unsafe { libc::fcntl(source, libc::F_SETFD, 0) }
    } else {
        // SAFETY: takes numbers alone; what had the number `target` is not needed any more.
        unsafe { libc::dup2(source, target) }
    };
    at(Step::Descriptors, Errno::result(c_long::from(result)))
        .map_err(|failure| Failure { index: target.unsigned_abs() as usize, ..failure })
}

/// Takes the terminal if it can. If not, the run goes on without it.
fn take_terminal(session: Session) {
    match session {
        Session::Own => {}
        Session::WithTerminal => {
            // SAFETY: the argument 0 asks not to take it by force.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        }
        Session::Foreground => {
            // SIGTTOU, which would stop a process in the background, is blocked like all others.
            // SAFETY: TIOCSPGRP reads the number of a group; that of getpid is the child's own.
            unsafe {
                let group = libc::syscall(libc::SYS_getpid) as libc::pid_t;
                libc::ioctl(0, libc::TIOCSPGRP, &raw const group);
            }
        }
    }
}

/// Processes that share memory share the score, but not a child of vfork(2), which sets only its
/// own (Linux, fs/proc/base.c, `__set_oom_adj`).
fn adjust_oom_score(score: &CStr) -> nix::Result<c_long> {
    let path = c"/proc/self/oom_score_adj".as_ptr();
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: a string that ends in NUL, and numbers.
    let file = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags) };
    let file = Errno::result(file)?;
    let bytes = score.to_bytes();
    // SAFETY: the pointer and the length are those of `bytes`.
    let written = unsafe { libc::syscall(libc::SYS_write, file, bytes.as_ptr(), bytes.len()) };
    let written = Errno::result(written);
    // SAFETY: takes a number, the descriptor opened above.
    unsafe { libc::syscall(libc::SYS_close, file) };
    written
}

/// Uses raw system calls, because the C library's change all threads and take its locks.
fn become_user(ids: &Ids) -> Result<(), Failure> {
    if let Some(groups) = &ids.groups {
        // SAFETY: the pointer and the length are those of `groups`.
        let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        at(Step::Group, Errno::result(result))?;
    }
    if let Some(gid) = ids.gid {
        let arguments = [c_long::from(gid); 3];
        at(Step::Group, system_call(libc::SYS_setresgid, arguments))?;
    }
    if let Some(uid) = ids.uid {
        let arguments = [c_long::from(uid); 3];
        at(Step::User, system_call(libc::SYS_setresuid, arguments))?;
        at(Step::User, drop_capabilities())?;
    }
    if ids.is_change() {
        // A change of ids makes the shared memory dumpable again if the sysctl fs.suid_dumpable
        // is 1. The program that is executed starts dumpable as usual.
        // SAFETY: takes numbers alone.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    }
    Ok(())
}

/// Drops k1s's capabilities before the program is executed. A change between two users that are
/// not root keeps them all, and ambient ones survive execve(2): capabilities(7). Clearing the
/// inheritable ones also clears the ambient ones.
fn drop_capabilities() -> nix::Result<c_long> {
    let header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted and inheritable, the low 32 of each, then the high 32.
    let mut sets = [0u32; 6];
    // SAFETY: capget(2) reads a header of 8 bytes and writes 24.
    let read = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    let written = Errno::result(read).and_then(|_| {
        let [effective, permitted, _, high_effective, high_permitted, _] = sets;
        let sets = [effective, permitted, 0, high_effective, high_permitted, 0];
        // SAFETY: capset(2) reads a header of 8 bytes and 24 more.
        Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })
    });
    // If a sandbox refuses that, clear at least the ambient ones.
    written.or_else(|_| {
        // SAFETY: takes numbers alone.
        let cleared =
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        Errno::result(c_long::from(cleared))
    })
}

/// Tries the candidates like execvp(3), but without its shell: the search goes on after one that
/// may not be executed, and ends at one that exists but is broken.
fn execute(plan: &Plan) -> Failure {
    let mut best = Failure { step: Step::NotFound, errno: Errno::ENOENT, index: 0 };
    for (index, candidate) in plan.candidates.iter().enumerate() {
        // SAFETY: a string that ends in NUL, and two arrays of such that end in null.
        unsafe { libc::execve(candidate.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
        let errno = Errno::last();
        let step = match errno {
            Errno::ENOENT if exists(candidate) => Step::Interpreter,
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {
                Step::NotFound
            }
            _ => Step::Execute,
        };
        let failure = Failure { step, errno, index };
        match step {
            Step::Execute if errno != Errno::EACCES => return failure,
            _ if step as u8 > best.step as u8 || index == 0 => best = failure,
            _ => {}
        }
    }
    best
}

fn exists(path: &CStr) -> bool {
    // SAFETY: a string that ends in NUL.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

/// Resets every signal to its default, also those that were ignored when k1s was started. Uses raw
/// system calls, because the C library refuses 32 and 33. The kernel refuses KILL and STOP.
fn default_dispositions() {
    let default = [0u64; 4]; // struct sigaction as the kernel has it: SIG_DFL, no flags
    for signal in 1..=64 {
        // SAFETY: the kernel reads its struct sigaction, 32 bytes, with a mask of 8 bytes.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal as c_int,
                default.as_ptr(),
                ptr::null::<c_void>(),
                MASK_BYTES,
            )
        };
    }
}

/// Unblocks all signals, which were blocked around the clone; no handler of k1s is left now.
fn empty_mask() {
    let empty = 0u64;
    // SAFETY: the kernel reads a mask of 8 bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            ptr::null::<c_void>(),
            MASK_BYTES,
        )
    };
}

fn system_call(number: c_long, arguments: [c_long; 3]) -> nix::Result<c_long> {
    let [a, b, c] = arguments;
    // SAFETY: called above with numbers alone, never with pointers.
    Errno::result(unsafe { libc::syscall(number, a, b, c) })
}

fn at(step: Step, result: nix::Result<c_long>) -> Result<(), Failure> {
    match result {
        Ok(_) => Ok(()),
        Err(errno) => Err(Failure { step, errno, index: 0 }),
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const MASK_BYTES: usize = 8;
const UNSHARE: c_long = libc::CLOSE_RANGE_UNSHARE as c_long;
const STEPS: [Step; 12] = [
    Step::Unshare,
    Step::Session,
    Step::Descriptors,
    Step::Nice,
    Step::OomScoreAdj,
    Step::Limit,
    Step::Group,
    Step::User,
    Step::WorkingDirectory,
    Step::NotFound,
    Step::Interpreter,
    Step::Execute,
];
