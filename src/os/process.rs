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
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::proc::{Stat, Tag, group_of_process, known, list, own_pid, run_tag, session_of};
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

/// Sends `signal`, and then SIGCONT, to a child of k1s that has not been collected.
pub fn stop_process(pid: Pid, signal: Signal) {
    signal_with_continue(signal, |signal| signal_process(pid, signal));
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

/// A bound for a run that forks for ever: the kill at the end of its grace comes again.
const MAX_ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ExitStatus;
    use crate::os::testing::*;
    use crate::os::{limits, prepare, reap};
    use std::fs::File;
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
