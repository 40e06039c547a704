//! What is reported about log files, `output.file` of jobs: the caller writes them, and reopens
//! them when users have renamed them.

use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use super::{Action, Chore, EventKind, Happened, RunKey, Supervisor, Topic};
use crate::job::spec::JobType;
use crate::job::{JobId, JobSpec};
use crate::time::Now;

/// The run whose log file it is. If several runs write to it, the one that began last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileOwner {
    /// Which run.
    pub run: RunKey,
    job_id: JobId,
    job_type: JobType,
}

/// What happened to a log file. Each trouble is reported when it begins and when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFileEvent {
    /// It cannot be written.
    Failed {
        /// The reason.
        error: String,
    },
    /// It can be written again.
    Recovered {
        /// How many bytes of the output are missing in it.
        missing: u64,
    },
    /// It could not be written, and no run writes to it any more.
    GivenUp {
        /// How many bytes of the output are missing in it.
        missing: u64,
    },
    /// It cannot be rotated, and grows.
    NotRotated {
        /// The reason.
        error: String,
    },
    /// It can be rotated again.
    RotatedAgain,
    /// It was emptied, because all log files together have reached their limit. Reported once for
    /// each file.
    Emptied {
        /// How many bytes were in it.
        bytes: u64,
    },
    /// A rotated file cannot be removed, although all log files together have reached their limit.
    NotRemoved {
        /// The reason.
        error: String,
    },
}

/// How often all log files were reopened.
#[derive(Debug, Default)]
pub(super) struct Reopenings {
    asked: u64,
    done: u64,
    /// How many files there were, the last time.
    files: usize,
}

impl LogFileOwner {
    /// This run, of the job with this id.
    pub fn new(run: RunKey, job_id: &JobId, spec: &JobSpec) -> LogFileOwner {
        LogFileOwner { run, job_id: job_id.clone(), job_type: spec.kind.job_type() }
    }
}

impl LogFileEvent {
    /// Why it cannot be written or rotated.
    pub fn error(&self) -> Option<&str> {
        match self {
            LogFileEvent::Failed { error }
            | LogFileEvent::NotRotated { error }
            | LogFileEvent::NotRemoved { error } => Some(error),
            LogFileEvent::Recovered { .. }
            | LogFileEvent::GivenUp { .. }
            | LogFileEvent::RotatedAgain
            | LogFileEvent::Emptied { .. } => None,
        }
    }

    /// How many bytes are missing in it.
    pub fn missing(&self) -> Option<u64> {
        match self {
            LogFileEvent::Recovered { missing }
            | LogFileEvent::GivenUp { missing }
            | LogFileEvent::Emptied { bytes: missing } => Some(*missing),
            LogFileEvent::Failed { .. }
            | LogFileEvent::NotRotated { .. }
            | LogFileEvent::NotRemoved { .. }
            | LogFileEvent::RotatedAgain => None,
        }
    }
}

impl Display for LogFileEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LogFileEvent::Failed { error } => write!(f, "cannot be written: {error}; trying again"),
            LogFileEvent::Recovered { missing: 0 } => f.write_str("can be written again"),
            LogFileEvent::Recovered { missing } => {
                write!(f, "can be written again; {missing} bytes are missing in it")
            }
            LogFileEvent::GivenUp { missing } => {
                write!(f, "could not be written: {missing} bytes are missing in it")
            }
            LogFileEvent::NotRotated { error } => {
                write!(f, "cannot be rotated, and grows: {error}; trying again")
            }
            LogFileEvent::RotatedAgain => f.write_str("can be rotated again"),
            LogFileEvent::Emptied { bytes } => write!(
                f,
                "was emptied, since all log files together have reached the limit of [output] \
                 disk; {bytes} bytes are missing in it, and this is not reported again"
            ),
            LogFileEvent::NotRemoved { error } => {
                write!(
                    f,
                    "or what was rotated of it cannot be removed, and does not count towards \
                     the limit of [output] disk any more: {error}"
                )
            }
        }
    }
}

impl Supervisor {
    /// Something happened to a log file.
    pub fn handle_log_file(
        &mut self,
        owner: LogFileOwner,
        path: Rc<str>,
        what: LogFileEvent,
        now: Now,
    ) {
        let LogFileOwner { run: RunKey { job: key, number: run }, job_id: id, job_type } = owner;
        let what = Happened::LogFile { run, path, what };
        self.core.tell(EventKind::Job { key, id, job_type, what }, now);
    }

    /// Has all log files reopened by their names. Returns the number of this request, which
    /// [`Supervisor::reopened`] takes.
    pub fn reopen_log_files(&mut self, now: Now) -> u64 {
        self.core.tell_of_chore(Chore::Reopen, now);
        let reopenings = &mut self.core.reopenings;
        reopenings.asked += 1;
        self.core.actions.push_back(Action::ReopenLogFiles { number: reopenings.asked });
        reopenings.asked
    }

    /// The answer to an [`Action::ReopenLogFiles`]: since then, so many files were reopened.
    pub fn handle_log_files_reopened(&mut self, number: u64, files: usize) {
        let reopenings = &mut self.core.reopenings;
        (reopenings.done, reopenings.files) = (number, files);
        self.core.changed.note(Topic::LogFilesReopened);
    }

    /// How many log files were reopened, once this request is done. [`Topic::LogFilesReopened`]
    /// changes with that.
    pub fn reopened(&self, number: u64) -> Option<usize> {
        let reopenings = &self.core.reopenings;
        (reopenings.done >= number).then_some(reopenings.files)
    }
}
