//! `?wait=`: an answer that waits for a milestone of a job, or for a deadline.

use super::{Pending, Want, show};
use crate::api::ApiError;
use crate::api::view::Shown;
use crate::http::{Connection, Status};
use crate::supervisor::{Job, JobKey, Milestone, Progress, State, Supervisor, Topic};
use crate::time::{Mono, Now};

/// An answer to `?wait=`.
#[derive(Clone, Debug)]
pub struct Wait {
    pub(in crate::api) job: JobKey,
    pub(in crate::api) goal: Goal,
    pub(in crate::api) until: Mono,
    /// How much of the job is shown then.
    pub(in crate::api) shown: Shown,
}

/// What it waits for.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) enum Goal {
    /// The end of the job's first run.
    FirstRun,
    Milestone(Milestone),
}

impl Wait {
    pub(super) fn want(&self) -> Want {
        Want::Change { topic: Topic::Job(self.job), until: Some(self.until) }
    }

    /// Answers if the job has reached the milestone, or never will, or is gone, or the deadline has
    /// passed. Returns what is still pending.
    pub(super) fn go_on(
        self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> Option<Pending> {
        let Some(job) = supervisor.job_of(self.job) else {
            ApiError::not_found().respond(connection, now);
            return None;
        };
        let status = match self.goal.progress(job) {
            Progress::Reached => Status::Ok,
            Progress::NotYet if now.mono < self.until => return Some(Pending::Wait(self)),
            Progress::NotYet | Progress::Never => Status::Accepted,
        };
        show(supervisor, job, &self.shown, status, connection, now)
    }
}

impl Goal {
    fn progress(self, job: &Job) -> Progress {
        match self {
            Goal::FirstRun if job.last_exit_code().is_some() => Progress::Reached,
            Goal::FirstRun if job.state() == State::Idle => Progress::Never,
            Goal::FirstRun => Progress::NotYet,
            Goal::Milestone(milestone) => job.progress(milestone),
        }
    }
}
