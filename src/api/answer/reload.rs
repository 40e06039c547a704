//! The answer to `POST /reload`: waits until the config was read again, and until what that has
//! changed is stored.

use std::rc::Rc;

use serde::Serialize;

use super::Want;
use super::saved::not_stored;
use crate::api::{ApiError, query, respond_json};
use crate::http::{Connection, Head, Status};
use crate::job::JobId;
use crate::supervisor::{Changes, Declared, ReloadError, Reloaded, Saving, Supervisor, Topic};
use crate::time::Now;

/// An unfinished answer.
#[derive(Debug)]
pub struct Reload {
    /// The number of the request to the supervisor.
    number: u64,
    is_dry_run: bool,
    /// When it is done: what came of it, and the number of the last change.
    done: Option<(Rc<Reloaded>, u64)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    added: Vec<&'a str>,
    removed: Vec<&'a str>,
    replaced: Vec<&'a str>,
    updated: Vec<&'a str>,
    unchanged: usize,
    needs_restart: &'a [&'static str],
}

impl Reload {
    /// Asks for it, or with `?dryRun=true` for what it would do.
    pub(in crate::api) fn begin(
        head: &Head,
        supervisor: &mut Supervisor,
        now: Now,
    ) -> Result<Reload, ApiError> {
        let is_dry_run = query::flag(head, "dryRun")?.unwrap_or(false);
        let number = supervisor
            .reload(is_dry_run, now)
            .map_err(|refusal| ApiError::by(refusal, "reload"))?;
        Ok(Reload { number, is_dry_run, done: None })
    }

    /// Answers if it is done, and is stored or cannot be. Returns whether it has answered.
    pub(super) fn go_on(
        &mut self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        if self.done.is_none() {
            let outcome = supervisor.reloaded(self.number);
            self.done = outcome.map(|outcome| (outcome, supervisor.changes()));
        }
        let Some((outcome, change)) = &self.done else { return false };
        let has_changed = outcome.is_ok() && !self.is_dry_run;
        let saving = if has_changed { supervisor.saving(*change) } else { Saving::Safe };
        match (saving, &**outcome) {
            (Saving::NotYet, _) => return false,
            (Saving::Failed(why), _) => not_stored(why).respond(connection, now),
            (Saving::Safe, outcome) => respond(outcome, connection, now),
        }
        true
    }

    pub(super) fn want(&self) -> Want {
        let topic = if self.done.is_none() { Topic::Reloaded } else { Topic::Saved };
        Want::Change { topic, until: None }
    }
}

fn respond(outcome: &Reloaded, connection: &mut Connection, now: Now) {
    match outcome {
        Ok(changes) => respond_json(connection, Status::Ok, &body(changes), now),
        Err(ReloadError::Config(error)) => {
            ApiError::new(Status::BadRequest, error.as_str()).respond(connection, now);
        }
        Err(ReloadError::Refused(refusal)) => {
            ApiError::by(*refusal, "reload").respond(connection, now);
        }
    }
}

fn body(changes: &Changes) -> Body<'_> {
    fn names(ids: &[JobId]) -> Vec<&str> {
        ids.iter().map(JobId::as_str).collect()
    }
    let Declared { added, removed, replaced, updated, unchanged } = &changes.jobs;
    Body {
        added: names(added),
        removed: names(removed),
        replaced: names(replaced),
        updated: names(updated),
        unchanged: *unchanged,
        needs_restart: &changes.needs_restart,
    }
}
