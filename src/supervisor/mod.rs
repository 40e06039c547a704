//! The supervisor: what should run, when, and what becomes of it.
//!
//! It is handed `now` and what happened, and hands back what to do. Nothing here spawns,
//! signals, reads a clock, an environment or a random number, so the whole life of ten
//! thousand jobs replays in a test.
//!
//! ```text
//!   handle_* (a spawn succeeded, a process ended, a deadline came …)
//!   create, kill, start, … (somebody asked)        ┌────────────┐
//!   ───────────────────────────────────────────────► Supervisor ├──► poll_action, poll_spawn
//!                                                  └─────┬──────┘     poll_timeout, poll_event
//!                                                        │ one `Job` each, in order of creation
//!                                                        ▼
//!        Job: a Phase (what happens next)  and its live Runs, each a state machine of its own
//! ```
//!
//! - [`Job`] (`life/`) decides *whether* to run: restarts, retries, schedules, stops.
//! - `Run` (`run.rs`) is one process from its spawn until nothing of it is left.
//! - `request.rs` is what somebody asks of the jobs, `shutdown.rs` how everything is stopped,
//!   `action.rs` and `event.rs` what is to be done and what is told.
//! - `OutputMemory` (`memory.rs`) keeps all captured output within one budget.
//!
//! Whoever drives it keeps three rules: after [`Supervisor::poll_spawn`] hands out a launch, the
//! next call says what came of it; each end of a child is told to [`Supervisor::handle_exit`]
//! exactly once, after the output that came before it; and every [`Action::Survey`] is answered.

mod action;
mod backoff;
mod due;
mod event;
mod life;
mod memory;
mod request;
mod run;
mod shutdown;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::job::{ExitStatus, JobId, Pid, SpawnFailure, Stream};
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

pub use action::{Action, Launch, Target};
pub use due::Skipped;
use event::Events;
pub use event::{Event, Happened, SkipReason};
pub use life::Job;
use memory::OutputMemory;
pub use request::{Origin, Put, Refusal, Request};
use shutdown::Shutdown;
pub use view::State;

/// What a supervisor needs to know from the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tells the runs of this k1s from those of any other: the first part of every `K1S_RUN`.
    /// Holds no dot.
    pub instance: String,
    /// The most jobs that may exist at a time.
    pub job_limit: usize,
    /// The most memory, in bytes, that captured output may take.
    pub output_memory: usize,
    /// How long a shutdown may take before everything that is left is killed.
    pub shutdown_timeout: Duration,
    /// The job whose exit code is k1s's own, unless another critical job began the shutdown; to
    /// kill or remove it is to begin the shutdown.
    pub main: Option<JobId>,
}

/// All jobs, and what is to be done for them.
#[derive(Debug)]
pub struct Supervisor {
    /// In order of creation. Boxed, as a map whose keys only grow is half empty.
    jobs: BTreeMap<JobKey, Box<Job>>,
    ids: BTreeMap<JobId, JobKey>,
    last_key: u64,
    revision: u64,
    /// The last job that has been told of the newest clock step, while others have not.
    told_of_step: Option<JobKey>,
    core: Core,
}

/// A job, for as long as k1s runs: unlike its id, a key is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(u64);

/// One run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// Whose run it is.
    pub job: JobKey,
    /// The job's first run is 1, and so on.
    pub number: u64,
}

/// What the jobs share: timers, and what is to be done.
#[derive(Debug)]
struct Core {
    settings: Settings,
    timers: TimerWheel<Timer>,
    actions: VecDeque<Action>,
    events: Events,
    /// Runs that are to be spawned; one that was stopped meanwhile is passed over.
    starts: VecDeque<RunKey>,
    /// Jobs that were removed while processes of theirs still live. Their ids are free, but none
    /// of their successors starts before they are gone: there is at most one for each id.
    leaving: BTreeMap<JobId, JobKey>,
    pids: BTreeMap<Pid, RunKey>,
    /// Runs whose first process is over while others may be left.
    clearing: BTreeSet<RunKey>,
    /// Runs that the machine had no room for, in the order in which they were last tried.
    deferred: BTreeMap<u64, RunKey>,
    last_deferral: u64,
    memory: OutputMemory,
    live_runs: usize,
    /// There may be room again since deferred runs were last tried.
    has_freed: bool,
    shutdown: Option<Shutdown>,
}

/// A deadline, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// The end of a backoff, the next scheduled run, or the end of a finished job's time to live.
    Job(JobKey),
    /// A deferred spawn is tried again.
    Retry(RunKey),
    /// A run has taken longer than it may.
    Timeout(RunKey),
    /// The grace period of a run is over.
    Kill(RunKey),
    /// It is time to look again at what a run has left.
    Survey(RunKey),
    /// The time for the shutdown is up: everything is killed, or given up on.
    Shutdown,
}

impl Supervisor {
    /// A supervisor without jobs.
    pub fn new(settings: Settings, now: Now) -> Supervisor {
        Supervisor {
            jobs: BTreeMap::new(),
            ids: BTreeMap::new(),
            last_key: 0,
            revision: 0,
            told_of_step: None,
            core: Core {
                timers: TimerWheel::new(now.mono),
                actions: VecDeque::new(),
                events: Events::default(),
                starts: VecDeque::new(),
                leaving: BTreeMap::new(),
                pids: BTreeMap::new(),
                clearing: BTreeSet::new(),
                deferred: BTreeMap::new(),
                last_deferral: 0,
                memory: OutputMemory::new(settings.output_memory),
                live_runs: 0,
                has_freed: false,
                shutdown: None,
                settings,
            },
        }
    }

    // What is there.

    /// The job of this id.
    pub fn job(&self, id: &str) -> Option<&Job> {
        let key = self.ids.get(&JobId::parse(id).ok()?)?;
        self.jobs.get(key).map(Box::as_ref)
    }

    /// The job of this key, unless it was removed.
    pub fn job_of(&self, key: JobKey) -> Option<&Job> {
        self.jobs.get(&key).map(Box::as_ref).filter(|job| !job.is_leaving())
    }

    /// The first job that was created after `after`: a listing may be taken up again at any
    /// moment, whatever was created or removed meanwhile.
    pub fn job_after(&self, after: Option<JobKey>) -> Option<&Job> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut jobs = self.jobs.range((start, Bound::Unbounded)).map(|(_, job)| job.as_ref());
        jobs.find(|job| !job.is_leaving())
    }

    /// Another number whenever a job may look different.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many runs have processes or are about to.
    pub fn live_runs(&self) -> usize {
        self.core.live_runs
    }

    /// The memory, in bytes, that captured output takes.
    pub fn output_memory(&self) -> usize {
        self.core.memory.used()
    }

    /// The run whose first process this is, while it lives.
    pub fn run_of(&self, pid: Pid) -> Option<RunKey> {
        self.core.pids.get(&pid).copied()
    }

    /// Whether this is the first process of a run, and alive.
    pub fn is_leader(&self, pid: Pid) -> bool {
        self.core.pids.contains_key(&pid)
    }

    // What happened.

    /// The launch that was handed out last is running.
    pub fn handle_spawned(&mut self, run: RunKey, pid: Pid, now: Now) {
        self.forget_group(pid, now);
        self.core.pids.insert(pid, run);
        self.update(run.job, now, |job, core| job.handle_spawned(run, pid, core, now));
    }

    /// The launch that was handed out last cannot be started.
    pub fn handle_spawn_failed(&mut self, run: RunKey, failure: SpawnFailure, now: Now) {
        self.update(run.job, now, |job, core| job.handle_spawn_failed(run, failure, core, now));
    }

    /// The machine had no room for the launch that was handed out last: it is tried again.
    pub fn handle_spawn_deferred(&mut self, run: RunKey, error: String, now: Now) {
        self.update(run.job, now, |job, core| job.handle_spawn_deferred(run, error, core, now));
    }

    /// Something was freed that is not a run's: a run that the machine had no room for is tried again.
    pub fn handle_freed(&mut self, now: Now) {
        self.core.has_freed = true;
        self.retry_deferred(now);
    }

    /// A run has written something.
    pub fn handle_output(&mut self, run: RunKey, stream: Stream, bytes: &[u8]) {
        let Some(job) = self.jobs.get_mut(&run.job) else {
            return;
        };
        job.handle_output(run, stream, bytes, &mut self.core);
        while let Some(evicted) = self.core.memory.evict() {
            if let Some(job) = self.jobs.get_mut(&evicted.job) {
                job.discard_output(evicted.number);
            }
        }
    }

    /// A child of k1s has ended. `group_is_alive` says whether its process group still has
    /// members. Returns the run whose first process it was; `None` for an orphan.
    pub fn handle_exit(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        group_is_alive: bool,
        now: Now,
    ) -> Option<RunKey> {
        let run = self.core.pids.remove(&pid)?;
        self.update(run.job, now, |job, core| {
            job.handle_exit(run, status, group_is_alive, core, now)
        });
        Some(run)
    }

    /// Orphans were reaped: what a run has left may be gone now. Where very many wait for that, the
    /// first are looked at now, and all others when they would have been.
    pub fn handle_orphans_reaped(&mut self, now: Now) {
        let first = self.core.clearing.iter().take(HASTENED_A_TURN).copied();
        for run in first.collect::<Vec<_>>() {
            self.update(run.job, now, |job, core| job.handle_orphans_reaped(run, core, now));
        }
    }

    /// What an [`Action::Glance`] was for: nothing is left of the group that the run led.
    pub fn handle_group_gone(&mut self, run: RunKey, now: Now) {
        self.update(run.job, now, |job, core| job.handle_group_gone(run, core, now));
    }

    /// The answer to an [`Action::Survey`].
    pub fn handle_survey(&mut self, run: RunKey, is_alive: bool, now: Now) {
        self.update(run.job, now, |job, core| job.handle_survey(run, is_alive, core, now));
    }

    /// Deadlines may have come: acts on a share of them. As long as there are more,
    /// [`poll_timeout`](Self::poll_timeout) says that it is time.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tell_of_step(now);
        for _ in 0..TIMERS_A_TURN {
            let Some(timer) = self.core.timers.expire(now.mono) else { return };
            match timer {
                Timer::Job(key) => self.update(key, now, |job, core| job.handle_timer(core, now)),
                Timer::Retry(run) => {
                    self.update(run.job, now, |job, core| job.retry(run, core, now))
                }
                Timer::Timeout(run) => {
                    self.update(run.job, now, |job, core| job.handle_run_timeout(run, core, now));
                }
                Timer::Kill(run) => {
                    self.update(run.job, now, |job, core| job.handle_grace_over(run, core));
                }
                Timer::Survey(run) => {
                    self.update(run.job, now, |job, core| job.handle_survey_due(run, core));
                }
                Timer::Shutdown => self.handle_shutdown_timeout(now),
            }
        }
    }

    /// The wall clock was set: calendar schedules are computed anew, a share of them now, the
    /// rest with the next calls of [`handle_timeout`](Self::handle_timeout), which are due at
    /// once.
    pub fn handle_clock_step(&mut self, now: Now) {
        self.told_of_step = Some(JobKey(0));
        self.tell_of_step(now);
    }

    // What to do now.

    /// The next thing to be done to processes that are there.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.core.actions.pop_front()
    }

    /// The next thing that has happened; who does not ask for long misses the oldest.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop()
    }

    /// The next process to be started. The next call must say what came of it.
    pub fn poll_spawn(&mut self) -> Option<Launch> {
        while let Some(run) = self.core.starts.pop_front() {
            let launch = self.jobs.get(&run.job).and_then(|job| job.launch(run));
            if launch.is_some() {
                return launch;
            }
        }
        None
    }

    /// Whether a process waits to be started.
    pub fn has_spawns(&self) -> bool {
        !self.core.starts.is_empty()
    }

    /// When [`Supervisor::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.told_of_step.is_some() { Some(Mono(0)) } else { self.core.timers.next() }
    }

    /// Changes one job, and then draws the consequences that reach beyond it.
    fn update(&mut self, key: JobKey, now: Now, change: impl FnOnce(&mut Job, &mut Core)) {
        if let Some(job) = self.jobs.get_mut(&key) {
            change(job, &mut self.core);
            self.revision += 1;
            self.settle(key, now);
        }
    }

    fn tell_of_step(&mut self, now: Now) {
        let Some(told) = self.told_of_step else { return };
        let rest = self.jobs.range((Bound::Excluded(told), Bound::Unbounded));
        let share: Vec<JobKey> = rest.map(|(key, _)| *key).take(STEPPED_A_TURN).collect();
        for key in &share {
            self.update(*key, now, |job, core| job.handle_clock_step(core, now));
        }
        self.told_of_step = share.last().copied().filter(|_| share.len() == STEPPED_A_TURN);
    }

    fn settle(&mut self, key: JobKey, now: Now) {
        if self.jobs.get(&key).is_some_and(|job| job.has_expired()) {
            self.detach(key);
            if let Some(job) = self.jobs.get_mut(&key) {
                job.remove(&mut self.core, now);
            }
        }
        let Some(job) = self.jobs.get(&key) else { return };
        let end = job.critical_end().map(|exit_code| (exit_code, job.id().clone()));
        if job.is_gone() {
            self.drop_job(key, now);
        }
        if let Some((exit_code, id)) = end.filter(|_| self.core.shutdown.is_none()) {
            self.begin_shutdown(exit_code, Some(id), now);
        }
        self.retry_deferred(now);
        self.finish_shutdown();
    }

    /// Frees the id of a job that is to go.
    fn detach(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        let id = job.id().clone();
        self.ids.remove(&id);
        // One that waits for another to leave has never run: it is gone at once.
        self.core.leaving.entry(id).or_insert(key);
    }

    /// The last process of a removed job is gone: its successor need wait no longer.
    fn drop_job(&mut self, key: JobKey, now: Now) {
        let Some(mut job) = self.jobs.remove(&key) else {
            return;
        };
        job.release(&mut self.core);
        self.core.events.tell(key, job.id(), Happened::Removed);
        if self.core.leaving.get(job.id()) != Some(&key) {
            return;
        }
        self.core.leaving.remove(job.id());
        if let Some(successor) = self.ids.get(job.id()).copied() {
            self.update(successor, now, |job, core| job.handle_predecessor_gone(core, now));
        }
    }

    /// A new process has the id of an old group: the kernel hands out no id that is in use
    /// (credentials(7)), so nothing of the old group is left.
    fn forget_group(&mut self, pid: Pid, now: Now) {
        let holds = |run: &RunKey| {
            self.jobs.get(&run.job).is_some_and(|job| job.is_clearing_group(*run, pid))
        };
        let old: Vec<RunKey> = self.core.clearing.iter().copied().filter(holds).collect();
        for run in old {
            self.handle_group_gone(run, now);
        }
    }

    /// Something was freed: of the runs that the machine had no room for, the one that was not
    /// tried for longest is, before any that is new. So each comes to its turn.
    fn retry_deferred(&mut self, now: Now) {
        if !std::mem::take(&mut self.core.has_freed) {
            return;
        }
        if let Some(run) = self.core.deferred.values().next().copied()
            && let Some(job) = self.jobs.get_mut(&run.job)
        {
            job.hurry(run, &mut self.core, now);
        }
    }
}

/// How many runs with leftovers are looked at whenever orphans were reaped.
const HASTENED_A_TURN: usize = 64;

/// How many deadlines are acted on at a time: thousands of jobs may be due with one minute.
const TIMERS_A_TURN: usize = 64;

/// How many jobs are told of a clock step at a time.
const STEPPED_A_TURN: usize = 500;
