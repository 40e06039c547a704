//! Long answers: a listing of jobs, or one job whose results are long, written slice by slice as
//! the socket drains.

use super::Pending;
use super::listing::Listing;
use crate::api::object::{Object, is_small};
use crate::api::view::{Filter, Shown};
use crate::http::{Connection, Reply, Status};
use crate::supervisor::{Job, Supervisor};
use crate::time::Now;

/// JSON under way, in bounded slices.
#[derive(Debug)]
pub struct Document(Rest);

/// What is left of it.
#[derive(Debug)]
enum Rest {
    Job(Object),
    Jobs(Listing),
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
    Some(Pending::Document(Box::new(Document(Rest::Job(object?)))))
}

/// Begins to answer with all jobs that the filter lets through.
pub(in crate::api) fn list(
    filter: Filter,
    connection: &mut Connection,
    now: Now,
) -> Option<Pending> {
    let under_way = connection.start_stream(Reply::json(Status::Ok), now);
    under_way.then(|| Pending::Document(Box::new(Document(Rest::Jobs(Listing::new(filter))))))
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
        let (begin, until) = (out.len(), out.len() + CHUNK_BYTES);
        let is_whole = match &mut self.0 {
            Rest::Job(object) => {
                let is_whole = object.go_on(supervisor, out, until);
                *budget = budget.saturating_sub(out.len() - begin);
                is_whole
            }
            Rest::Jobs(listing) => listing.write(supervisor, out, until, budget, now),
        };
        if is_whole {
            out.push(b'\n');
        }
        is_whole
    }
}

/// A chunk ends as soon as it is longer than this: by the fields of a job, or by a few KiB of
/// output, escaped.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// How many bytes may be added at a time.
pub(super) const SLICE_BYTES: usize = 64 * 1024;
