//! How a job is stopped: its runs, and leftovers of earlier runs.
//!
//! ```text
//!   stop ──► Stopping ──► each run: cancelled if it has no process, else asked to end
//!               │         no run: a search for leftovers of earlier runs
//!               ▼ no run is left
//!            stopped ──► Ended, begin, or Gone
//! ```

use std::time::Duration;

use super::{Job, Outcome, Phase, Then};
use crate::job::{Reason, Trigger};
use crate::supervisor::run::{End, Kill, Run, RunState};
use crate::supervisor::{Core, How, Owner, ProcessKey, RunKey, Target, Together};
use crate::time::Now;

impl Job {
    /// Stops the job until it is started by request. If it has ended already, that stays its end,
    /// and only its leftovers are stopped.
    pub(in crate::supervisor) fn stop_for_good(&mut self, core: &mut Core, now: Now) {
        if let Some(then) = self.end_by_stop() {
            self.next_call = None;
            self.stop(then, core, now);
        }
    }

    fn end_by_stop(&self) -> Option<Then> {
        match &self.phase {
            Phase::Ended { outcome, .. } => Some(Then::StayEnded(*outcome)),
            Phase::Stopping { then: then @ (Then::End(_) | Then::StayEnded(_)) } => Some(*then),
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { then: Then::Begin(_) | Then::Idle | Then::Gone } => {
                Some(Then::End(Outcome::Killed))
            }
            Phase::Expired | Phase::Gone => None,
        }
    }

    /// Stops the job.
    pub(in crate::supervisor) fn stop_as(&mut self, how: How, core: &mut Core, now: Now) {
        match how {
            How::ForGood => self.stop_for_good(core, now),
            How::Asked(Together::Kill) => self.kill(core, now),
            How::Asked(Together::Restart) => self.restart(core, now),
            How::Asked(Together::Remove) => self.remove(core, now),
        }
    }

    /// Is to be stopped when its turn comes: its processes go on, and it gets no new ones.
    pub(in crate::supervisor) fn hold(&mut self, how: How, core: &mut Core, now: Now) {
        let then = match how {
            _ if self.is_leaving() => Some(Then::Gone),
            How::ForGood | How::Asked(Together::Kill) => self.end_by_stop(),
            How::Asked(Together::Restart) => Some(Then::Begin(Trigger::Request)),
            How::Asked(Together::Remove) => Some(Then::Gone),
        };
        match how {
            How::Asked(Together::Restart) => self.forget_kill(),
            How::Asked(Together::Kill) => self.kill_requested = true,
            How::ForGood | How::Asked(Together::Remove) => {}
        }
        let Some(then) = then else { return };
        self.next_call = None;
        self.enter(Phase::Stopping { then }, core, now);
        for index in (0..self.runs.len()).rev() {
            if self.runs.get(index).is_some_and(Run::is_to_spawn) {
                self.cancel_run(index, core);
            }
        }
    }

    /// Its turn to be stopped has come.
    pub(in crate::supervisor) fn stop_held(&mut self, core: &mut Core, now: Now) {
        if let Phase::Stopping { then } = self.phase {
            self.stop(then, core, now);
        }
    }

    /// Whether it is being killed by request, so that one more is SIGKILL at once.
    pub(in crate::supervisor) fn is_being_killed(&self) -> bool {
        self.kill_requested && matches!(self.phase, Phase::Stopping { .. })
    }

    /// Whether it has a process that nobody has asked to end.
    pub(in crate::supervisor) fn has_unasked_run(&self) -> bool {
        self.runs.iter().any(|run| matches!(run.state, RunState::Running { .. }))
    }

    /// Kills at once what is being stopped, or is to be when its turn comes.
    pub(in crate::supervisor) fn force(&mut self, core: &mut Core, now: Now) {
        if core.release(self.key) {
            self.stop_runs(Some(Owner::Job(self.key)), core, now);
        }
        for run in &mut self.runs {
            run.force(core);
        }
    }

    /// Stops the runs of the job, and leftovers of earlier runs.
    pub(super) fn stop(&mut self, then: Then, core: &mut Core, now: Now) {
        let then = if self.is_leaving() { Then::Gone } else { then };
        core.release(self.key);
        self.enter(Phase::Stopping { then }, core, now);
        let owner = Owner::Job(self.key);
        self.stop_runs(Some(owner), core, now);
        if self.runs.is_empty() && self.last_run > 0 {
            self.stop_leftovers(owner, core, now);
        }
        if self.runs.is_empty() {
            self.stopped(then, core, now);
        }
    }

    pub(super) fn stopped(&mut self, then: Then, core: &mut Core, now: Now) {
        match then {
            Then::End(outcome) => self.end(outcome, core, now),
            // Its end was reported when it came.
            Then::StayEnded(outcome) => {
                self.enter(Phase::Ended { outcome, since: now.mono }, core, now);
            }
            Then::Begin(trigger) => self.begin(trigger, core, now),
            Then::Idle => self.enter(Phase::Idle { pending: None }, core, now),
            Then::Gone => self.enter(Phase::Gone, core, now),
        }
    }

    /// Asks all runs to end: the processes of `owner`, or if there is none, of each run.
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

    /// There is no run, but an earlier one may have leftovers outside of its group.
    fn stop_leftovers(&mut self, owner: Owner, core: &mut Core, now: Now) {
        let key = RunKey { job: self.key, number: self.last_run };
        // A run without a process, of which no result is recorded.
        let mut rest =
            Run::new(key, Trigger::Request, self.spec.clone(), self.log_end.place(), now);
        let end = End { success: true, spawn_failed: false, lived: Duration::ZERO };
        let target = Target::Tree { leader: None, owner };
        rest.clear(end, target, Kill::Unasked, core, now);
        rest.survey(core);
        core.live_runs += 1;
        self.runs.push(rest);
    }

    /// A run was stopped before it was spawned: its number can be used again.
    pub(super) fn cancel_run(&mut self, index: usize, core: &mut Core) {
        if let Some(run) = self.runs.get(index)
            && run.key.number == self.last_run
        {
            self.last_run -= 1;
            // Otherwise the next run with this number, if there will be one, would take its place in
            // the queue.
            if matches!(run.state, RunState::Queued)
                && !self.is_leaving()
                && let Some(place) =
                    core.starts.iter().rposition(|start| *start == ProcessKey::Run(run.key))
            {
                core.starts.remove(place);
            }
        }
        self.drop_run(index, core);
    }
}
