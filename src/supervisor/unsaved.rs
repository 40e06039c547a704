//! What has changed and is not stored yet, and who waits for that.
//!
//! ```text
//!   a job changes ──► note ──► take_unsaved ──► stored by the caller ──► handle_saved
//!        │                                              │ it cannot ──► handle_unsaved
//!        └── changes(): a number ──► an answer waits until `saving(number)` is not `NotYet`
//! ```
//!
//! Nothing else waits: a job starts, and is shown, whether it is stored or not.

use std::collections::BTreeSet;

use super::{Core, JobKey, Origin, Refusal, Supervisor, Topic};
use crate::time::Now;

/// Whether the changes up to a number are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// They are.
    Safe,
    /// Not yet.
    NotYet,
    /// They could not be stored, for this reason; that is tried again.
    Failed(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// There is somebody who stores changes.
    is_kept: bool,
    jobs: BTreeSet<JobKey>,
    /// The number of the last change.
    noted: u64,
    /// The last change that is stored.
    safe: u64,
    /// Changes up to this one have failed to be stored.
    failed: u64,
    /// Why nothing can be stored now.
    trouble: Option<&'static str>,
}

impl Unsaved {
    pub(super) fn note(&mut self, job: JobKey) {
        if self.is_kept {
            self.jobs.insert(job);
            self.noted += 1;
        }
    }
}

impl Supervisor {
    /// Says that changes of jobs are stored: from now on they are collected for
    /// [`Supervisor::take_unsaved`].
    pub fn keep_state(&mut self) {
        self.core.unsaved.is_kept = true;
    }

    /// The number of the last change of any job; 0 when nothing is stored.
    pub fn changes(&self) -> u64 {
        self.core.unsaved.noted
    }

    /// Whether jobs have changed since [`Supervisor::take_unsaved`] was last called.
    pub fn has_unsaved(&self) -> bool {
        !self.core.unsaved.jobs.is_empty()
    }

    /// The jobs that have changed since this was last called, and the number of the last change.
    pub fn take_unsaved(&mut self) -> (BTreeSet<JobKey>, u64) {
        (std::mem::take(&mut self.core.unsaved.jobs), self.core.unsaved.noted)
    }

    /// Everything up to this change is stored: answers that wait for that can go out.
    pub fn handle_saved(&mut self, change: u64) {
        let unsaved = &mut self.core.unsaved;
        unsaved.safe = unsaved.safe.max(change);
        self.core.changed.note(Topic::Saved);
    }

    /// Changes can be stored again: new jobs are accepted.
    pub fn handle_saving_again(&mut self) {
        self.core.unsaved.trouble = None;
    }

    /// Changes up to this one could not be stored. New jobs are refused until
    /// [`Supervisor::handle_saving_again`].
    pub fn handle_unsaved(&mut self, change: u64, why: &'static str) {
        let unsaved = &mut self.core.unsaved;
        unsaved.failed = unsaved.failed.max(change);
        unsaved.trouble = Some(why);
        self.core.changed.note(Topic::Saved);
    }

    /// A job could not be stored when it was created: its creation is refused after all.
    pub fn take_back(&mut self, key: JobKey, now: Now) {
        let is_new = self.job_of(key).is_some_and(|job| job.origin() == Origin::Api);
        if is_new {
            self.take_away(key, now);
        }
    }

    /// Whether all changes up to this one are stored.
    pub fn saving(&self, change: u64) -> Saving {
        let unsaved = &self.core.unsaved;
        match unsaved.trouble {
            _ if change <= unsaved.safe => Saving::Safe,
            Some(why) if change <= unsaved.failed => Saving::Failed(why),
            Some(_) | None => Saving::NotYet,
        }
    }
}

impl Core {
    /// Refuses a new job while nothing can be stored.
    pub(super) fn refuse_unsaved(&self) -> Result<(), Refusal> {
        self.unsaved.trouble.map_or(Ok(()), |why| Err(Refusal::Unsaved(why)))
    }
}
