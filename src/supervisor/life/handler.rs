//! A job as the caller of a handler, and as a handler.
//!
//! ```text
//!   call ─► idle, over: begins            call of the runs until the job is over: also of retries
//!           busy: next_call ── over ──► begins once more, with the newest call
//! ```

use std::rc::Rc;

use super::{Job, Outcome, Phase, Then};
use crate::job::{Ending, Trigger};
use crate::supervisor::handler::{Call, Failure};
use crate::supervisor::{Core, Happened, JobKey};
use crate::time::Now;

impl Job {
    /// A run has failed in a way that calls the handler, if there is one. `callers` are the jobs
    /// whose failures had led to the run.
    pub(super) fn note_failure(&mut self, ending: &Ending, callers: &[JobKey]) {
        // Who removes a job does not want to hear of it any more.
        let handler = self.spec.on_failure.clone().filter(|_| !self.is_leaving());
        let Some(handler) = handler else { return };
        let call = Call {
            job: self.id.clone(),
            run: ending.run,
            exit_code: ending.end.exit_code(),
            reason: ending.reason,
            callers: [callers, &[self.key]].concat(),
        };
        self.failure = Some(Box::new(Failure { handler, call }));
    }

    /// Whether it was killed and not started since: no failure of another job starts it.
    pub(in crate::supervisor) fn stays_killed(&self) -> bool {
        let is_killed = match &self.phase {
            Phase::Stopping { then: Then::End(_) | Then::StayEnded(_) | Then::Gone }
            | Phase::Ended { outcome: Outcome::Killed, .. }
            | Phase::Expired
            | Phase::Gone => true,
            Phase::Stopping { then: Then::Begin(_) | Then::Idle }
            | Phase::Ended { outcome: Outcome::Succeeded | Outcome::Failed, .. }
            | Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. } => false,
        };
        is_killed || self.kill_requested
    }

    /// Another job has failed, and this one is its handler, which may be called.
    pub(in crate::supervisor) fn handle_call(&mut self, call: Rc<Call>, core: &mut Core, now: Now) {
        match &self.phase {
            Phase::Idle { .. } | Phase::Ended { .. } => {
                self.forget_kill();
                let what = Happened::Called { by: call.job.clone(), failed: call.run };
                self.tell(what, core, now);
                self.call = Some(call);
                self.begin(Trigger::Failure, core, now);
            }
            Phase::Waiting { trigger: Trigger::Failure, .. } => self.call = Some(call),
            Phase::Waiting { .. }
            | Phase::Active
            | Phase::Backoff { .. }
            | Phase::Scheduled { .. }
            | Phase::Stopping { .. }
            | Phase::Expired
            | Phase::Gone => self.next_call = Some(call),
        }
    }

    /// The call that has waited for the end of the job, if that has come.
    pub(in crate::supervisor) fn take_next_call(&mut self) -> Option<Rc<Call>> {
        let is_over = matches!(self.phase, Phase::Idle { .. } | Phase::Ended { .. });
        if is_over { self.next_call.take() } else { None }
    }
}
