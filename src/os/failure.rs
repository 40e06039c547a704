//! Why a process could not be started: because of the job, or because of a shortage of the machine.

use nix::errno::Errno;

use super::{errno_of, is_shortage, reason};
use crate::job::SpawnFailure;

/// Why no process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// Because of the job: the run has failed.
    Failed(SpawnFailure),
    /// Because this machine is short of something (`EMFILE`, `ENFILE`, `EAGAIN`, `ENOMEM`,
    /// `ENOSPC`), or another process holds a lease on the executable: try again later. Says what
    /// it is, for people. If execve itself fails so and the job has `limits`, they count as the
    /// cause, and the run has failed.
    Shortage(String),
}

impl SpawnError {
    /// k1s itself could not do a step for the run, whatever the reason: not the job's fault.
    pub fn shortage(step: &str, error: &std::io::Error) -> SpawnError {
        SpawnError::Shortage(format!("{step}: {}", reason(errno_of(error))))
    }

    /// A shortage if the machine has run out of something, otherwise a failure of the job.
    pub(super) fn at(step: &str, errno: Errno) -> SpawnError {
        let text = format!("{step}: {}", reason(errno));
        if is_shortage(errno) { SpawnError::Shortage(brief(text)) } else { cannot_run(text) }
    }
}

pub(super) fn cannot_run(error: String) -> SpawnError {
    SpawnError::Failed(SpawnFailure { exit_code: 126, error: brief(error) })
}

/// Keeps the beginning and the end of a text that is too long to be stored with each run: a PATH or
/// a name may be as long as a request.
pub(super) fn brief(text: String) -> String {
    if text.len() <= MOST_ERROR_BYTES {
        return text;
    }
    let (begin, _) = text.split_at(text.floor_char_boundary(MOST_ERROR_BYTES / 2));
    let (_, end) = text.split_at(text.ceil_char_boundary(text.len() - MOST_ERROR_BYTES / 2));
    format!("{begin}…{end}")
}

/// The longest error of a run that could not be started.
pub(super) const MOST_ERROR_BYTES: usize = 1024;
