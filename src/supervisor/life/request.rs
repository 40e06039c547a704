//! What users ask of one job, and what that means in each phase.

use std::rc::Rc;

use super::{Job, Outcome, Phase, Stage, Streak, Then};
use crate::job::spec::Kind;
use crate::job::{JobSpec, Signal, Trigger};
use crate::supervisor::run::Run;
use crate::supervisor::{Action, Core, Happened, Refusal, Request, Target};
use crate::time::Now;

impl Job {
    /// Whether the job accepts the request in its phase.
    pub(in crate::supervisor) fn may(&self, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Start | Request::Restart | Request::Remove => Ok(()),
            Request::Kill => self.may_be_killed(),
            Request::Run => self.may_run_by_hand(),
            Request::Signal(_) if self.pid().is_none() => Err(Refusal::NotRunning),
            Request::Signal(_) => Ok(()),
            Request::Reload => self.may_reload(),
        }
    }

    fn may_reload(&self) -> Result<(), Refusal> {
        let is_there = self.runs.iter().any(|run| run.is_running() && run.pid().is_some());
        match self.spec.kind {
            Kind::OneOff { .. } | Kind::Cron(_) => Err(Refusal::NotReloadable),
            Kind::Continuous { .. } if is_there => Ok(()),
            Kind::Continuous { .. } => Err(Refusal::NotRunning),
        }
    }

    fn may_be_killed(&self) -> Result<(), Refusal> {
        let is_one_off = matches!(self.spec.kind, Kind::OneOff { .. });
        match &self.phase {
            Phase::Ended { .. } if is_one_off => Err(Refusal::Over),
            Phase::Expired | Phase::Gone => Err(Refusal::NotFound),
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. } => Ok(()),
        }
    }

    fn may_run_by_hand(&self) -> Result<(), Refusal> {
        if matches!(self.spec.kind, Kind::Continuous { .. }) {
            return Err(Refusal::NotRunnable);
        }
        match &self.phase {
            Phase::Ended { outcome: Outcome::Killed, .. } => Err(Refusal::Killed),
            Phase::Ended { .. } => Ok(()),
            Phase::Idle { .. } if matches!(self.spec.kind, Kind::OneOff { .. }) => Ok(()),
            Phase::Scheduled { .. } | Phase::Idle { .. } if self.skip().is_none() => Ok(()),
            Phase::Waiting { .. } if matches!(self.spec.kind, Kind::OneOff { .. }) => Ok(()),
            Phase::Scheduled { .. }
            | Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Stopping { .. } => Err(Refusal::Forbidden),
            Phase::Expired | Phase::Gone => Err(Refusal::NotFound),
        }
    }

    pub(in crate::supervisor) fn kill(&mut self, core: &mut Core, now: Now) {
        self.resumes = None;
        match &self.phase {
            Phase::Stopping { then: Then::End(_) | Then::StayEnded(_) } if self.kill_requested => {
                self.force(core, now);
            }
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => self.stop_for_good(core, now),
        }
        self.kill_requested = true;
    }

    pub(in crate::supervisor) fn start(&mut self, core: &mut Core, now: Now) {
        self.forget_kill();
        match &mut self.phase {
            Phase::Ended { .. } => self.begin(Trigger::Request, core, now),
            Phase::Idle { pending } => {
                let pending = *pending;
                self.begin(Trigger::Request, core, now);
                self.let_wait(pending);
            }
            Phase::Backoff { .. } => self.restart_now(Trigger::Request, core, now),
            Phase::Stopping { then: then @ (Then::End(_) | Then::StayEnded(_) | Then::Idle) } => {
                *then = Then::Begin(Trigger::Request);
            }
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Scheduled { .. }
            | Phase::Stopping { then: Then::Begin(_) | Then::Gone }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    pub(in crate::supervisor) fn restart(&mut self, core: &mut Core, now: Now) {
        self.forget_kill();
        match &self.phase {
            Phase::Waiting { .. } if !self.has_run() => {}
            Phase::Expired | Phase::Gone => {}
            // One that has ended may have leftovers: a daemon that holds the port, perhaps.
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. } => {
                self.stop(Then::Begin(Trigger::Request), core, now);
            }
        }
    }

    pub(in crate::supervisor) fn run_by_hand(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Idle { .. } if matches!(self.spec.kind, Kind::OneOff { .. }) => {
                self.begin(Trigger::Request, core, now);
            }
            Phase::Ended { .. } => {
                self.forget_kill();
                self.begin(Trigger::Request, core, now);
            }
            // Also an idle one: its schedule starts nothing still.
            Phase::Scheduled { .. } | Phase::Idle { .. } => {
                // `may` has checked that the policy does not skip it.
                let _ = self.fire(Trigger::Request, core, now);
            }
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Stopping { .. }
            | Phase::Expired
            | Phase::Gone => {}
        }
    }

    pub(in crate::supervisor) fn signal(&self, signal: Signal, group: bool, core: &mut Core) {
        for pid in self.runs.iter().filter_map(Run::pid) {
            let target = if group { Target::Group(pid) } else { Target::Process(pid) };
            core.actions.push_back(Action::Signal { target, signal });
        }
    }

    pub(in crate::supervisor) fn remove(&mut self, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Waiting { .. } if !self.has_run() => self.enter(Phase::Gone, core, now),
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired => self.stop(Then::Gone, core, now),
            Phase::Gone => {}
        }
    }

    /// Adopts a new specification. If it makes no difference to a running process, that goes on;
    /// otherwise the job is stopped, with its leftovers, and started again. A killed job stays
    /// killed.
    pub(in crate::supervisor) fn replace(&mut self, spec: Rc<JobSpec>, core: &mut Core, now: Now) {
        let same_process = spec.is_same_process(&self.spec);
        let old = std::mem::replace(&mut self.spec, spec);
        self.tell(Happened::Replaced, core, now);
        self.trim_results(core);
        self.arm(core, now);
        if matches!(self.resumes, Some(Stage::Scheduled { .. }))
            && !has_same_times(&old.kind, &self.spec.kind)
        {
            self.resumes = Some(Stage::Begins(Trigger::Request));
        }
        if same_process {
            return self.take_over(&old, core, now);
        }
        match &self.phase {
            Phase::Waiting { .. } if !self.has_run() => {}
            Phase::Expired | Phase::Gone => {}
            Phase::Ended { outcome: Outcome::Killed, .. } | Phase::Stopping { .. } => {}
            Phase::Idle { .. } => self.stop(Then::Idle, core, now),
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Ended { .. } => {
                self.forget_kill();
                self.stop(Then::Begin(Trigger::Request), core, now);
            }
        }
    }

    fn take_over(&mut self, old: &JobSpec, core: &mut Core, now: Now) {
        for run in &mut self.runs {
            run.take_over(self.spec.clone(), core);
        }
        self.take_over_health(core, now);
        if let Phase::Scheduled { pending, .. } = self.phase
            && !has_same_times(&old.kind, &self.spec.kind)
        {
            self.schedule(pending, core, now);
        }
    }

    pub(super) fn forget_kill(&mut self) {
        self.kill_requested = false;
        self.streak = Streak::default();
    }
}

/// Whether two schedules have the same runs at the same times.
pub(in crate::supervisor) fn has_same_times(one: &Kind, other: &Kind) -> bool {
    let (Kind::Cron(one), Kind::Cron(other)) = (one, other) else {
        return false;
    };
    one.schedule == other.schedule && one.suspend == other.suspend && one.jitter == other.jitter
}
