//! One job's life.
//!
//! ```text
//!             Waiting (for the processes of a removed job of the same id)
//!                │
//!                ▼ begin
//!   continuous, one-off: Active ◄────────── Backoff
//!                cron: Scheduled   restart     ▲
//!                │         │       or retry    │
//!                │         └───────────────────┘
//!                ├─ no more to do ──► Ended ──► Expired (time to live)
//!                └─ kill, remove, restart, shutdown ──► Stopping ──► Ended, begin, or Gone
//! ```
//!
//! A phase says what happens next; the processes are in `runs`. [`Job::enter`] arms what the
//! job's own timer is for, and nothing else sets or cancels it but `arm`, for a new specification.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::backoff;
use super::due::{Due, Skipped, Timetable};
use super::memory::Place;
use super::run::{End, Kill, Run, RunState, Survey};
use super::{
    Action, Core, Happened, JobKey, Launch, Put, Refusal, RunKey, SkipReason, Target, Timer,
};
use crate::job::spec::{Backoff, Concurrency, Kind, RestartPolicy};
use crate::job::{
    Capture, ExitStatus, JobId, JobSpec, Pid, Reason, RunEnd, RunRecord, Signal, SpawnFailure,
    Stream,
};
use crate::time::{Mono, Now, Wall};

/// A registered job.
#[derive(Debug)]
pub struct Job {
    pub(super) key: JobKey,
    pub(super) id: JobId,
    pub(super) spec: Rc<JobSpec>,
    pub(super) created: Now,
    pub(super) phase: Phase,
    /// Oldest first; more than one only where a cron job allows it.
    pub(super) runs: Vec<Run>,
    pub(super) results: VecDeque<Finished>,
    pub(super) last_run: u64,
    pub(super) last_started: Option<Wall>,
    pub(super) last_exit_code: Option<u8>,
    /// How many restarts or retries in a row.
    pub(super) streak: u32,
    pub(super) restarts: u64,
    pub(super) kill_requested: bool,
    pub(super) skipped: Skipped,
    /// Up to when the schedule's nominal times have been dealt with.
    pub(super) kept: Option<i64>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting,
    /// One run is live.
    Active,
    Backoff {
        until: Mono,
    },
    Scheduled {
        due: Option<Due>,
        pending: bool,
    },
    Stopping {
        then: Then,
    },
    Ended {
        outcome: Outcome,
        since: Mono,
    },
    /// Its time to live is over: it is to be removed.
    Expired,
    Gone,
}

/// What follows once nothing of the job runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    End(Outcome),
    Begin,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    Killed,
}

#[derive(Debug)]
pub(super) struct Finished {
    pub(super) record: RunRecord,
    pub(super) place: Option<Place>,
}

// What the supervisor needs to know of it.
impl Job {
    pub(super) fn new(key: JobKey, id: JobId, spec: JobSpec, now: Now) -> Job {
        Job {
            key,
            id,
            spec: Rc::new(spec),
            created: now,
            phase: Phase::Waiting,
            runs: Vec::new(),
            results: VecDeque::new(),
            last_run: 0,
            last_started: None,
            last_exit_code: None,
            streak: 0,
            restarts: 0,
            kill_requested: false,
            skipped: Skipped::default(),
            kept: None,
        }
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

    /// The exit code that k1s is to end with, when this job is critical and has ended for good.
    pub(super) fn critical_end(&self) -> Option<u8> {
        let over = matches!(self.phase, Phase::Ended { .. } | Phase::Gone);
        (self.spec.critical && over).then_some(self.last_exit_code.unwrap_or(0))
    }

    /// The exit code of a k1s whose main job this is: 137, SIGKILL's, while it cannot be ended;
    /// none when it has never run.
    pub(super) fn final_exit_code(&self) -> Option<u8> {
        if self.pid().is_some() { Some(137) } else { self.last_exit_code }
    }

    pub(super) fn is_clearing_group(&self, run: RunKey, pid: Pid) -> bool {
        self.runs.iter().any(|r| r.key == run && r.cleared_leader() == Some(pid))
    }

    /// The launch of a run that waits for it.
    pub(super) fn launch(&self, run: RunKey) -> Option<Launch> {
        let run = self.runs.iter().find(|r| r.key == run)?;
        matches!(run.state, RunState::Queued).then(|| Launch {
            run: run.key,
            job_id: self.id.clone(),
            tag: run.tag.clone(),
            spec: run.spec.clone(),
        })
    }

    /// Gives back all that it holds of what the jobs share.
    pub(super) fn release(&mut self, core: &mut Core) {
        core.timers.cancel(&Timer::Job(self.key));
        for finished in &self.results {
            core.memory.release(finished.place);
        }
    }
}

// What somebody asks for.
impl Job {
    /// Starts the job's life, or starts it anew.
    pub(super) fn begin(&mut self, core: &mut Core, now: Now) {
        if core.shutdown.is_some() {
            return self.end(Outcome::Killed, core, now);
        }
        if core.leaving.contains_key(&self.id) {
            return self.enter(Phase::Waiting, core, now);
        }
        match &self.spec.kind {
            Kind::Continuous { .. } | Kind::OneOff { .. } => self.run_now(core, now),
            Kind::Cron(_) => {
                self.schedule(false, core, now);
            }
        }
    }

    pub(super) fn kill(&mut self, core: &mut Core, now: Now) -> Result<(), Refusal> {
        let is_one_off = matches!(self.spec.kind, Kind::OneOff { .. });
        match &self.phase {
            Phase::Ended { .. } if is_one_off => return Err(Refusal::Over),
            Phase::Stopping { then: Then::End(_) } if self.kill_requested => self.force(core),
            Phase::Ended { outcome, .. } | Phase::Stopping { then: Then::End(outcome) } => {
                let outcome = *outcome;
                self.stop(Then::End(outcome), core, now);
            }
            Phase::Waiting
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. } => self.stop(Then::End(Outcome::Killed), core, now),
            Phase::Expired | Phase::Gone => return Err(Refusal::NotFound),
        }
        self.kill_requested = true;
        Ok(())
    }

    pub(super) fn start(&mut self, core: &mut Core, now: Now) {
        self.forget_kill();
        match &mut self.phase {
            Phase::Ended { .. } => self.begin(core, now),
            Phase::Backoff { .. } => self.restart_now(core, now),
            Phase::Stopping { then: then @ Then::End(_) } => *then = Then::Begin,
            Phase::Waiting
            | Phase::Active
            | Phase::Scheduled { .. }
            | Phase::Stopping { then: Then::Begin | Then::Gone }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    pub(super) fn restart(&mut self, core: &mut Core, now: Now) {
        self.forget_kill();
        match &self.phase {
            Phase::Waiting | Phase::Expired | Phase::Gone => {}
            Phase::Ended { .. } => self.begin(core, now),
            Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. } => {
                self.stop(Then::Begin, core, now);
            }
        }
    }

    pub(super) fn run_by_hand(&mut self, core: &mut Core, now: Now) -> Result<(), Refusal> {
        if matches!(self.spec.kind, Kind::Continuous { .. }) {
            return Err(Refusal::NotRunnable);
        }
        match &self.phase {
            Phase::Ended { outcome: Outcome::Killed, .. } => Err(Refusal::Killed),
            Phase::Ended { .. } => {
                self.forget_kill();
                self.begin(core, now);
                Ok(())
            }
            Phase::Scheduled { .. } => self.fire(core, now).map_err(|_| Refusal::Forbidden),
            Phase::Waiting | Phase::Active | Phase::Backoff { .. } | Phase::Stopping { .. } => {
                Err(Refusal::Forbidden)
            }
            Phase::Expired | Phase::Gone => Err(Refusal::NotFound),
        }
    }

    pub(super) fn signal(
        &self,
        signal: Signal,
        group: bool,
        core: &mut Core,
    ) -> Result<(), Refusal> {
        let mut pids = self.runs.iter().filter_map(Run::pid).peekable();
        pids.peek().ok_or(Refusal::NotRunning)?;
        for pid in pids {
            let target = if group { Target::Group(pid) } else { Target::Process(pid) };
            core.actions.push_back(Action::Signal { target, signal });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Waiting => self.enter(Phase::Gone, core, now),
            Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired => self.stop(Then::Gone, core, now),
            Phase::Gone => {}
        }
    }

    /// Takes another specification. What a running process cannot see is taken over in place;
    /// for the rest, what runs is stopped and the job begins anew. A killed job stays killed.
    pub(super) fn replace(
        &mut self,
        spec: JobSpec,
        core: &mut Core,
        now: Now,
    ) -> Result<Put, Refusal> {
        if std::mem::discriminant(&spec.kind) != std::mem::discriminant(&self.spec.kind) {
            return Err(Refusal::OtherType);
        }
        if spec == *self.spec {
            return Ok(Put::Unchanged);
        }
        let same_process = spec.command == self.spec.command;
        self.tell(Happened::Replaced, core);
        let old = std::mem::replace(&mut self.spec, Rc::new(spec));
        self.trim_results(core);
        self.arm(core, now);
        if same_process {
            self.take_over(&old, core, now);
            return Ok(Put::Replaced);
        }
        match &self.phase {
            Phase::Waiting | Phase::Expired | Phase::Gone => {}
            Phase::Ended { outcome: Outcome::Killed, .. } | Phase::Stopping { .. } => {}
            Phase::Ended { .. } => {
                self.forget_kill();
                self.begin(core, now);
            }
            Phase::Active | Phase::Backoff { .. } | Phase::Scheduled { .. } => {
                self.streak = 0;
                self.stop(Then::Begin, core, now);
            }
        }
        Ok(Put::Replaced)
    }

    pub(super) fn stop_for_shutdown(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Waiting => self.end(Outcome::Killed, core, now),
            Phase::Ended { outcome, .. } | Phase::Stopping { then: Then::End(outcome) } => {
                let outcome = *outcome;
                self.stop(Then::End(outcome), core, now);
            }
            Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. } => {
                self.stop(Then::End(Outcome::Killed), core, now);
            }
            Phase::Expired | Phase::Gone => {}
        }
    }

    /// Kills at once what is being stopped.
    pub(super) fn force(&mut self, core: &mut Core) {
        for run in &mut self.runs {
            run.force(core);
        }
    }

    fn take_over(&mut self, old: &JobSpec, core: &mut Core, now: Now) {
        for run in &mut self.runs {
            run.take_over(self.spec.clone(), core);
        }
        if let Phase::Scheduled { pending, .. } = self.phase
            && !has_same_times(&old.kind, &self.spec.kind)
        {
            self.schedule(pending, core, now);
        }
    }

    fn forget_kill(&mut self) {
        self.kill_requested = false;
        self.streak = 0;
    }
}

// What happened.
impl Job {
    pub(super) fn handle_spawned(&mut self, run: RunKey, pid: Pid, core: &mut Core, now: Now) {
        let Some(run) = self.run_mut(run) else { return };
        run.started = now;
        // Where it has found room, there may be room for the next one that waits.
        core.has_freed |= run.deferrals > 0;
        run.enter(RunState::Running { pid }, core, now);
        let run = run.key.number;
        self.last_started = Some(now.wall);
        self.tell(Happened::Started { run, pid }, core);
    }

    pub(super) fn handle_spawn_failed(
        &mut self,
        run: RunKey,
        failure: SpawnFailure,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        self.last_started = Some(now.wall);
        if let Some(run) = self.runs.get_mut(index) {
            run.started = now;
        }
        let end = RunEnd::NotSpawned(Box::new(failure));
        let lived = self.record(index, end.clone(), Reason::SpawnFailed, core, now);
        let (run, reason) = (run.number, Reason::SpawnFailed);
        self.tell(Happened::Ended { run, end, reason, lived, success: false }, core);
        self.drop_run(index, core);
        self.follow(End { success: false, spawn_failed: true, lived }, core, now);
    }

    pub(super) fn handle_spawn_deferred(
        &mut self,
        run: RunKey,
        error: String,
        core: &mut Core,
        now: Now,
    ) {
        let Some(run) = self.run_mut(run) else { return };
        let delay = FIRST_DEFERRAL.saturating_mul(1 << run.deferrals.min(16)).min(LONGEST_DEFERRAL);
        run.deferrals += 1;
        let (number, is_first) = (run.key.number, run.deferrals == 1);
        run.enter(RunState::Deferred { error: error.clone(), delay }, core, now);
        self.tell(Happened::Deferred { run: number, error, is_first }, core);
    }

    pub(super) fn handle_output(
        &mut self,
        run: RunKey,
        stream: Stream,
        bytes: &[u8],
        core: &mut Core,
    ) {
        if let Some(run) = self.run_mut(run) {
            run.append(stream, bytes, core);
        }
    }

    pub(super) fn handle_exit(
        &mut self,
        run: RunKey,
        status: ExitStatus,
        group_is_alive: bool,
        core: &mut Core,
        now: Now,
    ) {
        let Some(index) = self.index(run) else { return };
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let kill = Kill::At(core.bound_by_shutdown(now.mono + run.spec.stop.timeout));
        let (reason, left) = match &run.state {
            RunState::Stopping { why, target, kill, .. } => (*why, Some((target.clone(), *kill))),
            RunState::Running { pid } => {
                let reason = match status {
                    ExitStatus::Code(_) => Reason::Exited,
                    ExitStatus::Signal(_) => Reason::Signaled,
                };
                (reason, group_is_alive.then_some((Target::Group(*pid), kill)))
            }
            RunState::Queued | RunState::Deferred { .. } | RunState::Clearing { .. } => return,
        };
        let (spec, run_number) = (run.spec.clone(), run.key.number);
        let lived = self.record(index, RunEnd::Process(status), reason, core, now);
        let good = self.last_exit_code.is_some_and(|code| spec.is_success(code.into()));
        let success = reason == Reason::Killed || (reason != Reason::TimedOut && good);
        let (run, end) = (run_number, RunEnd::Process(status));
        self.tell(Happened::Ended { run, end, reason, lived, success }, core);
        let end = End { success, spawn_failed: false, lived };
        match (left, self.runs.get_mut(index)) {
            (Some((target, kill)), Some(run)) => {
                if matches!(target, Target::Group(_)) {
                    run.ask_to_end(&target, core);
                    run.clear(end, target, kill, core, now);
                } else {
                    run.clear(end, target, kill, core, now);
                    run.survey(core);
                }
            }
            (None, _) | (_, None) => {
                self.drop_run(index, core);
                self.follow(end, core, now);
            }
        }
    }

    pub(super) fn handle_survey(&mut self, run: RunKey, is_alive: bool, core: &mut Core, now: Now) {
        let Some(index) = self.index(run) else { return };
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let RunState::Clearing { end, survey: Survey::Asked { is_outdated, .. }, .. } = run.state
        else {
            return;
        };
        if is_alive {
            run.rest(core, now);
        } else if is_outdated {
            run.survey_anew(core);
        } else {
            self.drop_run(index, core);
            self.follow(end, core, now);
        }
    }

    /// No process is left in the group that the run led.
    pub(super) fn handle_group_gone(&mut self, run: RunKey, core: &mut Core, now: Now) {
        let Some(index) = self.index(run) else { return };
        let Some(RunState::Clearing { end, target, .. }) =
            self.runs.get_mut(index).map(|run| &mut run.state)
        else {
            return;
        };
        match target {
            Target::Tree { leader, .. } => *leader = None,
            Target::Process(_) | Target::Group(_) => {
                let end = *end;
                self.drop_run(index, core);
                self.follow(end, core, now);
            }
        }
    }

    /// The job that it waited for has left.
    pub(super) fn handle_predecessor_gone(&mut self, core: &mut Core, now: Now) {
        if let Phase::Waiting = self.phase {
            self.begin(core, now);
        }
    }

    pub(super) fn handle_survey_due(&mut self, run: RunKey, core: &mut Core) {
        if let Some(run) = self.run_mut(run) {
            run.survey(core);
        }
    }

    pub(super) fn handle_orphans_reaped(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run) {
            run.hasten(core, now);
        }
    }

    pub(super) fn handle_run_timeout(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run) {
            let tag = run.tag.clone();
            run.stop(Reason::TimedOut, tag, core, now);
        }
    }

    pub(super) fn handle_grace_over(&mut self, run: RunKey, core: &mut Core, _now: Now) {
        if let Some(run) = self.run_mut(run) {
            run.force(core);
            let run = run.key.number;
            self.tell(Happened::Overdue { run }, core);
        }
    }

    /// The job's own timer: what it is for depends on the phase.
    pub(super) fn handle_timer(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Backoff { .. } => self.restart_now(core, now),
            Phase::Scheduled { due: Some(due), .. } => {
                let due = *due;
                self.handle_due(due, core, now);
            }
            Phase::Ended { .. } => self.enter(Phase::Expired, core, now),
            Phase::Waiting
            | Phase::Active
            | Phase::Scheduled { due: None, .. }
            | Phase::Stopping { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    pub(super) fn handle_clock_step(&mut self, core: &mut Core, now: Now) {
        if let Phase::Scheduled { due: Some(due), pending } = self.phase
            && let Some(table) = self.timetable()
        {
            let (due, kept) = table.after_step(due, self.kept, now);
            self.kept = kept;
            self.enter(Phase::Scheduled { due, pending }, core, now);
        }
    }

    /// Something was freed: a run that waits for room is tried at once. However often, its waits
    /// do not get longer by it.
    pub(super) fn hurry(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run) {
            run.deferrals = run.deferrals.saturating_sub(1).max(1);
        }
        self.retry(run, core, now);
    }

    pub(super) fn retry(&mut self, run: RunKey, core: &mut Core, now: Now) {
        if let Some(run) = self.run_mut(run)
            && let RunState::Deferred { .. } = run.state
        {
            run.enter(RunState::Queued, core, now);
        }
    }

    pub(super) fn discard_output(&mut self, number: u64) {
        let run = self.runs.iter_mut().find(|run| run.key.number == number && run.place.is_some());
        if let Some(run) = run {
            return run.discard_output();
        }
        let finished = self.results.iter_mut().find(|finished| finished.record.number == number);
        if let Some(finished) = finished {
            finished.record.stdout.discard();
            finished.record.stderr.discard();
            finished.place = None;
        }
    }
}

// What follows.
impl Job {
    /// Goes over to another phase, whose timer is set; that of the phase before is cancelled.
    fn enter(&mut self, phase: Phase, core: &mut Core, now: Now) {
        self.phase = phase;
        self.arm(core, now);
    }

    /// Sets the timer of the phase, or none.
    fn arm(&self, core: &mut Core, now: Now) {
        let at = match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Scheduled { due, .. } => due
                .and_then(|due| self.timetable().map(|table| table.wait(due, now)))
                .map(|wait| now.mono + wait),
            // In a shutdown there is nothing to make room for.
            Phase::Ended { .. } if core.shutdown.is_some() => None,
            Phase::Ended { since, .. } => match &self.spec.kind {
                Kind::OneOff { ttl_after_finished, .. } => {
                    // Not in the turn of its end: whoever waits for the result is answered first.
                    ttl_after_finished.map(|ttl| *since + ttl.max(Duration::from_millis(1)))
                }
                Kind::Continuous { .. } | Kind::Cron(_) => None,
            },
            Phase::Waiting
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

    fn end(&mut self, outcome: Outcome, core: &mut Core, now: Now) {
        self.enter(Phase::Ended { outcome, since: now.mono }, core, now);
        self.tell(Happened::Finished(self.state()), core);
    }

    fn tell(&self, what: Happened, core: &mut Core) {
        core.events.tell(self.key, &self.id, what);
    }

    /// Nothing of a run is left: what now?
    fn follow(&mut self, end: End, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Stopping { then } => {
                let then = *then;
                if self.runs.is_empty() {
                    self.stopped(then, core, now);
                }
            }
            Phase::Active => self.run_again_or_end(end, core, now),
            Phase::Scheduled { due, pending: true } if self.runs.is_empty() => {
                let due = *due;
                self.enter(Phase::Scheduled { due, pending: false }, core, now);
                self.add_run(core, now);
            }
            Phase::Scheduled { .. } => {}
            Phase::Waiting
            | Phase::Backoff { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    fn run_again_or_end(&mut self, end: End, core: &mut Core, now: Now) {
        let outcome = if end.success { Outcome::Succeeded } else { Outcome::Failed };
        let (backoff, again, most) = match &self.spec.kind {
            Kind::Continuous { restart, .. } => {
                let again = match restart.policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => !end.success,
                    RestartPolicy::Never => false,
                    RestartPolicy::OnSuccess => end.success,
                };
                if end.lived >= restart.backoff.reset_after && !end.spawn_failed {
                    self.streak = 0;
                }
                (restart.backoff.clone(), again, restart.max_restarts)
            }
            Kind::OneOff { retries, backoff, .. } => {
                (backoff.clone(), !end.success, Some(*retries))
            }
            Kind::Cron(_) => return,
        };
        if !again {
            return self.end(outcome, core, now);
        }
        if most.is_some_and(|most| self.streak >= most) {
            return self.end(Outcome::Failed, core, now);
        }
        self.streak = self.streak.saturating_add(1);
        self.back_off(&backoff, end.spawn_failed, core, now);
    }

    fn back_off(&mut self, backoff: &Backoff, spawn_failed: bool, core: &mut Core, now: Now) {
        let delay = backoff::delay(backoff, self.streak, spawn_failed, &self.id);
        self.tell(Happened::Restarting { after: delay, streak: self.streak }, core);
        if delay.is_zero() {
            self.restart_now(core, now);
        } else {
            self.enter(Phase::Backoff { until: now.mono + delay }, core, now);
        }
    }

    fn restart_now(&mut self, core: &mut Core, now: Now) {
        self.restarts += 1;
        self.run_now(core, now);
    }

    fn run_now(&mut self, core: &mut Core, now: Now) {
        self.enter(Phase::Active, core, now);
        self.add_run(core, now);
    }

    fn add_run(&mut self, core: &mut Core, now: Now) {
        self.last_run += 1;
        let key = RunKey { job: self.key, number: self.last_run };
        let tag = format!("{}{}", self.tags(core), key.number);
        self.runs.push(Run::new(key, self.spec.clone(), tag.into(), now));
        core.starts.push_back(key);
        core.live_runs += 1;
    }

    /// Waits for the first run after now; what was kept before, perhaps by another schedule or
    /// another clock, no longer counts.
    fn schedule(&mut self, pending: bool, core: &mut Core, now: Now) {
        self.kept = None;
        let due = self.timetable().and_then(|table| table.first(now));
        self.enter(Phase::Scheduled { due, pending }, core, now);
    }

    /// A scheduled run may be due.
    fn handle_due(&mut self, due: Due, core: &mut Core, now: Now) {
        let (Phase::Scheduled { pending, .. }, Some(table)) = (&self.phase, self.timetable())
        else {
            return;
        };
        let pending = *pending;
        let verdict = table.check(due, now);
        if verdict.next != Some(due) {
            self.kept = Some(table.passed(now));
        }
        self.skipped.missed += verdict.missed;
        if verdict.missed > 0 {
            self.tell(Happened::Skipped(SkipReason::Missed(verdict.missed)), core);
        }
        self.enter(Phase::Scheduled { due: verdict.next, pending }, core, now);
        if verdict.run
            && let Err(skip) = self.fire(core, now)
        {
            let reason = match skip {
                Skip::Forbidden => {
                    self.skipped.forbidden += 1;
                    SkipReason::Forbidden
                }
                Skip::QueueFull => {
                    self.skipped.queue_full += 1;
                    SkipReason::QueueFull
                }
            };
            self.tell(Happened::Skipped(reason), core);
        }
    }

    /// Starts a run of a cron job, as far as its policy lets it.
    fn fire(&mut self, core: &mut Core, now: Now) -> Result<(), Skip> {
        let (Kind::Cron(cron), Phase::Scheduled { due, pending }) = (&self.spec.kind, &self.phase)
        else {
            return Err(Skip::Forbidden);
        };
        let (concurrency, due, pending) = (cron.concurrency, *due, *pending);
        if self.runs.is_empty() || concurrency == Concurrency::Allow {
            self.add_run(core, now);
            return Ok(());
        }
        if concurrency == Concurrency::Forbid {
            return Err(Skip::Forbidden);
        }
        if pending {
            return Err(Skip::QueueFull);
        }
        self.enter(Phase::Scheduled { due, pending: true }, core, now);
        if concurrency == Concurrency::Replace {
            self.stop_runs(None, core, now);
            if self.runs.is_empty() {
                self.enter(Phase::Scheduled { due, pending: false }, core, now);
                self.add_run(core, now);
            }
        }
        Ok(())
    }

    /// Stops whatever the job runs, and looks for what earlier runs have left.
    fn stop(&mut self, then: Then, core: &mut Core, now: Now) {
        let then = if self.is_leaving() { Then::Gone } else { then };
        self.enter(Phase::Stopping { then }, core, now);
        let tag: Rc<str> = self.tags(core).into();
        self.stop_runs(Some(&tag), core, now);
        if self.runs.is_empty() && self.last_run > 0 {
            self.sweep(tag, core, now);
        }
        if self.runs.is_empty() {
            self.stopped(then, core, now);
        }
    }

    /// What every `K1S_RUN` of the job begins with. The key tells it from a job of the same id
    /// that was removed, whose runs have the same numbers.
    fn tags(&self, core: &Core) -> String {
        format!("{}-{}.{}.", core.settings.instance, self.key.0, self.id)
    }

    /// Asks every run to end: what carries `tag`, or the tag of the run itself.
    fn stop_runs(&mut self, tag: Option<&Rc<str>>, core: &mut Core, now: Now) {
        for index in (0..self.runs.len()).rev() {
            let Some(run) = self.runs.get_mut(index) else {
                continue;
            };
            let tag = tag.unwrap_or(&run.tag).clone();
            if !run.stop(Reason::Killed, tag, core, now) {
                self.cancel_run(index, core);
            }
        }
    }

    /// Nothing runs, but a former run may have left something that is out of its group.
    fn sweep(&mut self, tag: Rc<str>, core: &mut Core, now: Now) {
        let key = RunKey { job: self.key, number: self.last_run };
        let mut rest = Run::new(key, self.spec.clone(), tag.clone(), now);
        let end = End { success: true, spawn_failed: false, lived: Duration::ZERO };
        let target = Target::Tree { leader: None, tag };
        rest.clear(end, target, Kill::Unasked, core, now);
        rest.survey(core);
        core.live_runs += 1;
        self.runs.push(rest);
    }

    fn stopped(&mut self, then: Then, core: &mut Core, now: Now) {
        match then {
            Then::End(outcome) => self.end(outcome, core, now),
            Then::Begin => self.begin(core, now),
            Then::Gone => self.enter(Phase::Gone, core, now),
        }
    }

    /// Writes down how a run ended, and returns how long it lived.
    fn record(
        &mut self,
        index: usize,
        end: RunEnd,
        reason: Reason,
        core: &mut Core,
        now: Now,
    ) -> Duration {
        let Some(run) = self.runs.get_mut(index) else {
            return Duration::ZERO;
        };
        let duration = now.mono.since(run.started.mono);
        core.memory.release(run.place.take());
        let record = RunRecord {
            number: run.key.number,
            end,
            reason,
            started_at: run.started.wall,
            finished_at: now.wall,
            duration,
            stdout: std::mem::replace(&mut run.stdout, Capture::new(0)).finish(),
            stderr: std::mem::replace(&mut run.stderr, Capture::new(0)).finish(),
        };
        let bytes = record.stdout.allocated() + record.stderr.allocated();
        let place = core.memory.hold(None, run.key, false, bytes);
        self.last_exit_code = Some(record.exit_code());
        self.make_room_for_result();
        self.results.push_back(Finished { record, place });
        self.trim_results(core);
        duration
    }

    /// Room begins with one result, which is all that a one-off job has, and doubles to no more
    /// than is ever kept.
    fn make_room_for_result(&mut self) {
        let (length, room) = (self.results.len(), self.results.capacity());
        if length == room {
            let most = self.spec.output.history_limit.saturating_add(1);
            let wanted = room.saturating_mul(2).min(most).max(length + 1);
            self.results.reserve_exact(wanted - length);
        }
    }

    fn trim_results(&mut self, core: &mut Core) {
        while self.results.len() > self.spec.output.history_limit {
            if let Some(oldest) = self.results.pop_front() {
                core.memory.release(oldest.place);
            }
        }
    }

    /// A run is over.
    fn drop_run(&mut self, index: usize, core: &mut Core) {
        let mut run = self.runs.remove(index);
        run.leave(core);
        core.memory.release(run.place.take());
        core.live_runs -= 1;
        core.has_freed = true;
    }

    /// A run was stopped before it was spawned: its number is free again.
    fn cancel_run(&mut self, index: usize, core: &mut Core) {
        if let Some(run) = self.runs.get(index)
            && run.key.number == self.last_run
        {
            self.last_run -= 1;
            // Or the next run of this number would take its place among those that are to start.
            if matches!(run.state, RunState::Queued)
                && let Some(place) = core.starts.iter().rposition(|start| *start == run.key)
            {
                core.starts.remove(place);
            }
        }
        self.drop_run(index, core);
    }

    pub(super) fn timetable(&self) -> Option<Timetable<'_>> {
        match &self.spec.kind {
            Kind::Cron(spec) => Some(Timetable::new(spec, &self.id, self.created)),
            Kind::Continuous { .. } | Kind::OneOff { .. } => None,
        }
    }

    fn index(&self, run: RunKey) -> Option<usize> {
        self.runs.iter().position(|r| r.key == run)
    }

    fn run_mut(&mut self, run: RunKey) -> Option<&mut Run> {
        self.runs.iter_mut().find(|r| r.key == run)
    }
}

/// Whether two schedules want the same runs at the same times.
fn has_same_times(one: &Kind, other: &Kind) -> bool {
    let (Kind::Cron(one), Kind::Cron(other)) = (one, other) else {
        return false;
    };
    one.schedule == other.schedule && one.suspend == other.suspend && one.jitter == other.jitter
}

impl Core {
    /// No grace period outlasts the shutdown.
    pub(super) fn bound_by_shutdown(&self, at: Mono) -> Mono {
        self.shutdown.as_ref().map_or(at, |shutdown| at.min(shutdown.deadline))
    }
}

/// Why a run of a cron job is not started.
enum Skip {
    Forbidden,
    QueueFull,
}

const FIRST_DEFERRAL: Duration = Duration::from_millis(100);
const LONGEST_DEFERRAL: Duration = Duration::from_secs(30);
