//! The supervisor: what should run, when, and what follows when it ends.
//!
//! It takes `now` and what happened, and returns what to do. Nothing here spawns, signals, or
//! reads a clock, an environment or a random number, so a test can replay the whole life of ten
//! thousand jobs.
//!
//! ```text
//!   handle_* (a spawn succeeded, a process ended, a deadline passed …)
//!   create, kill, start, … (requests)              ┌────────────┐
//!   ───────────────────────────────────────────────► Supervisor ├──► poll_action, poll_spawn
//!                                                  └─────┬──────┘     poll_timeout, poll_changed
//!                                                        │ one `Job` each, in order of creation
//!                                                        ▼
//!        Job: a Phase (what happens next) and its live Runs, each a state machine of its own
//! ```
//!
//! - [`Job`] (`life/`) decides *whether* to run: restarts, retries, schedules, stops.
//! - `Run` (`run.rs`) is one process and its descendants, from the spawn until none is left.
//! - `request.rs` holds what users ask of jobs, `many.rs` what they ask of many at once, `declare.rs`
//!   what the config declares, `reload.rs` requests to read it again, `shutdown.rs` how everything
//!   is stopped, `stops.rs` in which order, `action.rs` what the supervisor wants done, `event.rs`
//!   what it reports.
//! - [`Call`] (`handler.rs`) is the failure of a job for the job that handles it.
//! - `Health` (`health.rs`) is whether a run is ready and well, as its probes find out.
//! - `command.rs` is about commands beside a run: probes, reloads and stops.
//! - `OutputMemory` (`memory.rs`) keeps all captured output within one budget.
//! - `Dependencies` (`depend.rs`) is the graph of which job waits for which.
//! - [`Counts`] (`counts.rs`) are the counters for metrics, [`Usage`] (`measure.rs`) the memory and
//!   CPU time of runs.
//! - [`LogFileEvent`] (`logfile.rs`) is what the caller reports about the log files of jobs.
//! - `message.rs` says in one sentence why a job is in its state, and what comes next.
//! - [`Milestone`] (`milestone.rs`) names how far a job may come, so that clients can wait for it.
//! - [`Topic`] (`topic.rs`) names what may change, so that clients can wait for it.
//! - `unsaved.rs` says which jobs are to be stored, [`Remembered`] (`remembered.rs`) what of them;
//!   `restore.rs` goes on with them when k1s starts again.
//!
//! `Supervisor::update` makes every change to a job. What follows from it for other jobs happens
//! in one loop, `Supervisor::settle`: a removed job goes, its successor starts, the end of a
//! critical job begins the shutdown, jobs are told of others that they depend on, a failure calls
//! its handler.
//!
//! The caller keeps three rules. After [`Supervisor::poll_spawn`] has returned a launch, the next
//! call reports its outcome. Each end of a child is reported exactly once: to
//! [`Supervisor::handle_collected`], and if it was the first process of a run, after all of its
//! output, to [`Supervisor::handle_run_ended`]. Every [`Action::Survey`],
//! [`Action::Measure`] and [`Action::ReopenLogFiles`] is answered, and every [`Action::Probe`]
//! unless [`Action::EndProbe`] comes first.

mod action;
mod backoff;
mod command;
mod counts;
mod declare;
mod depend;
mod due;
mod event;
mod handler;
mod health;
mod histogram;
mod life;
mod logfile;
mod many;
mod measure;
mod memory;
mod message;
mod milestone;
#[cfg(feature = "properties")]
mod properties;
mod reload;
mod remembered;
mod request;
mod restore;
mod run;
mod shutdown;
mod stops;
mod topic;
mod unsaved;
mod view;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use crate::access::Asker;
use crate::job::notice::Notice;
use crate::job::tag::RunTag;
use crate::job::{ExitStatus, JobId, JobSpec, Pid, Signal, SpawnFailure, Stream};
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

pub use action::{Action, Launch, Left, Owner, Purpose, Target};
use command::{Command, CommandEnd};
pub use command::{CommandKey, CommandRole, ProcessKey};
pub use counts::{Counts, RUN_BOUNDS, RunOutcome, Totals};
pub use declare::Declared;
use depend::Dependencies;
pub use depend::Tangle;
pub use due::Skipped;
pub use event::{Chore, Event, EventKind, EventLog, EventRead, Happened, SkipReason};
pub use handler::{Call, NotCalled};
pub use health::{LastProbe, ProbeKey};
pub use histogram::Histogram;
pub use life::{Finished, Job};
use logfile::Reopenings;
pub use logfile::{LogFileEvent, LogFileOwner};
use many::Batches;
pub use many::{Batch, Selection, Verb};
use measure::Measurements;
pub use measure::{TURN_BOUNDS, Usage, Vitals};
use memory::OutputMemory;
pub use milestone::{Milestone, Progress};
use reload::Reloads;
pub use reload::{Changes, Reload, ReloadError, Reloaded};
pub use remembered::{Heritage, Life, LiveRun, Outcome, Remembered, Stage, later};
pub use request::{Origin, Put, Refusal, Request};
use run::Run;
use shutdown::Shutdown;
pub use stops::Together;
use stops::{How, Stops};
use topic::Changed;
pub use topic::Topic;
pub use unsaved::Saving;
use unsaved::Unsaved;
pub use view::State;

/// The settings of a supervisor.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Distinguishes the runs of this k1s from those of any other: the first part of every
    /// `K1S_RUN`. Contains no dot.
    pub instance: String,
    /// The most jobs that may exist at a time.
    pub job_limit: usize,
    /// The most memory, in bytes, that captured output may take.
    pub output_memory: usize,
    /// How long a shutdown may take before it kills everything that is left.
    pub shutdown_timeout: Duration,
    /// The job whose exit code k1s ends with, unless another critical job began the shutdown.
    /// Killing or removing it begins the shutdown.
    pub main: Option<JobId>,
}

#[cfg(test)]
impl Settings {
    /// For one job, of whose output nothing is kept.
    pub(crate) fn for_tests() -> Settings {
        Settings {
            instance: "k".to_owned(),
            job_limit: 1,
            output_memory: 0,
            shutdown_timeout: Duration::from_secs(9),
            main: None,
        }
    }
}

/// All jobs, and what needs to be done for them.
#[derive(Debug)]
pub struct Supervisor {
    /// In order of creation. Boxed, because a map whose keys only grow is half empty.
    jobs: BTreeMap<JobKey, Box<Job>>,
    /// Jobs that are gone, for those who still read what is kept of their output.
    departed: BTreeMap<JobKey, Box<Job>>,
    ids: BTreeMap<JobId, JobKey>,
    /// What the config declared the last time.
    declared: BTreeMap<JobId, Rc<JobSpec>>,
    last_key: u64,
    /// The last job that knows of the newest clock step; `None` when all know.
    told_of_step: Option<JobKey>,
    core: Core,
}

/// Names a job for as long as k1s runs: unlike its id, a key is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(u64);

/// One run of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The job that it is a run of.
    pub job: JobKey,
    /// The job's first run is 1, and so on.
    pub number: u64,
}

impl JobKey {
    /// The number that marks processes of the job.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl RunKey {
    /// What marks the processes of the run.
    pub fn tag(self) -> RunTag {
        RunTag { job: self.job.0, run: self.number }
    }
}

/// What the jobs share: timers, and what needs to be done.
#[derive(Debug)]
struct Core {
    settings: Settings,
    /// Who has asked for what is being done now; `None`: nobody, or the config.
    asker: Option<Asker>,
    timers: TimerWheel<Timer>,
    actions: VecDeque<Action>,
    events: EventLog,
    /// What has changed since the daemon last asked.
    changed: Changed,
    /// What is to be stored.
    unsaved: Unsaved,
    /// Jobs that have changed in a way that may concern others, which [`Supervisor::settle`] is
    /// still to look at.
    unsettled: VecDeque<JobKey>,
    /// What is to be spawned; what was stopped meanwhile is skipped.
    starts: VecDeque<ProcessKey>,
    /// Commands beside runs.
    commands: BTreeMap<CommandKey, Command>,
    /// Which job waits for which.
    dependencies: Dependencies,
    /// What is being stopped together, and in which order.
    stops: Stops,
    /// Removed jobs that still have live processes, at most one for each id. The id is free, but
    /// a new job of that id starts only when they are gone.
    leaving: BTreeMap<JobId, JobKey>,
    /// The first processes of runs and commands, until they are collected.
    pids: BTreeMap<Pid, ProcessKey>,
    /// Runs whose first process was collected, by its pid, which may be the id of a group still.
    groups: BTreeMap<Pid, RunKey>,
    /// Runs whose first process has ended while others may be left.
    clearing: BTreeSet<RunKey>,
    /// Runs that were deferred because of a shortage, in the order in which they were last tried.
    deferred: BTreeMap<u64, RunKey>,
    last_deferral: u64,
    memory: OutputMemory,
    totals: Totals,
    measurements: Measurements,
    /// What is still to be asked of many jobs.
    batches: Batches,
    reopenings: Reopenings,
    reloads: Reloads,
    live_runs: usize,
    /// The jobs because of which k1s is not ready.
    missing: BTreeSet<JobKey>,
    /// Something was freed since deferred runs were last tried.
    has_freed: bool,
    shutdown: Option<Shutdown>,
    /// k1s is the first process of its pid namespace, and everything in it ends with k1s.
    owns_namespace: bool,
}

/// A deadline, named by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// The end of a backoff, the next scheduled run, or the end of a finished job's time to live.
    Job(JobKey),
    /// A deferred run is tried again.
    Retry(RunKey),
    /// A run has exceeded its timeout.
    Timeout(RunKey),
    /// A run is not ready in time, or has said that it is about to end and has not.
    Ready(RunKey),
    /// A reload takes too long.
    Reload(RunKey),
    /// The next attempt of a probe, the time-out of an attempt, or the end of a watchdog's patience.
    Probe(ProbeKey),
    /// The grace period of a run is over.
    Kill(RunKey),
    /// It is time to look again for leftovers of a run.
    Survey(RunKey),
    /// The turn of a job to be stopped has come, whether those are gone that depend on it or not.
    Stops,
    /// It is time to look again for processes that belong to no job.
    Rest,
    /// The time for the shutdown is up: everything is killed, or k1s stops waiting for it.
    Shutdown,
}

impl Supervisor {
    /// Creates a supervisor without jobs.
    pub fn new(settings: Settings, now: Now) -> Supervisor {
        Supervisor {
            jobs: BTreeMap::new(),
            departed: BTreeMap::new(),
            ids: BTreeMap::new(),
            declared: BTreeMap::new(),
            last_key: 0,
            told_of_step: None,
            core: Core {
                timers: TimerWheel::new(now.mono),
                actions: VecDeque::new(),
                events: EventLog::default(),
                changed: Changed::default(),
                unsaved: Unsaved::default(),
                unsettled: VecDeque::new(),
                starts: VecDeque::new(),
                commands: BTreeMap::new(),
                dependencies: Dependencies::default(),
                stops: Stops::default(),
                leaving: BTreeMap::new(),
                pids: BTreeMap::new(),
                groups: BTreeMap::new(),
                clearing: BTreeSet::new(),
                deferred: BTreeMap::new(),
                last_deferral: 0,
                memory: OutputMemory::new(settings.output_memory),
                totals: Totals::default(),
                measurements: Measurements::default(),
                batches: Batches::default(),
                reopenings: Reopenings::default(),
                reloads: Reloads::default(),
                live_runs: 0,
                missing: BTreeSet::new(),
                has_freed: false,
                shutdown: None,
                owns_namespace: false,
                settings,
                asker: None,
            },
        }
    }

    /// Says that k1s is the first process of its pid namespace: once the jobs are gone, a shutdown
    /// also asks processes to end that belong to no job.
    pub fn own_namespace(&mut self) {
        self.core.owns_namespace = true;
    }

    /// From now on captured output may take so much memory, in bytes, and a shutdown so long.
    pub fn limit(&mut self, output_memory: usize, shutdown_timeout: Duration) {
        self.core.settings.output_memory = output_memory;
        self.core.settings.shutdown_timeout = shutdown_timeout;
        self.core.memory.limit(output_memory);
        self.keep_output_budget();
    }

    // What is there.

    /// The first part of every `K1S_RUN`.
    pub fn instance(&self) -> &str {
        &self.core.settings.instance
    }

    /// The job with this id.
    pub fn job(&self, id: &str) -> Option<&Job> {
        let key = self.ids.get(&JobId::parse(id).ok()?)?;
        self.jobs.get(key).map(Box::as_ref)
    }

    /// The job with this key, unless it was removed.
    pub fn job_of(&self, key: JobKey) -> Option<&Job> {
        self.jobs.get(&key).map(Box::as_ref).filter(|job| !job.is_leaving())
    }

    /// The job with this key, even if it is being removed; `None` when it is gone.
    pub fn job_to_store(&self, key: JobKey) -> Option<&Job> {
        self.jobs.get(&key).map(Box::as_ref)
    }

    /// The job with this key, for readers of its output, even if it was removed; and whether it is
    /// gone. `None` when its output was forgotten.
    pub fn followed(&self, key: JobKey) -> Option<(&Job, bool)> {
        match self.jobs.get(&key) {
            Some(job) => Some((job, false)),
            None => self.departed.get(&key).map(|job| (job.as_ref(), true)),
        }
    }

    /// Whether there are jobs that are gone and not forgotten.
    pub fn has_departed(&self) -> bool {
        !self.departed.is_empty()
    }

    /// Forgets jobs that are gone, except those whose output is still being read. Until then that
    /// counts for the memory budget, and may be dropped like any other.
    pub fn forget_departed(&mut self, is_read: impl Fn(JobKey) -> bool) {
        let memory = &mut self.core.memory;
        self.departed.retain(|key, job| {
            let stays = is_read(*key);
            if !stays {
                job.release_output(memory);
            }
            stays
        });
    }

    /// The first job created after `after`: a listing can go on at any later time, whatever was
    /// created or removed meanwhile.
    pub fn job_after(&self, after: Option<JobKey>) -> Option<&Job> {
        self.jobs_after(after).next()
    }

    /// The jobs created after `after`, in order.
    pub fn jobs_after(&self, after: Option<JobKey>) -> impl Iterator<Item = &Job> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = self.jobs.range((start, Bound::Unbounded)).map(|(_, job)| job.as_ref());
        jobs.filter(|job| !job.is_leaving())
    }

    /// What has happened. Each reader holds its own cursor.
    pub fn events(&self) -> &EventLog {
        &self.core.events
    }

    /// Called when the readers that must not lose an event have read them all: keeps only the
    /// newest, for readers that come back.
    pub fn shrink_events(&mut self) {
        self.core.events.shrink();
    }

    /// How many runs have processes or are about to.
    pub fn live_runs(&self) -> usize {
        self.core.live_runs
    }

    /// Whether every job that has `readiness` and is meant to run is ready, and k1s is not shutting
    /// down.
    pub fn is_ready(&self) -> bool {
        self.core.missing.is_empty() && !self.is_shutting_down()
    }

    /// The limit of [`Supervisor::output_memory`], in bytes.
    pub fn output_memory_limit(&self) -> usize {
        self.core.settings.output_memory
    }

    /// The memory, in bytes, that captured output takes.
    pub fn output_memory(&self) -> usize {
        self.core.memory.used()
    }

    /// The counters of all jobs that ever existed.
    pub fn totals(&self) -> &Totals {
        &self.core.totals
    }

    /// The run whose first process this is, or that of a command beside it, until it is collected.
    pub fn run_of(&self, pid: Pid) -> Option<RunKey> {
        self.core.pids.get(&pid).map(|key| key.run())
    }

    /// Whether this is the first process of a run or of a command, and not collected yet.
    pub fn is_leader(&self, pid: Pid) -> bool {
        self.core.pids.contains_key(&pid)
    }

    // What happened.

    /// A launch succeeded: its process runs.
    pub fn handle_spawned(&mut self, launch: Launch, pid: Pid, now: Now) {
        let (run, key) = (launch.run, launch.key());
        self.forget_group(pid, now);
        self.core.pids.insert(pid, key);
        match key {
            ProcessKey::Run(_) => {
                self.update(run.job, now, |job, core| job.handle_spawned(run, pid, core, now));
            }
            ProcessKey::Command(key) => self.core.handle_command_spawned(key, pid),
        }
    }

    /// A launch failed.
    pub fn handle_spawn_failed(&mut self, launch: Launch, failure: SpawnFailure, now: Now) {
        let run = launch.run;
        self.update(run.job, now, |job, core| match launch.key() {
            ProcessKey::Run(_) => job.handle_spawn_failed(run, failure, core, now),
            ProcessKey::Command(key) => {
                job.handle_command_over(key, CommandEnd::NotStarted(failure.error), core, now);
            }
        });
    }

    /// A launch met a shortage of this machine. A run is tried again later.
    pub fn handle_spawn_deferred(&mut self, launch: Launch, error: String, now: Now) {
        let run = launch.run;
        self.update(run.job, now, |job, core| match launch.key() {
            ProcessKey::Run(_) => job.handle_spawn_deferred(run, error, core, now),
            ProcessKey::Command(key) => {
                job.handle_command_over(key, CommandEnd::Deferred(error), core, now);
            }
        });
    }

    /// k1s has freed something, such as a connection: a deferred run is tried again.
    pub fn handle_freed(&mut self, now: Now) {
        self.core.has_freed = true;
        self.retry_deferred(now);
    }

    /// A run has written something.
    pub fn handle_output(&mut self, run: RunKey, stream: Stream, bytes: &[u8], now: Now) {
        let Some(job) = self.jobs.get_mut(&run.job) else {
            return;
        };
        let has_changed = job.handle_output(run, stream, bytes, &mut self.core, now);
        self.core.changed.note(Topic::Output(run.job));
        self.keep_output_budget();
        if has_changed {
            self.core.note_change(run.job);
            self.settle(now);
        }
    }

    /// The answer to an [`Action::Probe`], unless that is
    /// [`Supervisor::handle_probe_deferred`]: what was found, or what is wrong, for people.
    pub fn handle_probe(&mut self, key: ProbeKey, answer: Result<String, String>, now: Now) {
        self.update(key.run.job, now, |job, core| job.handle_probe(key, answer, core, now));
    }

    /// An [`Action::Probe`] could not be done for a shortage of this machine: the attempt counts
    /// neither as a success nor as a failure.
    pub fn handle_probe_deferred(&mut self, key: ProbeKey, now: Now) {
        self.update(key.run.job, now, |job, core| job.handle_probe_deferred(key, core, now));
    }

    /// A run says something about itself.
    pub fn handle_notice(&mut self, run: RunKey, notice: Notice, now: Now) {
        self.update(run.job, now, |job, core| job.handle_notice(run, notice, core, now));
    }

    /// Drops the oldest output beyond the budget. It grows as runs write, and a little as they end.
    fn keep_output_budget(&mut self) {
        while let Some(evicted) = self.core.memory.evict() {
            let departed = self.departed.get_mut(&evicted.job);
            if let Some(job) = self.jobs.get_mut(&evicted.job).or(departed) {
                job.discard_output(evicted.number);
                self.core.changed.note(Topic::Job(evicted.job));
            }
        }
    }

    /// A child of k1s was collected, so its pid may be used again. Returns the run or the command
    /// whose first process it was, or `None` for an orphan. It is over only with
    /// [`Supervisor::handle_run_ended`] or [`Supervisor::handle_command_ended`], after the last of
    /// its output.
    pub fn handle_collected(&mut self, pid: Pid) -> Option<ProcessKey> {
        let key = self.core.pids.remove(&pid)?;
        match key {
            ProcessKey::Run(run) => {
                if let Some(job) = self.jobs.get_mut(&run.job) {
                    job.handle_collected(run, &mut self.core);
                    self.core.groups.insert(pid, run);
                }
            }
            ProcessKey::Command(command) => self.core.handle_command_collected(command),
        }
        Some(key)
    }

    /// A command has written something.
    pub fn handle_command_output(
        &mut self,
        key: CommandKey,
        stream: Stream,
        bytes: &[u8],
        now: Now,
    ) {
        self.core.keep_command_output(key, bytes);
        if key.role.writes_as_run() {
            self.handle_output(key.run, stream, bytes, now);
        }
    }

    /// The first process of a command has ended and was collected. `group_is_alive` says whether
    /// its process group still has members.
    pub fn handle_command_ended(
        &mut self,
        key: CommandKey,
        status: ExitStatus,
        group_is_alive: bool,
        now: Now,
    ) {
        let pid = self.core.commands.get(&key).and_then(Command::collected);
        if let Some(pid) = pid.filter(|_| group_is_alive) {
            let (target, signal) = (Target::Group(pid), Signal::KILL);
            self.core.actions.push_back(Action::Stop { target, signal });
        }
        self.update(key.run.job, now, |job, core| {
            if group_is_alive {
                job.note_remains(key.run);
            }
            job.handle_command_over(key, CommandEnd::Ended(status), core, now);
        });
    }

    /// The first process of a run has ended and was collected. `group_is_alive` says whether its
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

    /// Orphans were reaped, so the leftovers of a run may be gone. When more than
    /// `RECHECKED_A_TURN` runs have leftovers, only the first are looked at early.
    pub fn handle_orphans_reaped(&mut self, now: Now) {
        let first = self.core.clearing.iter().take(RECHECKED_A_TURN).copied();
        for run in first.collect::<Vec<_>>() {
            self.update(run.job, now, |job, core| job.handle_orphans_reaped(run, core, now));
        }
    }

    /// The answer to an [`Action::Glance`]: nothing is left of the process group of the run.
    pub fn handle_group_gone(&mut self, run: RunKey, now: Now) {
        self.update(run.job, now, |job, core| job.handle_group_gone(run, core, now));
    }

    /// The answer to an [`Action::Survey`].
    pub fn handle_survey(&mut self, run: RunKey, left: Left, now: Now) {
        self.update(run.job, now, |job, core| job.handle_survey(run, left, core, now));
    }

    /// Acts on deadlines that have passed, on `TIMERS_A_TURN` at most. While there are more,
    /// [`poll_timeout`](Self::poll_timeout) returns a time in the past.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tell_of_step(now);
        self.tell_dependents(now);
        self.go_on_with_batches(now);
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
                Timer::Ready(run) => {
                    self.update(run.job, now, |job, core| job.handle_start_timeout(run, core, now));
                }
                Timer::Reload(run) => {
                    let role = CommandRole::Reload;
                    self.core.cut_command_short(CommandKey { run, role });
                }
                Timer::Probe(key) => {
                    self.update(key.run.job, now, |job, core| {
                        job.handle_probe_timer(key, core, now)
                    });
                }
                Timer::Kill(run) => {
                    self.update(run.job, now, |job, core| job.handle_grace_over(run, core, now));
                }
                Timer::Survey(run) => {
                    self.update(run.job, now, |job, core| job.handle_survey_due(run, core));
                }
                Timer::Stops => self.handle_stops_due(now),
                Timer::Rest => self.core.actions.push_back(Action::Rest { ask: false }),
                Timer::Shutdown => self.handle_shutdown_timeout(now),
            }
        }
    }

    /// The wall clock was set: computes calendar schedules anew, `STEPPED_A_TURN` now and the
    /// others in the next calls of [`handle_timeout`](Self::handle_timeout), which are due at once.
    pub fn handle_clock_step(&mut self, now: Now) {
        self.told_of_step = Some(JobKey(0));
        self.tell_of_step(now);
    }

    // What to do now.

    /// The next thing to do to existing processes.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.core.actions.pop_front()
    }

    /// Whether there is anything to do to existing processes.
    pub fn has_actions(&self) -> bool {
        !self.core.actions.is_empty()
    }

    /// The next topic that has changed since this was last asked: answers that wait for it can go
    /// on.
    pub fn poll_changed(&mut self) -> Option<Topic> {
        self.core.changed.take()
    }

    /// The next process to start. The next call must report its outcome.
    pub fn poll_spawn(&mut self) -> Option<Launch> {
        while let Some(key) = self.core.starts.pop_front() {
            let Some(job) = self.jobs.get_mut(&key.run().job) else { continue };
            let run = match key {
                ProcessKey::Run(run) => run,
                ProcessKey::Command(key) => {
                    let Some(launch) = job.command_launch(key, &self.core) else { continue };
                    return Some(launch);
                }
            };
            let Some(launch) = job.launch(run) else { continue };
            match self.core.dependencies.bases(&job.spec.depends_on) {
                Some(bases) => {
                    job.bases = bases;
                    return Some(launch);
                }
                None => self.core.dependencies.withhold(run),
            }
        }
        None
    }

    /// Whether there is a process to start.
    pub fn has_spawns(&self) -> bool {
        !self.core.starts.is_empty()
    }

    /// By when [`Supervisor::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let is_due = self.told_of_step.is_some()
            || self.core.dependencies.has_news()
            || !self.core.batches.is_empty();
        if is_due { Some(Mono(0)) } else { self.core.timers.next() }
    }

    /// Changes one job, and then does what follows from it for others.
    fn update(&mut self, key: JobKey, now: Now, change: impl FnOnce(&mut Job, &mut Core)) {
        if let Some(job) = self.jobs.get_mut(&key) {
            change(job, &mut self.core);
            self.core.note_change(key);
            self.settle(now);
        }
    }

    /// Does what follows from changed jobs, until nothing more follows.
    fn settle(&mut self, now: Now) {
        while let Some(key) = self.core.unsettled.pop_front() {
            self.settle_job(key, now);
        }
        self.keep_output_budget();
        self.retry_deferred(now);
        self.finish_shutdown();
    }

    fn settle_job(&mut self, key: JobKey, now: Now) {
        if self.jobs.get(&key).is_some_and(|job| job.has_expired()) {
            self.detach(key, now);
            if let Some(job) = self.jobs.get_mut(&key) {
                job.tell(Happened::Expired, &mut self.core, now);
                job.remove(&mut self.core, now);
            }
        }
        self.learn_standing(key);
        self.settle_stop(key, now);
        let Some(job) = self.jobs.get(&key) else { return };
        match job.is_missing() {
            true => self.core.missing.insert(key),
            false => self.core.missing.remove(&key),
        };
        let end = job.critical_end().map(|exit_code| (exit_code, job.id().clone()));
        if job.is_gone() {
            self.drop_job(key, now);
        }
        if let Some((exit_code, id)) = end.filter(|_| self.core.shutdown.is_none()) {
            self.begin_shutdown(exit_code, Some(id), now);
        }
        self.settle_calls(key, now);
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

    /// Frees the id of a job that is being removed.
    fn detach(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        let (id, spec) = (job.id().clone(), job.shared_spec());
        self.ids.remove(&id);
        self.unlink(key, &spec.depends_on, now);
        self.core.dependencies.forget_standing(&id);
        self.core.changed.note(Topic::Output(key));
        // A job that waits for an older one to go has never run: it is gone at once.
        self.core.leaving.entry(id).or_insert(key);
    }

    /// The last process of a removed job is gone: a new job of the same id can start.
    fn drop_job(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.jobs.remove(&key) else {
            return;
        };
        self.core.timers.cancel(&Timer::Job(key));
        self.core.missing.remove(&key);
        let has_successor = self.ids.contains_key(job.id());
        job.tell(Happened::Removed { has_successor }, &mut self.core, now);
        self.core.changed.note(Topic::Output(key));
        let is_awaited = self.core.leaving.get(job.id()) == Some(&key);
        let id = job.id().clone();
        self.departed.insert(key, job);
        if !is_awaited {
            return;
        }
        self.core.leaving.remove(&id);
        self.start_successor(&id, now);
    }

    /// Nothing is left of the jobs that had this id before.
    fn start_successor(&mut self, id: &JobId, now: Now) {
        if let Some(key) = self.ids.get(id).copied()
            && let Some(successor) = self.jobs.get_mut(&key)
        {
            successor.handle_dependencies(&mut self.core, now);
            self.core.note_change(key);
        }
    }

    /// A new process has the id of an old group. The kernel assigns no id that is in use
    /// (credentials(7)), so nothing of the old group is left.
    fn forget_group(&mut self, pid: Pid, now: Now) {
        if let Some(run) = self.core.groups.remove(&pid) {
            self.handle_group_gone(run, now);
        }
    }

    /// Something was freed: tries the deferred run again that was last tried the longest ago,
    /// before any new run. So each gets its turn.
    fn retry_deferred(&mut self, now: Now) {
        if !std::mem::take(&mut self.core.has_freed) {
            return;
        }
        if let Some(run) = self.core.deferred.values().next().copied()
            && let Some(job) = self.jobs.get_mut(&run.job)
        {
            job.retry_now(run, &mut self.core, now);
            self.core.changed.note(Topic::Job(run.job));
        }
    }
}

impl Core {
    /// Nothing is left of the group of a run, or the run is over.
    fn forget_group_of(&mut self, run: &Run) {
        if let Some(leader) = run.named_leader()
            && self.groups.get(&leader) == Some(&run.key)
        {
            self.groups.remove(&leader);
        }
    }

    /// A job has changed: readers are told, and [`Supervisor::settle`] has to look at it.
    fn note_change(&mut self, key: JobKey) {
        self.changed.note(Topic::Job(key));
        self.unsaved.note(key);
        self.unsettled.push_back(key);
    }

    /// Of what a signal asks for, the caller tells.
    fn tell_of_chore(&mut self, chore: Chore, now: Now) {
        if self.asker.is_some() {
            self.tell(EventKind::Asked(chore), now);
        }
    }

    fn tell(&mut self, kind: EventKind, now: Now) {
        let by = self.asker.clone().filter(|_| kind.is_change());
        self.events.push(Event { at: now.wall, kind, by });
        self.changed.note(Topic::Events);
    }
}

/// How many runs with leftovers are looked at early when orphans were reaped.
const RECHECKED_A_TURN: usize = 64;

/// How many deadlines are acted on at a time: thousands of jobs may be due in the same minute.
const TIMERS_A_TURN: usize = 64;

/// How many jobs adjust to a clock step at a time.
const STEPPED_A_TURN: usize = 500;
