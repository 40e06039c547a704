//! Starting a process: k1s's side.
//!
//! ```text
//! Launch ─► Plan (all strings, ids, limits) ─► pipes ─► slots ─► clone ─► child::run ─► execve
//!                                                          k1s stands still ┘    └ Report on failure
//! ```
//!
//! The clone shares memory (see [`child`]) and, where the kernel can (close_range(2), Linux
//! 5.9), also the descriptor table, of which the child then takes a copy of the lowest few
//! alone: a spawn costs the same with 3 descriptors open as with 20,000. For that the child's
//! ends of the pipes are put into three *slots*, low numbers taken at start; between spawns
//! they hold `/dev/null`.
//!
//! Wherever a step of [`Spawner::spawn`] fails, every descriptor is closed and the child is
//! collected before it returns.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, dup3, fchown};

use super::child::{self, Failure, Ids, Plan, Report, Step};
use super::environment::Inherited;
use super::user::{self, Account};
use super::{Startup, limits, pipe, reason};
use crate::job::spec::Command;
use crate::job::{Pid, SpawnFailure};

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What to execute and what it inherits.
    pub command: &'a Command,
    /// `K1S_JOB`.
    pub job_id: &'a str,
    /// `K1S_RUN`: unique, `<instance>.<job>.<run>`.
    pub run_tag: &'a str,
    /// Its standard input.
    pub stdin: Stdin,
    /// Its standard output and error.
    pub output: Output,
    /// Make standard input the controlling terminal of the run's session, if it is free:
    /// [`terminal::release`](super::terminal::release).
    pub controlling_terminal: bool,
}

/// Where a run reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// The text of the command's `stdin`, or `/dev/null`.
    Given,
    /// k1s's own.
    Inherited,
}

/// Where a run writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Pipes that k1s reads.
    Captured,
    /// k1s's own.
    Inherited,
}

/// A process that has been started: it executes what was asked for.
#[derive(Debug)]
pub struct Spawned {
    /// The process, leader of a session and a group of its own.
    pub pid: Pid,
    /// The read ends of its output, non-blocking and close-on-exec; `None` when inherited.
    pub output: Option<OutputPipes>,
}

/// The read ends of captured output.
#[derive(Debug)]
pub struct OutputPipes {
    /// What it writes to descriptor 1.
    pub stdout: OwnedFd,
    /// What it writes to descriptor 2.
    pub stderr: OwnedFd,
}

/// Why nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// It cannot run as it is: the run has failed.
    Failed(SpawnFailure),
    /// The machine has no room for it now (`EMFILE`, `ENFILE`, `EAGAIN`, `ENOMEM`): try again
    /// later. With what ran out, for people. Where execve itself says so and the job has
    /// `limits`, they are taken for the cause: that is a failed run.
    Busy(String),
}

/// What every spawn uses again.
#[derive(Debug)]
pub struct Spawner {
    inherited: Inherited,
    nofile: libc::rlimit64,
    null: OwnedFd,
    slots: Slots,
    stack: Stack,
    shares_descriptors: bool,
}

impl Spawner {
    /// Takes k1s's environment and what every spawn needs: `/dev/null`, three low
    /// descriptors, a stack. To be made early, while low descriptors are free.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened, or the system is out of descriptors or memory.
    pub fn new(startup: &Startup) -> std::io::Result<Spawner> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Spawner {
            inherited: Inherited::new(std::env::vars_os()),
            nofile: startup.nofile,
            slots: Slots::new(&null)?,
            null,
            stack: Stack::new()?,
            shares_descriptors: true,
        })
    }

    /// Starts a process, in a session of its own, with descriptors 0, 1 and 2 alone, default
    /// dispositions and no signal blocked.
    ///
    /// k1s stands still until the process has executed its program, or failed to.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left of the attempt.
    pub fn spawn(&mut self, launch: &Launch<'_>) -> Result<Spawned, SpawnError> {
        let command = launch.command;
        let account = command.user.as_deref().map(user::account);
        let account = account.transpose().map_err(cannot_run)?;
        let environment = self
            .inherited
            .for_run(command, account.as_ref(), launch.job_id, launch.run_tag)
            .map_err(|_| holds_nul("environment"))?;
        let path = environment.path.as_deref().unwrap_or(DEFAULT_PATH);
        let arguments = arguments(command)?;
        let mut plan = Plan {
            candidates: candidates(&command.executable, path)?,
            argv: pointers(arguments.iter().map(CString::as_c_str)),
            envp: pointers(environment.entries.iter().map(AsRef::as_ref)),
            working_directory: string(command.working_directory.as_str(), "working directory")?,
            stdio: [None; 3],
            unshare_from: None,
            controlling_terminal: launch.controlling_terminal,
            umask: command.umask,
            nice: command.nice,
            limits: limits::of_job(&command.limits, self.nofile),
            ids: ids(command, account.as_ref())?,
            report: Report::default(),
        };
        let (ends, output) = open_stdio(launch, &self.null, &plan.ids)?;
        plan.stdio = self.slots.fill(ends).map_err(busy_at("descriptors"))?;
        let started = start(
            &mut plan,
            &self.stack,
            &self.slots,
            &mut self.shares_descriptors,
        );
        self.slots.clear(&self.null);
        match started {
            Ok(pid) => Ok(Spawned { pid, output }),
            Err(NotStarted::Clone(errno)) => Err(SpawnError::at("clone", errno)),
            Err(NotStarted::Child(failure)) => Err(explain(failure, command, &plan, path)),
        }
    }
}

impl SpawnError {
    /// The machine's when it ran out of something, else the job's.
    fn at(step: &str, errno: Errno) -> SpawnError {
        let text = format!("{step}: {}", reason(errno));
        if is_shortage(errno) {
            SpawnError::Busy(text)
        } else {
            cannot_run(text)
        }
    }
}

/// Why no process runs the job's program.
enum NotStarted {
    /// There was never a process.
    Clone(Errno),
    /// There was one, which could not become the program; it is gone and collected.
    Child(Failure),
}

/// Clones a child that shares the descriptor table, where the kernel lets it take a copy of
/// the lowest few; else one with a copy of all.
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

/// One attempt, with every signal blocked: a handler of k1s's must not run in the child,
/// which has k1s's memory.
fn clone(plan: &Plan, stack: &Stack) -> Result<Pid, NotStarted> {
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(NotStarted::Clone)?;
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    if plan.unshare_from.is_some() {
        flags |= libc::CLONE_FILES;
    }
    let argument = ptr::from_ref(plan).cast_mut().cast::<c_void>();
    // SAFETY: the stack is the child's alone and large enough; the plan outlives the child's
    // use of it, as the caller stands still until execve or _exit; the child only reads it,
    // but for the report's atomics.
    let pid = unsafe { libc::clone(child::run, stack.top(), flags, argument) };
    let cloned = Errno::result(pid);
    // Cannot fail: the mask is one that was in force.
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

/// Waits for a child that is at its end: it has written its report.
fn collect(pid: libc::pid_t) {
    // SAFETY: a null pointer asks for no status.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } == -1 && Errno::last() == Errno::EINTR {
    }
}

/// Low descriptors that hold the child's standard input, output and error during a spawn.
#[derive(Debug)]
struct Slots([OwnedFd; 3]);

impl Slots {
    fn new(null: &OwnedFd) -> nix::Result<Slots> {
        let slot = || {
            let raw = fcntl(null, FcntlArg::F_DUPFD_CLOEXEC(3))?;
            // SAFETY: the descriptor is new and nobody else's.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        };
        Ok(Slots([slot()?, slot()?, slot()?]))
    }

    /// Moves the child's ends here; their numbers, in the same places.
    fn fill(&mut self, ends: ChildEnds) -> nix::Result<[Option<RawFd>; 3]> {
        let mut numbers = [None; 3];
        for ((slot, end), number) in self.0.iter_mut().zip(ends).zip(&mut numbers) {
            if let Some(end) = end {
                dup3(end, slot, OFlag::O_CLOEXEC)?;
                *number = Some(slot.as_raw_fd());
            }
        }
        Ok(numbers)
    }

    /// Lets go of the child's ends: were they kept, k1s would never read the end of output.
    fn clear(&mut self, null: &OwnedFd) {
        for slot in &mut self.0 {
            // Both are open, so there is nothing to fail.
            let _ = dup3(null, slot, OFlag::O_CLOEXEC);
        }
    }

    /// The first descriptor above all slots.
    fn end(&self) -> u32 {
        let numbers = self.0.iter().map(AsRawFd::as_raw_fd);
        numbers
            .max()
            .map_or(3, |highest| highest.unsigned_abs() + 1)
    }
}

/// The child's stack, used again by each: it is free as soon as k1s goes on. Below it lies a
/// page that may not be touched.
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
        // SAFETY: the lowest part of the mapping, which nobody uses yet.
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
        // SAFETY: the mapping of `new`, which no child uses any more.
        unsafe { libc::munmap(self.0, STACK_BYTES) };
    }
}

/// What becomes the child's 0, 1 and 2; `None` leaves k1s's own.
type ChildEnds = [Option<OwnedFd>; 3];

fn open_stdio(
    launch: &Launch<'_>,
    null: &OwnedFd,
    ids: &Ids,
) -> Result<(ChildEnds, Option<OutputPipes>), SpawnError> {
    let stdin = match (launch.stdin, &launch.command.stdin) {
        (Stdin::Inherited, _) => None,
        (Stdin::Given, Some(text)) => Some(text_file(text).map_err(busy_at("standard input"))?),
        (Stdin::Given, None) => Some(
            null.try_clone()
                .map_err(|error| SpawnError::at("standard input", errno_of(&error)))?,
        ),
    };
    if launch.output == Output::Inherited {
        return Ok(([stdin, None, None], None));
    }
    let (stdout, child_stdout) = pipe::captured().map_err(busy_at("pipe"))?;
    let (stderr, child_stderr) = pipe::captured().map_err(busy_at("pipe"))?;
    if let Some(uid) = ids.uid {
        for end in [&child_stdout, &child_stderr] {
            // So that the user can open /dev/stdout. Where it cannot be, writing still works.
            let _ = fchown(end, Some(Uid::from_raw(uid)), ids.gid.map(Gid::from_raw));
        }
    }
    let ends = [stdin, Some(child_stdout), Some(child_stderr)];
    Ok((ends, Some(OutputPipes { stdout, stderr })))
}

/// A file in memory that holds the text and can no longer be changed: memfd_create(2). Unlike
/// a pipe it takes any length at once, and its end comes by itself.
fn text_file(text: &str) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    // Linux before 6.3 knows no MFD_NOEXEC_SEAL; one after it may insist on it.
    let fd = match memfd_create("stdin", flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create("stdin", flags)?,
        result => result?,
    };
    let mut file = File::from(fd);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.rewind());
    written.map_err(|error| errno_of(&error))?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

/// Whom the child becomes. Without privileges k1s cannot become anybody, so being asked for
/// its own user is no error.
fn ids(command: &Command, account: Option<&Account>) -> Result<Ids, SpawnError> {
    let group = command.group.as_deref().map(user::group_id);
    let group = group.transpose().map_err(cannot_run)?;
    let Some(account) = account else {
        return Ok(Ids {
            gid: group,
            ..Ids::default()
        });
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
    Ok(Ids {
        groups: Some(groups),
        gid: Some(gid),
        uid: Some(account.uid),
    })
}

/// The paths to try: execvp(3).
fn candidates(executable: &str, path: &[u8]) -> Result<Vec<CString>, SpawnError> {
    if executable.contains('/') {
        return Ok(vec![string(executable, "executable")?]);
    }
    let directories = path.split(|byte| *byte == b':');
    let candidate = |directory: &[u8]| {
        // An empty element is the working directory: environ(7).
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        string(
            [directory, b"/", executable.as_bytes()].concat(),
            "executable",
        )
    };
    directories.map(candidate).collect()
}

fn arguments(command: &Command) -> Result<Vec<CString>, SpawnError> {
    std::iter::once(&command.executable)
        .chain(&command.arguments)
        .map(|argument| string(argument.as_str(), "arguments"))
        .collect()
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings
        .map(CStr::as_ptr)
        .chain(std::iter::once(ptr::null()))
        .collect()
}

fn string(bytes: impl Into<Vec<u8>>, what: &str) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| holds_nul(what))
}

/// What the child's report means.
fn explain(failure: Failure, command: &Command, plan: &Plan, path: &[u8]) -> SpawnError {
    let Failure { step, errno, index } = failure;
    let executable = &command.executable;
    let candidate = plan
        .candidates
        .get(index)
        .map(|path| path.to_string_lossy());
    let candidate = candidate.unwrap_or_default();
    let user = command.user.as_deref().unwrap_or_default();
    let subject = match step {
        Step::Unshare => "descriptor table".to_owned(),
        Step::Session => "session".to_owned(),
        Step::Descriptors => "descriptors".to_owned(),
        Step::Nice => format!("nice {}", command.nice.unwrap_or_default()),
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
        let path = String::from_utf8_lossy(path);
        SpawnError::Failed(SpawnFailure {
            exit_code: 127,
            error: if searched {
                format!("executable {executable}: not found in PATH {path}")
            } else {
                format!("{subject}: {}", reason(errno))
            },
        })
    } else if by_limits {
        cannot_run(format!("{subject}: {}", reason(errno)))
    } else {
        SpawnError::at(&subject, errno)
    }
}

fn cannot_run(error: String) -> SpawnError {
    SpawnError::Failed(SpawnFailure {
        exit_code: 126,
        error,
    })
}

fn holds_nul(what: &str) -> SpawnError {
    cannot_run(format!("{what}: holds a NUL byte"))
}

fn busy_at(step: &str) -> impl Fn(Errno) -> SpawnError {
    move |errno| SpawnError::at(step, errno)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// What the machine ran out of, and may have again.
fn is_shortage(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM
    )
}

/// close_range(2) is not there, or a sandbox refuses what it does not know.
fn is_unknown(failure: Failure) -> bool {
    failure.step == Step::Unshare && !is_shortage(failure.errno)
}

/// Where executables are looked for when the job has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";
/// Of the child's stack; it needs less than a tenth, also in a debug build.
const STACK_BYTES: usize = 128 * 1024;
/// A page, also where pages are large.
const GUARD_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::job::spec::{Resource, ResourceLimit};
    use crate::os::testing::*;
    use crate::os::{prepare, signals};
    use nix::sys::signal::{SigHandler, Signal, signal};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A directory of this test's own.
    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("k1s-os-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn write(path: PathBuf, text: &str, mode: u32) -> String {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_run_starts_clean() {
        in_own_process("os::spawn::tests::a_run_starts_clean", || {
            for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGUSR1] {
                // SAFETY: ignoring a signal runs no code.
                unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
            }
            // SAFETY: as above; nix knows no realtime signals.
            unsafe { libc::signal(40, libc::SIG_IGN) };
            SigSet::from(Signal::SIGUSR2).thread_block().unwrap();
            for number in [3, 77] {
                // SAFETY: takes two numbers; it is not close-on-exec.
                unsafe { libc::dup2(0, number) };
            }
            let startup = prepare();
            assert_eq!(startup.notes, Vec::<String>::new());
            let mut spawner = Spawner::new(&startup).unwrap();
            let _signals = signals::install(signals::Audience::Init).unwrap();
            for shares_descriptors in [true, false] {
                spawner.shares_descriptors = shares_descriptors;
                check_clean(&mut spawner);
            }
        });
    }

    fn check_clean(spawner: &mut Spawner) {
        let status = stdout_of(spawner, &command("cat", &["/proc/self/status"]));
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(
                status.contains(&format!("{field}:\t0000000000000000\n")),
                "{status}"
            );
        }
        // The descriptor 3 is that of the directory which ls reads.
        assert_eq!(
            stdout_of(spawner, &command("ls", &["/proc/self/fd"])),
            "0\n1\n2\n3\n"
        );
        let links = ["/proc/self/fd/0"];
        assert_eq!(
            stdout_of(spawner, &command("readlink", &links)),
            "/dev/null\n"
        );
        let spawned = spawn(spawner, &command("cat", &["/proc/self/stat"])).unwrap();
        let stat = read_all(spawned.output.unwrap().stdout);
        let fields: Vec<&str> = stat.split(' ').collect();
        let pid = spawned.pid.0.to_string();
        // pid, group, session; no controlling terminal.
        assert_eq!(
            [fields[0], fields[4], fields[5], fields[6]],
            [&*pid, &*pid, &*pid, "0"]
        );
        assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
        let environment = stdout_of(spawner, &command("env", &[]));
        let own = environment.lines().filter(|line| line.starts_with("K1S_"));
        assert_eq!(
            own.collect::<Vec<_>>(),
            ["K1S_JOB=job", "K1S_RUN=instance.job.1"]
        );
    }

    #[test]
    fn failures_name_the_step_and_the_reason() {
        let dir = directory("failures");
        let at = |name: &str| dir.join(name);
        let text = write(at("text"), "true\n", 0o755);
        let plain = write(at("plain"), "#!/bin/sh\n", 0o644);
        let broken = write(at("broken"), "#!/no/such/interpreter\n", 0o755);
        let dir = dir.to_str().unwrap();
        let mut no_directory = command("true", &[]);
        no_directory.working_directory = "/no/such/dir".into();
        let mut not_a_directory = command("true", &[]);
        not_a_directory.working_directory = "/etc/passwd".into();
        let mut no_user = command("true", &[]);
        no_user.user = Some("no-such-user".into());
        let mut no_group = command("true", &[]);
        no_group.group = Some("no-such-group".into());
        let mut groupless = command("true", &[]);
        groupless.user = Some("987654".into());
        let mut empty_path = command("nope", &[]);
        empty_path.environment = [("PATH".into(), "/usr/bin:/nowhere".into())].into();
        let mut no_path = command("nope", &[]);
        no_path.clear_environment = true;
        for (command, exit_code, error) in [
            (
                command("/no/such/file", &[]),
                127,
                "executable /no/such/file: No such file or directory (ENOENT)",
            ),
            (
                command("/etc/passwd/x", &[]),
                127,
                "executable /etc/passwd/x: Not a directory (ENOTDIR)",
            ),
            (
                command(&broken, &[]),
                127,
                &format!("interpreter of {broken}: No such file or directory (ENOENT)"),
            ),
            (
                command(&text, &[]),
                126,
                &format!("executable {text}: Exec format error (ENOEXEC)"),
            ),
            (
                command(&plain, &[]),
                126,
                &format!("executable {plain}: Permission denied (EACCES)"),
            ),
            (
                command(dir, &[]),
                126,
                &format!("executable {dir}: Permission denied (EACCES)"),
            ),
            (
                no_directory,
                126,
                "working directory /no/such/dir: No such file or directory (ENOENT)",
            ),
            (
                not_a_directory,
                126,
                "working directory /etc/passwd: Not a directory (ENOTDIR)",
            ),
            (
                no_user,
                126,
                "user no-such-user: no such user in /etc/passwd",
            ),
            (
                no_group,
                126,
                "group no-such-group: no such group in /etc/group",
            ),
            (
                groupless,
                126,
                "user 987654: not in /etc/passwd, so its group must be given",
            ),
            (
                empty_path,
                127,
                "executable nope: not found in PATH /usr/bin:/nowhere",
            ),
            (
                no_path,
                127,
                "executable nope: not found in PATH /usr/local/bin:/usr/bin:/bin",
            ),
            (command("a\0b", &[]), 126, "arguments: holds a NUL byte"),
        ] {
            let failure = SpawnFailure {
                exit_code,
                error: error.to_owned(),
            };
            let result = spawn(&mut spawner(), &command).map(|spawned| spawned.pid);
            assert_eq!(result, Err(SpawnError::Failed(failure)), "{command:?}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn executables_are_looked_up_as_execvp_does() {
        let dir = directory("path");
        for sub in ["denied", "broken", "good", "work", "text"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        write(dir.join("denied/tool"), "#!/bin/sh\necho denied\n", 0o644);
        write(dir.join("denied/only"), "#!/bin/sh\necho denied\n", 0o644);
        write(dir.join("broken/tool"), "#!/no/such/interpreter\n", 0o755);
        write(dir.join("good/tool"), "#!/bin/sh\necho good\n", 0o755);
        write(dir.join("work/tool"), "#!/bin/sh\necho work\n", 0o755);
        write(dir.join("text/tool"), "echo text\n", 0o755);
        let base = dir.to_str().unwrap();
        let denied = format!("executable {base}/denied/only: Permission denied (EACCES)");
        let broken =
            format!("interpreter of {base}/broken/tool: No such file or directory (ENOENT)");
        let text = format!("executable {base}/text/tool: Exec format error (ENOEXEC)");
        let none = "executable only: not found in PATH @/good";
        for (executable, path, expected) in [
            ("tool", "@/good", Ok("good\n")),
            (
                "tool",
                "/nowhere:/etc/passwd:@/denied:@/broken:@/good",
                Ok("good\n"),
            ),
            ("tool", "", Ok("work\n")),
            ("tool", ":@/good", Ok("work\n")),
            ("tool", "/nowhere:", Ok("work\n")),
            ("./tool", "@/good", Ok("work\n")),
            ("../good/tool", "@/work", Ok("good\n")),
            ("only", "@/denied:@/good", Err((126, &denied[..]))),
            ("tool", "@/broken:/nowhere", Err((127, &broken[..]))),
            ("tool", "@/text:@/good", Err((126, &text[..]))),
            ("only", "@/good", Err((127, none))),
        ] {
            let mut command = command(executable, &[]);
            command.working_directory = format!("{base}/work");
            command.environment = [("PATH".into(), path.replace('@', base))].into();
            let expected = expected
                .map(str::to_owned)
                .map_err(|(code, error)| (code, error.replace('@', base)));
            let result = match spawn(&mut spawner(), &command) {
                Ok(spawned) => {
                    let stdout = read_all(spawned.output.unwrap().stdout);
                    assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
                    Ok(stdout)
                }
                Err(SpawnError::Failed(failure)) => Err((failure.exit_code, failure.error)),
                Err(SpawnError::Busy(why)) => panic!("{why}"),
            };
            assert_eq!(result, expected, "{executable} in {path}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn exits_and_deaths_are_told_exactly() {
        let mut spawner = spawner();
        let by = |n| ExitStatus::Signal(crate::job::Signal::from_number(n).unwrap());
        for (script, expected) in [
            ("exit 0", ExitStatus::Code(0)),
            ("exit 255", ExitStatus::Code(255)),
            ("kill -KILL $$", by(9)),
            ("kill -TERM $$", by(15)),
            ("kill -34 $$", by(34)),
        ] {
            assert_eq!(finish(&mut spawner, &shell(script)).0, expected, "{script}");
        }
    }

    #[test]
    fn the_text_of_stdin_is_whole_and_ends() {
        let mut spawner = spawner();
        for text in ["", "one line\n", &"0123456789abcdef".repeat(65_536)] {
            let mut cat = command("cat", &[]);
            cat.stdin = Some(text.to_owned());
            assert_eq!(stdout_of(&mut spawner, &cat), text);
        }
        let mut cat = shell("cat /dev/stdin; echo x 2>/dev/null >&0 || echo sealed");
        cat.stdin = Some("again\n".to_owned());
        assert_eq!(stdout_of(&mut spawner, &cat), "again\nsealed\n");
    }

    #[test]
    fn umask_nice_limits_and_the_directory_are_the_jobs() {
        let mut spawner = spawner();
        spawner.nofile.rlim_cur = 321;
        let mut command = shell("umask; nice; ulimit -n; ulimit -Hn; ulimit -c; pwd");
        command.working_directory = "/tmp".into();
        command.umask = Some(0o27);
        command.nice = Some(5);
        let limit = |resource, soft, hard| ResourceLimit {
            resource,
            soft,
            hard,
        };
        command.limits = vec![limit(Resource::Core, Some(0), Some(0))];
        let hard = spawner.nofile.rlim_max;
        let expected = format!("0027\n5\n321\n{hard}\n0\n/tmp\n");
        assert_eq!(stdout_of(&mut spawner, &command), expected);
        command
            .limits
            .push(limit(Resource::Nofile, Some(64), Some(128)));
        assert_eq!(
            stdout_of(&mut spawner, &command),
            "0027\n5\n64\n128\n0\n/tmp\n"
        );
    }

    #[test]
    fn a_user_comes_with_its_groups_and_home() {
        if !is_root("a_user_comes_with_its_groups_and_home") {
            return;
        }
        let mut spawner = spawner();
        let script = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; echo $HOME $USER $LOGNAME; \
            echo err > /dev/stderr 2>&1 && echo opened";
        let mut command = shell(script);
        command.user = Some("nobody".into());
        let (status, stdout, _) = finish(&mut spawner, &command);
        assert_eq!(status, ExitStatus::Code(0));
        let account = user::account("nobody").unwrap();
        let (uid, gid) = (account.uid, account.gid.unwrap());
        let home = &account.home;
        let expected = format!(
            "Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\n\
             Groups:\t{gid} \n{home} nobody nobody\nopened\n"
        );
        assert_eq!(stdout, expected);
        command.user = Some("4711".into());
        command.group = Some("4712".into());
        let (_, stdout, _) = finish(&mut spawner, &command);
        assert!(stdout.contains("Uid:\t4711\t"), "{stdout}");
        assert!(stdout.contains("Groups:\t4712 \n/ 4711 4711\n"), "{stdout}");
        command.user = None;
        command.working_directory = "/tmp".into();
        let (_, stdout, _) = finish(&mut spawner, &command);
        assert!(
            stdout.contains("Uid:\t0\t0\t0\t0\nGid:\t4712\t"),
            "{stdout}"
        );
    }

    #[test]
    fn a_limit_of_the_jobs_own_is_no_shortage_of_the_machine() {
        if !is_root("a_limit_of_the_jobs_own_is_no_shortage_of_the_machine") {
            return;
        }
        let mut spawner = spawner();
        let mut command = shell("read forever");
        command.user = Some("4713".into());
        command.group = Some("4713".into());
        let (soft, hard) = (Some(0), Some(0));
        let resource = Resource::Nproc;
        let limit = ResourceLimit {
            resource,
            soft,
            hard,
        };
        // The limit is that of all processes of the user: one is there already.
        let (stdin, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        dup3(&stdin, &mut spawner.null, OFlag::O_CLOEXEC).unwrap();
        let first = spawn(&mut spawner, &command).unwrap();
        command.limits = vec![limit];
        let error = "executable /bin/sh: Try again (EAGAIN)".into();
        let expected = SpawnFailure {
            exit_code: 126,
            error,
        };
        let result = spawn(&mut spawner, &command).map(|spawned| spawned.pid);
        drop((stdin, hold));
        assert_eq!(wait(first.pid), ExitStatus::Code(1));
        assert_eq!(result, Err(SpawnError::Failed(expected)));
    }

    #[test]
    fn many_spawns_leak_nothing() {
        in_own_process("os::spawn::tests::many_spawns_leak_nothing", || {
            let mut spawner = spawner();
            let before = open_descriptors();
            for shares_descriptors in [true, false] {
                spawner.shares_descriptors = shares_descriptors;
                for _ in 0..200 {
                    let mut cat = command("cat", &[]);
                    cat.stdin = Some("text".into());
                    assert_eq!(stdout_of(&mut spawner, &cat), "text");
                    spawn(&mut spawner, &command("/no/such/file", &[])).unwrap_err();
                }
            }
            assert_eq!(open_descriptors(), before);
            assert_no_children();
        });
    }

    #[test]
    fn without_descriptors_the_machine_is_busy() {
        in_own_process(
            "os::spawn::tests::without_descriptors_the_machine_is_busy",
            || {
                let mut spawner = spawner();
                let before = open_descriptors();
                let mut cat = command("cat", &[]);
                cat.stdin = Some("text".into());
                let mut limit = limits::nofile().unwrap();
                let mut busy = 0;
                // One more descriptor each time, until there are enough.
                for free in 0.. {
                    limit.rlim_cur = u64::from(spawner.slots.end()) + free;
                    limits::set_nofile(limit).unwrap();
                    match spawn(&mut spawner, &cat) {
                        Err(SpawnError::Busy(why)) => assert!(why.contains("(EMFILE)"), "{why}"),
                        Err(other) => panic!("{other:?}"),
                        Ok(spawned) => {
                            assert_eq!(wait(spawned.pid), ExitStatus::Code(0));
                            break;
                        }
                    }
                    busy += 1;
                }
                assert!(busy >= 3, "{busy}");
                limit.rlim_cur = limit.rlim_max;
                limits::set_nofile(limit).unwrap();
                assert_eq!(open_descriptors(), before);
                assert_eq!(stdout_of(&mut spawner, &cat), "text");
                assert_no_children();
            },
        );
    }

    #[test]
    fn without_processes_the_machine_is_busy() {
        if !is_root("without_processes_the_machine_is_busy") {
            return;
        }
        in_own_process(
            "os::spawn::tests::without_processes_the_machine_is_busy",
            || {
                let mut spawner = spawner();
                let before = open_descriptors();
                let none = libc::rlimit64 {
                    rlim_cur: 0,
                    rlim_max: 0,
                };
                // SAFETY: reads an rlimit64; the other takes a number.
                unsafe {
                    libc::setrlimit64(libc::RLIMIT_NPROC, &raw const none);
                    libc::setuid(4714);
                }
                let result = spawn(&mut spawner, &command("/bin/true", &[])).map(|s| s.pid);
                let why = "clone: Try again (EAGAIN)";
                assert_eq!(result, Err(SpawnError::Busy(why.into())));
                assert_eq!(open_descriptors(), before);
            },
        );
    }

    #[test]
    fn a_sandbox_without_close_range_is_no_obstacle() {
        let failure = |step, errno| Failure {
            step,
            errno,
            index: 0,
        };
        assert!(is_unknown(failure(Step::Unshare, Errno::ENOSYS)));
        assert!(is_unknown(failure(Step::Unshare, Errno::EPERM)));
        assert!(!is_unknown(failure(Step::Unshare, Errno::ENOMEM)));
        assert!(!is_unknown(failure(Step::Session, Errno::EPERM)));
    }

    fn assert_no_children() {
        // SAFETY: asks for no status.
        let result = Errno::result(unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) });
        assert_eq!(result, Err(Errno::ECHILD));
    }
}
