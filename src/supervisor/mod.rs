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
//!                                                  └─────┬──────┘     poll_timeout, poll_changed
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
//! - `message.rs` says in a sentence why a job is as it is, and what comes next.
//! - [`Topic`] (`topic.rs`) is what may change, for whoever waits for a change.
//!
//! Each change to a job is made by [`Supervisor::update`], and what follows from it beyond the job
//! in one loop, [`Supervisor::settle`]: a removed job leaves, its successor begins, the end of a
//! critical job begins the shutdown.
//!
//! Whoever drives it keeps three rules: after [`Supervisor::poll_spawn`] hands out a launch, the
//! next call says what came of it; each end of a child is told exactly once, to
//! [`Supervisor::handle_collected`] and, when it was a run's first process, after the output that
//! came before it, to [`Supervisor::handle_run_ended`]; and every [`Action::Survey`] is answered.

mod action;
mod backoff;
mod due;
mod event;
mod life;
mod memory;
mod message;
#[cfg(feature = "properties")]
mod properties;
mod request;
mod run;
mod shutdown;
mod topic;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::job::tag::RunTag;
use crate::job::{ExitStatus, JobId, Pid, SpawnFailure, Stream};
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

pub use action::{Action, Launch, Left, Owner, Target};
pub use due::Skipped;
pub use event::{Event, EventKind, EventLog, EventRead, Happened, SkipReason};
pub use life::Job;
use memory::OutputMemory;
pub use request::{Origin, Put, Refusal, Request};
use shutdown::Shutdown;
use topic::Changed;
pub use topic::Topic;
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

impl JobKey {
    /// The number that processes of the job carry.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl RunKey {
    /// What the run's processes carry.
    pub fn tag(self) -> RunTag {
        RunTag { job: self.job.0, run: self.number }
    }
}

/// What the jobs share: timers, and what is to be done.
#[derive(Debug)]
struct Core {
    settings: Settings,
    timers: TimerWheel<Timer>,
    actions: VecDeque<Action>,
    events: EventLog,
    /// What has changed since the loop last asked.
    changed: Changed,
    /// Jobs that have changed, with consequences beyond them that were not drawn yet.
    unsettled: VecDeque<JobKey>,
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
    /// k1s is the first process of its pid namespace, and all in it ends with it.
    owns_namespace: bool,
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
    /// It is time to look again whether what belongs to no job has ended.
    Rest,
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
            told_of_step: None,
            core: Core {
                timers: TimerWheel::new(now.mono),
                actions: VecDeque::new(),
                events: EventLog::default(),
                changed: Changed::default(),
                unsettled: VecDeque::new(),
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
                owns_namespace: false,
                settings,
            },
        }
    }

    /// k1s is the first process of its pid namespace: in a shutdown, what belongs to no job is asked
    /// to end once the jobs are gone.
    pub fn own_namespace(&mut self) {
        self.core.owns_namespace = true;
    }

    // What is there.

    /// The first part of every `K1S_RUN`.
    pub fn instance(&self) -> &str {
        &self.core.settings.instance
    }

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

    /// What has happened, for readers that each hold a cursor.
    pub fn events(&self) -> &EventLog {
        &self.core.events
    }

    /// Whoever must not lose an event has read all: keeps the newest few, for those who come back.
    pub fn shrink_events(&mut self) {
        self.core.events.shrink();
    }

    /// Whether this is the first process of a run, and alive.
    pub fn is_leader(&self, pid: Pid) -> bool {
        self.core.pids.contains_key(&pid)
    }

    // What happened.

    /// A launch is running.
    pub fn handle_spawned(&mut self, launch: Launch, pid: Pid, now: Now) {
        let run = launch.run;
        self.forget_group(pid, now);
        self.core.pids.insert(pid, run);
        self.update(run.job, now, |job, core| job.handle_spawned(run, pid, core, now));
    }

    /// A launch cannot be started.
    pub fn handle_spawn_failed(&mut self, launch: Launch, failure: SpawnFailure, now: Now) {
        let run = launch.run;
        self.update(run.job, now, |job, core| job.handle_spawn_failed(run, failure, core, now));
    }

    /// The machine is short of something that a launch needs: it is tried again.
    pub fn handle_spawn_deferred(&mut self, launch: Launch, error: String, now: Now) {
        let run = launch.run;
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
        self.core.changed.note(Topic::Output(run.job));
        while let Some(evicted) = self.core.memory.evict() {
            if let Some(job) = self.jobs.get_mut(&evicted.job) {
                job.discard_output(evicted.number);
                self.core.changed.note(Topic::Job(evicted.job));
            }
        }
    }

    /// A child of k1s was collected, so its number may become another's. Returns the run whose
    /// first process it was, which is over once [`Supervisor::handle_run_ended`] says so: the
    /// output that came before the end is handed over first. `None` for an orphan.
    pub fn handle_collected(&mut self, pid: Pid) -> Option<RunKey> {
        self.core.pids.remove(&pid)
    }

    /// The run's first process is over, and was collected. `group_is_alive` says whether its
    /// process group still has members.
    pub fn handle_run_ended(
        &mut self,
        run: RunKey,
        status: ExitStatus,
        group_is_alive: bool,
        now: Now,
    ) {
        self.update(run.job, now, |job, core| {
            job.handle_exit(run, status, group_is_alive, core, now)
        });
    }

    /// Orphans were reaped: what a run has left may be gone now. Where very many wait for that, the
    /// first are looked at now, and all others when they would have been.
    pub fn handle_orphans_reaped(&mut self, now: Now) {
        let first = self.core.clearing.iter().take(RECHECKED_A_TURN).copied();
        for run in first.collect::<Vec<_>>() {
            self.update(run.job, now, |job, core| job.handle_orphans_reaped(run, core, now));
        }
    }

    /// What an [`Action::Glance`] was for: nothing is left of the group that the run led.
    pub fn handle_group_gone(&mut self, run: RunKey, now: Now) {
        self.update(run.job, now, |job, core| job.handle_group_gone(run, core, now));
    }

    /// The answer to an [`Action::Survey`].
    pub fn handle_survey(&mut self, run: RunKey, left: Left, now: Now) {
        self.update(run.job, now, |job, core| job.handle_survey(run, left, core, now));
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
                    self.update(run.job, now, |job, core| job.handle_grace_over(run, core, now));
                }
                Timer::Survey(run) => {
                    self.update(run.job, now, |job, core| job.handle_survey_due(run, core));
                }
                Timer::Rest => self.core.actions.push_back(Action::Rest { ask: false }),
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

    /// Whether anything is to be done to processes that are there.
    pub fn has_actions(&self) -> bool {
        !self.core.actions.is_empty()
    }

    /// The next topic that has changed since this was last asked: whoever waits for it can go on.
    pub fn poll_changed(&mut self) -> Option<Topic> {
        self.core.changed.take()
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
            self.core.note_change(key);
            self.settle(now);
        }
    }

    /// Draws consequences until there are no more.
    fn settle(&mut self, now: Now) {
        while let Some(key) = self.core.unsettled.pop_front() {
            self.settle_job(key, now);
        }
        self.retry_deferred(now);
        self.finish_shutdown();
    }

    fn settle_job(&mut self, key: JobKey, now: Now) {
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

    /// Frees the id of a job that is to go.
    fn detach(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        let id = job.id().clone();
        self.ids.remove(&id);
        self.core.changed.note(Topic::Output(key));
        // One that waits for another to leave has never run: it is gone at once.
        self.core.leaving.entry(id).or_insert(key);
    }

    /// The last process of a removed job is gone: its successor need wait no longer.
    fn drop_job(&mut self, key: JobKey, now: Now) {
        let Some(mut job) = self.jobs.remove(&key) else {
            return;
        };
        job.release(&mut self.core);
        job.tell(Happened::Removed, &mut self.core, now);
        self.core.changed.note(Topic::Output(key));
        if self.core.leaving.get(job.id()) != Some(&key) {
            return;
        }
        self.core.leaving.remove(job.id());
        if let Some(key) = self.ids.get(job.id()).copied()
            && let Some(successor) = self.jobs.get_mut(&key)
        {
            successor.handle_predecessor_gone(&mut self.core, now);
            self.core.note_change(key);
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
            self.core.changed.note(Topic::Job(run.job));
        }
    }
}

impl Core {
    /// The job looks different, and what follows from that beyond it is still to be done.
    fn note_change(&mut self, key: JobKey) {
        self.changed.note(Topic::Job(key));
        self.unsettled.push_back(key);
    }

    fn tell(&mut self, kind: EventKind, now: Now) {
        self.events.push(Event { at: now.wall, kind });
        self.changed.note(Topic::Events);
    }
}

/// How many runs with leftovers are looked at whenever orphans were reaped.
const RECHECKED_A_TURN: usize = 64;

/// How many deadlines are acted on at a time: thousands of jobs may be due with one minute.
const TIMERS_A_TURN: usize = 64;

/// How many jobs are told of a clock step at a time.
const STEPPED_A_TURN: usize = 500;
