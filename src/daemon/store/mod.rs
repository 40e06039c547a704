//! Stores the state: appends what has changed, once a turn, and makes it safe.
//!
//! ```text
//!   supervisor ─ unsaved jobs ─▶ Ledger ─▶ frame ─ write(2) ─▶ segment
//!        ▲                                                        │ `sync = "always"`
//!        │ saved: answers go out                                  ▼
//!        └────────────────────────────────────────── fdatasync(2), by a helper
//! ```
//!
//! What came while the disk was busy is made safe together, by the next call. Only answers to
//! requests that changed something wait for that.
//!
//! When a write fails, what it was for is written again, later and later; a failed fdatasync has
//! lost the pages that it was for, so everything since the last is written again to a new segment.
//! Meanwhile no job is created, and what is answered says that it is not stored.
//!
//! - `directory.rs`: the directory, its lock and its segments.
//! - `open.rs`: what is done with it when k1s starts.
//! - `show.rs`: what is in it, for `k1s state`.

mod directory;
mod open;
mod show;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::shares::{LOOKED_AT_FOR_STATE, STATE_BYTES_A_DRAIN, STATE_JOBS_A_DRAIN};
use crate::config::{LogLevel, Sync};
use crate::job::Pid;
use crate::os;
use crate::os::syncer::{MOST_FILES, Syncer};
use crate::state::{HEAD, Ledger, Position};
use crate::supervisor::{JobKey, RunKey, Saving, Supervisor};
use crate::time::{Mono, Now};

use directory::Directory;
pub(super) use open::{Inherited, open};
pub use show::{Contents, contents};

/// The state directory of a running k1s.
#[derive(Debug)]
pub(super) struct Store {
    directory: Directory,
    sync: Sync,
    ledger: Ledger,
    /// The segment that is appended to.
    file: File,
    /// Nothing may be written to it: what it was to keep is lost, or it is none.
    is_spoiled: bool,
    /// Segments that are complete, and not all safe.
    unsafe_files: Vec<File>,
    /// There is a segment whose name is not safe.
    has_new_name: bool,
    /// It is still to be written which k1s this is.
    is_unnamed: bool,
    /// Everything before is as safe as `sync` promises.
    safe: Position,
    /// Jobs to be written, and the change up to which that is everything.
    batch: BTreeSet<JobKey>,
    batch_change: u64,
    /// The last change that is written.
    written_change: u64,
    /// Jobs of which something was written since the last sync began.
    unsafe_jobs: BTreeSet<JobKey>,
    syncing: Option<Syncing>,
    syncer: Syncer,
    /// Segments before the first that counts can go when this is safe.
    gone_when_safe: Option<Position>,
    /// Segments that are damaged, and are kept under another name.
    damaged: BTreeSet<u64>,
    trouble: Option<Trouble>,
    frame: Vec<u8>,
    notes: Vec<(LogLevel, String)>,
}

/// A call of fdatasync that is under way.
#[derive(Debug)]
struct Syncing {
    until: Position,
    change: u64,
    jobs: BTreeSet<JobKey>,
    /// How many of the complete segments it is for.
    files: usize,
    has_name: bool,
}

/// Nothing can be stored now.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    why: &'static str,
    retry_at: Mono,
    delay: Duration,
    /// The last change of which it was said.
    told: u64,
    /// Everything was written again since, up to here: when that is safe it is over.
    written: Option<Position>,
}

impl Store {
    /// The descriptor that tells that the disk is done.
    pub(super) fn event(&self) -> RawFd {
        self.syncer.event()
    }

    /// What there is to say about the state.
    pub(super) fn poll_note(&mut self) -> Option<(LogLevel, String)> {
        if self.notes.is_empty() { None } else { Some(self.notes.remove(0)) }
    }

    /// Whether [`Store::append`] has something to do now, for which no event will come.
    pub(super) fn has_more(&self) -> bool {
        self.trouble.is_none() && (!self.batch.is_empty() || self.ledger.is_cleaning())
    }

    /// When to try again.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.trouble.filter(|_| self.syncing.is_none()).map(|trouble| trouble.retry_at)
    }

    /// Writes what has changed, a share of it. To be called before anything is started, because a
    /// run must be known before it has a process.
    pub(super) fn append(&mut self, supervisor: &mut Supervisor, now: Now) {
        if self.batch.is_empty() && supervisor.has_unsaved() {
            (self.batch, self.batch_change) = supervisor.take_unsaved();
        }
        if let Some(trouble) = &mut self.trouble
            && now.mono < trouble.retry_at
        {
            return trouble.refuse(&mut self.batch, supervisor);
        }
        let is_due = self.is_spoiled || self.is_unnamed;
        if is_due || !self.batch.is_empty() || self.ledger.is_cleaning() {
            if let Err(error) = self.turn_page(now) {
                return self.fail(&error, supervisor, now);
            }
            if !self.write(supervisor, now) {
                return;
            }
        }
        let (end, is_all) = (self.ledger.end(), self.batch.is_empty());
        if let Some(trouble) = self.trouble.as_mut().filter(|_| is_all) {
            trouble.written.get_or_insert(end);
        }
        self.make_safe(supervisor);
    }

    /// A run is about to be spawned: from now on it may have a process. When this cannot be written
    /// it is started all the same.
    pub(super) fn note_launch(&mut self, run: RunKey, supervisor: &Supervisor, now: Now) {
        if self.trouble.is_some() {
            return;
        }
        self.begin_frame(now);
        // The run may have been added since the last append.
        self.write_job(run.job, supervisor, now);
        self.ledger.write_launch(&mut self.frame, run);
        match self.write_frame() {
            Ok(()) => drop(self.unsafe_jobs.insert(run.job)),
            Err(_) => {
                self.ledger.doubt(run.job);
                self.batch.insert(run.job);
            }
        }
        if self.sync == Sync::Os {
            self.safe = self.ledger.end();
        }
    }

    /// The disk is done with what it was to make safe.
    pub(super) fn handle_synced(&mut self, supervisor: &mut Supervisor, now: Now) {
        let Some(result) = self.syncer.end() else { return };
        let Some(syncing) = self.syncing.take() else { return };
        match result {
            Ok(()) => {
                self.finish_sync(syncing, supervisor);
                self.make_safe(supervisor);
            }
            Err(error) if self.sync == Sync::Os => self.keep_old(&syncing, &error),
            // What is to be written again comes first.
            Err(error) => self.fail_sync(syncing, &error, supervisor, now),
        }
    }

    /// k1s ends: writes everything, and waits for the disk.
    pub(super) fn finish(&mut self, supervisor: &mut Supervisor, now: Now) {
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = now.mono;
        }
        for _ in 0..MOST_LAST_FRAMES {
            self.append(supervisor, now);
            let is_written = self.batch.is_empty() && !supervisor.has_unsaved();
            if is_written && self.sync == Sync::Always && self.syncing.is_some() {
                // What it could not make safe is written again.
                self.syncer.wait();
                self.handle_synced(supervisor, now);
            } else if is_written || self.trouble.is_some_and(|it| now.mono < it.retry_at) {
                break;
            }
        }
        let is_all = self.batch.is_empty() && !supervisor.has_unsaved();
        let is_safe = self.sync == Sync::Os || self.safe >= self.ledger.end();
        if is_all && is_safe && self.trouble.is_none() {
            self.begin_frame(now);
            self.ledger.write_end(&mut self.frame);
            // If it fails, the next k1s takes more care than it would have to.
            let _ = self.write_frame();
        }
    }

    /// The processes of an earlier k1s are gone: their instances need not be remembered.
    pub(super) fn forget_former(&mut self, instance: &str, now: Now) {
        let boot = open::boot();
        self.ledger.set_instances(&boot, vec![instance.to_owned()]);
        if self.trouble.is_some() {
            return;
        }
        self.begin_frame(now);
        self.ledger.write_session(&mut self.frame);
        // If it fails, the next k1s looks for them in vain.
        let _ = self.write_frame();
    }

    // Writing.

    /// Returns whether it could.
    fn write(&mut self, supervisor: &mut Supervisor, now: Now) -> bool {
        self.begin_frame(now);
        let empty = self.frame.len();
        if self.is_unnamed {
            self.ledger.write_session(&mut self.frame);
        }
        let mut jobs = Vec::new();
        while self.frame.len() < STATE_BYTES_A_DRAIN && jobs.len() < STATE_JOBS_A_DRAIN {
            let Some(job) = self.batch.pop_first() else { break };
            self.write_job(job, supervisor, now);
            jobs.push(job);
        }
        let cleaned = self.clean(supervisor, &mut jobs, now);
        if self.frame.len() > empty
            && let Err(error) = self.write_frame()
        {
            jobs.iter().for_each(|job| self.ledger.doubt(*job));
            self.batch.extend(jobs);
            self.doubt_cleaning();
            self.fail(&error, supervisor, now);
            return false;
        }
        self.is_unnamed = false;
        self.unsafe_jobs.extend(jobs);
        if cleaned {
            self.gone_when_safe = Some(self.ledger.end());
        }
        if self.batch.is_empty() {
            self.written_change = self.batch_change;
        }
        self.ledger.clean_if_due();
        true
    }

    fn write_job(&mut self, job: JobKey, supervisor: &Supervisor, now: Now) {
        let start_time = &mut |pid: Pid| os::stat_of(pid).map(|stat| stat.process.start_time);
        self.ledger.write_job(&mut self.frame, job, supervisor, start_time, now);
    }

    /// Writes again what still counts of segments that are to go. Returns whether that is done.
    fn clean(&mut self, supervisor: &Supervisor, jobs: &mut Vec<JobKey>, now: Now) -> bool {
        if !self.ledger.is_cleaning() || self.gone_when_safe.is_some() {
            return false;
        }
        let mut looks = LOOKED_AT_FOR_STATE;
        while self.frame.len() < STATE_BYTES_A_DRAIN {
            let Some(job) = self.ledger.next_to_clean(&mut looks) else { break };
            self.write_job(job, supervisor, now);
            jobs.push(job);
        }
        let has_cleaned = self.ledger.has_cleaned();
        if has_cleaned {
            self.ledger.finish_cleaning();
            self.ledger.write_session(&mut self.frame);
        }
        has_cleaned
    }

    fn doubt_cleaning(&mut self) {
        self.gone_when_safe = None;
        self.ledger.doubt_cleaning();
    }

    /// Up to where everything is as safe as it will be.
    fn safe(&self) -> Position {
        if self.sync == Sync::Os { self.ledger.end() } else { self.safe }
    }

    fn begin_frame(&mut self, now: Now) {
        let safe = self.safe();
        self.ledger.begin_frame(&mut self.frame, safe, now);
    }

    fn write_frame(&mut self) -> io::Result<()> {
        self.ledger.finish_frame(&mut self.frame);
        self.file.write_all_at(&self.frame, self.ledger.end().offset)?;
        self.ledger.handle_written(self.frame.len());
        if self.frame.capacity() > 2 * STATE_BYTES_A_DRAIN {
            self.frame = Vec::new();
        }
        Ok(())
    }

    /// Begins the next segment when this one is full. While there is no room for another, this one
    /// becomes longer, if it may.
    fn turn_page(&mut self, now: Now) -> io::Result<()> {
        if self.is_spoiled {
            return self.begin_segment(now);
        }
        if self.ledger.is_segment_full() && self.unsafe_files.len() < MOST_UNSAFE {
            let _ = self.begin_segment(now);
        }
        Ok(())
    }

    fn begin_segment(&mut self, now: Now) -> io::Result<()> {
        let number = self.ledger.next_segment();
        let file = self.directory.create(number)?;
        let safe = self.safe();
        self.ledger.first_frame(&mut self.frame, number, safe, now);
        let begun = file.write_all_at(HEAD, 0);
        let begun = begun.and_then(|()| file.write_all_at(&self.frame, HEAD.len() as u64));
        if let Err(error) = begun {
            self.directory.remove(number);
            return Err(error);
        }
        let before = std::mem::replace(&mut self.file, file);
        let is_unsafe = self.sync == Sync::Os || self.safe < self.ledger.end();
        if is_unsafe && !self.is_spoiled {
            self.unsafe_files.push(before);
        }
        self.is_spoiled = false;
        self.ledger.handle_segment(number, self.frame.len());
        self.has_new_name = true;
        Ok(())
    }

    // Safety.

    /// Makes safe what is written, if the disk is not busy with that already.
    fn make_safe(&mut self, supervisor: &mut Supervisor) {
        let until = self.ledger.end();
        if self.sync == Sync::Os || self.safe >= until {
            self.handle_safe(until, self.written_change, supervisor);
        }
        let is_due = match self.sync {
            Sync::Always => self.safe < until,
            // What replaces old segments must be on the disk before they go.
            Sync::Os => self.gone_when_safe.is_some() || !self.unsafe_files.is_empty(),
        };
        if !is_due || self.syncing.is_some() {
            return;
        }
        let files = self.unsafe_files.iter().chain([&self.file]);
        let files: Vec<RawFd> = files.map(AsRawFd::as_raw_fd).collect();
        let has_name = std::mem::take(&mut self.has_new_name);
        self.syncer.begin(&files, has_name.then(|| self.directory.as_raw_fd()));
        let jobs = std::mem::take(&mut self.unsafe_jobs);
        let (change, files) = (self.written_change, self.unsafe_files.len());
        self.syncing = Some(Syncing { until, change, jobs, files, has_name });
    }

    fn finish_sync(&mut self, syncing: Syncing, supervisor: &mut Supervisor) {
        let Syncing { until, change, jobs, files, .. } = syncing;
        self.unsafe_files.drain(..files);
        self.ledger.handle_stored(&jobs);
        self.handle_safe(until, change, supervisor);
        if self.gone_when_safe.is_some_and(|at| at <= until) {
            self.gone_when_safe = None;
            for number in self.ledger.take_gone() {
                self.drop_segment(number);
            }
            self.ledger.clean_if_due();
        }
    }

    fn handle_safe(&mut self, until: Position, change: u64, supervisor: &mut Supervisor) {
        self.safe = self.safe.max(until);
        if self.sync == Sync::Os {
            let jobs = std::mem::take(&mut self.unsafe_jobs);
            self.ledger.handle_stored(&jobs);
        }
        if supervisor.saving(change) != Saving::Safe {
            supervisor.handle_saved(change);
        }
        let written = self.trouble.and_then(|trouble| trouble.written);
        if written.is_some_and(|written| written <= self.safe) {
            self.trouble = None;
            supervisor.handle_saving_again();
            self.notes.push((LogLevel::Info, "the state is stored again".to_owned()));
        }
    }

    fn drop_segment(&mut self, number: u64) {
        if !self.damaged.remove(&number) {
            return self.directory.remove(number);
        }
        let note = match self.directory.put_aside(number) {
            Ok(path) => format!("the damaged part of the state is kept as {path:?}"),
            Err(error) => {
                format!("cannot put the damaged part {number} of the state aside: {error}")
            }
        };
        self.notes.push((LogLevel::Error, note));
    }

    // Errors.

    /// What was not safe yet may be lost: everything since then is written again, elsewhere.
    fn fail_sync(
        &mut self,
        syncing: Syncing,
        error: &io::Error,
        supervisor: &mut Supervisor,
        now: Now,
    ) {
        self.has_new_name |= syncing.has_name;
        for number in self.ledger.cut(self.safe) {
            self.directory.remove(number);
        }
        self.batch.extend(syncing.jobs);
        self.batch.append(&mut self.unsafe_jobs);
        self.batch.iter().for_each(|job| self.ledger.doubt(*job));
        self.doubt_cleaning();
        // Not on this descriptor: another call would report success.
        self.is_spoiled = true;
        let begun = self.begin_segment(now);
        self.unsafe_files.clear();
        if begun.is_ok() && self.trouble.is_none() {
            let text = format!(
                "the disk has failed to keep the state ({error}): writing it again to a new file"
            );
            self.notes.push((LogLevel::Warn, text));
            let (why, written) = (os::syncer::reason(error), None);
            self.trouble =
                Some(Trouble { why, retry_at: now.mono, delay: Duration::ZERO, told: 0, written });
        } else {
            self.fail(error, supervisor, now);
        }
    }

    /// With `sync = "os"` only old segments wait for the disk: they stay.
    fn keep_old(&mut self, syncing: &Syncing, error: &io::Error) {
        self.has_new_name |= syncing.has_name;
        self.unsafe_files.drain(..syncing.files);
        self.gone_when_safe = None;
        self.ledger.stop_cleaning();
        let text = format!("the disk has failed to keep the state ({error}): its old files stay");
        self.notes.push((LogLevel::Warn, text));
    }

    /// Nothing can be stored now: jobs that are new, and were never stored, are withdrawn.
    fn fail(&mut self, error: &io::Error, supervisor: &mut Supervisor, now: Now) {
        let why = os::syncer::reason(error);
        let before = self.trouble.map(|trouble| trouble.delay).filter(|delay| !delay.is_zero());
        let delay = before.map_or(FIRST_RETRY, |delay| (delay * 2).min(LONGEST_RETRY));
        if before.is_none() {
            let text = format!(
                "the state cannot be stored: {error}; no job is created until it can be, and what \
                 happens is kept in memory"
            );
            self.notes.push((LogLevel::Error, text));
        }
        let retry_at = now.mono + delay;
        let mut trouble = Trouble { why, retry_at, delay, told: 0, written: None };
        trouble.refuse(&mut self.batch, supervisor);
        let new = |job: &JobKey| !self.may_be_there(*job);
        let new: Vec<JobKey> = self.batch.iter().copied().filter(new).collect();
        new.into_iter().for_each(|job| supervisor.take_back(job, now));
        self.trouble = Some(trouble);
    }
}

impl Store {
    /// Whether the next k1s may find this job, if this one is killed now.
    fn may_be_there(&self, job: JobKey) -> bool {
        let is_written = |syncing: &Syncing| syncing.jobs.contains(&job);
        self.ledger.is_stored(job)
            || self.unsafe_jobs.contains(&job)
            || self.syncing.as_ref().is_some_and(is_written)
            // Nothing says yet that what was written does not count.
            || self.is_spoiled
    }
}

impl Trouble {
    /// Answers that wait for what has changed meanwhile say that it is not stored.
    fn refuse(&mut self, batch: &mut BTreeSet<JobKey>, supervisor: &mut Supervisor) {
        let (mut more, change) = supervisor.take_unsaved();
        batch.append(&mut more);
        if change > self.told {
            self.told = change;
            supervisor.handle_unsaved(change, self.why);
        }
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// With the one that is written to, they are made safe together.
const MOST_UNSAFE: usize = MOST_FILES - 1;
/// More than it takes to write everything as k1s ends.
const MOST_LAST_FRAMES: usize = 100_000;
