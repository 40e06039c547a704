//! What is written, and where: which entries of a job are to be written, and which segments can go.
//!
//! ```text
//!   segments:  ┌───────┐┌───────┐┌───────┐┌────
//!              │ a b c ││ a d   ││ b e a ││ … ◀── frames are appended here
//!              └───────┘└───────┘└───────┘└────
//!              oldest: what still counts of it is written again, and then it goes
//! ```
//!
//! Only the newest entry of each part of a job counts: its specification, its life, each of its
//! results. Because the oldest segment always goes first, the mark that a job was removed is needed
//! no longer than any entry of that job is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::checksum::xxh64;
use super::codec::Writer;
use super::entry::{self, Kind, Process, Session};
use super::frame::{self, HEAD, Position};
use crate::job::{JobSpec, Pid};
use crate::supervisor::{Job, JobKey, Origin, RunKey, Stage, Supervisor};
use crate::time::Now;

/// What is written of all jobs.
#[derive(Debug)]
pub struct Ledger {
    jobs: BTreeMap<u64, Entry>,
    pub(super) session: Session,
    /// Segments and their sizes in bytes.
    segments: BTreeMap<u64, u64>,
    /// Where the next frame goes.
    end: Position,
    /// The largest number of a segment that was ever used.
    highest: u64,
    /// The bytes of all entries that count.
    live: u64,
    /// Segments before this one are being emptied.
    keep_from: u64,
    /// The next job to look at for that.
    cursor: Option<u64>,
    /// How much may be written beyond what is needed.
    spare: u64,
}

/// What is written of a job.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The specification that was written; `None`: everything is to be written anew.
    pub(super) spec: Option<(Rc<JobSpec>, Origin)>,
    pub(super) job: Place,
    pub(super) life: Place,
    /// The hash of its life.
    pub(super) hash: u64,
    /// How many of its results are not kept any more.
    pub(super) forgotten: u64,
    /// Those that are kept, in order.
    pub(super) results: VecDeque<Place>,
    /// The processes of its runs.
    pub(super) processes: Vec<Process>,
    /// Something of it is safe.
    pub(super) is_stored: bool,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) length: u32,
}

impl Default for Ledger {
    /// Nothing is written, and there is no segment.
    fn default() -> Ledger {
        let (session, end) = (Session::default(), Position::default());
        Ledger::of(BTreeMap::new(), session, BTreeMap::new(), end)
    }
}

impl Ledger {
    /// What was written in these segments, of which the last ends at `end`. If anything in them is
    /// damaged, everything is written anew, and they go.
    pub(super) fn of(
        jobs: BTreeMap<u64, Entry>,
        session: Session,
        segments: BTreeMap<u64, u64>,
        end: Position,
    ) -> Ledger {
        let live = jobs.values().map(Entry::length).sum();
        let (keep_from, highest, spare) = (session.first, end.segment, SPARE_BYTES);
        Ledger { jobs, session, segments, end, highest, live, keep_from, cursor: None, spare }
    }

    /// With small segments, so that a short simulation has many.
    #[cfg(feature = "properties")]
    pub fn with_small_segments(self) -> Ledger {
        Ledger { spare: 8 << 10, ..self }
    }

    /// Where the next frame goes.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The oldest segment that counts; older ones can go when this is safe.
    pub fn first(&self) -> u64 {
        self.session.first
    }

    /// Whether anything of this segment counts.
    pub fn has_segment(&self, number: u64) -> bool {
        self.segments.contains_key(&number)
    }

    /// The segments of which something counts.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.segments.keys().copied()
    }

    /// The size of all segments.
    fn size(&self) -> u64 {
        self.segments.values().sum()
    }

    /// Begins a frame at the end. `safe` is up to where everything is safe.
    pub fn begin_frame(&self, frame: &mut Vec<u8>, safe: Position, now: Now) {
        frame::begin(frame, safe, now);
    }

    /// Completes a frame.
    pub fn finish_frame(&self, frame: &mut [u8]) {
        frame::finish(frame, self.end);
    }

    /// A frame of so many bytes was written at the end.
    pub fn handle_written(&mut self, bytes: usize) {
        self.end.offset += bytes as u64;
        self.segments.insert(self.end.segment, self.end.offset);
    }

    /// The number of a segment that was never used.
    pub fn next_segment(&mut self) -> u64 {
        self.highest = self.highest.saturating_add(1);
        self.highest
    }

    /// The first frame of this segment, which follows [`HEAD`]. It says where the segment goes on,
    /// so that what is missing before that is seen, and what is there beyond does not count.
    pub fn first_frame(&self, frame: &mut Vec<u8>, number: u64, safe: Position, now: Now) {
        frame::begin(frame, safe, now);
        let session = Session { after: Some(self.end), ..self.session.clone() };
        entry::write(frame, Kind::Session, 0, |out| entry::write_session(out, &session));
        frame::finish(frame, Position { segment: number, offset: HEAD.len() as u64 });
    }

    /// This segment was begun, with [`HEAD`] and a first frame of so many bytes.
    pub fn handle_segment(&mut self, number: u64, bytes: usize) {
        self.session.after = Some(self.end);
        self.end = Position { segment: number, offset: HEAD.len() as u64 };
        self.handle_written(bytes);
    }

    /// Whether it is time for another segment.
    pub fn is_segment_full(&self) -> bool {
        let most = (self.live / SEGMENTS).clamp(self.spare / 4, LARGEST_SEGMENT);
        self.end.offset >= most
    }

    /// Nothing counts from this place on: it could not be made safe, and is written again in a new
    /// segment, which must be begun next. Returns the segments of which nothing counts.
    pub fn cut(&mut self, at: Position) -> Vec<u64> {
        self.end = at;
        self.segments.split_off(&(at.segment + 1)).into_keys().collect()
    }

    /// What was written of these jobs is safe.
    pub fn handle_stored(&mut self, jobs: &BTreeSet<JobKey>) {
        for job in jobs {
            if let Some(entry) = self.jobs.get_mut(&job.number()) {
                entry.is_stored = true;
            }
        }
    }

    /// Whether the job was ever stored safely.
    pub fn is_stored(&self, job: JobKey) -> bool {
        self.jobs.get(&job.number()).is_some_and(|entry| entry.is_stored)
    }

    /// Segments that are not needed any more, once the end is safe, are forgotten.
    pub fn take_gone(&mut self) -> Vec<u64> {
        let first = self.session.first;
        let rest = self.segments.split_off(&first);
        std::mem::replace(&mut self.segments, rest).into_keys().collect()
    }

    /// The instances of k1s whose processes may be there.
    pub fn set_instances(&mut self, boot: &str, instances: Vec<String>) {
        boot.clone_into(&mut self.session.boot);
        self.session.instances = instances;
    }

    /// Appends what concerns no single job.
    pub fn write_session(&mut self, frame: &mut Vec<u8>) {
        let session = &self.session;
        entry::write(frame, Kind::Session, 0, |out| entry::write_session(out, session));
    }

    /// Appends that k1s ends, and has stored everything.
    pub fn write_end(&self, frame: &mut Vec<u8>) {
        let session = Session { is_complete: true, ..self.session.clone() };
        entry::write(frame, Kind::Session, 0, |out| entry::write_session(out, &session));
    }

    /// Appends that a run is about to be spawned.
    pub fn write_launch(&mut self, frame: &mut Vec<u8>, run: RunKey) {
        let key = run.job.number();
        entry::write(frame, Kind::Launched, key, |out| out.number(run.number));
    }

    /// Everything of a job is to be written anew, because it is not known what is there.
    pub fn doubt(&mut self, key: JobKey) {
        let entry = self.jobs.entry(key.number()).or_default();
        self.live = self.live.saturating_sub(entry.length());
        let processes = std::mem::take(&mut entry.processes);
        *entry = Entry { processes, is_stored: entry.is_stored, ..Entry::default() };
    }

    /// Appends what has changed of a job, and what is in segments that are being emptied.
    /// `start_time` says when a process was started.
    pub fn write_job(
        &mut self,
        frame: &mut Vec<u8>,
        key: JobKey,
        supervisor: &Supervisor,
        start_time: &mut dyn FnMut(Pid) -> Option<u64>,
        now: Now,
    ) {
        let number = key.number();
        self.session.last_key = self.session.last_key.max(number);
        let Some(job) = supervisor.job_to_store(key) else {
            if let Some(entry) = self.jobs.remove(&number) {
                self.live = self.live.saturating_sub(entry.length());
                entry::write(frame, Kind::Removed, number, |_| ());
            }
            return;
        };
        let entry = self.jobs.entry(number).or_default();
        let before = entry.length();
        let places = Places { segment: self.end.segment, keep_from: self.keep_from };
        entry.write(frame, job, places, start_time, now);
        self.live = self.live.saturating_sub(before) + entry.length();
    }

    // Segments that go.

    /// Whether old segments are being emptied.
    pub fn is_cleaning(&self) -> bool {
        self.keep_from > self.session.first
    }

    /// Begins to empty the oldest segment, if more is written than need be.
    pub fn clean_if_due(&mut self) {
        let most = self.live + self.live / 2 + self.spare;
        let Some(oldest) = self.segments.keys().next().copied() else { return };
        if !self.is_cleaning() && self.size() > most && oldest < self.end.segment {
            self.keep_from = oldest + 1;
            self.cursor = Some(0);
        }
    }

    /// Begins to empty all segments but the last.
    pub fn clean_all(&mut self) {
        self.keep_from = self.end.segment;
        self.cursor = self.is_cleaning().then_some(0);
    }

    /// The next job with something in a segment that is being emptied, of so many that are looked
    /// at; `None` while there is none among them. When all were looked at, the segments are empty.
    pub fn next_to_clean(&mut self, looks: &mut usize) -> Option<JobKey> {
        let cursor = self.cursor?;
        let mut last = None;
        for (key, entry) in self.jobs.range(cursor..) {
            if *looks == 0 {
                break;
            }
            *looks = looks.saturating_sub(1 + entry.results.len() / LOOKS_AT_ONCE);
            last = Some(*key);
            if entry.is_in_segment_before(self.keep_from) {
                self.cursor = Some(key + 1);
                return Some(JobKey::from_number(*key));
            }
        }
        match last {
            Some(last) => self.cursor = Some(last + 1),
            None if *looks > 0 => self.cursor = None,
            None => {}
        }
        None
    }

    /// Whether all jobs were looked at: the segments are empty, and can go once that is written.
    pub fn has_cleaned(&self) -> bool {
        self.is_cleaning() && self.cursor.is_none()
    }

    /// The segments that were being emptied do not count any more.
    pub fn finish_cleaning(&mut self) {
        self.session.first = self.keep_from;
    }

    /// What was written again may be lost: the segments that were being emptied count, until all of
    /// that is done once more.
    pub fn doubt_cleaning(&mut self) {
        let oldest = self.segments.keys().next().copied();
        self.session.first = oldest.unwrap_or(self.session.first);
        self.cursor = self.is_cleaning().then_some(0);
    }

    /// The same, and the segments stay until it is time again.
    pub fn stop_cleaning(&mut self) {
        self.doubt_cleaning();
        (self.keep_from, self.cursor) = (self.session.first, None);
    }
}

/// Where entries go, and which of them are in segments that are being emptied.
#[derive(Clone, Copy)]
struct Places {
    segment: u64,
    keep_from: u64,
}

impl Entry {
    fn length(&self) -> u64 {
        let results: u64 = self.results.iter().map(|place| u64::from(place.length)).sum();
        u64::from(self.job.length) + u64::from(self.life.length) + results
    }

    fn is_in_segment_before(&self, keep_from: u64) -> bool {
        let is_old = |place: &Place| place.length > 0 && place.segment < keep_from;
        self.spec.is_none()
            || is_old(&self.job)
            || is_old(&self.life)
            || self.results.iter().any(is_old)
    }

    fn write(
        &mut self,
        frame: &mut Vec<u8>,
        job: &Job,
        at: Places,
        start_time: &mut dyn FnMut(Pid) -> Option<u64>,
        now: Now,
    ) {
        let key = job.key().number();
        let is_old = |place: Place| place.segment < at.keep_from;
        let place = |length| Place { segment: at.segment, length };
        let (spec, origin) = (job.shared_spec(), job.origin());
        let is_same =
            |(written, of): &(Rc<JobSpec>, Origin)| Rc::ptr_eq(written, &spec) && *of == origin;
        let is_new = self.spec.is_none();
        if !self.spec.as_ref().is_some_and(is_same) || is_old(self.job) {
            let length = entry::write(frame, Kind::Job, key, |out| entry::write_job(out, job));
            self.job = place(length);
            self.spec = Some((spec, origin));
        }
        let life = job.life(now);
        if life.stage == Stage::Leaves {
            self.results.clear();
        } else {
            self.write_results(frame, job, life.forgotten, at);
        }
        self.processes.retain(|(pid, _)| life.leaders.contains(pid));
        let mut known = |pid: Pid| {
            if let Some((_, time)) = self.processes.iter().find(|(known, _)| *known == pid) {
                return *time;
            }
            let time = start_time(pid);
            self.processes.push((pid, time));
            time
        };
        let begin = frame.len();
        let length = entry::write(frame, Kind::Life, key, |out| {
            entry::write_life(out, &life, &mut known);
        });
        let hash = xxh64(frame.get(begin..).unwrap_or_default(), 0);
        if hash == self.hash && !is_new && !is_old(self.life) {
            frame.truncate(begin);
        } else {
            (self.life, self.hash) = (place(length), hash);
        }
    }

    fn write_results(&mut self, frame: &mut Vec<u8>, job: &Job, forgotten: u64, at: Places) {
        let key = job.key().number();
        let gone = usize::try_from(forgotten.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        self.results.drain(..gone.min(self.results.len()));
        self.forgotten = forgotten;
        let known = self.results.len();
        let is_old = |place: &Place| place.segment < at.keep_from;
        let first = if self.results.iter().any(is_old) { 0 } else { known };
        for (index, record) in job.results_from(first).enumerate() {
            let index = first + index;
            if self.results.get(index).is_some_and(|place| !is_old(place)) {
                continue;
            }
            let length = entry::write(frame, Kind::Result, key, |out: &mut Writer<'_>| {
                entry::write_result(out, forgotten + index as u64, record);
            });
            let place = Place { segment: at.segment, length };
            match self.results.get_mut(index) {
                Some(known) => *known = place,
                None => self.results.push_back(place),
            }
        }
    }
}

/// A segment is so large a part of what counts, but at least a quarter of what is spare, and at
/// most this: its entries are written again before it goes, and until then it takes space.
const SEGMENTS: u64 = 8;
const LARGEST_SEGMENT: u64 = 8 << 20;
/// So much may be written beyond one and a half times of what counts; together with a segment that
/// is being filled that is less than twice of that and 1 MiB.
const SPARE_BYTES: u64 = 512 << 10;
/// Looking at so many results takes as long as looking at a job.
const LOOKS_AT_ONCE: usize = 32;
