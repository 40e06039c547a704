//! A world of processes, as far as a supervisor can tell it from the real one.
//!
//! Processes have parents, groups, an environment that names their run (unless they have cleared
//! it), and a life that is decided at their birth: when they end by themselves, whether they heed
//! the stop signal, how long SIGKILL takes. Ids are few, so that they are soon used again; as in
//! Linux, none is given out while a process or a group has it.

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

pub(super) struct Process {
    pub(super) run: RunKey,
    /// Whether it still carries the mark of its run.
    is_tagged: bool,
    pub(super) group: i32,
    /// k1s when there is none.
    parent: Option<i32>,
    /// When it ends; `None`: not by itself.
    ends_at: Option<u64>,
    status: ExitStatus,
    is_stubborn: bool,
    /// How long it takes SIGKILL to work: uninterruptible sleep.
    lag: u64,
    /// It has ended and is to be reaped.
    is_zombie: bool,
    /// When k1s first asked it to end.
    pub(super) asked_at: Option<u64>,
    pub(super) killed_at: Option<u64>,
}

impl World {
    /// Starts a run with all that it is ever going to fork.
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

    /// A child that stays in the group, or leaves it, or is orphaned as it does.
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
            // What k1s cannot find must end by itself.
            ends_at: (is_lost || rng.percent(60)).then(|| now + rng.below(10_000)),
            status: ExitStatus::Code(0),
            is_stubborn: rng.percent(40),
            lag: rng.pick(&[0, 0, 0, 20, 3_000]),
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

    /// All that are alive.
    pub(super) fn living(&self) -> impl Iterator<Item = (i32, &Process)> {
        self.processes.iter().filter(|(_, p)| !p.is_zombie).map(|(pid, p)| (*pid, p))
    }

    /// Those that k1s can tell to be of a run, by the group or by the environment.
    pub(super) fn findable(&self) -> impl Iterator<Item = (i32, &Process)> {
        self.living().filter(|(pid, p)| p.is_tagged || p.group != *pid)
    }

    /// The living processes that a target means. As the daemon does, a group whose leader was
    /// reaped is taken for gone when another process has the leader's id: the kernel gives out
    /// no id that a group has.
    pub(super) fn members(&self, target: &Target, leaders: &BTreeSet<Pid>) -> Vec<i32> {
        let is_own =
            |leader: i32| leaders.contains(&Pid(leader)) || !self.processes.contains_key(&leader);
        let is_meant = |pid: i32, process: &Process| match target {
            Target::Process(Pid(p)) => pid == *p,
            Target::Group(Pid(group)) => is_own(*group) && process.group == *group,
            Target::Tree { leader, owner } => {
                leader.is_some_and(|Pid(leader)| {
                    is_own(leader) && (process.group == leader || self.descends(process, leader))
                }) || (process.is_tagged && owner.covers(process.run))
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

    /// Ends all whose time has come.
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

    /// The zombies that are k1s's to reap.
    pub(super) fn zombies(&self) -> Vec<i32> {
        self.processes.iter().filter(|(_, p)| p.is_zombie).map(|(pid, _)| *pid).collect()
    }

    /// Reaps a zombie: how it ended, and whether others are in its group, dead or alive.
    pub(super) fn reap(&mut self, pid: i32) -> (ExitStatus, bool) {
        let process = self.processes.remove(&pid).unwrap();
        assert!(process.is_zombie);
        (process.status, self.processes.values().any(|other| other.group == pid))
    }

    /// An id that no process and no group has: the lowest, as soon as it is free.
    fn free_pid(&mut self) -> i32 {
        let groups: BTreeSet<i32> = self.processes.values().map(|p| p.group).collect();
        let is_free = |pid: &i32| !self.processes.contains_key(pid) && !groups.contains(pid);
        let pid = (LOWEST_PID..).find(is_free).unwrap();
        self.reused_pids += u64::from(pid <= self.highest_pid);
        self.highest_pid = self.highest_pid.max(pid);
        pid
    }
}

const LOWEST_PID: i32 = 2;
