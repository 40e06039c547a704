//! An answer to a request that has changed something: it waits until that is stored.

use super::{Pending, Wait, Want};
use crate::api::ApiError;
use crate::http::{Connection, Reply, Status};
use crate::supervisor::{JobKey, Saving, Supervisor, Topic};
use crate::time::Now;

/// An answer that waits until a change is stored.
#[derive(Debug)]
pub struct Saved {
    /// The number of the change.
    pub(in crate::api) change: u64,
    /// The id in the path.
    pub(in crate::api) id: String,
    /// The job that the request has created.
    pub(in crate::api) created: Option<JobKey>,
    pub(in crate::api) then: Then,
}

/// What follows when it is stored.
#[derive(Debug)]
pub(in crate::api) enum Then {
    /// This answer, in JSON.
    Say(Vec<u8>),
    /// Waiting for a job.
    Wait(Wait),
}

impl Saved {
    pub(super) fn want(&self) -> Want {
        Want::Change { topic: Topic::Saved, until: None }
    }

    /// Answers if the change is stored, or cannot be. Returns what is still pending.
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> Progress {
        match (supervisor.saving(self.change), &mut self.then) {
            (Saving::NotYet, _) => return Progress::NotYet,
            (Saving::Failed(why), _) => self.refuse(why, supervisor).respond(connection, now),
            (Saving::Safe, Then::Say(body)) => {
                connection.respond(Reply::json(Status::Ok), now, |out| out.append(body));
            }
            (Saving::Safe, Then::Wait(wait)) => return Progress::Then(Pending::Wait(wait.clone())),
        }
        Progress::Over
    }

    fn refuse(&self, why: &str, supervisor: &Supervisor) -> ApiError {
        if self.created.is_none_or(|key| supervisor.job_of(key).is_some()) {
            return not_stored(why);
        }
        let error = format!("Job {} was not created: the state cannot be stored: {why}", self.id);
        ApiError::new(Status::ServiceUnavailable, error)
    }
}

/// What was done cannot be stored.
pub(super) fn not_stored(why: &str) -> ApiError {
    let error = format!("It was done, but is not stored yet: the state cannot be stored: {why}");
    ApiError::new(Status::ServiceUnavailable, error)
}

/// How far an answer has come.
#[derive(Debug)]
pub(super) enum Progress {
    NotYet,
    Then(Pending),
    Over,
}
