//! Log files: writes output of jobs to the files of `output.file`.
//!
//! ```text
//!   a job's pipes ─▶ write ─▶ the file, at once ──▶ x.log ─▶ x.log.1 ─▶ x.log.2 …
//!                      │  it fails                    rotated at the end of a line
//!                      ▼
//!                   Pending, 64 KiB a file ── again after 1 s, 2 s, … 30 s ──▶ the file
//!                      └ more than that: counted as missing
//! ```
//!
//! Each read of a pipe is one write to the file, in the order of the reads. Jobs with the same path
//! share an open file.
//!
//! A log file never slows its job down: bytes that cannot be written are pending here, and dropped
//! if there are too many. A failure is reported when it begins and when it is over. There is a
//! timer only while bytes are pending.
//!
//! `quota` decides which files to remove if all of them together have a limit.

mod cut;
mod file;
mod pending;
mod quota;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use self::cut::cut;
use self::file::{LogFile, Retry};
use self::quota::{Quota, Victim};
use super::shares::FILE_OPERATIONS_A_TURN;
use crate::job::{JobId, JobSpec};
use crate::os::logfile::{FileError, MOST_ROTATED, find, remove};
use crate::supervisor::{LogFileEvent, LogFileOwner, RunKey};
use crate::time::{Mono, Now};
use crate::timer::TimerWheel;

/// All log files that are written to.
#[derive(Debug)]
pub(super) struct LogFiles {
    files: BTreeMap<FileKey, LogFile>,
    keys: BTreeMap<Rc<str>, FileKey>,
    last_key: u64,
    /// When to try pending bytes again.
    timers: TimerWheel<FileKey>,
    /// How many bytes are pending, for all files together.
    pending_bytes: usize,
    /// How many bytes were ever dropped.
    missing_bytes: u64,
    /// Files for which there was no descriptor.
    short: BTreeSet<FileKey>,
    events: VecDeque<(LogFileOwner, Rc<str>, LogFileEvent)>,
    /// How many operations were done since this was last asked.
    operations: usize,
    /// The limit for all files together.
    quota: Option<Quota>,
    /// Files whose sizes are to be found out for the quota.
    uncounted: VecDeque<FileKey>,
    /// Files to reopen.
    stale: VecDeque<FileKey>,
    /// How many files were ever marked to be reopened, and how many of them were.
    marked: u64,
    reopened: u64,
    reopenings: VecDeque<Reopening>,
}

/// A request to reopen all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reopening {
    number: u64,
    /// It is done when so many files were ever reopened.
    until: u64,
    /// How many files it concerns.
    files: usize,
}

/// Names a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileKey(u64);

impl Default for LogFiles {
    fn default() -> LogFiles {
        LogFiles {
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
            last_key: 0,
            timers: TimerWheel::new(Mono::default()),
            pending_bytes: 0,
            missing_bytes: 0,
            short: BTreeSet::new(),
            events: VecDeque::new(),
            operations: 0,
            quota: None,
            uncounted: VecDeque::new(),
            stale: VecDeque::new(),
            marked: 0,
            reopened: 0,
            reopenings: VecDeque::new(),
        }
    }
}

impl LogFiles {
    /// No files yet; all together may take so many bytes.
    pub(super) fn with_limit(bytes: Option<u64>) -> LogFiles {
        LogFiles { quota: bytes.map(Quota::new), ..LogFiles::default() }
    }

    /// From now on all files together may take so many bytes.
    pub(super) fn limit(&mut self, bytes: Option<u64>) {
        match (&mut self.quota, bytes) {
            (Some(quota), Some(bytes)) => quota.limit(bytes),
            (None, Some(bytes)) => {
                self.quota = Some(Quota::new(bytes));
                self.uncounted = self.files.keys().copied().collect();
            }
            (_, None) => {
                self.quota = None;
                self.uncounted.clear();
            }
        }
    }

    /// The log file of this run, if its job has one, for another stream. To be released.
    pub(super) fn attach(
        &mut self,
        run: RunKey,
        job_id: &JobId,
        spec: &JobSpec,
    ) -> Option<FileKey> {
        let file_spec = spec.output.file.as_ref()?;
        let path = file_spec.path_for(job_id, run.number, &spec.command.working_directory);
        let owner = LogFileOwner::new(run, job_id, spec);
        let key = self.keys.get(path.as_str()).copied().unwrap_or(FileKey(self.last_key + 1));
        self.last_key = self.last_key.max(key.0);
        let file = self.files.entry(key).or_insert_with(|| {
            let path: Rc<str> = path.into();
            self.uncounted.extend(self.quota.as_ref().map(|_| key));
            self.keys.insert(path.clone(), key);
            LogFile::new(path, file_spec, owner.clone())
        });
        file.attach(file_spec, owner);
        Some(key)
    }

    /// A stream is no longer written to it. After the last one, it is closed when nothing is
    /// pending.
    pub(super) fn release(&mut self, key: FileKey, now: Now) {
        if let Some(file) = self.files.get_mut(&key) {
            file.release(now.mono + PATIENCE);
            self.forget_unused(key);
        }
    }

    /// Writes what was read from a stream. Returns how many file operations that took, without the
    /// write itself.
    pub(super) fn write(&mut self, key: FileKey, bytes: &[u8], now: Now) -> usize {
        let Some(file) = self.files.get(&key) else { return 0 };
        if file.failure.is_some_and(|retry| retry.at > now.mono) {
            self.keep(key, bytes);
            return 0;
        }
        self.attempt(key, bytes, now)
    }

    /// Reopens all files by their names, since they may have been renamed. Pending bytes are tried
    /// again at once. `number` is that of the request.
    pub(super) fn reopen(&mut self, number: u64) {
        let mut files = 0;
        for (key, file) in &mut self.files {
            if !file.is_open() && file.failure.is_none() {
                continue;
            }
            files += 1;
            if !file.mark_stale() {
                self.stale.push_back(*key);
                self.marked += 1;
            }
        }
        self.reopenings.push_back(Reopening { number, until: self.marked, files });
    }

    /// A finished request to reopen all files: its number, and how many there were.
    pub(super) fn poll_reopened(&mut self) -> Option<(u64, usize)> {
        let reopened = self.reopened;
        let done = self.reopenings.pop_front_if(|reopening| reopening.until <= reopened)?;
        Some((done.number, done.files))
    }

    /// Whether [`LogFiles::go_on`] is to be called without waiting.
    pub(super) fn has_more(&self) -> bool {
        !self.stale.is_empty() || !self.uncounted.is_empty()
    }

    /// When [`LogFiles::go_on`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// Reopens files, finds out sizes, and tries pending bytes again, up to the share of a turn.
    pub(super) fn go_on(&mut self, now: Now) {
        let mut operations = 0;
        while operations < FILE_OPERATIONS_A_TURN {
            if let Some(key) = self.uncounted.pop_front() {
                self.count(key);
                operations += std::mem::take(&mut self.operations);
                continue;
            }
            let key = self.stale.pop_front();
            self.reopened += u64::from(key.is_some());
            let Some(key) = key.or_else(|| self.timers.expire(now.mono)) else { return };
            operations += 1 + self.attempt(key, &[], now);
        }
    }

    /// Another run is to be spawned: tries first to open the files that have lacked descriptors, up
    /// to the share of a turn. Returns whether there are enough now.
    pub(super) fn has_descriptors(&mut self, now: Now) -> bool {
        let short = self.short.iter().take(FILE_OPERATIONS_A_TURN).copied();
        short.collect::<Vec<_>>().into_iter().all(|key| {
            self.attempt(key, &[], now);
            !self.short.contains(&key)
        }) && self.short.is_empty()
    }

    /// What has happened to a file since this was last asked.
    pub(super) fn poll_event(&mut self) -> Option<(LogFileOwner, Rc<str>, LogFileEvent)> {
        self.events.pop_front()
    }

    /// How many files cannot be written.
    pub(super) fn failing(&self) -> usize {
        self.files.values().filter(|file| file.failure.is_some()).count()
    }

    /// How many bytes could not be written, to any file.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// How many descriptors they may take.
    pub(super) fn descriptors(&self) -> usize {
        self.files.len()
    }

    /// k1s ends: tries pending bytes for the last time.
    pub(super) fn finish(&mut self, now: Now) {
        let waits =
            |(key, file): (&FileKey, &LogFile)| (!file.pending.bytes().is_empty()).then_some(*key);
        for key in self.files.iter().filter_map(waits).collect::<Vec<_>>() {
            self.attempt(key, &[], now);
            self.give_up(key);
        }
    }

    /// Opens the file, and writes pending bytes and then these. Returns the number of file
    /// operations.
    fn attempt(&mut self, key: FileKey, mut bytes: &[u8], now: Now) -> usize {
        let mut waiting = self.take_pending(key);
        let (count, mut result) = match (waiting.is_empty(), bytes.is_empty()) {
            (true, true) => (0, self.open(key).map(drop)),
            (true, false) => (0, Ok(())),
            (false, _) => self.append(key, &waiting, now),
        };
        waiting.drain(..count);
        self.restore_pending(key, waiting);
        if result.is_ok() {
            let (count, later) = self.append(key, bytes, now);
            bytes = bytes.get(count..).unwrap_or_default();
            result = later;
        }
        match result {
            Ok(()) => self.recover(key),
            Err(error) => {
                self.keep(key, bytes);
                self.fail(key, error, now);
            }
        }
        self.forget_unused(key);
        std::mem::take(&mut self.operations)
    }

    /// Appends to the file, and rotates it when it is full. Returns how many bytes were written,
    /// and if not all, why.
    fn append(&mut self, key: FileKey, bytes: &[u8], now: Now) -> (usize, Result<(), FileError>) {
        let mut written = 0;
        // Whether it was rotated just now before anything was written.
        let mut is_in_vain = false;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            self.make_room(rest.len());
            let size = match self.open(key) {
                Ok(size) => size,
                Err(error) => return (written, Err(error)),
            };
            let Some(file) = self.files.get_mut(&key) else { break };
            let largest = self.quota.as_ref().map_or(u64::MAX, Quota::largest_file);
            let limit = file.max_bytes.filter(|_| file.may_rotate(now));
            let limit = limit.map(|most| most.min(largest));
            let end = limit.and_then(|limit| cut(size, limit, file.is_mid_line(), rest));
            // Another process may fill each new file before k1s writes to it.
            let end = end.filter(|end| *end > 0 || !is_in_vain);
            let (part, _) = rest.split_at(end.unwrap_or(rest.len()));
            let (count, result) = file.append(part);
            written += count;
            if let Some(quota) = &mut self.quota {
                quota.set_size(&file.path, size + count as u64, now.wall);
            }
            if result.is_err() {
                return (written, result);
            }
            is_in_vain = end == Some(0);
            if end.is_some() {
                self.rotate(key, now);
            }
        }
        (written, Ok(()))
    }

    /// Opens the file if needed. Returns its size in bytes.
    fn open(&mut self, key: FileKey) -> Result<u64, FileError> {
        let Some(file) = self.files.get_mut(&key) else { return Ok(0) };
        self.operations += usize::from(!file.is_open());
        let (size, is_another) = file.open()?;
        if is_another {
            self.count(key);
        }
        Ok(size)
    }

    /// Finds out the sizes of a file and its rotated ones, for the quota.
    fn count(&mut self, key: FileKey) {
        let (Some(quota), Some(file)) = (&mut self.quota, self.files.get(&key)) else { return };
        // If k1s does not rotate a file, the rotated ones belong to another program.
        let rotated = file.max_bytes.map_or(0, |_| MOST_ROTATED);
        let found = find(Path::new(file.path.as_ref()), rotated);
        self.operations += 1 + found.len() / 4;
        quota.open(&file.path, &file.owner, found);
    }

    /// Removes files until so many bytes more may be written.
    fn make_room(&mut self, more: usize) {
        for _ in 0..MOST_VICTIMS {
            let victim = self.quota.as_ref().and_then(|quota| quota.victim(more as u64));
            let Some(victim) = victim else { return };
            if !self.remove(&victim) {
                return;
            }
        }
    }

    /// Returns whether the victim counts no longer.
    fn remove(&mut self, victim: &Victim) -> bool {
        self.operations += 1;
        let key = self.keys.get(&victim.path).filter(|_| victim.is_current);
        let file = key.and_then(|key| self.files.get_mut(key));
        let result =
            file.map_or(Ok(false), LogFile::clear).and_then(|is_cleared| match is_cleared {
                true => Ok(()),
                false => remove(Path::new(victim.path.as_ref()), victim.number),
            });
        let Some(quota) = &mut self.quota else { return false };
        let (owner, path) = (victim.owner.clone(), victim.path.clone());
        match result {
            Ok(()) => {
                if quota.handle_gone(victim) {
                    let event = LogFileEvent::Emptied { bytes: victim.size };
                    self.events.push_back((owner, path, event));
                }
            }
            // It can be removed later.
            Err(error) if error.is_shortage() => return false,
            Err(error) => {
                quota.forget(&victim.path);
                let error = error.to_string();
                self.events.push_back((owner, path, LogFileEvent::NotRemoved { error }));
            }
        }
        true
    }

    fn rotate(&mut self, key: FileKey, now: Now) {
        let Some(file) = self.files.get_mut(&key) else { return };
        self.operations += file.max_files;
        let before = file.rotation_failure;
        let result = file.rotate();
        file.rotation_failure = result.is_err().then(|| Retry::after(before, now));
        match (&mut self.quota, &result) {
            (Some(quota), Ok(())) => quota.rotate(&file.path, file.max_files),
            // Some may have been renamed.
            (Some(_), Err(_)) => self.count(key),
            (None, _) => {}
        }
        match result {
            Ok(()) if before.is_some() => self.tell(key, LogFileEvent::RotatedAgain),
            Err(error) if before.is_none() => {
                self.tell(key, LogFileEvent::NotRotated { error: error.to_string() })
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn fail(&mut self, key: FileKey, error: FileError, now: Now) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let before = file.failure;
        let retry = Retry::after(before, now);
        file.failure = Some(retry);
        match error.is_shortage() {
            true => self.short.insert(key),
            false => self.short.remove(&key),
        };
        let is_given_up = file.given_up_at.is_some_and(|at| at <= now.mono);
        let is_waiting = !file.pending.bytes().is_empty();
        if before.is_none() {
            self.tell(key, LogFileEvent::Failed { error: error.to_string() });
        }
        if is_given_up {
            self.give_up(key);
        } else if is_waiting {
            self.timers.set(key, retry.at);
        }
    }

    fn recover(&mut self, key: FileKey) {
        let Some(file) = self.files.get_mut(&key) else { return };
        if file.failure.take().is_some() {
            let missing = file.pending.take_missing();
            self.timers.cancel(&key);
            self.short.remove(&key);
            self.tell(key, LogFileEvent::Recovered { missing });
        }
    }

    /// Drops pending bytes.
    fn give_up(&mut self, key: FileKey) {
        let waiting = self.take_pending(key);
        self.missing_bytes += waiting.len() as u64;
        let Some(file) = self.files.get_mut(&key) else { return };
        let missing = file.pending.take_missing() + waiting.len() as u64;
        if missing > 0 {
            self.tell(key, LogFileEvent::GivenUp { missing });
        }
    }

    /// Forgets the file, and closes it, if no stream is written to it and nothing is pending.
    fn forget_unused(&mut self, key: FileKey) {
        let is_unused = |file: &LogFile| file.writers == 0 && file.pending.bytes().is_empty();
        if self.files.get(&key).is_some_and(is_unused) {
            self.give_up(key);
            self.timers.cancel(&key);
            self.short.remove(&key);
            if let Some(file) = self.files.remove(&key) {
                self.keys.remove(&file.path);
                if let Some(quota) = &mut self.quota {
                    quota.close(&file.path, file.is_of_run);
                }
            }
        }
    }

    fn keep(&mut self, key: FileKey, bytes: &[u8]) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let room = MOST_PENDING_BYTES.saturating_sub(self.pending_bytes);
        let before = file.pending.bytes().len();
        self.missing_bytes += file.pending.keep(bytes, room);
        self.pending_bytes = self.pending_bytes + file.pending.bytes().len() - before;
    }

    fn take_pending(&mut self, key: FileKey) -> Vec<u8> {
        let file = self.files.get_mut(&key);
        let waiting = file.map(|file| file.pending.take()).unwrap_or_default();
        self.pending_bytes = self.pending_bytes.saturating_sub(waiting.len());
        waiting
    }

    fn restore_pending(&mut self, key: FileKey, waiting: Vec<u8>) {
        if let Some(file) = self.files.get_mut(&key) {
            self.pending_bytes += waiting.len();
            file.pending.restore(waiting);
        }
    }

    fn tell(&mut self, key: FileKey, event: LogFileEvent) {
        if let Some(file) = self.files.get(&key) {
            self.events.push_back((file.owner.clone(), file.path.clone(), event));
        }
    }
}

/// The most that is pending for all files together, in bytes: a disk may be full for all of them.
const MOST_PENDING_BYTES: usize = 4 * 1024 * 1024;
/// How many files are removed at most for one write.
const MOST_VICTIMS: usize = 64;
/// How long pending bytes are tried when no stream is written to the file any more.
const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
