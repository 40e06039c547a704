//! The answer to `POST /reopen`: waits until all log files are reopened.

use serde::Serialize;

use super::Want;
use crate::api::respond_json;
use crate::http::{Connection, Status};
use crate::supervisor::{Supervisor, Topic};
use crate::time::Now;

/// An unfinished answer.
#[derive(Clone, Copy, Debug)]
pub struct Reopen {
    /// The number of the request to the supervisor.
    number: u64,
}

#[derive(Serialize)]
struct Reopened {
    message: &'static str,
    files: usize,
}

impl Reopen {
    /// Asks for it.
    pub(in crate::api) fn begin(supervisor: &mut Supervisor, now: Now) -> Reopen {
        Reopen { number: supervisor.reopen_log_files(now) }
    }

    /// Answers if it is done. Returns whether it is.
    pub(super) fn go_on(
        self,
        supervisor: &Supervisor,
        connection: &mut Connection,
        now: Now,
    ) -> bool {
        let files = supervisor.reopened(self.number);
        if let Some(files) = files {
            let body = Reopened { message: "Log files reopened", files };
            respond_json(connection, Status::Ok, &body, now);
        }
        files.is_some()
    }

    pub(super) fn want(self) -> Want {
        Want::Change { topic: Topic::LogFilesReopened, until: None }
    }
}
