//! A world of processes that looks real to the supervisor.
//!
//! Processes have parents, groups, the mark of their run (unless they have lost it), and a life
//! that is decided when they start: when they end by themselves, whether the stop signal ends them,
//! how long SIGKILL takes. There are few pids, so that they are soon used again. As in Linux, a pid
//! is not used while a process or a group has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::{ExitStatus, Pid, Signal};
use crate::supervisor::{RunKey, Target};

use super::rng::Rng;

#[derive(Default)]
pub(super) struct World {
    processes: BTreeMap<i32, Process>,
    highest_pid: i32,
    pub(super) reused_pids: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Process {
    pub(super) run: RunKey,
    /// Whether it still carries the mark of its run.
    is_tagged: bool,
    pub(super) group: i32,
    /// `None`: k1s.
    parent: Option<i32>,
    /// When it ends; `None`: not by itself.
    ends_at: Option<u64>,
    status: ExitStatus,
    is_stubborn: bool,
    /// How long it takes SIGKILL to work: uninterruptible sleep.
    lag: u64,
    /// It is the first process of a command beside a run, or was forked by it.
    is_command: bool,
    is_of_command: bool,
    /// It has ended and is to be reaped.
    is_zombie: bool,
    /// When k1s first asked it to end.
    pub(super) asked_at: Option<u64>,
    pub(super) killed_at: Option<u64>,
}

impl World {
    /// Starts a run, with all processes that it will ever fork.
    pub(super) fn spawn(&mut self, run: RunKey, now: u64, rng: &mut Rng) -> Pid {
        let leader = self.free_pid();
        let life = match rng.below(10) {
            0 => Some(0),
            1..=4 => Some(rng.below(200)),
            5..=7 => Some(rng.below(20_000)),
            _ => None,
        };
        let status = match rng.below(10) {
            0..=4 => ExitStatus::Code(0),
            5..=8 => ExitStatus::Code(1 + rng.below(255) as u8),
            _ => ExitStatus::Signal(Signal::KILL),
        };
        let process = Process {
            run,
            is_tagged: true,
            group: leader,
            parent: None,
            ends_at: life.map(|life| now + life),
            status,
            is_stubborn: rng.percent(20),
            lag: rng.pick(&[0, 0, 0, 0, 0, 20, 3_000, 30_000]),
            is_command: false,
            is_of_command: false,
            is_zombie: false,
            asked_at: None,
            killed_at: None,
        };
        self.processes.insert(leader, process);
        if rng.percent(40) {
            for _ in 0..1 + rng.below(3) {
                self.fork(leader, now, rng);
            }
        }
        Pid(leader)
    }

    /// Starts a command beside a run.
    pub(super) fn spawn_command(&mut self, run: RunKey, now: u64, rng: &mut Rng) -> Pid {
        let leader = self.free_pid();
        let life = match rng.below(10) {
            0..=6 => Some(rng.below(100)),
            7..=8 => Some(rng.below(20_000)),
            _ => None,
        };
        let process = Process {
            run,
            is_tagged: true,
            group: leader,
            parent: None,
            ends_at: life.map(|life| now + life),
            status: ExitStatus::Code(u8::from(rng.percent(30))),
            is_stubborn: true,
            lag: rng.pick(&[0, 0, 0, 20, 3_000]),
            is_command: true,
            is_of_command: true,
            is_zombie: false,
            asked_at: None,
            killed_at: None,
        };
        let child = Process { parent: Some(leader), is_command: false, ends_at: None, ..process };
        self.processes.insert(leader, process);
        if rng.percent(20) {
            let pid = self.free_pid();
            self.processes.insert(pid, child);
        }
        Pid(leader)
    }

    /// Adds a child that stays in the group, or leaves it, or leaves it and becomes an orphan.
    fn fork(&mut self, leader: i32, now: u64, rng: &mut Rng) {
        let pid = self.free_pid();
        let run = self.processes[&leader].run;
        let leaves = rng.percent(40);
        let is_tagged = rng.percent(70);
        let is_lost = leaves && !is_tagged;
        let child = Process {
            run,
            is_tagged,
            group: if leaves { pid } else { leader },
            parent: if rng.percent(30) { None } else { Some(leader) },
            // A process that k1s cannot find must end by itself.
            ends_at: (is_lost || rng.percent(60)).then(|| now + rng.below(10_000)),
            status: ExitStatus::Code(0),
            is_stubborn: rng.percent(40),
            lag: rng.pick(&[0, 0, 0, 20, 3_000]),
            is_command: false,
            is_of_command: false,
            is_zombie: false,
            asked_at: None,
            killed_at: None,
        };
        self.processes.insert(pid, child);
    }

    pub(super) fn get(&self, pid: i32) -> &Process {
        &self.processes[&pid]
    }

    pub(super) fn get_mut(&mut self, pid: i32) -> &mut Process {
        self.processes.get_mut(&pid).unwrap()
    }

    /// The living processes.
    pub(super) fn living(&self) -> impl Iterator<Item = (i32, &Process)> {
        self.processes.iter().filter(|(_, p)| !p.is_zombie).map(|(pid, p)| (*pid, p))
    }

    /// Those that k1s can find, by their group or their mark.
    pub(super) fn findable(&self) -> impl Iterator<Item = (i32, &Process)> {
        self.living().filter(|(pid, p)| p.is_tagged || p.group != *pid)
    }

    /// The living processes of a target. As in the daemon, a group whose leader was reaped counts
    /// as gone when another process has that pid, because the kernel does not use the id of a
    /// group.
    pub(super) fn members(&self, target: &Target, leaders: &BTreeSet<Pid>) -> Vec<i32> {
        let is_own = |leader: i32| {
            let process = self.processes.get(&leader);
            leaders.contains(&Pid(leader)) || process.is_none_or(|process| process.is_command)
        };
        let is_meant = |pid: i32, process: &Process| match target {
            Target::Process(Pid(p)) => pid == *p,
            Target::Group(Pid(group)) => is_own(*group) && process.group == *group,
            Target::Tree { leader, owner } => {
                leader.is_some_and(|Pid(leader)| {
                    is_own(leader) && (process.group == leader || self.descends(process, leader))
                }) || (process.is_tagged && !process.is_command && owner.covers(process.run))
            }
        };
        self.living().filter(|(pid, p)| is_meant(*pid, p)).map(|(pid, _)| pid).collect()
    }

    fn descends(&self, process: &Process, ancestor: i32) -> bool {
        let mut parent = process.parent;
        while let Some(pid) = parent {
            if pid == ancestor {
                return true;
            }
            parent = self.processes.get(&pid).and_then(|p| p.parent);
        }
        false
    }

    /// Delivers a signal to one process.
    pub(super) fn signal(&mut self, pid: i32, signal: Signal, now: u64, rng: &mut Rng) {
        let process = self.get_mut(pid);
        let (delay, status) = match signal {
            Signal::KILL => (process.lag, ExitStatus::Signal(signal)),
            Signal::TERM if !process.is_stubborn && rng.percent(50) => {
                (rng.below(300), ExitStatus::Code(0))
            }
            Signal::TERM if !process.is_stubborn => (0, ExitStatus::Signal(signal)),
            _ => return,
        };
        let end = now + delay;
        if process.ends_at.is_none_or(|at| at > end) {
            process.ends_at = Some(end);
            process.status = status;
        }
    }

    /// When the next process ends.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.living().filter_map(|(_, process)| process.ends_at).min()
    }

    /// Ends the processes whose time has come.
    pub(super) fn pass(&mut self, now: u64) {
        let over: Vec<i32> = self
            .living()
            .filter(|(_, process)| process.ends_at.is_some_and(|at| at <= now))
            .map(|(pid, _)| pid)
            .collect();
        for pid in over {
            for process in self.processes.values_mut().filter(|p| p.parent == Some(pid)) {
                process.parent = None;
            }
            self.get_mut(pid).is_zombie = true;
            if self.get(pid).parent.is_some() {
                self.processes.remove(&pid);
            }
        }
    }

    /// The zombies that k1s has to reap.
    pub(super) fn zombies(&self) -> Vec<i32> {
        self.processes.iter().filter(|(_, p)| p.is_zombie).map(|(pid, _)| *pid).collect()
    }

    /// Reaps a zombie; returns how it ended.
    pub(super) fn reap(&mut self, pid: i32) -> ExitStatus {
        let process = self.processes.remove(&pid).unwrap();
        assert!(process.is_zombie);
        process.status
    }

    /// Whether the group of a leader that was reaped has members, dead or alive.
    pub(super) fn has_group(&self, Pid(leader): Pid) -> bool {
        let has_members = self.processes.values().any(|process| process.group == leader);
        has_members && !self.processes.contains_key(&leader)
    }

    /// The lowest pid that no process and no group has.
    fn free_pid(&mut self) -> i32 {
        let groups: BTreeSet<i32> = self.processes.values().map(|p| p.group).collect();
        let is_free = |pid: &i32| !self.processes.contains_key(pid) && !groups.contains(pid);
        let pid = (LOWEST_PID..).find(is_free).unwrap();
        self.reused_pids += u64::from(pid <= self.highest_pid);
        self.highest_pid = self.highest_pid.max(pid);
        pid
    }
}

impl Process {
    /// Whether it is in the group of a command, which may be cut short at any time.
    pub(super) fn is_beside(&self, target: &Target) -> bool {
        self.is_of_command && *target == Target::Group(Pid(self.group))
    }
}

const LOWEST_PID: i32 = 2;
