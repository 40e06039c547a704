//! Processes: who is alive, who belongs to which run, and sending signals to them.
//!
//! ```text
//!  k1s ─┬─ leader ─┬─ …            the run's group: signalled as one, by its number
//!       │          └─ setsid ─ …   a stray: found by its parent
//!       └─ orphan ─ …              a stray: found by its session, or by K1S_RUN
//! ```
//!
//! A run is a session of its own, and so is its group. What has left the group is found in a
//! [`Snapshot`]: one look at all of `/proc` (proc_pid_stat(5)), shared by all that is
//! stopped in a turn.
//!
//! Numbers are used again. While anything is left of a group or session its number is taken,
//! so once the leader has been collected, a process of that number is a stranger, and nothing
//! is left of the run's group and session. Other processes are named by number and start time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::errno_of;
use super::spawn::is_shortage;
use crate::job::{Pid, Signal};

/// A process for good: no other has the same id and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    /// Its id.
    pub pid: Pid,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// A run whose processes are looked for or signalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its first process, whose number is also that of its group and session.
    pub leader: Pid,
    /// Whether that process has been collected: its number may be a stranger's by now.
    pub leader_ended: bool,
    /// `K1S_RUN` of the run; ending in a dot, that of any run whose tag has only a number more.
    pub tag: String,
    /// Processes outside the group that were found before: one that has cleared its
    /// environment is not found again once its parent has ended.
    pub strays: BTreeSet<Proc>,
}

impl Target {
    /// Whether a process with this `K1S_RUN` belongs to the target.
    pub fn carries(&self, tag: &str) -> bool {
        match tag.strip_prefix(self.tag.as_str()) {
            Some("") => !tag.is_empty(),
            Some(run) => self.tag.ends_with('.') && run.bytes().all(|byte| byte.is_ascii_digit()),
            None => false,
        }
    }
}

/// Sends `signal` to each run's group and strays, then SIGCONT (unless it was SIGKILL) so that
/// stopped processes can act; looks again until nobody new is found, so that what forks
/// meanwhile is not missed. The targets remember the strays that are alive. While there is no
/// descriptor to look with, only the groups get it.
///
/// `is_leader` knows the first processes of all live runs: those are not orphans.
pub fn signal_runs(targets: &mut [Target], signal: Signal, is_leader: impl Fn(Pid) -> bool) {
    let mut signalled = BTreeSet::new();
    for round in 0..MAX_ROUNDS {
        let snapshot = Snapshot::take(&is_leader);
        let mut news = snapshot.as_ref().is_some_and(|snapshot| !snapshot.is_whole);
        for target in &mut *targets {
            if round == 0 {
                stop_group(target, signal);
            }
            let Some(snapshot) = &snapshot else { continue };
            target.strays = snapshot.strays(target);
            for stray in &target.strays {
                if signalled.insert(*stray) {
                    news = true;
                    signal_with_continue(signal, |signal| signal_exactly(*stray, signal));
                }
            }
        }
        if !news && round > 0 {
            return;
        }
    }
}

/// Sends `signal` to a run's group: kill(2). Whether there was a process to send it to;
/// zombies count, which are there until collected.
pub fn signal_group(target: &Target, signal: Signal) -> bool {
    group_of(target).is_some_and(|group| kill(-group.0, signal.number()))
}

/// Sends `signal` to a run's group, and then SIGCONT (unless it was SIGKILL) so that stopped
/// processes can act.
pub fn stop_group(target: &Target, signal: Signal) {
    signal_with_continue(signal, |signal| signal_group(target, signal));
}

/// Sends `signal` to a child of k1s that has not been collected, so that the number is still
/// its own: kill(2). Whether it was there.
pub fn signal_process(pid: Pid, signal: Signal) -> bool {
    kill(pid.0, signal.number())
}

/// Whether anything is left of a run's group: cheap, without a snapshot.
///
/// Zombies count. Those that k1s inherits are gone as soon as it collects them; one whose
/// parent lives outside the group and does not wait for it stays, and then
/// [`Snapshot::group_is_alive`] knows better.
pub fn group_is_there(target: &Target) -> bool {
    group_of(target).is_some_and(|group| kill(-group.0, 0))
}

/// Whether this very process is alive, and not a zombie.
pub fn is_alive(process: Proc) -> bool {
    is_known_alive(process) == Some(true)
}

/// SIGKILL to every process of the namespace but k1s: kill(2) with -1. What PID 1 ends with.
///
/// # Errors
/// `EPERM` unless k1s is PID 1: nobody else may do this.
pub fn kill_all() -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(Errno::EPERM.into());
    }
    // SAFETY: takes numbers alone.
    Errno::result(unsafe { libc::kill(-1, libc::SIGKILL) })?;
    Ok(())
}

/// Who was alive at one moment, and whose child it was.
#[derive(Debug)]
pub struct Snapshot {
    own: Pid,
    processes: BTreeMap<Pid, Stat>,
    by_parent: BTreeMap<Pid, Vec<Pid>>,
    by_session: BTreeMap<Pid, Vec<Pid>>,
    /// Children of k1s that lead no run, by their `K1S_RUN`.
    orphans: BTreeMap<String, Vec<Pid>>,
    has_orphans: bool,
    /// Of every orphan it is known whether it has a `K1S_RUN`.
    is_whole: bool,
}

impl Snapshot {
    /// Looks at every process once. Those in the group of a live run, most as a rule, cost
    /// two short system calls; those of sessions outside of this pid namespace, and the
    /// kernel's own, are left out (session 0); of the others `/proc/PID/stat` is read, which
    /// takes ten times as long.
    ///
    /// `is_leader` knows the first processes of all live runs; the
    /// environment of k1s's other children is read for `K1S_RUN`, where that is permitted.
    ///
    /// `None` when there is no descriptor or no memory to look with: who is alive is not known.
    pub fn take(is_leader: impl Fn(Pid) -> bool) -> Option<Snapshot> {
        let mut processes = Vec::new();
        for pid in list().ok()? {
            let Some(session) = session_of(pid).filter(|session| session.0 > 0) else { continue };
            if group_of_process(pid) == Some(session) && is_leader(session) {
                processes.push(Stat::in_group(pid, session));
            } else {
                processes.extend(known(Stat::read(pid))?);
            }
        }
        Some(Snapshot::new(processes.into_iter(), own_pid(), &is_leader, run_tag))
    }

    /// The living processes of a run outside its group: descendants of its leader and of the
    /// strays known before, members of its session, orphans with its `K1S_RUN`, and again
    /// whatever is under those by parent or session.
    pub fn strays(&self, target: &Target) -> BTreeSet<Proc> {
        let mut members: BTreeSet<Pid> = BTreeSet::new();
        let mut todo = self.roots(target);
        while let Some(pid) = todo.pop() {
            let Some(stat) = self.processes.get(&pid).filter(|_| members.insert(pid)) else {
                continue;
            };
            todo.extend(self.by_parent.get(&pid).into_iter().flatten());
            // A session that is not k1s's own was made by a process of the run. Number 0
            // stands for one made outside of this pid namespace.
            if stat.session != self.own_session() && stat.session.0 > 0 {
                todo.extend(self.by_session.get(&stat.session).into_iter().flatten());
            }
        }
        let group = self.group_number(target);
        let living = members.iter().filter_map(|pid| self.processes.get(pid));
        living
            .filter(|stat| !stat.is_dead && Some(stat.group) != group)
            .map(|stat| stat.process)
            .collect()
    }

    /// Whether a process that is not a zombie is left of a run's group. All of a group are of one
    /// session: setpgid(2).
    pub fn group_is_alive(&self, target: &Target) -> bool {
        let Some(group) = self.group_number(target) else { return false };
        let members = self.by_session.get(&group).into_iter().flatten();
        members
            .filter_map(|pid| self.processes.get(pid))
            .any(|stat| !stat.is_dead && stat.group == group)
    }

    /// Whether anything is left of a run: of its group, or outside of it.
    pub fn is_left(&self, target: &Target) -> bool {
        self.group_is_alive(target) || !self.strays(target).is_empty()
    }

    /// Whether an orphan may be found to be the run's when it is looked at again.
    pub fn may_hide(&self, target: &Target) -> bool {
        !self.is_whole && !target.tag.is_empty()
    }

    /// Whether k1s has a living child that leads no run: something that a run has left behind.
    pub fn has_orphans(&self) -> bool {
        self.has_orphans
    }

    fn new(
        processes: impl Iterator<Item = Stat>,
        own: Pid,
        is_leader: impl Fn(Pid) -> bool,
        run_tag: impl Fn(Pid) -> Tag,
    ) -> Snapshot {
        let mut snapshot = Snapshot {
            own,
            processes: BTreeMap::new(),
            by_parent: BTreeMap::new(),
            by_session: BTreeMap::new(),
            orphans: BTreeMap::new(),
            has_orphans: false,
            is_whole: true,
        };
        for stat in processes {
            let pid = stat.process.pid;
            let siblings = snapshot.by_parent.entry(stat.parent).or_default();
            siblings.push(pid);
            snapshot.by_session.entry(stat.session).or_default().push(pid);
            let is_orphan = stat.parent == own && !stat.is_dead && !is_leader(pid);
            snapshot.has_orphans |= is_orphan;
            match if is_orphan { run_tag(pid) } else { Tag::None } {
                Tag::Run(tag) => snapshot.orphans.entry(tag).or_default().push(pid),
                Tag::None => {}
                Tag::Hidden => snapshot.is_whole = false,
            }
            snapshot.processes.insert(pid, stat);
        }
        snapshot
    }

    /// Where to start: everything here belongs to the run.
    fn roots(&self, target: &Target) -> Vec<Pid> {
        let mut roots = Vec::new();
        if let Some(leader) = self.group_number(target) {
            roots.push(leader);
            roots.extend(self.by_session.get(&leader).into_iter().flatten());
        }
        let carriers = self.orphans.range(target.tag.clone()..);
        let begins = |(tag, _): &(&String, _)| tag.starts_with(&target.tag);
        for (_, pids) in carriers.take_while(begins).filter(|(tag, _)| target.carries(tag)) {
            roots.extend(pids);
        }
        let known = target.strays.iter().filter(|stray| {
            let stat = self.processes.get(&stray.pid);
            stat.is_some_and(|stat| stat.is_the(**stray))
        });
        roots.extend(known.map(|stray| stray.pid));
        roots
    }

    /// The number of the run's group and session, unless it is a stranger's by now.
    fn group_number(&self, target: &Target) -> Option<Pid> {
        let stranger = target.leader_ended && self.processes.contains_key(&target.leader);
        Some(target.leader).filter(|leader| leader.0 > 1 && !stranger)
    }

    fn own_session(&self) -> Pid {
        let own = self.processes.get(&self.own);
        own.map_or(Pid(0), |stat| stat.session)
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug)]
struct Stat {
    process: Proc,
    parent: Pid,
    group: Pid,
    session: Pid,
    /// A zombie, of which no thread is left.
    is_dead: bool,
}

impl Stat {
    /// A member of a live run's group: where it belongs is all that is asked of it.
    fn in_group(pid: Pid, leader: Pid) -> Stat {
        Stat {
            process: Proc { pid, start_time: 0 },
            parent: Pid(0),
            group: leader,
            session: leader,
            is_dead: false,
        }
    }

    fn read(pid: Pid) -> io::Result<Stat> {
        let mut buffer = [0u8; STAT_BYTES];
        let line = read_file(pid, "stat", &mut buffer)?;
        Stat::parse(line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The second field is the name in parentheses, which may itself hold any of `) \n`.
    fn parse(line: &[u8]) -> Option<Stat> {
        let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
        let pid = line.split(|byte| *byte == b' ').next()?;
        let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let (parent, group, session) = (number(0)?, number(0)?, number(0)?);
        let threads = number(NUM_THREADS - SESSION - 1)?;
        let start_time = number(START_TIME - NUM_THREADS - 1)?;
        let to_pid = |number: u64| i32::try_from(number).ok().map(Pid);
        Some(Stat {
            process: Proc { pid: Pid(std::str::from_utf8(pid).ok()?.parse().ok()?), start_time },
            parent: to_pid(parent)?,
            group: to_pid(group)?,
            session: to_pid(session)?,
            is_dead: matches!(state, "X" | "x") || state == "Z" && threads <= 1,
        })
    }

    fn is_the(&self, process: Proc) -> bool {
        self.process == process
    }
}

/// The session of a process, unless it is gone.
fn session_of(pid: Pid) -> Option<Pid> {
    nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.0))).ok().map(|id| Pid(id.as_raw()))
}

/// The process group of a process, unless it is gone.
fn group_of_process(pid: Pid) -> Option<Pid> {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid.0))).ok().map(|id| Pid(id.as_raw()))
}

/// The numbers in `/proc`. The directory is closed again before a process is looked at: one
/// descriptor must do for both.
fn list() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid));
    }
    Ok(pids)
}

/// What was read, or that there is nothing to read (a process that is gone meanwhile); `None`
/// when neither is known, for want of a descriptor or memory.
fn known<T>(result: io::Result<T>) -> Option<Option<T>> {
    match result {
        Ok(read) => Some(Some(read)),
        Err(error) if is_shortage(errno_of(&error)) => None,
        Err(_) => Some(None),
    }
}

/// What the environment of a process says of where it comes from.
#[derive(Debug, PartialEq, Eq)]
enum Tag {
    /// `K1S_RUN`.
    Run(String),
    /// No `K1S_RUN`, or it may not be read, or it is longer than k1s makes any: each of many
    /// orphans may have forged one.
    None,
    /// Not to be seen now: there is no descriptor or memory to look with, or the process is just
    /// executing a program, and has no environment meanwhile.
    Hidden,
}

/// From the environment that the process was started with: proc_pid_environ(5).
fn run_tag(pid: Pid) -> Tag {
    let mut buffer = vec![0; ENVIRON_BYTES];
    // One that is not executing, and whose environment again and again is not there, has unmapped it.
    for _ in 0..ENVIRON_LOOKS {
        match read_file(pid, "environ", &mut buffer) {
            Ok([]) => {}
            Ok(environment) => return tag_in(environment),
            Err(error) if is_shortage(errno_of(&error)) => return Tag::Hidden,
            Err(_) => return Tag::None,
        }
        match has_environment(pid) {
            Some(true) => {}
            Some(false) => return Tag::None,
            None => return Tag::Hidden,
        }
    }
    Tag::None
}

fn tag_in(environment: &[u8]) -> Tag {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"K1S_RUN="));
    let value = value.filter(|value| value.len() <= TAG_BYTES);
    value.and_then(|value| String::from_utf8(value.to_vec()).ok()).map_or(Tag::None, Tag::Run)
}

/// In one call: between two the process may execute a program, and the second finds no more.
fn read_file<'a>(pid: Pid, name: &str, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut file = File::open(format!("/proc/{}/{name}", pid.0))?;
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            length => return Ok(buffer.get(..length?).unwrap_or_default()),
        }
    }
}

/// Whether a process was given an environment that is not empty, and is not gone. In the midst of
/// execve(2) it has memory in which no program is known yet (Linux, `load_elf_binary` in
/// fs/binfmt_elf.c): `None`, as for want of a descriptor.
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

/// To this process and no other that got its number meanwhile: a pidfd holds on to whoever
/// has the number, and is used if that is the one. Without (Linux before 5.3, no descriptor
/// free), a moment remains in which the number could change hands.
fn signal_exactly(process: Proc, signal: Signal) -> bool {
    let pidfd = match pidfd_open(process.pid) {
        Err(Errno::ESRCH) => return false,
        result => result.ok(),
    };
    let pidfd = match is_known_alive(process) {
        Some(true) => pidfd,
        Some(false) => return false,
        // The last descriptor is the pidfd: looking who has the number is worth more.
        None => {
            drop(pidfd);
            if !is_alive(process) {
                return false;
            }
            None
        }
    };
    let Some(pidfd) = pidfd else {
        return kill(process.pid.0, signal.number());
    };
    // SAFETY: a null pointer asks for the usual siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.number(),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    result == 0
}

/// `None` when there is no descriptor or memory to look with.
fn is_known_alive(process: Proc) -> Option<bool> {
    let stat = known(Stat::read(process.pid))?;
    Some(stat.is_some_and(|stat| stat.is_the(process) && !stat.is_dead))
}

fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes numbers alone.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the descriptor is new and nobody else's; it is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a run's group, unless it is a stranger's by now. -1 and 0 mean others to
/// kill(2), so they are never used.
fn group_of(target: &Target) -> Option<Pid> {
    let stranger = target.leader_ended && kill(target.leader.0, 0);
    Some(target.leader).filter(|leader| leader.0 > 1 && !stranger)
}

fn signal_with_continue(signal: Signal, send: impl Fn(Signal) -> bool) {
    send(signal);
    if signal != Signal::KILL {
        send(Signal::CONT);
    }
}

/// Whether there was a process to send to; one that may not be signalled is there.
fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: takes numbers alone.
    let result = Errno::result(unsafe { libc::kill(pid, signal) });
    matches!(result, Ok(_) | Err(Errno::EPERM))
}

fn own_pid() -> Pid {
    Pid(i32::try_from(std::process::id()).unwrap_or(0))
}

/// A bound for a run that forks for ever: the kill at the end of its grace comes again.
const MAX_ROUNDS: usize = 8;
/// More than a line of `/proc/PID/stat` takes: 52 numbers and a short name.
const STAT_BYTES: usize = 2048;
/// More than a job's id and three numbers take.
const TAG_BYTES: usize = 256;
/// How much of an environment is searched; `K1S_RUN` is put first.
const ENVIRON_BYTES: usize = 256 * 1024;
/// A program takes far longer to execute another than these take.
const ENVIRON_LOOKS: usize = 4;
/// Fields of `/proc/PID/stat`, counted from 1.
const STATE: usize = 3;
const SESSION: usize = 6;
const NUM_THREADS: usize = 20;
const START_TIME: usize = 22;
const MEMORY: usize = 23;
const END_OF_CODE: usize = 27;
const ENV_START: usize = 50;
const ENV_END: usize = 51;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::os::testing::*;
    use crate::os::{limits, prepare, reap};
    use std::io::{BufRead, BufReader};

    fn target(leader: i32) -> Target {
        Target {
            leader: Pid(leader),
            leader_ended: false,
            tag: "instance.job.1".to_owned(),
            strays: BTreeSet::new(),
        }
    }

    /// `pid parent group session` each; a `z` behind: a zombie, `=TAG`: its `K1S_RUN`, `=?`: hidden.
    /// k1s is 10, in session 9; leaders are 100 and 200.
    fn snapshot(world: &'static [&'static str]) -> Snapshot {
        let line = |text: &str| {
            let numbers: Vec<i32> =
                text.split([' ', 'z', '=']).filter_map(|n| n.parse().ok()).collect();
            Stat {
                process: proc(numbers[0]),
                parent: Pid(numbers[1]),
                group: Pid(numbers[2]),
                session: Pid(numbers[3]),
                is_dead: text.contains('z'),
            }
        };
        let tag = |pid: Pid| {
            let start = format!("{} ", pid.0);
            let text = world.iter().find(|text| text.starts_with(&start)).unwrap();
            match text.split_once('=') {
                Some((_, "?")) => Tag::Hidden,
                Some((_, tag)) => Tag::Run(tag.to_owned()),
                None => Tag::None,
            }
        };
        let is_leader = |pid: Pid| pid.0 % 100 == 0;
        Snapshot::new(world.iter().map(|text| line(text)), Pid(10), is_leader, tag)
    }

    fn proc(pid: i32) -> Proc {
        Proc { pid: Pid(pid), start_time: 1000 + u64::try_from(pid).unwrap() }
    }

    fn check(world: &'static [&'static str], target: &Target, expected: &[i32]) {
        let strays = snapshot(world).strays(target);
        let strays: Vec<i32> = strays.iter().map(|stray| stray.pid.0).collect();
        assert_eq!(strays, expected, "{world:?}");
    }

    #[test]
    fn strays_are_found_by_their_parent() {
        let group = &["10 1 9 9", "100 10 100 100", "101 100 100 100"];
        check(group, &target(100), &[]);
        let world = &[
            "10 1 9 9",
            "100 10 100 100",
            "101 100 101 101",
            "102 101 101 101",
            "103 100 103 100",
            "200 10 200 200",
            "201 200 201 201",
        ];
        check(world, &target(100), &[101, 102, 103]);
        let zombie = &["10 1 9 9", "100 10 100 100", "101 100 101 101z"];
        check(zombie, &target(100), &[]);
    }

    #[test]
    fn strays_are_found_by_their_tag() {
        let world = &[
            "10 1 9 9",
            "100 10 100 100",
            "105 10 105 105=instance.job.1",
            "106 105 106 106",
            "107 10 107 107=instance.job.2",
            "108 10 108 108",
        ];
        check(world, &target(100), &[105, 106]);
    }

    #[test]
    fn while_an_orphan_cannot_be_told_nothing_is_taken_for_gone() {
        let gone = &["10 1 9 9", "105 10 105 105=instance.job.2"];
        assert!(!snapshot(gone).may_hide(&target(100)));
        let hidden = &["10 1 9 9", "105 10 105 105=?"];
        assert!(snapshot(hidden).may_hide(&target(100)));
        assert!(!snapshot(hidden).is_left(&target(100)));
        check(hidden, &target(100), &[]);
        let group = Target { tag: String::new(), ..target(100) };
        assert!(!snapshot(hidden).may_hide(&group), "it is in no group");
        let child_of_another = &["10 1 9 9", "200 10 200 200", "105 200 105 105=?"];
        assert!(!snapshot(child_of_another).may_hide(&target(100)));
    }

    /// A stray that was stopped in the moment that it executed a program was taken for a
    /// stranger's, and lived on.
    #[test]
    fn a_process_that_executes_a_program_is_no_strangers() {
        let endless = shell("f=$(mktemp); printf 'exec sh %s' $f > $f; echo $f; exec sh $f");
        let spawned = spawn(&mut spawner(), &endless).unwrap();
        let mut file = String::new();
        blocking(&spawned.output.stdout);
        BufReader::new(File::from(spawned.output.stdout)).read_line(&mut file).unwrap();
        let tags: Vec<Tag> = (0..20_000).map(|_| run_tag(spawned.pid)).collect();
        assert!(signal_process(spawned.pid, Signal::KILL));
        wait(spawned.pid);
        std::fs::remove_file(file.trim()).unwrap();
        assert!(!tags.contains(&Tag::None));
        assert!(tags.contains(&Tag::Run("instance.job.1".into())));
        assert_eq!(run_tag(spawned.pid), Tag::None, "it is gone");
    }

    /// It was looked at again for ever, and no job that was stopped came to its end meanwhile.
    #[test]
    fn a_process_that_has_unmapped_its_environment_has_no_tag() {
        let name = "os::process::tests::a_process_that_has_unmapped_its_environment_has_no_tag";
        in_own_process(name, || {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            let field = |number: usize| fields[number - STATE].parse::<usize>().unwrap();
            let start = field(ENV_START) & !0xfff;
            let protect = |protection| {
                let length = field(ENV_END) - start;
                // SAFETY: nobody reads the environment meanwhile.
                unsafe { libc::mprotect(start as *mut libc::c_void, length, protection) }
            };
            assert_eq!(protect(libc::PROT_NONE), 0);
            let tag = run_tag(own_pid());
            assert_eq!(protect(libc::PROT_READ | libc::PROT_WRITE), 0);
            assert_eq!(tag, Tag::None);
        });
    }

    #[test]
    fn a_process_without_an_environment_has_no_tag() {
        let spawned = spawn(&mut spawner(), &command("env", &["-i", "sleep", "1000"])).unwrap();
        let is_sleep = || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", spawned.pid.0));
            name.unwrap() == "sleep\n"
        };
        while !is_sleep() || run_tag(spawned.pid) == Tag::Hidden {
            std::thread::yield_now();
        }
        assert_eq!(run_tag(spawned.pid), Tag::None);
        assert!(signal_process(spawned.pid, Signal::KILL));
        wait(spawned.pid);
    }

    #[test]
    fn strays_of_all_runs_of_a_job_are_found_by_its_tag() {
        let world = &[
            "10 1 9 9",
            "105 10 105 105=instance.job.1",
            "106 10 106 106=instance.job.27",
            "107 10 107 107=instance.job.b.1",
            "108 10 108 108=instance.jobs.1",
            "109 10 109 109",
        ];
        let mut job = target(0);
        job.leader_ended = true;
        job.tag = "instance.job.".to_owned();
        check(world, &job, &[105, 106]);
        job.tag = String::new();
        check(world, &job, &[]);
    }

    #[test]
    fn strays_are_found_by_their_session() {
        let orphan = &["10 1 9 9", "100 10 100 100", "104 10 104 100"];
        check(orphan, &target(100), &[104]);
        let of_a_stray =
            &["10 1 9 9", "100 10 100 100", "101 100 101 101", "109 10 109 101", "110 109 110 101"];
        check(of_a_stray, &target(100), &[101, 109, 110]);
        // k1s's own session is nobody's, nor is one from outside of the namespace.
        let foreign =
            &["10 1 9 9", "100 10 100 100", "101 100 101 9", "9 1 9 9", "102 100 102 0", "5 0 5 0"];
        check(foreign, &target(100), &[101, 102]);
    }

    #[test]
    fn a_stray_that_was_known_is_found_again_but_not_one_of_its_number() {
        let world = &["10 1 9 9", "111 10 111 111", "112 111 111 111"];
        let mut run = target(100);
        run.leader_ended = true;
        check(world, &run, &[]);
        run.strays = [proc(111)].into();
        check(world, &run, &[111, 112]);
        run.strays = [Proc { start_time: 1, ..proc(111) }].into();
        check(world, &run, &[]);
    }

    #[test]
    fn once_the_leader_is_collected_its_number_is_a_strangers() {
        let mut run = target(300);
        // A job of now, which has got the number of the run of then.
        let stranger = &["10 1 9 9", "300 10 300 300", "301 300 301 300"];
        let survivor = &["10 1 9 9", "301 10 300 300", "302 10 302 300"];
        check(stranger, &run, &[301]);
        assert!(snapshot(stranger).group_is_alive(&run));
        run.leader_ended = true;
        check(stranger, &run, &[]);
        assert!(!snapshot(stranger).group_is_alive(&run));
        check(survivor, &run, &[302]);
        assert!(snapshot(survivor).group_is_alive(&run));
        assert!(!snapshot(&["10 1 9 9", "301 10 300 300z"]).group_is_alive(&run));
    }

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let rest = "100 101 102 34816 -1 4194304 1 0 0 0 0 0 0 0 20 0 THREADS 0 237131 0\n";
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
        }
        for broken in ["", "42", "42 (cat", "42 (cat)", "42 (cat) R 1 2", "x (cat) R 1 2 3"] {
            assert!(Stat::parse(broken.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn this_very_process_is_alive_and_another_of_its_number_is_not() {
        let own = Stat::read(own_pid()).unwrap().process;
        assert!(is_alive(own));
        let other = Proc { start_time: own.start_time + 1, ..own };
        assert!(!is_alive(other));
        assert!(!signal_exactly(other, Signal::KILL));
        assert!(signal_exactly(own, Signal::CONT));
    }

    #[test]
    fn without_descriptors_nobody_is_taken_for_gone() {
        let name = "os::process::tests::without_descriptors_nobody_is_taken_for_gone";
        in_own_process(name, || {
            // A session from outside of this pid namespace has no number, and would not be seen.
            nix::unistd::setsid().unwrap();
            let own = own_pid();
            let free = File::open("/dev/null").unwrap().as_raw_fd();
            let mut limit = limits::nofile().unwrap();
            // The directory is looked at first, then each process in turn.
            for (more, sees) in [(0, false), (1, true)] {
                limit.rlim_cur = u64::try_from(free + more).unwrap();
                limits::set_nofile(limit).unwrap();
                let snapshot = Snapshot::take(|_| false);
                let seen = snapshot.map(|snapshot| snapshot.processes.contains_key(&own));
                assert_eq!(seen, sees.then_some(true), "{more}");
            }
        });
    }

    #[test]
    fn only_pid_1_may_kill_everything() {
        let name = "os::process::tests::only_pid_1_may_kill_everything";
        in_own_process(name, || {
            assert_eq!(kill_all().unwrap_err().raw_os_error(), Some(libc::EPERM));
        });
    }

    /// Reaps until no child is left, which takes as long as they live.
    fn reap_all() -> BTreeMap<Pid, ExitStatus> {
        let mut exits = BTreeMap::new();
        loop {
            exits.extend(std::iter::from_fn(reap));
            // SAFETY: a null pointer asks for no information; WNOWAIT leaves the child there.
            let result = unsafe {
                let flags = libc::WEXITED | libc::WNOWAIT;
                libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), flags)
            };
            if Errno::result(result) == Err(Errno::ECHILD) {
                return exits;
            }
        }
    }

    /// Starts a run, waits for its word, sends it the signals: nobody is left who could write
    /// to its output.
    fn check_gone(script: &str, signals: &[Signal], end: ExitStatus) {
        let mut spawner = spawner();
        let spawned = spawn(&mut spawner, &shell(script)).unwrap();
        let pipe = spawned.output.stdout;
        blocking(&pipe);
        let mut reader = BufReader::new(File::from(pipe));
        reader.read_line(&mut String::new()).unwrap();
        let mut targets = [target(spawned.pid.0)];
        let mut exits = BTreeMap::new();
        for signal in signals {
            let is_leader = |pid| pid == spawned.pid && !exits.contains_key(&pid);
            signal_runs(&mut targets, *signal, is_leader);
            exits.extend(wait_for(spawned.pid, &exits));
            targets[0].leader_ended = true;
        }
        assert_eq!(reader.read_line(&mut String::new()).unwrap(), 0, "{script}");
        exits.extend(reap_all());
        assert_eq!(exits[&spawned.pid], end, "{script}");
        assert!(!group_is_there(&targets[0]));
        assert!(!targets[0].strays.iter().any(|stray| is_alive(*stray)));
    }

    fn wait_for(pid: Pid, known: &BTreeMap<Pid, ExitStatus>) -> Option<(Pid, ExitStatus)> {
        (!known.contains_key(&pid)).then(|| (pid, wait(pid)))
    }

    #[test]
    fn a_run_is_killed_with_all_that_left_its_group() {
        let name = "os::process::tests::a_run_is_killed_with_all_that_left_its_group";
        in_own_process(name, || {
            prepare();
            let by = ExitStatus::Signal;
            let (term, kill) = ([Signal::TERM], [Signal::KILL]);
            check_gone("echo; exec sleep 1000", &term, by(Signal::TERM));
            check_gone("echo; kill -STOP $$", &term, by(Signal::TERM));
            let session = "setsid sh -c 'echo; exec sleep 1000' & wait";
            check_gone(session, &kill, by(Signal::KILL));
            let orphan = "(setsid sh -c 'setsid sleep 1000 & echo; wait' &); sleep 1000";
            check_gone(orphan, &kill, by(Signal::KILL));
            // Only what was found at the first signal can be told from a stranger's later.
            let hidden = "setsid env -i sh -c 'trap \"\" TERM; echo; sleep 1000' & wait";
            check_gone(hidden, &[Signal::TERM, Signal::KILL], by(Signal::TERM));
        });
    }
}
