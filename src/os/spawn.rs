//! Starts a process: the side of k1s.
//!
//! ```text
//! SpawnRequest ─► Plan (strings, ids, limits) ─► slots ─► clone ─► child::run ─► execve
//!                                          k1s is suspended ┘    └ Report on failure
//! ```
//!
//! The clone shares memory (see [`child`]). If the kernel can (close_range(2), Linux 5.9), it also
//! shares the descriptor table until the child copies only the lowest few: a spawn costs the same
//! with 3 open descriptors as with 20,000. For that the child's ends of the pipes are moved to
//! four *slots*, low numbers that are reserved at the start and hold `/dev/null` between spawns.
//!
//! If a step of [`Spawner::spawn`] fails, all descriptors are closed and the child is collected
//! before it returns.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown};

use super::child::{self, Failure, Ids, Plan, Report, Session, Step};
use super::environment::Inherited;
use super::failure::{SpawnError, brief, cannot_run};
use super::pipe::WriteEnds;
use super::stdio::{ChildEnds, Slots, text_file};
use super::user::{self, Account};
use super::{Startup, errno_of, executable, is_shortage, limits, reason};
use crate::job::spec::Command;
use crate::job::{Pid, SpawnFailure, Variables};

/// What to start.
#[derive(Debug)]
pub struct SpawnRequest<'a> {
    /// What to execute, and what it inherits.
    pub command: &'a Command,
    /// Another program in its place, which inherits the same and has no input: the executable and
    /// its arguments.
    pub instead: Option<&'a [String]>,
    /// What was read from its files: [`variables_of`](super::variables_of).
    pub read: &'a Variables,
    /// The value of `K1S_JOB`.
    pub job_id: &'a str,
    /// The value of `K1S_RUN`, which is unique.
    pub run_tag: &'a str,
    /// Variables that replace those of the same name, whoever has given them.
    pub variables: &'a [(&'static str, String)],
    /// A descriptor besides 0, 1 and 2, and its number there: 3 or more.
    pub extra: Option<(OwnedFd, RawFd)>,
    /// The mark of the run, a value for RLIMIT_LOCKS: [`Tags::mark`](super::Tags::mark).
    pub mark: Option<u64>,
    /// Its standard input.
    pub stdin: Stdin,
    /// Its standard output and error. k1s closes its copies, whether the spawn succeeds or not.
    pub output: Output,
    /// Which session it is in.
    pub session: Session,
}

impl<'a> SpawnRequest<'a> {
    /// The executable and its arguments.
    fn program(&self) -> (&'a str, &'a [String]) {
        match self.instead {
            None => (&self.command.executable, &self.command.arguments),
            Some([executable, arguments @ ..]) => (executable, arguments),
            Some([]) => ("", &[]),
        }
    }
}

/// The standard input of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// The text of the command's `stdin`, or `/dev/null`.
    Given,
    /// k1s's own.
    Inherited,
}

/// The standard output and error of a run.
#[derive(Debug)]
pub enum Output {
    /// Pipes that k1s reads: [`pipe::captured`](super::pipe::captured).
    Captured(WriteEnds),
    /// k1s's own.
    Inherited,
}

/// What all spawns share.
#[derive(Debug)]
pub struct Spawner {
    inherited: Inherited,
    notify_socket: Option<String>,
    nofile: Option<libc::rlimit64>,
    slots: Slots,
    stack: Stack,
    shares_descriptors: bool,
}

impl Spawner {
    /// Prepares what every spawn needs: k1s's environment, `/dev/null`, four low descriptors, a
    /// stack. To be called early, while low descriptors are free.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened, or there are no descriptors or memory.
    pub fn new(startup: &Startup) -> std::io::Result<Spawner> {
        Ok(Spawner {
            inherited: Inherited::new(std::env::vars_os()),
            notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
            nofile: startup.nofile,
            slots: Slots::new(open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?)?,
            stack: Stack::new()?,
            shares_descriptors: true,
        })
    }

    /// Where what has started k1s listens to sd_notify(3).
    pub fn notify_socket(&self) -> Option<&str> {
        self.notify_socket.as_deref()
    }

    /// A reserved descriptor: closing it frees one for something else. `None` when there is none
    /// left.
    pub fn reserved_descriptor(&self) -> Option<OwnedFd> {
        self.slots.null.try_clone().ok()
    }

    /// Starts a process. It leads its own group and, unless it is in k1s's session, its own
    /// session; it has only the descriptors 0, 1, 2 and the one that is asked for, default
    /// dispositions, and no signal blocked.
    ///
    /// k1s is suspended until the process has executed its program, or failed to.
    ///
    /// # Errors
    /// See [`SpawnError`]; no process is left.
    pub fn spawn(&mut self, request: SpawnRequest<'_>) -> Result<Pid, SpawnError> {
        let command = request.command;
        let account = command.user.as_deref().map(user::account).transpose()?;
        let environment = self
            .inherited
            .for_run(command, account.as_ref(), request.read, &given_variables(&request))
            .map_err(|_| holds_nul("environment"))?;
        let path = environment.path.as_deref().unwrap_or(DEFAULT_PATH);
        let (executable, arguments) = request.program();
        let arguments = strings(executable, arguments)?;
        let mut plan = Plan {
            candidates: candidates(executable, path)?,
            argv: pointers(arguments.iter().map(CString::as_c_str)),
            envp: pointers(environment.entries.iter().map(AsRef::as_ref)),
            working_directory: string(command.working_directory.as_str(), "working directory")?,
            stdio: [None; 3],
            extra: None,
            unshare_from: None,
            session: request.session,
            umask: command.umask,
            nice: command.nice,
            oom_score_adj: oom_score_adj(command)?,
            limits: limits::of_job(&command.limits, self.nofile),
            mark: request.mark.map(|mark| libc::rlimit64 { rlim_cur: mark, rlim_max: mark }),
            ids: ids(command, account.as_ref())?,
            report: Report::default(),
        };
        executable::is_free(&plan.candidates, command.working_directory.as_str())?;
        let number = request.extra.as_ref().map(|(_, number)| *number);
        let ends = child_ends(request, &self.slots.null, &plan.ids)?;
        let [stdin, stdout, stderr, extra] = self.slots.fill(ends).map_err(at("descriptors"))?;
        plan.stdio = [stdin, stdout, stderr];
        plan.extra = extra.zip(number);
        let is_dumpable = plan.ids.is_change() && prctl::get_dumpable() == Ok(true);
        let started = start(&mut plan, &self.stack, &self.slots, &mut self.shares_descriptors);
        if is_dumpable {
            // The child has changed its ids in shared memory, which makes k1s non-dumpable, too.
            let _ = prctl::set_dumpable(true);
        }
        self.slots.clear();
        match started {
            Ok(pid) => Ok(pid),
            Err(NotStarted::Clone(errno)) => Err(SpawnError::at("clone", errno)),
            Err(NotStarted::Child(failure)) => {
                let path = (!environment.is_path_secret).then_some(path);
                Err(explain(failure, command, executable, &plan, path))
            }
        }
    }
}

/// Why no process executes the job's program.
enum NotStarted {
    /// No process could be created.
    Clone(Errno),
    /// The process could not execute the program, and has ended and was collected.
    Child(Failure),
}

/// Clones a child that shares the descriptor table, if the kernel can later copy the lowest few for
/// it; otherwise one with a full copy.
fn start(
    plan: &mut Plan,
    stack: &Stack,
    slots: &Slots,
    shares_descriptors: &mut bool,
) -> Result<Pid, NotStarted> {
    if *shares_descriptors {
        plan.unshare_from = Some(slots.end());
        match clone(plan, stack) {
            Err(NotStarted::Child(failure)) if is_unknown(failure) => {
                *shares_descriptors = false;
                plan.unshare_from = None;
                plan.report = Report::default();
            }
            result => return result,
        }
    }
    clone(plan, stack)
}

/// One attempt, with all signals blocked: a handler of k1s must not run in the child, which shares
/// its memory.
fn clone(plan: &Plan, stack: &Stack) -> Result<Pid, NotStarted> {
    let mask =
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(NotStarted::Clone)?;
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    if plan.unshare_from.is_some() {
        flags |= libc::CLONE_FILES;
    }
    let argument = ptr::from_ref(plan).cast_mut().cast::<c_void>();
    // SAFETY: only the child uses the stack, which is large enough; the plan outlives the child's
    // use of it, since the caller is suspended until execve or _exit; the child only reads it,
    // except for the atomics of the report.
    let pid = unsafe { libc::clone(child::run, stack.top(), flags, argument) };
    let cloned = Errno::result(pid);
    // Cannot fail: the mask was in force before.
    let _ = mask.thread_set_mask();
    let pid = cloned.map_err(NotStarted::Clone)?;
    match plan.report.failure() {
        None => Ok(Pid(pid)),
        Some(failure) => {
            collect(pid);
            Err(NotStarted::Child(failure))
        }
    }
}

/// Waits for a child that has written its report and is exiting.
fn collect(pid: libc::pid_t) {
    // SAFETY: a null pointer asks for no status.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } == -1 && Errno::last() == Errno::EINTR {
    }
}

/// The stack of all children, one after another: it is free when k1s goes on. The page below it
/// must not be touched.
#[derive(Debug)]
struct Stack(*mut c_void);

impl Stack {
    fn new() -> nix::Result<Stack> {
        // SAFETY: asks for new memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Stack(base);
        // SAFETY: the lowest part of the mapping, which nothing uses yet.
        Errno::result(unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// Where a stack that grows down begins.
    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, which no child uses any more.
        unsafe { libc::munmap(self.0, STACK_BYTES) };
    }
}

/// The variables that every run gets, which come first, and those of this one.
fn given_variables<'a>(request: &SpawnRequest<'a>) -> Vec<(&'a str, &'a str)> {
    let own = [("K1S_JOB", request.job_id), ("K1S_RUN", request.run_tag)];
    let more = request.variables.iter().map(|(name, value)| (*name, value.as_str()));
    own.into_iter().chain(more).collect()
}

fn child_ends(
    request: SpawnRequest<'_>,
    null: &OwnedFd,
    ids: &Ids,
) -> Result<ChildEnds, SpawnError> {
    let text = request.command.stdin.as_ref().filter(|_| request.instead.is_none());
    let stdin = match (request.stdin, text) {
        (Stdin::Inherited, _) => None,
        (Stdin::Given, Some(text)) => Some(text_file(text).map_err(at("standard input"))?),
        (Stdin::Given, None) => Some(
            null.try_clone().map_err(|error| SpawnError::at("standard input", errno_of(&error)))?,
        ),
    };
    let (stdout, stderr) = match request.output {
        Output::Inherited => (None, None),
        Output::Captured(WriteEnds { stdout, stderr }) => (Some(stdout), Some(stderr)),
    };
    let extra = request.extra.map(|(descriptor, _)| descriptor);
    if let Some(uid) = ids.uid {
        for end in [&stdout, &stderr, &extra].into_iter().flatten() {
            // So that the user can open /dev/stdout. If that fails, writing still works.
            let _ = fchown(end, Some(Uid::from_raw(uid)), ids.gid.map(Gid::from_raw));
        }
    }
    Ok([stdin, stdout, stderr, extra])
}

/// The user and the groups that the child changes to. k1s without privileges can still be asked
/// for its own user.
fn ids(command: &Command, account: Option<&Account>) -> Result<Ids, SpawnError> {
    let group = command.group.as_deref().map(user::group_id).transpose()?;
    let Some(account) = account else {
        return Ok(Ids { gid: group, ..Ids::default() });
    };
    let Some(gid) = group.or(account.gid) else {
        let name = &account.name;
        return Err(cannot_run(format!(
            "user {name}: not in /etc/passwd, so its group must be given"
        )));
    };
    let own =
        account.uid == nix::unistd::geteuid().as_raw() && gid == nix::unistd::getegid().as_raw();
    if own && account.uid != 0 {
        return Ok(Ids::default());
    }
    let mut groups = account.groups.clone();
    groups.push(gid);
    Ok(Ids { groups: Some(groups), gid: Some(gid), uid: Some(account.uid) })
}

/// The paths to try: execvp(3).
fn candidates(executable: &str, path: &[u8]) -> Result<Vec<CString>, SpawnError> {
    if executable.contains('/') {
        return Ok(vec![string(executable, "executable")?]);
    }
    if executable.len() > libc::NAME_MAX as usize {
        return Err(SpawnError::at(&format!("executable {executable}"), Errno::ENAMETOOLONG));
    }
    let directories = || path.split(|byte| *byte == b':');
    if directories().nth(MOST_DIRECTORIES).is_some() {
        return Err(cannot_run(format!("PATH: more than {MOST_DIRECTORIES} directories")));
    }
    let candidate = |directory: &[u8]| {
        // An empty element is the working directory: environ(7).
        let directory = if directory.is_empty() { b"." } else { directory };
        string([directory, b"/", executable.as_bytes()].concat(), "executable")
    };
    directories().map(candidate).collect()
}

fn strings(executable: &str, arguments: &[String]) -> Result<Vec<CString>, SpawnError> {
    std::iter::once(executable)
        .chain(arguments.iter().map(String::as_str))
        .map(|argument| string(argument, "arguments"))
        .collect()
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings.map(CStr::as_ptr).chain(std::iter::once(ptr::null())).collect()
}

fn oom_score_adj(command: &Command) -> Result<Option<CString>, SpawnError> {
    command.oom_score_adj.map(|score| string(score.to_string(), "oomScoreAdj")).transpose()
}

fn string(bytes: impl Into<Vec<u8>>, what: &str) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| holds_nul(what))
}

/// The error that the report of the child stands for. It shows the PATH, unless it is `None`.
fn explain(
    failure: Failure,
    command: &Command,
    executable: &str,
    plan: &Plan,
    path: Option<&[u8]>,
) -> SpawnError {
    let Failure { step, errno, index } = failure;
    let candidate = plan.candidates.get(index).map(|path| path.to_string_lossy());
    let candidate = match path {
        None if !executable.contains('/') => executable.into(),
        None | Some(_) => candidate.unwrap_or_default(),
    };
    let user = command.user.as_deref().unwrap_or_default();
    let subject = match step {
        Step::Unshare => "descriptor table".to_owned(),
        Step::Session => "session".to_owned(),
        Step::Descriptors if index > 2 => {
            format!("descriptor {index}, if k1s's own limit of them permits that")
        }
        Step::Descriptors => "descriptors".to_owned(),
        Step::Nice => format!("nice {}", command.nice.unwrap_or_default()),
        Step::OomScoreAdj => {
            format!("oomScoreAdj {}", command.oom_score_adj.unwrap_or_default())
        }
        Step::Limit => format!("limit {}", plan.limits.get(index).map_or("", |l| l.name)),
        Step::Group => format!("group {}", command.group.as_deref().unwrap_or(user)),
        Step::User => format!("user {user}"),
        Step::WorkingDirectory => format!("working directory {}", command.working_directory),
        Step::NotFound | Step::Execute => format!("executable {candidate}"),
        Step::Interpreter => format!("interpreter of {candidate}"),
    };
    let missing = matches!(step, Step::NotFound | Step::Interpreter)
        && matches!(errno, Errno::ENOENT | Errno::ENOTDIR);
    let by_limits = step == Step::Execute && !command.limits.is_empty();
    if missing {
        let searched = step == Step::NotFound && !executable.contains('/');
        let path = path.map_or("of its files".into(), String::from_utf8_lossy);
        let error = if searched {
            format!("executable {executable}: not found in PATH {path}")
        } else {
            format!("{subject}: {}", reason(errno))
        };
        SpawnError::Failed(SpawnFailure { exit_code: 127, error: brief(error) })
    } else if by_limits {
        cannot_run(format!("{subject}: {}", reason(errno)))
    } else {
        SpawnError::at(&subject, errno)
    }
}

fn holds_nul(what: &str) -> SpawnError {
    cannot_run(format!("{what}: holds a NUL byte"))
}

fn at(step: &str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::at(step, errno)
}

/// The kernel has no close_range(2), or a sandbox that does not know it refuses it.
fn is_unknown(failure: Failure) -> bool {
    failure.step == Step::Unshare && !is_shortage(failure.errno)
}

/// The PATH of a job that has none.
pub(super) const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";
/// The most directories in a PATH: they are searched while k1s is suspended.
const MOST_DIRECTORIES: usize = 1000;
/// The size of the child's stack, which needs less than a tenth, also in a debug build.
const STACK_BYTES: usize = 128 * 1024;
/// At least a page, also on machines with large pages.
const GUARD_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
