//! Answers that take more than one turn: long listings, and waiting for a run.

use super::view::{Filter, JobView, Shown};
use super::{Refused, respond_json, write_json};
use crate::http::{Connection, Reply, Status};
use crate::supervisor::{JobKey, Refusal, Supervisor};
use crate::time::{Mono, Now};

/// An answer that is not finished. It is told to go on when its connection has room, when the
/// supervisor has changed, and at its deadline.
#[derive(Debug)]
pub enum Later {
    /// A listing: goes on as the socket drains.
    Listing(Listing),
    /// A job that was created, whose first run is waited for.
    Wait(Wait),
}

/// `GET /` under way. Each object is whole; a job that is created or removed meanwhile may be in
/// it or not.
#[derive(Debug)]
pub struct Listing {
    filter: Filter,
    /// The last job that was looked at.
    at: Option<JobKey>,
    is_first: bool,
}

/// `?wait=`: until the first run is over, or a deadline.
#[derive(Debug)]
pub struct Wait {
    pub(super) job: JobKey,
    pub(super) id: Box<str>,
    pub(super) until: Mono,
}

impl Later {
    /// Goes on as far as it can now. Returns whether the answer is finished.
    pub fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        match self {
            Later::Listing(listing) => listing.go_on(supervisor, connection, now),
            Later::Wait(wait) => wait.go_on(supervisor, connection, now),
        }
    }

    /// When it is to be told to go on, if nothing else happens.
    pub fn deadline(&self) -> Option<Mono> {
        match self {
            Later::Listing(_) => None,
            Later::Wait(wait) => Some(wait.until),
        }
    }

    /// Whether it waits for something to happen to a job.
    pub fn waits_for_a_job(&self) -> bool {
        matches!(self, Later::Wait(_))
    }
}

impl Listing {
    pub(super) fn begin(filter: Filter, connection: &mut Connection, now: Now) -> Option<Later> {
        let under_way = connection.start_stream(Reply::json(Status::Ok), now);
        under_way.then_some(Later::Listing(Listing { filter, at: None, is_first: true }))
    }

    fn go_on(&mut self, supervisor: &Supervisor, connection: &mut Connection, now: Now) -> bool {
        let mut budget = SLICE_BYTES;
        while connection.wants_output() {
            if budget == 0 {
                return false;
            }
            let mut is_over = false;
            connection.push(now, |out| {
                is_over = self.write_slice(supervisor, out, &mut budget, now);
            });
            if is_over {
                connection.finish_stream(now);
                return true;
            }
        }
        connection.is_finished()
    }

    /// Adds objects until there are enough bytes for one chunk, or the budget, in bytes, is used
    /// up. Returns whether the listing is whole.
    fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> bool {
        let begin = out.len();
        if self.is_first && self.at.is_none() {
            out.push(b'[');
        }
        while *budget > 0 && out.len() < begin + CHUNK_BYTES {
            let Some(job) = supervisor.job_after(self.at) else {
                out.push(b']');
                return true;
            };
            self.at = Some(job.key());
            *budget = budget.saturating_sub(BYTES_A_LOOK);
            if !self.filter.lets_through(job) {
                continue;
            }
            if !std::mem::replace(&mut self.is_first, false) {
                out.push(b',');
            }
            let before = out.len();
            write_json(out, &JobView { job, shown: self.filter.shown, now });
            *budget = budget.saturating_sub(out.len() - before);
        }
        false
    }
}

impl Wait {
    fn go_on(&mut self, supervisor: &Supervisor, connection: &mut Connection, now: Now) -> bool {
        let Some(job) = supervisor.job(&self.id).filter(|job| job.key() == self.job) else {
            Refused::by(Refusal::NotFound, &self.id).respond(connection, now);
            return true;
        };
        let is_over = job.last_exit_code().is_some();
        if !is_over && now.mono < self.until {
            return false;
        }
        let status = if is_over { Status::Ok } else { Status::Accepted };
        let view = JobView { job, shown: Shown::everything(), now };
        respond_json(connection, status, &view, now);
        true
    }
}

/// A chunk ends with the first object that goes over this.
const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes may be added at a time.
const SLICE_BYTES: usize = 64 * 1024;

/// What looking at a job costs, in the time that it takes to write so many bytes: a filter may
/// let none through.
const BYTES_A_LOOK: usize = 128;
