//! `?wait=`: an answer that comes when a run is over, or at a deadline.

use super::{Pending, Want, show};
use crate::api::Refused;
use crate::api::view::Shown;
use crate::http::{Connection, Status};
use crate::supervisor::{JobKey, Supervisor, Topic};
use crate::time::{Mono, Now};

/// `?wait=`: until the first run is over, or a deadline.
#[derive(Debug)]
pub struct Wait {
    pub(in crate::api) job: JobKey,
    pub(in crate::api) until: Mono,
}

impl Wait {
    pub(super) fn want(&self) -> Want {
        Want::Change { topic: Topic::Job(self.job), until: Some(self.until) }
    }

    /// Whether it is time to answer: the run is over, or the job is gone, or the deadline is here.
    pub(super) fn is_over(&self, supervisor: &Supervisor, now: Now) -> bool {
        let job = supervisor.job_of(self.job);
        now.mono >= self.until || job.is_none_or(|job| job.last_exit_code().is_some())
    }

    pub(super) fn answer(
        &self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> Option<Pending> {
        let Some(job) = supervisor.job_of(self.job) else {
            Refused::not_found().respond(connection, now);
            return None;
        };
        let is_over = job.last_exit_code().is_some();
        let status = if is_over { Status::Ok } else { Status::Accepted };
        show(supervisor, job, Shown::everything(), status, connection, now)
    }
}
