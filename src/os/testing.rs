//! Helpers for the tests of this room.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command as Process;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, socket,
};

use super::failure::SpawnError;
use super::pipe::{ReadEnds, captured};
use super::proc::{Proc, Stat};
use super::spawn::{Output, SpawnRequest, Spawner, Stdin};
use super::{Startup, limits, reap};
use crate::job::spec::Command;
use crate::job::{ExitStatus, Pid};

/// A command with all defaults.
pub(crate) fn command(executable: &str, arguments: &[&str]) -> Command {
    Command {
        executable: executable.to_owned(),
        arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        working_directory: "/".to_owned(),
        environment: [].into(),
        environment_files: Vec::new(),
        environment_from_file: [].into(),
        clear_environment: false,
        stdin: None,
        user: None,
        group: None,
        umask: None,
        nice: None,
        oom_score_adj: None,
        limits: Vec::new(),
    }
}

/// A shell command.
pub(crate) fn shell(script: &str) -> Command {
    command("/bin/sh", &["-c", script])
}

/// A spawner in a process that was not prepared.
pub(crate) fn spawner() -> Spawner {
    Spawner::new(&Startup {
        blocked: nix::sys::signal::SigSet::empty(),
        is_pid_1: false,
        max_descriptors: 0,
        notes: Vec::new(),
        nofile: limits::nofile().ok(),
    })
    .unwrap()
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) output: ReadEnds,
}

pub(crate) fn spawn(spawner: &mut Spawner, command: &Command) -> Result<Spawned, SpawnError> {
    let (output, ends) = captured()?;
    let pid = spawner.spawn(request(command, Output::Captured(ends)))?;
    Ok(Spawned { pid, output })
}

/// Starts a command with this mark that prints the pid of a child; returns its own and that.
pub(crate) fn spawn_with_child(
    spawner: &mut Spawner,
    command: &Command,
    mark: Option<u64>,
) -> (Pid, Pid) {
    let (output, ends) = captured().unwrap();
    let request = SpawnRequest { mark, ..request(command, Output::Captured(ends)) };
    let pid = spawner.spawn(request).unwrap();
    blocking(&output.stdout);
    let mut line = String::new();
    BufReader::new(std::fs::File::from(output.stdout)).read_line(&mut line).unwrap();
    (pid, Pid(line.trim().parse().unwrap()))
}

/// A request with all defaults.
pub(crate) fn request(command: &Command, output: Output) -> SpawnRequest<'_> {
    SpawnRequest {
        command,
        instead: None,
        read: const { &Vec::new() },
        job_id: "job",
        run_tag: "instance.job.1",
        variables: &[],
        extra: None,
        mark: None,
        stdin: Stdin::Given,
        output,
        session: crate::os::Session::Own,
    }
}

/// Runs a command to its end; returns its exit status, stdout and stderr.
pub(crate) fn finish(spawner: &mut Spawner, command: &Command) -> (ExitStatus, String, String) {
    let spawned = spawn(spawner, command).unwrap();
    let pipes = spawned.output;
    let (stdout, stderr) = (read_all(pipes.stdout), read_all(pipes.stderr));
    (wait(spawned.pid), stdout, stderr)
}

/// The stdout of a command, which must succeed and write nothing to stderr.
pub(crate) fn stdout_of(spawner: &mut Spawner, command: &Command) -> String {
    let (status, stdout, stderr) = finish(spawner, command);
    assert_eq!((status, stderr.as_str()), (ExitStatus::Code(0), ""));
    stdout
}

/// Reads a pipe to its end, however long that takes.
pub(crate) fn read_all(pipe: OwnedFd) -> String {
    blocking(&pipe);
    let mut text = String::new();
    std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

/// Makes a pipe of k1s blocking.
pub(crate) fn blocking(pipe: &impl AsFd) {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

/// Waits for this child and no other, since tests are threads of one process.
pub(crate) fn wait(pid: Pid) -> ExitStatus {
    let mut status = 0;
    // SAFETY: `status` is an int to write to.
    let waited = unsafe { libc::waitpid(pid.0, &raw mut status, 0) };
    assert_eq!(waited, pid.0);
    reap::exit_status(status).unwrap()
}

/// Waits until this child has ended, without reaping it.
pub(crate) fn wait_for_zombie(pid: Pid) {
    let id = libc::id_t::try_from(pid.0).unwrap();
    let flags = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: a null pointer asks for no information.
    let result = unsafe { libc::waitid(libc::P_PID, id, std::ptr::null_mut(), flags) };
    assert_eq!(result, 0);
}

/// Runs the test `name` (its full path) in its own process, for things that belong to a process:
/// its limits, its signals, its children.
pub(crate) fn in_own_process(name: &str, test: impl FnOnce()) {
    if std::env::var("OWN_PROCESS").as_deref() == Ok(name) {
        return in_only_thread(test);
    }
    let output = Process::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("OWN_PROCESS", name)
        .env("K1S_AUTH_TOKEN", "secret")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
}

/// Runs a test in a fork, which has only one thread. The harness runs it in a second thread, and
/// signals to the process would go to the first.
pub(crate) fn in_only_thread(test: impl FnOnce()) {
    // SAFETY: the other thread only waits for this one, so it holds no lock.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        // SAFETY: takes a number.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    assert_eq!(wait(Pid(pid)), ExitStatus::Code(0));
}

/// From here on this process gets no more descriptors.
pub(crate) fn refuse_descriptors() {
    let limit = limits::nofile().unwrap();
    limits::set_nofile(libc::rlimit64 { rlim_cur: 0, ..limit }).unwrap();
}

/// A process that is not there, by its number, its parent's and its session's.
pub(crate) fn stat(pid: i32, parent: i32, session: i32) -> Stat {
    Stat {
        process: Proc { pid: Pid(pid), start_time: 1 },
        parent: Pid(parent),
        group: Pid(session),
        session: Pid(session),
        is_dead: false,
        ticks: 100,
        virtual_bytes: 8192,
        resident_pages: 1,
    }
}

/// A socket that is connected to its own port.
pub(crate) fn connected_to_itself() -> std::net::TcpStream {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let own: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    connect(socket.as_raw_fd(), &own).unwrap();
    socket.into()
}

/// The open descriptors of this process.
pub(crate) fn open_descriptors() -> Vec<String> {
    let list = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = list.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Whether this process may change to any user; if not, says that `test` is skipped. Root of a user
/// namespace may change only to users that are mapped: user_namespaces(7).
pub(crate) fn may_become_others(test: &str) -> bool {
    let other = ["--reuid=60000", "--regid=60000", "--clear-groups", "true"];
    let may = Process::new("setpriv").args(other).output().is_ok_and(|it| it.status.success());
    if !may {
        eprintln!("skipped: {test}: needs root");
    }
    may
}
