//! The schedule of a cron job: which run is due next, and what the policy says when another run is
//! active.

use super::{Job, Phase};
use crate::job::Trigger;
use crate::job::spec::{Concurrency, Kind};
use crate::supervisor::due::{Due, Timetable};
use crate::supervisor::run::Run;
use crate::supervisor::{Core, Happened, SkipReason};
use crate::time::Now;

/// Why a run of a cron job is not started.
pub(super) enum Skip {
    Forbidden,
    QueueFull,
    /// What it depends on is not there.
    Blocked,
}

impl Job {
    /// Waits for the first run after now. What the schedule has dealt with before no longer counts:
    /// it may have been another schedule, or another clock.
    pub(super) fn schedule(&mut self, pending: Option<Trigger>, core: &mut Core, now: Now) {
        self.kept = None;
        let due = self.timetable().and_then(|table| table.first(now));
        self.enter(Phase::Scheduled { due, pending }, core, now);
    }

    /// A scheduled run may be due.
    pub(super) fn handle_due(&mut self, due: Due, core: &mut Core, now: Now) {
        let (Phase::Scheduled { pending, .. }, Some(table)) = (&self.phase, self.timetable())
        else {
            return;
        };
        let pending = *pending;
        let verdict = table.check(due, now);
        if verdict.next != Some(due) {
            self.kept = Some(table.passed(now));
        }
        if verdict.missed > 0 {
            self.skip_runs(SkipReason::Missed(verdict.missed), core, now);
        }
        self.enter(Phase::Scheduled { due: verdict.next, pending }, core, now);
        if verdict.run
            && let Err(skip) = self.fire_by_schedule(core, now)
        {
            let reason = match skip {
                Skip::Forbidden => SkipReason::Forbidden,
                Skip::QueueFull => SkipReason::QueueFull,
                Skip::Blocked => SkipReason::Blocked,
            };
            self.skip_runs(reason, core, now);
        }
    }

    pub(super) fn skip_runs(&mut self, reason: SkipReason, core: &mut Core, now: Now) {
        self.skipped.count(reason);
        core.totals.skipped.count(reason);
        self.tell(Happened::Skipped(reason), core, now);
    }

    /// Runs of the policy `allow` do not pile up: at most one of them waits to be spawned.
    fn fire_by_schedule(&mut self, core: &mut Core, now: Now) -> Result<(), Skip> {
        let may_be_beside =
            matches!(&self.spec.kind, Kind::Cron(cron) if cron.concurrency == Concurrency::Allow);
        if may_be_beside && self.runs.iter().any(Run::is_to_spawn) {
            return Err(Skip::QueueFull);
        }
        self.fire(Trigger::Schedule, core, now)
    }

    /// Why the policy would skip a run now; `None` when it may start or wait.
    pub(super) fn skip(&self) -> Option<Skip> {
        let (Kind::Cron(cron), Phase::Scheduled { pending, .. } | Phase::Idle { pending }) =
            (&self.spec.kind, &self.phase)
        else {
            return Some(Skip::Forbidden);
        };
        match cron.concurrency {
            _ if pending.is_none() && self.runs.is_empty() => None,
            Concurrency::Allow if pending.is_none() => None,
            Concurrency::Allow => Some(Skip::QueueFull),
            Concurrency::Forbid => Some(Skip::Forbidden),
            Concurrency::Queue | Concurrency::Replace => pending.map(|_| Skip::QueueFull),
        }
    }

    /// Starts a run of a cron job, or lets it wait, as its policy says.
    pub(super) fn fire(&mut self, trigger: Trigger, core: &mut Core, now: Now) -> Result<(), Skip> {
        let Kind::Cron(cron) = &self.spec.kind else {
            return Err(Skip::Forbidden);
        };
        let concurrency = cron.concurrency;
        if !core.dependencies.hold(&self.spec.depends_on) {
            return Err(Skip::Blocked);
        }
        if let Some(skip) = self.skip() {
            return Err(skip);
        }
        if core.leaving.contains_key(&self.id) {
            self.let_wait(Some(trigger));
            return Ok(());
        }
        if self.runs.is_empty() || concurrency == Concurrency::Allow {
            self.add_run(trigger, core, now);
            return Ok(());
        }
        self.let_wait(Some(trigger));
        if concurrency == Concurrency::Replace {
            self.stop_runs(None, core, now);
            if self.runs.is_empty() {
                self.let_wait(None);
                self.add_run(trigger, core, now);
            }
        }
        Ok(())
    }

    /// Lets one more run wait for the end of the last, or none.
    pub(super) fn let_wait(&mut self, trigger: Option<Trigger>) {
        if let Phase::Scheduled { pending, .. } | Phase::Idle { pending } = &mut self.phase {
            *pending = trigger;
        }
    }

    /// Starts the run that has waited for the end of the last.
    pub(super) fn run_pending(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.let_wait(None);
        if core.dependencies.hold(&self.spec.depends_on) {
            self.add_run(trigger, core, now);
        } else {
            self.skip_runs(SkipReason::Blocked, core, now);
        }
    }

    pub(in crate::supervisor) fn handle_clock_step(&mut self, core: &mut Core, now: Now) {
        if let Phase::Scheduled { due: Some(due), pending } = self.phase
            && let Some(table) = self.timetable()
        {
            let (due, kept) = table.after_step(due, self.kept, now);
            self.kept = kept;
            self.enter(Phase::Scheduled { due, pending }, core, now);
        }
    }

    pub(in crate::supervisor) fn timetable(&self) -> Option<Timetable<'_>> {
        match &self.spec.kind {
            Kind::Cron(spec) => Some(Timetable::new(spec, &self.id, self.created)),
            Kind::Continuous { .. } | Kind::OneOff { .. } => None,
        }
    }
}
