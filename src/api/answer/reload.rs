//! The answer to `POST /reload`: waits until the config was read again.

use serde::Serialize;

use super::Want;
use crate::api::{ApiError, query, respond_json};
use crate::http::{Connection, Head, Status};
use crate::job::JobId;
use crate::supervisor::{Changes, Declared, ReloadError, Supervisor, Topic};
use crate::time::Now;

/// An unfinished answer.
#[derive(Clone, Copy, Debug)]
pub struct Reload {
    /// The number of the request to the supervisor.
    number: u64,
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
        Ok(Reload { number })
    }

    /// Answers if it is done. Returns whether it is.
    pub(super) fn go_on(
        self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        let Some(outcome) = supervisor.reloaded(self.number) else { return false };
        match &*outcome {
            Ok(changes) => respond_json(connection, Status::Ok, &body(changes), now),
            Err(ReloadError::Config(error)) => {
                ApiError::new(Status::BadRequest, error.as_str()).respond(connection, now);
            }
            Err(ReloadError::Refused(refusal)) => {
                ApiError::by(*refusal, "reload").respond(connection, now);
            }
        }
        true
    }

    pub(super) fn want(self) -> Want {
        Want::Change { topic: Topic::Reloaded, until: None }
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
