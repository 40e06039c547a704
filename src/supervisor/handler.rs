//! Handlers: one-off jobs that are run because another job has failed.
//!
//! ```text
//!   a run has failed ─► job.failure ─► settle_job ─┬─► the handler is idle or over: it is run
//!                                                  ├─► it is busy: one more run, of the newest call
//!                                                  └─► it cannot be called: which is said
//! ```
//!
//! `life/restart.rs` says which failures call. A run that a call has started may fail as well, and
//! call the handler of its own job in turn, but none whose failure has led to it: so a call ends.

use std::rc::Rc;

use super::{Happened, Job, JobKey, Supervisor};
use crate::job::spec::Kind;
use crate::job::{JobId, Reason};
use crate::time::Now;

/// A failure, for the handler that it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The job that has failed.
    pub job: JobId,
    /// Its run, or the newest of a row that has failed.
    pub run: u64,
    /// The exit code of that run.
    pub exit_code: u8,
    /// Why it has ended.
    pub reason: Reason,
    /// The jobs whose failures have led to this one, and the job that has failed, last.
    pub callers: Vec<JobKey>,
}

impl Call {
    /// What the handler finds in its environment.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("K1S_TRIGGER_JOB", self.job.to_string()),
            ("K1S_TRIGGER_RUN", self.run.to_string()),
            ("K1S_TRIGGER_EXIT_CODE", self.exit_code.to_string()),
            ("K1S_TRIGGER_REASON", self.reason.name().to_owned()),
        ]
    }
}

/// Why a handler is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCalled {
    /// There is no such job.
    Missing,
    /// It is not a one-off job.
    OtherType,
    /// It was killed.
    Killed,
    /// Its own failure has led to this one.
    Circle,
}

/// A failure that is still to call a handler.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) handler: JobId,
    pub(super) call: Call,
}

impl Supervisor {
    /// If the job has failed, calls its handler; and if it is over, and a handler that was called
    /// meanwhile, starts it again. The caller settles.
    pub(super) fn settle_calls(&mut self, key: JobKey, now: Now) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let (failure, call) = (job.failure.take(), job.take_next_call());
        // A shutdown starts none.
        if self.core.shutdown.is_some() {
            return;
        }
        if let Some(call) = call {
            job.handle_call(call, &mut self.core, now);
            self.core.note_change(key);
        }
        if let Some(failure) = failure {
            self.call_handler(key, *failure, now);
        }
    }

    fn call_handler(&mut self, failed: JobKey, failure: Failure, now: Now) {
        let Failure { handler, call } = failure;
        let (key, refused) = match self.callable(&handler, &call) {
            Ok(key) => (Some(key), None),
            Err(refused) => (None, Some(refused)),
        };
        if let Some(job) = self.jobs.get(&failed) {
            let run = call.run;
            job.tell(Happened::Calls { run, handler, refused }, &mut self.core, now);
        }
        if let Some(key) = key
            && let Some(job) = self.jobs.get_mut(&key)
        {
            job.handle_call(Rc::new(call), &mut self.core, now);
            self.core.note_change(key);
        }
    }

    fn callable(&self, handler: &JobId, call: &Call) -> Result<JobKey, NotCalled> {
        let key = self.ids.get(handler).copied().ok_or(NotCalled::Missing)?;
        let job: &Job = self.jobs.get(&key).ok_or(NotCalled::Missing)?;
        match &job.spec.kind {
            Kind::OneOff { .. } => {}
            Kind::Continuous { .. } | Kind::Cron(_) => return Err(NotCalled::OtherType),
        }
        if call.callers.contains(&key) {
            return Err(NotCalled::Circle);
        }
        if job.stays_killed() { Err(NotCalled::Killed) } else { Ok(key) }
    }
}
