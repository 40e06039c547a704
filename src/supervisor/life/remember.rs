//! What is remembered of a job, and how it goes on from that.

use super::{Job, Phase, Stage, Streak, Then};
use crate::job::spec::{Kind, Restart};
use crate::job::{LogEnd, Reason, RunEnd, Trigger};
use crate::supervisor::due::{Due, Moment};
use crate::supervisor::life::restart::Next;
use crate::supervisor::life::results::Finished;
use crate::supervisor::remembered::{Life, LiveRun, Remembered};
use crate::supervisor::run::{End, Run, RunState};
use crate::supervisor::{Core, Happened, RunKey, backoff};
use crate::time::Now;

impl Job {
    /// What is remembered of it, besides its specification and its results.
    pub fn life(&self, now: Now) -> Life {
        let Streak { restarts, failures, has_reported } = self.streak;
        Life {
            last_run: self.last_run,
            finished: self.finished,
            forgotten: self.finished.saturating_sub(self.results.len() as u64),
            last_started: self.last_started,
            last: self.last.clone(),
            streak: (restarts, failures, has_reported),
            restarts: self.restarts,
            kill_requested: self.kill_requested,
            skipped: self.skipped,
            log_end: self.log_end.place(),
            kept: self.kept.map(|kept| kept.0),
            stage: self.stage(now),
            runs: self.unrecorded_runs().map(LiveRun::of).collect(),
            calls: (self.call.clone(), self.next_call.clone()),
            leaders: self.runs.iter().filter_map(Run::named_leader).collect(),
        }
    }

    /// When the job was registered, by both clocks.
    pub fn created(&self) -> Now {
        self.created
    }

    /// The shutdown is no reason to be over when k1s starts again: remembers what would have come
    /// next. A one-off job whose run is stopped now is over.
    pub(in crate::supervisor) fn remember_stage(&mut self, now: Now) {
        let stage = self.stage(now);
        let is_one_off = matches!(self.spec.kind, Kind::OneOff { .. });
        let is_over = match stage {
            Stage::Ended(..) | Stage::Leaves => true,
            Stage::Runs => is_one_off,
            Stage::Idle(_) | Stage::Begins(_) | Stage::BacksOff(_) | Stage::Scheduled { .. } => {
                false
            }
        };
        self.resumes = (!is_over).then_some(stage);
    }

    fn stage(&self, now: Now) -> Stage {
        if self.is_leaving() {
            return Stage::Leaves;
        }
        if let Some(stage) = self.resumes {
            return stage;
        }
        match &self.phase {
            Phase::Idle { pending } => Stage::Idle(pending.or(self.queued_trigger())),
            Phase::Waiting { trigger, .. } => Stage::Begins(*trigger),
            Phase::Active => self.active_stage(now),
            Phase::Backoff { until } => Stage::BacksOff(*until),
            Phase::Scheduled { due, pending } => {
                let pending = pending.or(self.queued_trigger());
                Stage::Scheduled { due: due.map(Due::numbers), pending }
            }
            Phase::Stopping { then: Then::End(outcome) | Then::StayEnded(outcome) } => {
                Stage::Ended(*outcome, now.mono)
            }
            Phase::Stopping { then: Then::Begin(trigger) } => Stage::Begins(*trigger),
            Phase::Stopping { then: Then::Idle } => Stage::Idle(None),
            Phase::Ended { outcome, since } => Stage::Ended(*outcome, *since),
            Phase::Stopping { then: Then::Gone } | Phase::Expired | Phase::Gone => Stage::Leaves,
        }
    }

    /// Why a run is to be spawned.
    fn queued_trigger(&self) -> Option<Trigger> {
        self.runs.iter().find(|run| run.is_to_spawn()).map(|run| run.trigger)
    }

    fn active_stage(&self, now: Now) -> Stage {
        let Some(run) = self.runs.last() else { return Stage::Begins(self.restart_trigger()) };
        match &run.state {
            RunState::Queued | RunState::Deferred { .. } => Stage::Begins(run.trigger),
            RunState::Running { .. } | RunState::Stopping { .. } => Stage::Runs,
            RunState::Clearing { end, .. } | RunState::Closing { end } => match self.next(*end) {
                Next::Restart => Stage::Begins(self.restart_trigger()),
                Next::End(outcome) => Stage::Ended(outcome, now.mono),
            },
        }
    }

    /// A job that an earlier k1s had. Nothing of it runs yet.
    pub(in crate::supervisor) fn restored(remembered: Remembered, core: &mut Core) -> Job {
        let Remembered { key, id, origin, created, spec, life, results } = remembered;
        let (restarts, failures, has_reported) = life.streak;
        let mut job = Job::new(key, id, spec, origin, created);
        job.last_run = life.last_run;
        job.finished = life.finished;
        job.last_started = life.last_started;
        job.last = life.last;
        job.streak = Streak { restarts, failures, has_reported };
        job.restarts = life.restarts;
        job.kill_requested = life.kill_requested;
        job.skipped = life.skipped;
        job.log_end = LogEnd::at(life.log_end);
        job.kept = life.kept.map(Moment);
        (job.call, job.next_call) = life.calls;
        job.results = results;
        for Finished { record, place } in &mut job.results {
            let bytes = record.stdout.allocated() + record.stderr.allocated();
            let run = RunKey { job: key, number: record.number };
            *place = core.memory.hold(None, run, false, bytes);
        }
        job.trim_results(core);
        job
    }

    /// Records the runs that were going, and goes on from where the job was: as soon as nothing is
    /// left of its processes.
    pub(in crate::supervisor) fn go_on_from(
        &mut self,
        stage: Stage,
        runs: &[LiveRun],
        core: &mut Core,
        now: Now,
    ) {
        let lost = self.lose(runs, core, now);
        let stage = match (stage, lost) {
            (Stage::Runs, Some(end)) => self.stage_after(end, core, now),
            (stage, _) => stage,
        };
        self.has_old_end = matches!(stage, Stage::Ended(..)) && lost.is_none();
        if core.leaving.contains_key(&self.id) && !matches!(stage, Stage::Ended(..)) {
            // The trigger does not matter: the stage says it.
            self.phase = Phase::Waiting { trigger: Trigger::Restart, is_restart: false };
            self.resumes = Some(stage);
        } else {
            self.resume(stage, core, now);
        }
    }

    /// Looks as it was, without going on.
    pub(in crate::supervisor) fn look_as_in(&mut self, life: &Life) {
        for (run, pid) in life.runs.iter().zip(&life.leaders).filter(|(run, _)| run.is_launched) {
            let key = RunKey { job: self.key, number: run.number };
            let begin = self.log_end.place();
            let mut run = Run::new(key, run.trigger, self.spec.clone(), begin, run.started);
            run.state = RunState::Running { pid: *pid };
            self.runs.push(run);
        }
        self.phase = match life.stage {
            Stage::Idle(pending) => Phase::Idle { pending },
            Stage::Begins(_) | Stage::Runs => Phase::Active,
            Stage::BacksOff(until) => Phase::Backoff { until },
            Stage::Scheduled { due, pending } => {
                let due = due.map(|(nominal, at)| Due { nominal: Moment(nominal), at: Moment(at) });
                Phase::Scheduled { due, pending }
            }
            Stage::Ended(outcome, since) => Phase::Ended { outcome, since },
            Stage::Leaves => Phase::Gone,
        };
    }

    /// Goes on from where it was.
    pub(super) fn resume(&mut self, stage: Stage, core: &mut Core, now: Now) {
        match stage {
            Stage::Idle(pending) => {
                self.enter(Phase::Idle { pending: None }, core, now);
                if let Some(trigger) = pending {
                    self.run_pending(trigger, core, now);
                }
            }
            Stage::Begins(trigger) => self.begin(trigger, core, now),
            Stage::Runs => self.begin(self.restart_trigger(), core, now),
            Stage::BacksOff(until) => self.enter(Phase::Backoff { until }, core, now),
            Stage::Scheduled { due, pending } => {
                let due = due.map(|(nominal, at)| Due { nominal: Moment(nominal), at: Moment(at) });
                self.enter(Phase::Scheduled { due, pending: None }, core, now);
                // Nothing runs, so no policy is against it.
                if let Some(trigger) = pending {
                    let _ = self.fire(trigger, core, now);
                }
            }
            Stage::Ended(outcome, since) => {
                self.enter(Phase::Ended { outcome, since }, core, now);
                if !self.has_old_end {
                    self.tell(Happened::Finished(self.state()), core, now);
                }
            }
            Stage::Leaves => self.enter(Phase::Gone, core, now),
        }
    }

    /// Records the runs that were going. A run that was still to be spawned leaves no trace.
    /// Returns the end of the newest.
    fn lose(&mut self, runs: &[LiveRun], core: &mut Core, now: Now) -> Option<End> {
        let mut lost = None;
        for run in runs {
            if !run.is_launched {
                if run.number == self.last_run {
                    self.last_run -= 1;
                }
                continue;
            }
            if lost.is_none() {
                // They may have written lines that nobody remembers.
                self.log_end = self.log_end.leave_out(LINES_LEFT_OUT);
            }
            let key = RunKey { job: self.key, number: run.number };
            let (begin, spec) = (self.log_end.place(), self.spec.clone());
            self.runs.push(Run::new(key, run.trigger, spec, begin, run.started));
            core.live_runs += 1;
            let index = self.runs.len() - 1;
            lost = Some(self.record(index, RunEnd::Lost, Reason::Lost, false, core, now));
            self.drop_run(index, core);
        }
        lost
    }

    /// What follows a run that was lost.
    fn stage_after(&mut self, end: End, core: &mut Core, now: Now) -> Stage {
        if let Next::End(outcome) = self.next(end) {
            return Stage::Ended(outcome, now.mono);
        }
        self.streak.restarts = self.streak.restarts.saturating_add(1);
        let streak = self.streak.restarts;
        let delay = match &self.spec.kind {
            Kind::Continuous { restart: Restart { backoff, .. }, .. }
            | Kind::OneOff { backoff, .. } => backoff::delay(backoff, streak, false, &self.id),
            Kind::Cron(_) => return Stage::Begins(self.restart_trigger()),
        };
        self.tell(Happened::Restarting { after: delay, streak }, core, now);
        // Even without a delay it is a restart that counts.
        Stage::BacksOff(now.mono + delay)
    }
}

impl LiveRun {
    fn of(run: &Run) -> LiveRun {
        let Run { key, trigger, started, .. } = run;
        let is_launched = !run.is_to_spawn();
        LiveRun { number: key.number, trigger: *trigger, started: *started, is_launched }
    }
}

/// More than a run can have written since its job was last stored.
const LINES_LEFT_OUT: u64 = 1 << 32;
