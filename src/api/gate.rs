//! Who gets in: the one place that says whether somebody may do what a route does, to this job.
//!
//! ```text
//!   Head ─▶ is the route open? ─▶ who asks? ─▶ the scope of the route ─▶ is the job there for them?
//!            └ answered at once    └ 403 Unauthorized   └ 403 Forbidden      └ 404 Job not found
//! ```

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};

use super::{ApiError, Found, Handler, Route};
use crate::access::{Access, Caller};
use crate::http::Status;
use crate::job::JobId;

/// Requests that were refused because of what who asks may do, since this was last asked.
#[derive(Debug, Default)]
pub(super) struct Gate(RefCell<Refused>);

/// Refused requests: the first, and how many there were.
#[derive(Debug, Default)]
pub struct Refused {
    first: String,
    count: u64,
}

impl Gate {
    /// Whether who calls may do what the route does. Whether there is such a route is not for
    /// strangers to know.
    pub(super) fn let_in(&self, found: Option<&Found>, caller: &Caller) -> Result<(), ApiError> {
        if let Caller::Barred { uid } = caller {
            let error = format!("Forbidden: {OWNERS_ALONE}, and this is user {uid}");
            return Err(ApiError::closing(Status::Forbidden, error));
        }
        let is_open = found.is_some_and(|found| found.route.scope.is_none());
        match (caller.access(), found) {
            _ if is_open => Ok(()),
            (None, _) => Err(ApiError::closing(Status::Forbidden, "Unauthorized")),
            (Some(_), None) => Ok(()),
            (Some(access), Some(found)) => self.let_known_in(found, access),
        }
    }

    fn let_known_in(&self, found: &Found, access: &Access) -> Result<(), ApiError> {
        let Some(needed) = found.route.scope else { return Ok(()) };
        let Access { asker, scope, visible, .. } = access;
        if *scope < needed {
            let (needed, own) = (needed.name(), scope.name());
            let why = format!("this needs the scope {needed}, and {asker} has the scope {own}");
            return Err(self.forbid(found, access, &why));
        }
        if found.route.handler.concerns_all_jobs() && !visible.is_all() {
            let patterns = visible.patterns().join(", ");
            let why = format!("this concerns all jobs, and {asker} is for {patterns} alone");
            return Err(self.forbid(found, access, &why));
        }
        Ok(())
    }

    /// Whether the job that the path names is there for who asks, or may be made by them.
    pub(super) fn show_job(&self, found: &Found, access: &Access) -> Result<(), ApiError> {
        let Access { asker, visible, .. } = access;
        if found.id.is_empty() || visible.has(found.id) {
            return Ok(());
        }
        if !found.route.handler.makes_job() {
            return Err(ApiError::not_found());
        }
        let patterns = visible.patterns().join(", ");
        let why = format!("{asker} is for jobs whose ids match {patterns} alone");
        Err(self.forbid(found, access, &why))
    }

    /// What was refused since this was last asked.
    pub(super) fn poll_refused(&self) -> Option<Refused> {
        let refused = self.0.take();
        (refused.count > 0).then_some(refused)
    }

    fn forbid(&self, found: &Found, access: &Access, why: &str) -> ApiError {
        let mut refused = self.0.borrow_mut();
        if refused.count == 0 {
            let Route { method, path, .. } = found.route;
            let id = if JobId::parse(found.id).is_ok() { found.id } else { "{id}" };
            let (method, path) = (method.name(), path.replace("{id}", id));
            refused.first = format!("{method} {path} by {} was refused: {why}", access.asker);
        }
        refused.count += 1;
        ApiError::new(Status::Forbidden, format!("Forbidden: {why}"))
    }
}

impl Handler {
    fn concerns_all_jobs(self) -> bool {
        matches!(self, Handler::Reload | Handler::Reopen)
    }

    fn makes_job(self) -> bool {
        matches!(self, Handler::Create | Handler::Put)
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, "; {} more were refused since", count - 1),
        }
    }
}

const OWNERS_ALONE: &str = "the unix socket is for root and for k1s's own user alone";
