//! Long answers in JSON: a listing of jobs, or a large job, written slice by slice as the client
//! takes them.

use super::listing::Listing;
use super::stream::CHUNK_BYTES;
use super::{Pending, Slice, Source, Stream};
use crate::api::object::{Object, is_small};
use crate::api::view::{Filter, Shown};
use crate::http::{Connection, Reply, Status};
use crate::supervisor::{Job, Supervisor};
use crate::time::Now;

/// JSON under way, in bounded slices.
#[derive(Debug)]
pub(in crate::api) struct Document(Rest);

/// What is still to be written.
#[derive(Debug)]
enum Rest {
    Job(Object),
    Jobs(Listing),
}

/// Answers with a job object: at once if it is small, otherwise slice by slice.
pub(in crate::api) fn show(
    supervisor: &Supervisor,
    job: &Job,
    shown: &Shown,
    status: Status,
    connection: &mut Connection,
    now: Now,
) -> Option<Pending> {
    let (mut object, reply) = (None, Reply::json(status));
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
    Some(Stream::under_way(Source::Document(Document(Rest::Job(object?)))))
}

/// Begins to answer with all jobs that match the filter.
pub(in crate::api) fn list(
    filter: Filter,
    connection: &mut Connection,
    now: Now,
) -> Option<Pending> {
    let document = Document(Rest::Jobs(Listing::new(filter)));
    Stream::begin(Reply::json(Status::Ok), Source::Document(document), connection, now)
}

impl Document {
    pub(super) fn write_slice(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        budget: &mut usize,
        now: Now,
    ) -> Slice {
        let (begin, until) = (out.len(), out.len() + CHUNK_BYTES);
        let is_whole = match &mut self.0 {
            Rest::Job(object) => {
                let is_whole = object.go_on(supervisor, out, until);
                *budget = budget.saturating_sub(out.len() - begin);
                is_whole
            }
            Rest::Jobs(listing) => listing.write(supervisor, out, until, budget, now),
        };
        if !is_whole {
            return Slice::Part;
        }
        out.push(b'\n');
        Slice::Over
    }
}
