//! Why a process could not be started, and whose fault it is.

use nix::errno::Errno;

use super::{errno_of, is_shortage, reason};
use crate::job::SpawnFailure;

/// Why nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// It cannot run as it is: the run has failed.
    Failed(SpawnFailure),
    /// The machine is short of something (`EMFILE`, `ENFILE`, `EAGAIN`, `ENOMEM`, `ENOSPC`), or
    /// somebody holds a lease on the executable: try again later. With what it is, for people.
    /// Where execve itself says so and the job has `limits`, they are taken for the cause: that
    /// is a failed run.
    Shortage(String),
}

impl SpawnError {
    /// What k1s could not do for the run's sake, whatever the reason: not for the job to answer for.
    pub fn shortage(step: &str, error: &std::io::Error) -> SpawnError {
        SpawnError::Shortage(format!("{step}: {}", reason(errno_of(error))))
    }

    /// The machine's when it ran out of something, else the job's.
    pub(super) fn at(step: &str, errno: Errno) -> SpawnError {
        let text = format!("{step}: {}", reason(errno));
        if is_shortage(errno) { SpawnError::Shortage(brief(text)) } else { cannot_run(text) }
    }
}

pub(super) fn cannot_run(error: String) -> SpawnError {
    SpawnError::Failed(SpawnFailure { exit_code: 126, error: brief(error) })
}

/// The beginning and the end of a text that is too long to be kept with each run: a PATH or a
/// name may be as long as the request that it came in.
pub(super) fn brief(text: String) -> String {
    if text.len() <= MOST_ERROR_BYTES {
        return text;
    }
    let (begin, _) = text.split_at(text.floor_char_boundary(MOST_ERROR_BYTES / 2));
    let (_, end) = text.split_at(text.ceil_char_boundary(text.len() - MOST_ERROR_BYTES / 2));
    format!("{begin}…{end}")
}

/// Of what is said about a run that could not be started.
pub(super) const MOST_ERROR_BYTES: usize = 1024;
