//! Long answers: a listing of jobs, or one job whose results are long, written slice by slice as
//! the socket drains.

use super::Pending;
use crate::api::object::{Object, is_small};
use crate::api::view::{Filter, Shown};
use crate::http::{Connection, Reply, Status};
use crate::supervisor::{Job, JobKey, Supervisor};
use crate::time::Now;

/// JSON under way, in bounded slices: all jobs that a filter lets through, or one job.
#[derive(Debug)]
pub struct Document {
    /// What is left of the job that is being written.
    object: Option<Object>,
    /// Where the next one comes from; one that is created or removed meanwhile may be in it or
    /// not.
    listing: Option<Listing>,
}

#[derive(Debug)]
struct Listing {
    filter: Filter,
    /// The last job that was looked at.
    at: Option<JobKey>,
    is_first: bool,
}

/// Answers with a job's object: at once when it is small, else as the socket drains.
pub(in crate::api) fn show(
    supervisor: &Supervisor,
    job: &Job,
    shown: Shown,
    status: Status,
    connection: &mut Connection,
    now: Now,
) -> Option<Pending> {
    let mut object = None;
    let reply = Reply::json(status);
    if is_small(job, shown) {
        connection.respond(reply, now, |out| {
            object = Object::begin(supervisor, job, shown, out, usize::MAX, now);
            out.push(b'\n');
        });
    } else if connection.start_stream(reply, now) {
        connection.push(now, |out| {
            let until = out.len() + CHUNK_BYTES;
            object = Object::begin(supervisor, job, shown, out, until, now);
            if object.is_none() {
                out.push(b'\n');
            }
        });
        if object.is_none() {
            connection.finish_stream(now);
        }
    }
    Some(Pending::Document(Box::new(Document { object: Some(object?), listing: None })))
}

/// Begins to answer with all jobs that the filter lets through.
pub(in crate::api) fn list(
    filter: Filter,
    connection: &mut Connection,
    now: Now,
) -> Option<Pending> {
    let listing = Some(Listing { filter, at: None, is_first: true });
    let under_way = connection.start_stream(Reply::json(Status::Ok), now);
    under_way.then(|| Pending::Document(Box::new(Document { object: None, listing })))
}

impl Document {
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
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

    /// Adds to the document until there are enough bytes for one chunk, or the budget, in bytes,
    /// is used up. Returns whether the document is whole.
    fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> bool {
        let until = out.len() + CHUNK_BYTES;
        while *budget > 0 && out.len() < until {
            let begin = out.len();
            match (&mut self.object, &mut self.listing) {
                (Some(object), listing) => {
                    if object.go_on(supervisor, out, until) {
                        self.object = None;
                        if listing.is_none() {
                            out.push(b'\n');
                            return true;
                        }
                    }
                }
                (None, Some(listing)) => {
                    listing.begin(out);
                    let Some(job) = supervisor.job_after(listing.at) else {
                        out.extend_from_slice(b"]\n");
                        return true;
                    };
                    self.object = listing.write(supervisor, job, out, until, now);
                    *budget = budget.saturating_sub(BYTES_A_LOOK);
                }
                (None, None) => return true,
            }
            *budget = budget.saturating_sub(out.len() - begin);
        }
        false
    }
}

impl Listing {
    fn begin(&self, out: &mut Vec<u8>) {
        if self.at.is_none() {
            out.push(b'[');
        }
    }

    /// Writes a job, if it is one of the listing; returns what is left of it.
    fn write(
        &mut self,
        supervisor: &Supervisor,
        job: &Job,
        out: &mut Vec<u8>,
        until: usize,
        now: Now,
    ) -> Option<Object> {
        self.at = Some(job.key());
        if !self.filter.lets_through(job) {
            return None;
        }
        if !std::mem::replace(&mut self.is_first, false) {
            out.push(b',');
        }
        Object::begin(supervisor, job, self.filter.shown, out, until, now)
    }
}

/// A chunk ends as soon as it is longer than this: by the fields of a job, or by a few KiB of
/// output, escaped.
const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes may be added at a time.
const SLICE_BYTES: usize = 64 * 1024;

/// What looking at a job costs, in the time that it takes to write so many bytes: a filter may
/// let none through.
const BYTES_A_LOOK: usize = 128;
