//! The answer to a request for many jobs: `PUT /jobs/{verb}`.
//!
//! ```text
//!   of ─▶ the supervisor asks the jobs ─▶ what has changed is stored ─▶ the ids of those that
//!         (whether anybody waits or not)                                 complied, in slices
//! ```

use std::rc::Rc;

use super::saved::{Progress, not_stored};
use super::stream::CHUNK_BYTES;
use super::{Slice, Source, Stream, Want};
use crate::access::Visible;
use crate::api::json::write_json;
use crate::api::view::selection;
use crate::api::{ApiError, document, query};
use crate::http::{Connection, Head, Reply, Request, Status};
use crate::job;
use crate::supervisor::{Batch, Saving, Selection, Supervisor, Topic, Verb};
use crate::time::Now;

/// What is asked of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Ask {
    Kill,
    Start,
    Restart,
    Run,
    Reload,
    /// The body says which signal.
    Signal,
}

/// An unfinished answer.
#[derive(Debug)]
pub struct Many {
    batch: Rc<Batch>,
    /// When all were asked: the number of the last change.
    change: Option<u64>,
}

/// The ids that are still to be written.
#[derive(Debug)]
pub(in crate::api) struct Ids {
    batch: Rc<Batch>,
    is_begun: bool,
    /// How many ids were written.
    written: usize,
}

impl Many {
    /// Asks the jobs that the query selects.
    pub(in crate::api) fn of(
        ask: Ask,
        request: &Request,
        visible: &Visible,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Many, ApiError> {
        let selection = selected(&request.head, visible)?;
        let verb = match ask {
            Ask::Kill => Verb::Kill,
            Ask::Start => Verb::Start,
            Ask::Restart => Verb::Restart,
            Ask::Run => Verb::Run,
            Ask::Reload => Verb::Reload,
            Ask::Signal => {
                let (signal, group) = job::parse_signal_request(document(&request.body)?)?;
                Verb::Signal { signal, group }
            }
        };
        let asked = supervisor.ask_all(selection, verb, now);
        let batch = asked.map_err(|refusal| ApiError::by(refusal, ""))?;
        Ok(Many { batch, change: None })
    }

    pub(super) fn want(&self) -> Want {
        let topic = if self.change.is_none() { Topic::Batches } else { Topic::Saved };
        Want::Change { topic, until: None }
    }

    /// Begins to answer if all were asked, and what has changed is stored, or cannot be.
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> Progress {
        if !self.batch.is_done() {
            return Progress::NotYet;
        }
        match supervisor.saving(*self.change.get_or_insert(supervisor.changes())) {
            Saving::NotYet => return Progress::NotYet,
            Saving::Failed(why) => not_stored(why).respond(connection, now),
            Saving::Safe => {
                let ids = Ids { batch: self.batch.clone(), is_begun: false, written: 0 };
                let reply = Reply::json(Status::Ok);
                let stream = Stream::begin(reply, Source::Ids(ids), connection, now);
                return stream.map_or(Progress::Over, Progress::Then);
            }
        }
        Progress::Over
    }
}

impl Ids {
    pub(super) fn write_slice(&mut self, out: &mut Vec<u8>, budget: &mut usize) -> Slice {
        let (begin, until) = (out.len(), out.len() + CHUNK_BYTES.min(*budget));
        if !std::mem::replace(&mut self.is_begun, true) {
            out.extend_from_slice(b"{\"jobs\":[");
        }
        while let Some(id) = self.batch.job_at(self.written) {
            if out.len() >= until {
                *budget = budget.saturating_sub(out.len() - begin);
                return Slice::Part;
            }
            if self.written > 0 {
                out.push(b',');
            }
            write_json(out, &id.as_str());
            self.written += 1;
        }
        out.extend_from_slice(b"]}\n");
        Slice::Over
    }
}

/// The jobs that the query selects: by filters, of which each is given once, or `all=true`. What
/// was forgotten or misspelled must not mean all.
fn selected(head: &Head, visible: &Visible) -> Result<Selection, ApiError> {
    for name in ["label", "state", "type"] {
        if head.query_values(name).nth(1).is_some() {
            let error = format!("{name}: must not be given twice");
            return Err(ApiError::new(Status::BadRequest, error));
        }
    }
    let selection = selection(head, visible)?;
    if selection.is_of_all() && query::flag(head, "all")? != Some(true) {
        let error = "all: must be true, or label=, state= or type= must say which jobs are meant";
        return Err(ApiError::new(Status::BadRequest, error));
    }
    Ok(selection)
}
