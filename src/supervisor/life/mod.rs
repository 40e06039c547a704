//! The life of one job.
//!
//! ```text
//!              Idle (autostart is false: until a request)
//!                │
//!             Waiting (until processes of a removed job of the same id are gone, and, before each
//!                │ ▲      start, for what other jobs must have reached)
//!                ▼ │ begin, restart, retry
//!   continuous, one-off: Active ◄────────── Backoff
//!                cron: Scheduled   restart     ▲
//!                │         │       or retry    │
//!                │         └───────────────────┘
//!                ├─ no more to do ──► Ended ──► Expired (time to live)
//!                └─ kill, remove, restart, shutdown ──► Stopping ──► Ended, begin, or Gone
//! ```
//!
//! A phase says what happens next; the processes are in `runs`. [`Job::enter`] sets the job's own
//! timer; a new specification may change it, and nothing else.
//!
//! - `remember.rs`: what is remembered of it, and how it goes on from that.
//! - `request.rs`: what users ask of it.
//! - `runs.rs`: what happens to its runs, until their last process is gone.
//! - `handler.rs`: how its failure calls a handler, and how it is one itself.
//! - `restart.rs`: whether it is started again, and how soon.
//! - `depend.rs`: how it waits for what it depends on.
//! - `cron.rs`: which scheduled run is next, and whether it may start.
//! - `stop.rs`: how all of its processes are stopped.
//! - `command.rs`: what follows from the end of a command beside a run; reloads.
//! - `health.rs`: what follows from what is found out about the health of its runs.
//! - `results.rs`: what is kept of runs that have ended.

mod command;
mod cron;
mod depend;
mod handler;
mod health;
mod remember;
mod request;
mod restart;
mod results;
mod runs;
mod stop;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::depend::Bases;
use super::due::{Due, Moment, Skipped};
use super::handler::{Call, Failure};
use super::health::LastProbe;
use super::memory::OutputMemory;
use super::remembered::{Outcome, Stage};
use super::run::{End, Run, RunState};
use super::{Core, Counts, EventKind, Happened, JobKey, Launch, Origin, Purpose, RunKey, Timer};
use crate::job::spec::{Critical, Kind};
use crate::job::{Ending, JobId, JobSpec, LogEnd, Trigger};
use crate::time::{Mono, Now, Wall};

pub(super) use request::has_same_times;
pub(super) use restart::{Next, Streak};
pub use results::Finished;

/// A registered job.
#[derive(Debug)]
pub struct Job {
    pub(super) key: JobKey,
    pub(super) id: JobId,
    pub(super) spec: Rc<JobSpec>,
    pub(super) origin: Origin,
    pub(super) created: Now,
    pub(super) phase: Phase,
    /// Oldest first; more than one only if the policy of a cron job allows it.
    pub(super) runs: Vec<Run>,
    pub(super) results: VecDeque<Finished>,
    /// Where the log of all its runs ends.
    pub(super) log_end: LogEnd,
    last_run: u64,
    /// How many results it has ever had.
    finished: u64,
    pub(super) last_started: Option<Wall>,
    /// How the newest finished run ended.
    pub(super) last: Option<Ending>,
    /// What was found out last about a run.
    pub(super) last_probe: Option<Box<LastProbe>>,
    pub(super) streak: Streak,
    pub(super) restarts: u64,
    /// The newest run was started after a backoff.
    has_backed_off: bool,
    /// How many runs in a row have exited with success at once.
    exits_at_once: u32,
    pub(super) kill_requested: bool,
    /// Its runs may have leftovers that k1s cannot see. Reset by the next run.
    pub(super) may_have_unseen_leftovers: bool,
    pub(super) skipped: Skipped,
    /// `None` until there is something to count.
    pub(super) counts: Option<Box<Counts>>,
    /// Up to which nominal time runs of the schedule have been dealt with.
    kept: Option<Moment>,
    /// The runs of other jobs that the newest run was started upon, for those with `restart`.
    pub(super) bases: Bases,
    /// A failure that is still to call the handler.
    pub(super) failure: Option<Box<Failure>>,
    /// The call for which it runs, until it is over.
    call: Option<Rc<Call>>,
    /// The newest call that came meanwhile.
    next_call: Option<Rc<Call>>,
    /// What comes next instead of what the phase says: when the processes that an earlier k1s has
    /// left are gone, or when k1s starts again after a shutdown.
    resumes: Option<Stage>,
    /// It had ended before k1s started.
    has_old_end: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// It is started only by request. A cron job may have runs by request, and is idle still.
    Idle {
        /// Why one more run waits, for the end of the last, or as [`Phase::Waiting`].
        pending: Option<Trigger>,
    },
    Waiting {
        trigger: Trigger,
        /// What follows is a restart or a retry, and is counted as one.
        is_restart: bool,
    },
    /// It has a run.
    Active,
    Backoff {
        until: Mono,
    },
    Scheduled {
        due: Option<Due>,
        /// Why one more run waits for the end of the last.
        pending: Option<Trigger>,
    },
    Stopping {
        then: Then,
    },
    Ended {
        outcome: Outcome,
        since: Mono,
    },
    /// Its time to live is over, and it is about to be removed.
    Expired,
    Gone,
}

/// What follows when no process of the job is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    End(Outcome),
    /// It had ended already, and that stays its end.
    StayEnded(Outcome),
    Begin(Trigger),
    /// It was idle, and is again.
    Idle,
    Gone,
}

// What the supervisor needs to know about it.
impl Job {
    pub(super) fn new(key: JobKey, id: JobId, spec: Rc<JobSpec>, origin: Origin, now: Now) -> Job {
        Job {
            key,
            id,
            spec,
            origin,
            created: now,
            phase: Phase::Idle { pending: None },
            runs: Vec::new(),
            results: VecDeque::new(),
            log_end: LogEnd::default(),
            last_run: 0,
            finished: 0,
            last_started: None,
            last: None,
            last_probe: None,
            streak: Streak::default(),
            restarts: 0,
            has_backed_off: false,
            exits_at_once: 0,
            kill_requested: false,
            may_have_unseen_leftovers: false,
            skipped: Skipped::default(),
            counts: None,
            kept: None,
            bases: Bases::default(),
            failure: None,
            call: None,
            next_call: None,
            resumes: None,
            has_old_end: false,
        }
    }

    /// The number of its newest run.
    pub(super) fn last_run(&self) -> u64 {
        self.last_run
    }

    /// Whether it has ever had a run, which may have left processes.
    fn has_run(&self) -> bool {
        self.last_run > 0
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Stopping { then: Then::Gone } | Phase::Gone)
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    pub(super) fn has_expired(&self) -> bool {
        matches!(self.phase, Phase::Expired)
    }

    /// The exit code for k1s, if this job is critical and has ended for good.
    pub(super) fn critical_end(&self) -> Option<u8> {
        let is_that_end = match self.spec.critical {
            Critical::No => false,
            Critical::OnFailure => {
                matches!(self.phase, Phase::Ended { outcome: Outcome::Failed, .. })
            }
            Critical::Yes => matches!(self.phase, Phase::Ended { .. } | Phase::Gone),
        };
        // One that was over when k1s started has ended an earlier k1s already.
        let is_that_end = is_that_end && !self.has_old_end;
        is_that_end.then_some(self.last_exit_code().unwrap_or(0))
    }

    /// The exit code for k1s if this is its main job: 137, as for SIGKILL, if its process is still
    /// there; `None` if it has never run.
    pub(super) fn final_exit_code(&self) -> Option<u8> {
        if self.runs.iter().any(Run::is_live) { Some(137) } else { self.last_exit_code() }
    }

    /// The launch of a run that is still to be spawned.
    pub(super) fn launch(&self, run: RunKey) -> Option<Launch> {
        let run = self.runs.iter().find(|r| r.key == run)?;
        matches!(run.state, RunState::Queued).then(|| Launch {
            run: run.key,
            purpose: Purpose::Run,
            job_id: self.id.clone(),
            spec: run.spec.clone(),
            call: run.call.clone(),
        })
    }

    /// Releases its share of the memory budget.
    pub(super) fn release_output(&mut self, memory: &mut OutputMemory) {
        for finished in &self.results {
            memory.release(finished.place);
        }
    }
}

// Its phases.
impl Job {
    /// Starts the job, for the first time or again.
    pub(super) fn begin(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        if core.shutdown.is_some() {
            return self.end(Outcome::Killed, core, now);
        }
        if core.leaving.contains_key(&self.id) {
            return self.enter(Phase::Waiting { trigger, is_restart: false }, core, now);
        }
        match &self.spec.kind {
            Kind::Continuous { .. } | Kind::OneOff { .. } => self.run_now(trigger, core, now),
            Kind::Cron(_) => {
                self.schedule(None, core, now);
            }
        }
    }

    /// It was registered: starts it, unless it is to be idle.
    pub(super) fn begin_life(&mut self, core: &mut Core, now: Now) {
        if self.spec.autostart {
            self.begin(self.origin.trigger(), core, now);
        }
    }

    /// The job's own timer has expired; the phase says what it was for.
    pub(super) fn handle_timer(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Backoff { .. } => self.restart_now(self.restart_trigger(), core, now),
            Phase::Scheduled { due: Some(due), .. } => {
                let due = *due;
                self.handle_due(due, core, now);
            }
            Phase::Ended { .. } => self.enter(Phase::Expired, core, now),
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Scheduled { due: None, .. }
            | Phase::Stopping { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    /// A run is over, without leftovers: does what follows.
    fn follow(&mut self, end: End, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Stopping { then } => {
                let then = *then;
                match self.runs.is_empty() {
                    // It has ended before its turn; leftovers are still to be looked for.
                    true if core.is_held(self.key) => self.stop(then, core, now),
                    true => self.stopped(then, core, now),
                    false => {}
                }
            }
            Phase::Active => self.run_again_or_end(end, core, now),
            Phase::Scheduled { pending: Some(trigger), .. }
            | Phase::Idle { pending: Some(trigger) }
                if self.runs.is_empty() =>
            {
                let trigger = *trigger;
                self.run_pending(trigger, core, now);
            }
            Phase::Scheduled { .. } | Phase::Idle { .. } => {}
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    /// Enters a phase: sets its timer, and cancels that of the old phase.
    fn enter(&mut self, phase: Phase, core: &mut Core, now: Now) {
        self.phase = phase;
        if matches!(self.phase, Phase::Idle { .. } | Phase::Ended { .. }) {
            self.call = None;
        }
        self.arm(core, now);
    }

    /// Sets the timer of the phase, or cancels it if the phase has none.
    fn arm(&self, core: &mut Core, now: Now) {
        let at = match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Scheduled { due, .. } => due
                .and_then(|due| self.timetable().map(|table| table.wait(due, now)))
                .map(|wait| now.mono + wait),
            // A shutdown need not remove jobs that have ended.
            Phase::Ended { .. } if core.shutdown.is_some() => None,
            // Without it, those that depend on it could never start again.
            Phase::Ended { .. } if core.dependencies.has_dependents(&self.id) => None,
            Phase::Ended { since, .. } => match &self.spec.kind {
                Kind::OneOff { ttl_after_finished, .. } => {
                    // Not in the same turn: clients that wait for the result are answered first.
                    ttl_after_finished.map(|ttl| *since + ttl.max(Duration::from_millis(1)))
                }
                Kind::Continuous { .. } | Kind::Cron(_) => None,
            },
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Stopping { .. }
            | Phase::Expired
            | Phase::Gone => None,
        };
        match at {
            Some(at) => core.timers.set(Timer::Job(self.key), at),
            None => {
                core.timers.cancel(&Timer::Job(self.key));
            }
        }
    }

    /// Another job depends on it from now on, or does no more.
    pub(super) fn handle_dependents(&self, core: &mut Core, now: Now) {
        if matches!(self.phase, Phase::Ended { .. }) {
            self.arm(core, now);
        }
    }

    fn end(&mut self, outcome: Outcome, core: &mut Core, now: Now) {
        self.enter(Phase::Ended { outcome, since: now.mono }, core, now);
        self.tell(Happened::Finished(self.state()), core, now);
    }

    pub(super) fn tell(&self, what: Happened, core: &mut Core, now: Now) {
        let (key, id, job_type) = (self.key, self.id.clone(), self.spec.kind.job_type());
        core.tell(EventKind::Job { key, id, job_type, what }, now);
    }

    fn index(&self, run: RunKey) -> Option<usize> {
        self.runs.iter().position(|r| r.key == run)
    }

    fn run_mut(&mut self, run: RunKey) -> Option<&mut Run> {
        self.runs.iter_mut().find(|r| r.key == run)
    }
}
