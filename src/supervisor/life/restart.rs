//! Whether a job is started again when a run has ended, and how soon.

use std::time::Duration;

use super::{Job, Outcome, Phase};
use crate::job::spec::{Kind, Restart, RestartPolicy};
use crate::job::{Reason, Trigger};
use crate::supervisor::run::End;
use crate::supervisor::{Core, Happened, backoff};
use crate::time::Now;

/// What follows when a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Next {
    Restart,
    End(Outcome),
}

/// Counts of runs in a row without a request. They begin anew after a long run of a continuous job.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::supervisor) struct Streak {
    /// How many restarts or retries.
    pub(in crate::supervisor) restarts: u32,
    /// How many runs have failed, one after the other.
    pub(in crate::supervisor) failures: u32,
    /// A failure was reported with its output.
    pub(super) has_reported: bool,
}

/// What the end of a run is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// It is a failure to report with its output.
    pub(super) is_reported: bool,
    /// It is a failure that calls the handler.
    pub(super) calls: bool,
}

impl Job {
    /// Counts the end of a run among those in a row. A failure is reported with its output if it is
    /// the first in a row or the last, after which there is no restart; but not that of the main
    /// job, which k1s's own exit code reports. The handler is called for each of a cron job, and for
    /// the last of the others; for a continuous job also for the first.
    pub(super) fn count_end(&mut self, end: End, reason: Reason, core: &Core) -> Weight {
        if let Kind::Continuous { restart, .. } = &self.spec.kind
            && end.lived >= restart.backoff.reset_after
            && !end.spawn_failed
        {
            self.streak = Streak::default();
        }
        let is_given_up = self.next(end) == Next::End(Outcome::Failed) && reason != Reason::Killed;
        let is_continuous = matches!(self.spec.kind, Kind::Continuous { .. });
        if end.success {
            self.streak.failures = 0;
            return Weight { is_reported: false, calls: is_given_up && is_continuous };
        }
        self.streak.failures = self.streak.failures.saturating_add(1);
        let is_main = core.settings.main.as_ref() == Some(&self.id);
        let is_first = !std::mem::replace(&mut self.streak.has_reported, true);
        let is_last = self.next(end) != Next::Restart;
        Weight {
            is_reported: !is_main && (is_first || is_last),
            calls: is_given_up || (is_continuous && is_first),
        }
    }

    /// What follows a run that has ended by itself.
    pub(in crate::supervisor) fn next(&self, end: End) -> Next {
        let outcome = if end.success { Outcome::Succeeded } else { Outcome::Failed };
        let is_wanted = match &self.spec.kind {
            Kind::Continuous { restart, .. } => match restart.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => !end.success,
                RestartPolicy::Never => false,
                RestartPolicy::OnSuccess => end.success,
            },
            Kind::OneOff { .. } => !end.success,
            Kind::Cron(_) => false,
        };
        match is_wanted {
            true if self.has_used_up_restarts() => Next::End(Outcome::Failed),
            true => Next::Restart,
            false => Next::End(outcome),
        }
    }

    /// The most restarts or retries in a row; `None`: there is no limit.
    pub(in crate::supervisor) fn most_restarts(&self) -> Option<u32> {
        match &self.spec.kind {
            Kind::Continuous { restart, .. } => restart.max_restarts,
            Kind::OneOff { retries, .. } => Some(*retries),
            Kind::Cron(_) => None,
        }
    }

    pub(in crate::supervisor) fn has_used_up_restarts(&self) -> bool {
        self.most_restarts().is_some_and(|most| self.streak.restarts >= most)
    }

    pub(super) fn run_again_or_end(&mut self, end: End, core: &mut Core, now: Now) {
        match self.next(end) {
            Next::End(outcome) => self.end(outcome, core, now),
            Next::Restart => {
                self.streak.restarts = self.streak.restarts.saturating_add(1);
                self.back_off(end.spawn_failed, core, now);
            }
        }
    }

    fn back_off(&mut self, spawn_failed: bool, core: &mut Core, now: Now) {
        let streak = self.streak.restarts;
        let delay = match &self.spec.kind {
            Kind::Continuous { restart: Restart { backoff, .. }, .. }
            | Kind::OneOff { backoff, .. } => {
                backoff::delay(backoff, streak, spawn_failed, &self.id)
            }
            Kind::Cron(_) => Duration::ZERO,
        };
        self.tell(Happened::Restarting { after: delay, streak }, core, now);
        if delay.is_zero() {
            self.restart_now(self.restart_trigger(), core, now);
        } else {
            self.enter(Phase::Backoff { until: now.mono + delay }, core, now);
        }
    }

    pub(super) fn restart_now(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.has_backed_off |= matches!(self.phase, Phase::Backoff { .. });
        if self.waits(trigger, true, core, now) {
            return;
        }
        self.count_restart(core);
        self.run_at_once(trigger, core, now);
    }

    pub(super) fn count_restart(&mut self, core: &mut Core) {
        self.restarts += 1;
        core.totals.restarts += 1;
    }

    /// What a run says why it was started, when the supervisor restarts the job.
    pub(super) fn restart_trigger(&self) -> Trigger {
        match self.spec.kind {
            Kind::OneOff { .. } => Trigger::Retry,
            Kind::Continuous { .. } | Kind::Cron(_) => Trigger::Restart,
        }
    }

    pub(super) fn run_now(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        if !self.waits(trigger, false, core, now) {
            self.run_at_once(trigger, core, now);
        }
    }

    fn run_at_once(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.enter(Phase::Active, core, now);
        self.add_run(trigger, core, now);
    }
}
