//! Whether a job is started again when a run of it is over, and how soon.

use super::{Job, Outcome, Phase};
use crate::job::Trigger;
use crate::job::spec::{Backoff, Kind, RestartPolicy};
use crate::supervisor::run::End;
use crate::supervisor::{Core, Happened, backoff};
use crate::time::Now;

impl Job {
    pub(super) fn run_again_or_end(&mut self, end: End, core: &mut Core, now: Now) {
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
        self.tell(Happened::Restarting { after: delay, streak: self.streak }, core, now);
        if delay.is_zero() {
            self.restart_now(self.restart_trigger(), core, now);
        } else {
            self.enter(Phase::Backoff { until: now.mono + delay }, core, now);
        }
    }

    pub(super) fn restart_now(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.restarts += 1;
        self.has_backed_off = matches!(self.phase, Phase::Backoff { .. });
        self.run_now(trigger, core, now);
    }

    /// Why a job runs that is started again by itself.
    pub(super) fn restart_trigger(&self) -> Trigger {
        match self.spec.kind {
            Kind::OneOff { .. } => Trigger::Retry,
            Kind::Continuous { .. } | Kind::Cron(_) => Trigger::Restart,
        }
    }

    pub(super) fn run_now(&mut self, trigger: Trigger, core: &mut Core, now: Now) {
        self.enter(Phase::Active, core, now);
        self.add_run(trigger, core, now);
    }
}
