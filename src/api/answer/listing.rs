//! Writes a JSON array of jobs, slice by slice.

use crate::api::object::Object;
use crate::api::view::Filter;
use crate::supervisor::{Job, JobKey, Supervisor};
use crate::time::Now;

/// What is still to be written of an array of the jobs that match a filter. A job that is created
/// or removed meanwhile may be in it or not.
#[derive(Debug)]
pub(super) struct Listing {
    filter: Filter,
    /// The last job that was looked at.
    at: Option<JobKey>,
    is_first: bool,
    /// What is still to be written of that job.
    object: Option<Object>,
}

impl Listing {
    pub(super) fn new(filter: Filter) -> Listing {
        Listing { filter, at: None, is_first: true, object: None }
    }

    /// Goes on until `out` is about `until` bytes long, or the budget, in bytes, is used up.
    /// Returns whether the array is complete.
    pub(super) fn write(
        &mut self,
        supervisor: &Supervisor,
        out: &mut Vec<u8>,
        until: usize,
        budget: &mut usize,
        now: Now,
    ) -> bool {
        while *budget > 0 && out.len() < until {
            let begin = out.len();
            if let Some(object) = &mut self.object {
                if object.go_on(supervisor, out, until) {
                    self.object = None;
                }
            } else {
                if self.at.is_none() {
                    out.push(b'[');
                }
                let Some(job) = supervisor.job_after(self.at) else {
                    out.push(b']');
                    return true;
                };
                self.begin_job(supervisor, job, out, until, now);
                *budget = budget.saturating_sub(BYTES_A_LOOK + self.filter.cost());
            }
            *budget = budget.saturating_sub(out.len() - begin);
        }
        false
    }

    /// Begins to write a job, if it matches.
    fn begin_job(
        &mut self,
        supervisor: &Supervisor,
        job: &Job,
        out: &mut Vec<u8>,
        until: usize,
        now: Now,
    ) {
        self.at = Some(job.key());
        if !self.filter.lets_through(job) {
            return;
        }
        if !std::mem::replace(&mut self.is_first, false) {
            out.push(b',');
        }
        self.object = Object::begin(supervisor, job, &self.filter.shown, out, until, now);
    }
}

/// The cost of looking at a job, as the time to write so many bytes, since no job may match.
const BYTES_A_LOOK: usize = 128;
