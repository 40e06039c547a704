//! What `/proc` says about a process: proc_pid_stat(5), proc_pid_environ(5).
//!
//! A shortage of descriptors or memory is distinguished from a process that is not there: if k1s
//! cannot look, it must not take a process for gone.

use std::fs::File;
use std::io::{self, Read};

use super::errno_of;
use super::is_shortage;
use crate::job::Pid;

/// Names a process for good: no other has the same pid and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    /// Its id.
    pub pid: Pid,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// What `/proc/PID/stat` says about a process.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Which process.
    pub process: Proc,
    /// Its parent.
    pub parent: Pid,
    /// Its process group.
    pub group: Pid,
    /// Its session; 0 for one from outside of the pid namespace.
    pub session: Pid,
    /// A zombie without living threads.
    pub is_dead: bool,
    /// Its CPU time, including that of children it has waited for, in clock ticks.
    pub(super) ticks: u64,
    /// Virtual memory in bytes.
    pub(super) virtual_bytes: u64,
    /// Resident memory in pages.
    pub(super) resident_pages: u64,
}

impl Stat {
    pub(super) fn read(pid: Pid) -> io::Result<Stat> {
        let mut buffer = [0u8; STAT_BYTES];
        let line = read_file(pid, "stat", &mut buffer)?;
        Stat::parse(line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The second field is the name in parentheses, which may itself contain `)`, blanks and
    /// newlines.
    fn parse(line: &[u8]) -> Option<Stat> {
        let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
        let pid = line.split(|byte| *byte == b' ').next()?;
        let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let (parent, group, session) = (number(0)?, number(0)?, number(0)?);
        let user = number(USER_TIME - SESSION - 1)?;
        let ticks = user + number(0)? + number(0)? + number(0)?;
        let threads = number(NUM_THREADS - USER_TIME - 4)?;
        let start_time = number(START_TIME - NUM_THREADS - 1)?;
        let (virtual_bytes, resident_pages) = (number(0)?, number(0)?);
        let to_pid = |number: u64| i32::try_from(number).ok().map(Pid);
        Some(Stat {
            process: Proc { pid: Pid(std::str::from_utf8(pid).ok()?.parse().ok()?), start_time },
            parent: to_pid(parent)?,
            group: to_pid(group)?,
            is_dead: matches!(state, "X" | "x") || state == "Z" && threads <= 1,
            session: to_pid(session)?,
            ticks,
            virtual_bytes,
            resident_pages,
        })
    }
}

/// The pids in `/proc`. The directory is closed before any process is looked at, so that one
/// descriptor is enough for both.
pub(super) fn list() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid));
    }
    Ok(pids)
}

/// What was read, or that there is nothing to read because the process is gone; `None` when that is
/// not known, because of a shortage of descriptors or memory.
pub(super) fn known<T>(result: io::Result<T>) -> Option<Option<T>> {
    match result {
        Ok(read) => Some(Some(read)),
        Err(error) if is_shortage(errno_of(&error)) => None,
        Err(_) => Some(None),
    }
}

/// RLIMIT_LOCKS of a process: the line `Max file locks` of `/proc/PID/limits`.
pub(super) fn locks_limit(pid: Pid) -> Option<u64> {
    let mut buffer = [0u8; STAT_BYTES];
    locks_in(read_file(pid, "limits", &mut buffer).ok()?)
}

fn locks_in(limits: &[u8]) -> Option<u64> {
    let lines = std::str::from_utf8(limits).ok()?.lines();
    let values = lines.filter_map(|line| line.strip_prefix("Max file locks")).next()?;
    values.split_ascii_whitespace().next()?.parse().ok()
}

/// What the environment of a process says about the run it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// `K1S_RUN`.
    Text(String),
    /// There is no `K1S_RUN`, or it may not be read, or it is longer than any of k1s and so must be
    /// forged.
    None,
    /// It cannot be seen now: there is a shortage of descriptors or memory, or the process is just
    /// executing a program, and has no environment meanwhile.
    Hidden,
}

/// Reads the environment that the process was started with: proc_pid_environ(5).
pub(super) fn run_tag(pid: Pid) -> Found {
    let mut buffer = vec![0; ENVIRON_BYTES];
    // If the environment is missing time after time, the process is not executing a program, but
    // has unmapped it.
    for _ in 0..ENVIRON_LOOKS {
        match read_file(pid, "environ", &mut buffer) {
            Ok([]) => {}
            Ok(environment) => return tag_in(environment),
            Err(error) if is_shortage(errno_of(&error)) => return Found::Hidden,
            Err(_) => return Found::None,
        }
        match has_environment(pid) {
            Some(true) => {}
            Some(false) => return Found::None,
            None => return Found::Hidden,
        }
    }
    Found::None
}

fn tag_in(environment: &[u8]) -> Found {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"K1S_RUN="));
    let value = value.filter(|value| value.len() <= TAG_BYTES);
    value.and_then(|value| String::from_utf8(value.to_vec()).ok()).map_or(Found::None, Found::Text)
}

/// Reads in one call, because between two the process may execute a program, and the second would
/// find nothing.
fn read_file<'a>(pid: Pid, name: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut file = File::open(format!("/proc/{}/{name}", pid.0))?;
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            length => return Ok(buffer.get(..length?).unwrap_or_default()),
        }
    }
}

/// Whether a process exists and was started with an environment that is not empty. `None` during
/// execve(2), when its new memory contains no program yet (Linux, `load_elf_binary` in
/// fs/binfmt_elf.c), and in a shortage.
fn has_environment(pid: Pid) -> Option<bool> {
    let mut buffer = [0u8; STAT_BYTES];
    let line = match known(read_file(pid, "stat", &mut buffer))? {
        Some(line) => String::from_utf8_lossy(line),
        None => return Some(false),
    };
    let fields = line.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - STATE).copied();
    if field(MEMORY) == Some("0") {
        return Some(false);
    }
    let is_executing = field(END_OF_CODE) == Some("0");
    (!is_executing).then(|| field(ENV_START) != field(ENV_END))
}

/// k1s itself.
pub fn own_pid() -> Pid {
    Pid(i32::try_from(std::process::id()).unwrap_or(0))
}

/// More than the length of `/proc/PID/stat`: 52 numbers and a short name.
const STAT_BYTES: usize = 2048;
/// More than the length of a job's id and three numbers.
const TAG_BYTES: usize = 256;
/// How much of an environment is searched; `K1S_RUN` comes first in it.
const ENVIRON_BYTES: usize = 256 * 1024;
/// How often k1s looks for the environment; executing a program is over by then.
const ENVIRON_LOOKS: usize = 4;
/// Fields of `/proc/PID/stat`, counted from 1.
const STATE: usize = 3;
const SESSION: usize = 6;
/// The first of four: its own user and system time, then those of children it has waited for.
const USER_TIME: usize = 14;
const NUM_THREADS: usize = 20;
const START_TIME: usize = 22;
const MEMORY: usize = 23;
const END_OF_CODE: usize = 27;
const ENV_START: usize = 50;
const ENV_END: usize = 51;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Signal;
    use crate::os::signalling::signal_process;
    use crate::os::testing::*;
    use nix::libc;
    use std::io::{BufRead, BufReader};

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let rest =
            "100 101 102 34816 -1 4194304 1 0 0 0 1 20 300 4000 20 0 THREADS 0 237131 8192 2\n";
        for (name, state, threads, is_dead) in [
            ("cat", "R", "1", false),
            ("a) Z 1 (b", "S", "1", false),
            ("Z", "Z", "1", true),
            ("leader gone", "Z", "2", false),
            ("dead", "X", "0", true),
            ("\u{fffd}\n ", "D", "1", false),
        ] {
            let rest = rest.replace("THREADS", threads);
            let stat = Stat::parse(format!("42 ({name}) {state} {rest}").as_bytes()).unwrap();
            let (pid, start_time) = (Pid(42), 237_131);
            assert_eq!(stat.process, Proc { pid, start_time });
            assert_eq!((stat.parent, stat.group, stat.session), (Pid(100), Pid(101), Pid(102)));
            assert_eq!(stat.is_dead, is_dead, "{name}");
            assert_eq!((stat.ticks, stat.virtual_bytes, stat.resident_pages), (4321, 8192, 2));
        }
        for broken in ["", "42", "42 (cat", "42 (cat)", "42 (cat) R 1 2", "x (cat) R 1 2 3"] {
            assert!(Stat::parse(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn the_limit_of_locks_is_read() {
        let text = |value: &str| {
            format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax file locks            {value}   7   locks\nMax nice priority  0 0\n"
            )
        };
        assert_eq!(locks_in(text("123456789012345").as_bytes()), Some(123_456_789_012_345));
        assert_eq!(locks_in(text("unlimited").as_bytes()), None);
        assert_eq!(locks_in(b""), None);
        assert_eq!(locks_limit(own_pid()), locks_in(&std::fs::read("/proc/self/limits").unwrap()));
    }

    /// A process that was executing a program when it was to be stopped was not recognized, and
    /// lived on.
    #[test]
    fn a_process_that_executes_a_program_is_no_strangers() {
        let endless = shell("f=$(mktemp); printf 'exec sh %s' $f > $f; echo $f; exec sh $f");
        let spawned = spawn(&mut spawner(), &endless).unwrap();
        let mut file = String::new();
        blocking(&spawned.output.stdout);
        BufReader::new(File::from(spawned.output.stdout)).read_line(&mut file).unwrap();
        let tags: Vec<Found> = (0..20_000).map(|_| run_tag(spawned.pid)).collect();
        assert!(signal_process(spawned.pid, Signal::KILL));
        wait(spawned.pid);
        std::fs::remove_file(file.trim()).unwrap();
        assert!(!tags.contains(&Found::None));
        assert!(tags.contains(&Found::Text("instance.job.1".into())));
        assert_eq!(run_tag(spawned.pid), Found::None, "it is gone");
    }

    /// It was looked at again for ever, and meanwhile no stopped job came to its end.
    #[test]
    fn a_process_that_has_unmapped_its_environment_has_no_tag() {
        let name = "os::proc::tests::a_process_that_has_unmapped_its_environment_has_no_tag";
        in_own_process(name, || {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            let field = |number: usize| fields[number - STATE].parse::<usize>().unwrap();
            let start = field(ENV_START) & !0xfff;
            let protect = |protection| {
                let length = field(ENV_END) - start;
                // SAFETY: nothing reads the environment meanwhile.
                unsafe { libc::mprotect(start as *mut libc::c_void, length, protection) }
            };
            assert_eq!(protect(libc::PROT_NONE), 0);
            let tag = run_tag(own_pid());
            assert_eq!(protect(libc::PROT_READ | libc::PROT_WRITE), 0);
            assert_eq!(tag, Found::None);
        });
    }

    #[test]
    fn a_process_without_an_environment_has_no_tag() {
        let spawned = spawn(&mut spawner(), &command("env", &["-i", "sleep", "1000"])).unwrap();
        let is_sleep = || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", spawned.pid.0));
            name.unwrap() == "sleep\n"
        };
        while !is_sleep() || run_tag(spawned.pid) == Found::Hidden {
            std::thread::yield_now();
        }
        assert_eq!(run_tag(spawned.pid), Found::None);
        assert!(signal_process(spawned.pid, Signal::KILL));
        wait(spawned.pid);
    }
}
