//! One log file: opened for the first byte, opened again if it was removed, rotated.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::pending::Pending;
use crate::job::spec::LogFileSpec;
use crate::os;
use crate::os::logfile::FileError;
use crate::supervisor::LogFileOwner;
use crate::time::{Mono, Now};

/// A log file that streams are written to, or that has pending bytes.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: Rc<str>,
    pub(super) owner: LogFileOwner,
    /// The limit that the job of the owner sets.
    pub(super) max_bytes: Option<u64>,
    pub(super) max_files: usize,
    /// How many streams are written to it.
    pub(super) writers: usize,
    pub(super) pending: Pending,
    /// It cannot be written.
    pub(super) failure: Option<Retry>,
    /// It cannot be rotated.
    pub(super) rotation_failure: Option<Retry>,
    /// When to give up, if no stream is written to it any more.
    pub(super) given_up_at: Option<Mono>,
    /// Each run has its own.
    pub(super) is_of_run: bool,
    handle: Option<os::logfile::LogFile>,
    /// The open file may have been renamed, so nothing more is written to it.
    is_stale: bool,
    is_mid_line: bool,
}

/// When to try again what has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    /// Not before then.
    pub(super) at: Mono,
    delay: Duration,
}

impl Retry {
    /// After a failure at this time, the first or another.
    pub(super) fn after(failure: Option<Retry>, now: Now) -> Retry {
        let delay = failure.map_or(FIRST_DELAY, |retry| (retry.delay * 2).min(LONGEST_DELAY));
        Retry { at: now.mono + delay, delay }
    }
}

impl LogFile {
    pub(super) fn new(path: Rc<str>, spec: &LogFileSpec, owner: LogFileOwner) -> LogFile {
        LogFile {
            path,
            owner,
            max_bytes: spec.max_bytes,
            max_files: spec.max_files,
            writers: 0,
            pending: Pending::default(),
            failure: None,
            rotation_failure: None,
            given_up_at: None,
            is_of_run: false,
            handle: None,
            is_stale: false,
            is_mid_line: false,
        }
    }

    /// Adds a stream of this run, whose job has this specification.
    pub(super) fn attach(&mut self, spec: &LogFileSpec, owner: LogFileOwner) {
        (self.max_bytes, self.max_files) = (spec.max_bytes, spec.max_files);
        self.is_of_run = spec.is_of_run();
        self.owner = owner;
        self.writers += 1;
        self.given_up_at = None;
    }

    /// Removes a stream. After the last one, pending bytes are tried until then.
    pub(super) fn release(&mut self, given_up_at: Mono) {
        self.writers = self.writers.saturating_sub(1);
        self.given_up_at = (self.writers == 0).then_some(given_up_at);
    }

    /// Whether it is not too early to rotate it, after that has failed.
    pub(super) fn may_rotate(&self, now: Now) -> bool {
        self.rotation_failure.is_none_or(|retry| retry.at <= now.mono)
    }

    /// Whether it has a descriptor.
    pub(super) fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// Whether the last line in it has no end yet.
    pub(super) fn is_mid_line(&self) -> bool {
        self.is_mid_line
    }

    /// Writes nothing more to the open file. Returns whether it was stale already.
    pub(super) fn mark_stale(&mut self) -> bool {
        std::mem::replace(&mut self.is_stale, true)
    }

    /// Opens the file if it is not open, or if the open one is stale or was removed. Returns its
    /// size in bytes, and whether it was opened.
    ///
    /// # Errors
    /// Why it cannot be opened, for people.
    pub(super) fn open(&mut self) -> Result<(u64, bool), FileError> {
        let is_stale = std::mem::take(&mut self.is_stale);
        if let Some(handle) = self.handle.take().filter(|_| !is_stale) {
            let status = handle.status()?;
            if !status.is_removed {
                self.handle = Some(handle);
                return Ok((status.size, false));
            }
        }
        self.is_mid_line = false;
        let handle = os::logfile::LogFile::open(Path::new(self.path.as_ref()))?;
        let size = handle.status()?.size;
        self.handle = Some(handle);
        Ok((size, true))
    }

    /// Empties the file. Returns whether it was open, and not stale.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) fn clear(&mut self) -> Result<bool, FileError> {
        match &mut self.handle {
            Some(handle) if !self.is_stale => handle.clear().map(|()| true),
            Some(_) | None => Ok(false),
        }
    }

    /// Appends to the open file. Returns how many bytes were written, and if not all, why; then the
    /// file is closed.
    pub(super) fn append(&mut self, bytes: &[u8]) -> (usize, Result<(), FileError>) {
        let Some(handle) = &mut self.handle else { return (0, Ok(())) };
        let (count, result) = handle.append(bytes);
        if let Some(last) = bytes.get(..count).and_then(<[u8]>::last) {
            self.is_mid_line = *last != b'\n';
        }
        if result.is_err() {
            // It may have been replaced by the next try, so it is opened again.
            self.handle = None;
        }
        (count, result)
    }

    /// Rotates the open file, and begins an empty one.
    ///
    /// # Errors
    /// Why that is not possible, for people. The file is closed then.
    pub(super) fn rotate(&mut self) -> Result<(), FileError> {
        let Some(mut handle) = self.handle.take() else { return Ok(()) };
        let handle = match self.max_files {
            ..=1 => handle.clear().map(|()| handle)?,
            most => {
                // There may be no other descriptor.
                drop(handle);
                os::logfile::rotate(Path::new(self.path.as_ref()), most - 1)?
            }
        };
        self.handle = Some(handle);
        self.is_mid_line = false;
        Ok(())
    }
}

/// The delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
