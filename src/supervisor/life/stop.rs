//! How a job is stopped: all that it runs, and what its earlier runs have left behind.
//!
//! ```text
//!   stop ──► Stopping ──► each run: cancelled, if it has no process; else asked to end
//!               │         none: a sweep for what the job's runs have left
//!               ▼ no run is left
//!            stopped ──► Ended, begin, or Gone
//! ```

use std::time::Duration;

use super::{Job, Outcome, Phase, Then};
use crate::job::{Reason, Trigger};
use crate::supervisor::run::{End, Kill, Run, RunState};
use crate::supervisor::{Core, Owner, RunKey, Target};
use crate::time::Now;

impl Job {
    /// Stops the job until somebody starts it. One that has ended stays as it is: only what it
    /// has left behind is stopped.
    pub(in crate::supervisor) fn stop_for_good(&mut self, core: &mut Core, now: Now) {
        let then = match &self.phase {
            Phase::Ended { outcome, .. } => Then::StayEnded(*outcome),
            Phase::Stopping { then: then @ (Then::End(_) | Then::StayEnded(_)) } => *then,
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { then: Then::Begin(_) | Then::Gone } => Then::End(Outcome::Killed),
            Phase::Expired | Phase::Gone => return,
        };
        self.stop(then, core, now);
    }

    /// Kills at once what is being stopped.
    pub(in crate::supervisor) fn force(&mut self, core: &mut Core) {
        for run in &mut self.runs {
            run.force(core);
        }
    }

    /// Stops whatever the job runs, and looks for what earlier runs have left.
    pub(super) fn stop(&mut self, then: Then, core: &mut Core, now: Now) {
        let then = if self.is_leaving() { Then::Gone } else { then };
        self.enter(Phase::Stopping { then }, core, now);
        let owner = Owner::Job(self.key);
        self.stop_runs(Some(owner), core, now);
        if self.runs.is_empty() && self.last_run > 0 {
            self.sweep(owner, core, now);
        }
        if self.runs.is_empty() {
            self.stopped(then, core, now);
        }
    }

    pub(super) fn stopped(&mut self, then: Then, core: &mut Core, now: Now) {
        match then {
            Then::End(outcome) => self.end(outcome, core, now),
            // That was told when it ended.
            Then::StayEnded(outcome) => {
                self.enter(Phase::Ended { outcome, since: now.mono }, core, now);
            }
            Then::Begin(trigger) => self.begin(trigger, core, now),
            Then::Gone => self.enter(Phase::Gone, core, now),
        }
    }

    /// Asks every run to end: what is of `owner`, or of the run itself.
    pub(super) fn stop_runs(&mut self, owner: Option<Owner>, core: &mut Core, now: Now) {
        for index in (0..self.runs.len()).rev() {
            let Some(run) = self.runs.get_mut(index) else {
                continue;
            };
            let owner = owner.unwrap_or(Owner::Run(run.key));
            if !run.stop(Reason::Killed, owner, core, now) {
                self.cancel_run(index, core);
            }
        }
    }

    /// Nothing runs, but a former run may have left something that is out of its group.
    fn sweep(&mut self, owner: Owner, core: &mut Core, now: Now) {
        let key = RunKey { job: self.key, number: self.last_run };
        // Nothing is recorded of it.
        let mut rest = Run::new(key, Trigger::Request, self.spec.clone(), now);
        let end = End { success: true, spawn_failed: false, lived: Duration::ZERO };
        let target = Target::Tree { leader: None, owner };
        rest.clear(end, target, Kill::Unasked, core, now);
        rest.survey(core);
        core.live_runs += 1;
        self.runs.push(rest);
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
}
