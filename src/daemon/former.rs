//! Stops what an earlier k1s has left, which was killed: its jobs start when that is gone.
//!
//! ```text
//!   look at all processes ─▶ those of its runs ─▶ asked to end ─ grace over ─▶ killed
//!          ▲                        │ none: `gone`
//!          └──── after a while ─────┘
//! ```
//!
//! They are no children of k1s, so nothing tells of their end, and k1s looks again and again, later
//! and later, as long as there are any. A process is of a run if its environment says so by
//! `K1S_RUN`, or if it is in the session or the group of a run's first process. The number of that
//! is used again only when nobody is left of them, and who has it then has another start time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::gather::gather;
use crate::job::{JobId, Pid, Signal};
use crate::os::{self, Proc, Seen, Stat, signalling};
use crate::state::{Process, Replay};
use crate::time::{Mono, Now};

/// What is left of an earlier k1s.
#[derive(Debug, Default)]
pub(super) struct Former {
    instances: Vec<String>,
    jobs: BTreeMap<u64, Left>,
    look_at: Option<Mono>,
    pause: Duration,
}

/// What is left of a job.
#[derive(Debug)]
struct Left {
    /// Unknown for a job that is gone.
    id: Option<JobId>,
    signal: Signal,
    grace: Duration,
    /// The first processes of its runs.
    leaders: Vec<Process>,
    asked: BTreeSet<Proc>,
    /// When all are killed.
    kill_at: Option<Mono>,
    is_there: bool,
}

impl Former {
    /// Looks for processes; `None` if there are none. They are asked to end later.
    pub(super) fn find(replay: &Replay, boot: &str) -> Option<Former> {
        if replay.session.boot != boot || replay.session.instances.is_empty() {
            return None;
        }
        let instances = replay.session.instances.clone();
        let mut former = Former { instances, look_at: Some(Mono(0)), ..Former::default() };
        let seen = os::look(&former.instances);
        let tagged: BTreeSet<u64> =
            gather(seen.iter().flatten().filter_map(|it| Some(it.tag.as_ref()?.job)));
        for job in &replay.jobs {
            let (key, stop) = (job.key.number(), &job.spec.stop);
            let leaders = replay.processes.get(&job.key).cloned().unwrap_or_default();
            if seen.is_err() || !leaders.is_empty() || tagged.contains(&key) {
                let left = Left::new(Some(job.id.clone()), stop.signal, stop.timeout, leaders);
                former.jobs.insert(key, left);
            }
        }
        // When it cannot be seen, they are looked for later, and their jobs wait until then.
        let Ok(seen) = seen else { return Some(former) };
        for (key, _) in former.owned(&seen) {
            former.left(key).is_there = true;
        }
        former.jobs.retain(|_, left| left.is_there);
        (!former.jobs.is_empty()).then_some(former)
    }

    /// Whether processes of this job are left.
    pub(super) fn has_job(&self, key: u64) -> bool {
        self.jobs.contains_key(&key)
    }

    /// Whether any are left.
    pub(super) fn is_over(&self) -> bool {
        self.jobs.is_empty()
    }

    /// When to call [`Former::go_on`].
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.look_at.filter(|_| !self.is_over())
    }

    /// Looks for what is left, and stops it. Returns the ids of jobs of which nothing is left.
    pub(super) fn go_on(&mut self, now: Now) -> Vec<JobId> {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.look_at = Some(now.mono + self.pause);
        let Ok(seen) = os::look(&self.instances) else { return Vec::new() };
        let owned = self.owned(&seen);
        self.jobs.values_mut().for_each(|left| left.is_there = false);
        let alive: BTreeSet<Proc> = gather(seen.iter().map(|it| it.stat.process));
        self.jobs.values_mut().for_each(|left| left.asked.retain(|it| alive.contains(it)));
        let asked: BTreeSet<Pid> =
            gather(self.jobs.values().flat_map(|left| &left.asked).map(|it| it.pid));
        for (key, Stat { process, parent, .. }) in owned {
            self.left(key).stop(process, asked.contains(&parent), now);
        }
        let gone = self.jobs.extract_if(.., |_, left| !left.is_there);
        gone.filter_map(|(_, left)| left.id).collect()
    }

    /// The processes of jobs.
    fn owned(&self, seen: &[Seen]) -> Vec<(u64, Stat)> {
        let started: BTreeMap<Pid, u64> =
            gather(seen.iter().map(|it| (it.stat.process.pid, it.stat.process.start_time)));
        let mut leaders = BTreeMap::new();
        for (key, left) in &self.jobs {
            for (pid, start_time) in &left.leaders {
                let Some(start_time) = start_time else { continue };
                // Another process has its number.
                let is_anothers = started.get(pid).is_some_and(|time| time != start_time);
                if !is_anothers {
                    leaders.insert(*pid, (*key, *start_time));
                }
            }
        }
        let of_leader = |it: &Seen| {
            let led = leaders.get(&it.stat.session).or_else(|| leaders.get(&it.stat.group));
            led.filter(|(_, start)| it.stat.process.start_time >= *start).map(|(key, _)| *key)
        };
        let owner = |it: &Seen| it.tag.map(|tag| tag.job).or_else(|| of_leader(it));
        seen.iter().filter_map(|it| Some((owner(it)?, it.stat))).collect()
    }

    fn left(&mut self, key: u64) -> &mut Left {
        let unknown = || Left::new(None, Signal::TERM, UNKNOWN_GRACE, Vec::new());
        self.jobs.entry(key).or_insert_with(unknown)
    }
}

impl Left {
    fn new(id: Option<JobId>, signal: Signal, grace: Duration, leaders: Vec<Process>) -> Left {
        let asked = BTreeSet::new();
        Left { id, signal, grace, leaders, asked, kill_at: None, is_there: false }
    }

    /// Asks a process to end, but not one that is new and has a parent that was asked before: that
    /// may need it to end.
    fn stop(&mut self, process: Proc, has_asked_parent: bool, now: Now) {
        self.is_there = true;
        let kill_at = *self.kill_at.get_or_insert(now.mono + self.grace);
        if now.mono >= kill_at {
            signalling::stop_exactly(process, Signal::KILL);
        } else if !has_asked_parent && self.asked.insert(process) {
            signalling::stop_exactly(process, self.signal);
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);
/// For processes of a job that is gone.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);
