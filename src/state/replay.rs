//! Reads segments: the jobs that they remember, and what is wrong with them.
//!
//! ```text
//!   segments, in order ─▶ frames ─▶ entries ─▶ jobs ─▶ Heritage, processes, Ledger
//!                          │ no frame, or less than what the next segment goes on after
//!                          ├─ nothing later says that it was safe: a torn end, which is cut
//!                          └─ otherwise: damage; what can be read is kept
//! ```
//!
//! Each segment says where it goes on. What is there beyond that does not count, because it could
//! not be made safe; what is missing before that is seen, because a loss of power may take the end
//! of a segment, or its name, and leave the next.

use std::collections::{BTreeMap, VecDeque};

use super::codec::Reader;
use super::entry::{self, Kind, Process, Registered, Session};
use super::frame::{self, Frame, HEAD, Part, Position, VERSION};
use super::ledger::{Entry, Ledger, Place};
use crate::gather::gather;
use crate::job::{JobId, RunRecord};
use crate::supervisor::{Finished, Heritage, JobKey, Life, Remembered, Stage, later};
use crate::time::Now;

/// What was read.
#[derive(Debug)]
pub struct Replay {
    /// The jobs, as they were.
    pub jobs: Vec<Remembered>,
    /// What concerns no single job.
    pub session: Session,
    /// When the last frame was written.
    pub written: Option<Now>,
    /// The processes of each job, which may be there still.
    pub processes: BTreeMap<JobKey, Vec<Process>>,
    /// Where the torn end begins that is to be cut.
    pub torn: Option<Position>,
    /// What is damaged: each place, and what is wrong there.
    pub damages: Vec<(Position, String)>,
    /// What is written where, to go on with.
    pub ledger: Ledger,
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The format of a newer k1s.
    Newer(u32),
    /// The system's reason, for people.
    Failed(String),
}

/// What a job was when a frame was read.
#[derive(Debug, Default)]
struct Found {
    registered: Option<Registered>,
    life: Option<(Life, Vec<Process>)>,
    hash: u64,
    job: Place,
    life_at: Place,
    results: VecDeque<Finished>,
    /// Of each result, how many came before it, and where it is written.
    places: VecDeque<(u64, Place)>,
    launched: Vec<u64>,
}

#[derive(Debug, Default)]
struct Reading {
    jobs: BTreeMap<u64, Found>,
    session: Session,
    /// When this frame was written, and the one before.
    written: Option<Now>,
    before: Option<Now>,
    /// The last place that was said to be safe.
    safe: Position,
    gaps: Vec<(Position, u64)>,
    damages: Vec<(Position, String)>,
    sizes: BTreeMap<u64, u64>,
    /// Where segments go on.
    after: BTreeMap<u64, Position>,
}

/// Segments that count, and how much of each.
type Extent = BTreeMap<u64, u64>;

/// Reads a segment into memory that may have been used before.
type Read<'a> = dyn FnMut(u64, &mut Vec<u8>) -> Result<(), String> + 'a;

/// Replays the segments with these numbers, in order; `read` reads one, into memory that may have
/// been used for another.
///
/// # Errors
/// A segment cannot be read, or has the format of a newer k1s.
pub fn replay(
    numbers: &[u64],
    mut read: impl FnMut(u64, &mut Vec<u8>) -> Result<(), String>,
) -> Result<Replay, Unreadable> {
    let mut reading = Reading::take(numbers, None, &mut read)?;
    let torn = reading.torn();
    if torn.is_some() {
        // What follows a torn end was not safe either, and may contradict what is missing.
        drop(reading);
        reading = Reading::take(numbers, torn, &mut read)?;
    }
    Ok(reading.finish(torn))
}

impl Reading {
    /// Reads what counts before `end`.
    fn take(
        numbers: &[u64],
        end: Option<Position>,
        read: &mut Read<'_>,
    ) -> Result<Reading, Unreadable> {
        let is_before = |number: &&u64| end.is_none_or(|end| **number <= end.segment);
        let length = |number| match end {
            Some(end) if end.segment == number => end.offset,
            _ => u64::MAX,
        };
        let numbers = numbers.iter().filter(is_before);
        let all: Extent = gather(numbers.map(|number| (*number, length(*number))));
        let mut reading = Reading::extent(&all, read)?;
        let (counted, gaps) = reading.counted(&all);
        if counted != all {
            // Both would not fit into the memory that one may need.
            drop(reading);
            reading = Reading::extent(&counted, read)?;
        }
        reading.gaps.extend(gaps);
        Ok(reading)
    }

    fn extent(extent: &Extent, read: &mut Read<'_>) -> Result<Reading, Unreadable> {
        let (mut reading, mut bytes) = (Reading::default(), Vec::new());
        for (number, length) in extent {
            read(*number, &mut bytes).map_err(Unreadable::Failed)?;
            bytes.truncate(usize::try_from(*length).unwrap_or(usize::MAX));
            reading.segment(*number, &bytes)?;
        }
        Ok(reading)
    }

    /// What of these segments counts: from the last one back, as each says where it goes on. And
    /// what is missing.
    fn counted(&self, all: &Extent) -> (Extent, Vec<(Position, u64)>) {
        let (mut counted, mut gaps) = (Extent::new(), Vec::new());
        let mut next = all.iter().next_back().map(|(number, length)| (*number, *length));
        while let Some((number, length)) = next {
            counted.insert(number, length);
            let after = self.after.get(&number).filter(|after| after.segment < number);
            let before = after.map_or(number, |after| after.segment + 1);
            let before = all.range(self.session.first..before.max(self.session.first)).next_back();
            next = before.map(|(number, length)| (*number, *length));
            let Some(after) = after.filter(|after| after.segment >= self.session.first) else {
                continue;
            };
            let is_there = next.is_some_and(|(before, _)| before == after.segment);
            let size = self.sizes.get(&after.segment).copied().filter(|_| is_there).unwrap_or(0);
            if size < after.offset {
                gaps.push((Position { offset: size, ..*after }, after.offset));
            }
            next = next.map(|(number, length)| match number == after.segment {
                true => (number, if size > after.offset { after.offset } else { length }),
                false => (number, length),
            });
        }
        (counted, gaps)
    }

    fn segment(&mut self, number: u64, bytes: &[u8]) -> Result<(), Unreadable> {
        self.sizes.insert(number, bytes.len() as u64);
        if bytes.is_empty() {
            return Ok(());
        }
        match frame::check_head(bytes) {
            Ok(()) => {}
            Err(Some(version)) if version > VERSION => return Err(Unreadable::Newer(version)),
            Err(_) => {
                let at = Position { segment: number, offset: 0 };
                self.gaps.push((at, bytes.len().min(HEAD.len()) as u64));
            }
        }
        let mut offset = HEAD.len() as u64;
        for part in frame::parts(bytes, number) {
            match part {
                Part::Frame(frame) => self.frame(frame, Position { segment: number, offset }),
                Part::Gap(begin, end) => {
                    self.gaps.push((Position { segment: number, offset: begin }, end));
                    offset = end;
                    continue;
                }
            }
            offset += frame::length_at(bytes, offset);
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame<'_>, at: Position) {
        self.safe = self.safe.max(frame.safe);
        self.before = self.written.replace(frame.at);
        self.session.is_complete = false;
        self.entries(frame, at);
    }

    fn entries(&mut self, frame: Frame<'_>, at: Position) {
        let mut entries = frame.entries;
        while !entries.is_empty() {
            let Some((kind, key, mut body, length)) = entry::next(&mut entries) else {
                return self.damages.push((at, "an entry of an unknown kind".to_owned()));
            };
            let bytes = body.0;
            let place = Place { segment: at.segment, length };
            if self.entry(kind, key, &mut body, bytes, place).is_none() {
                let what = format!("an entry of job {key} cannot be read ({kind:?})");
                self.damages.push((at, what));
            }
        }
    }

    fn entry(
        &mut self,
        kind: Kind,
        key: u64,
        body: &mut Reader<'_>,
        bytes: &[u8],
        place: Place,
    ) -> Option<()> {
        let found = match kind {
            Kind::Session => {
                let before = std::mem::replace(&mut self.session, entry::read_session(body)?);
                // From here on, elapsed time is that of another boot.
                if let (Some(earlier), Some(later)) = (self.before, self.written)
                    && !is_same_boot(&before.boot, &self.session.boot)
                {
                    let by = shift(earlier, later);
                    self.jobs.values_mut().for_each(|job| job.shift(by));
                }
                let after = self.session.after.map(|after| (place.segment, after));
                self.after.extend(after);
                return Some(());
            }
            Kind::Removed => {
                self.jobs.remove(&key);
                self.session.last_key = self.session.last_key.max(key);
                return Some(());
            }
            Kind::Job | Kind::Life | Kind::Result | Kind::Launched => {
                self.jobs.entry(key).or_default()
            }
        };
        match kind {
            Kind::Job => {
                (found.registered, found.job) = (Some(entry::read_job(body)?), place);
            }
            Kind::Life => {
                let life = entry::read_life(body)?;
                found.forget(life.0.forgotten);
                (found.life, found.life_at) = (Some(life), place);
                found.hash = entry::hash_of(Kind::Life, key, bytes);
                found.launched.clear();
            }
            Kind::Result => {
                let (ordinal, record) = entry::read_result(body)?;
                found.add(ordinal, record, place);
            }
            Kind::Launched => found.launched.push(body.number()?),
            Kind::Session | Kind::Removed => {}
        }
        Some(())
    }

    /// The first place that is no frame and of which nothing says that it was safe.
    fn torn(&self) -> Option<Position> {
        self.gaps.iter().map(|(at, _)| *at).filter(|at| *at >= self.safe).min()
    }

    fn finish(self, torn: Option<Position>) -> Replay {
        let Reading { jobs, mut session, written, gaps, mut damages, mut sizes, after, .. } = self;
        // At the end, a segment without a frame is none.
        while sizes.last_entry().is_some_and(|last| *last.get() <= HEAD.len() as u64) {
            sizes.pop_last();
        }
        for (at, end) in gaps {
            let what = format!("{} bytes cannot be read", end.saturating_sub(at.offset));
            damages.push((at, what));
        }
        damages.sort();
        let (mut remembered, mut processes, mut entries) =
            (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut ids: BTreeMap<JobId, usize> = BTreeMap::new();
        for (key, found) in jobs {
            session.last_key = session.last_key.max(key);
            let (entry, job) = found.finish(key);
            entries.insert(key, entry);
            let Some((job, of_job)) = job else {
                let at = Position { segment: session.first, offset: 0 };
                damages.push((at, format!("the beginning of job {key} is missing")));
                continue;
            };
            if !of_job.is_empty() {
                processes.insert(job.key, of_job);
            }
            // Only after damage there is an older one, whose removal was lost.
            if job.life.stage != Stage::Leaves
                && let Some(older) = ids.insert(job.id.clone(), remembered.len())
                && let Some(Remembered { life, .. }) = remembered.get_mut(older)
            {
                life.stage = Stage::Leaves;
            }
            remembered.push(job);
        }
        let last = sizes.iter().next_back().map(|(segment, offset)| (*segment, *offset));
        let (segment, offset) = last.unwrap_or((0, 0));
        session.after = after.get(&segment).copied();
        session.first = sizes.keys().next().copied().unwrap_or(1);
        let going_on = Session { is_complete: false, ..session.clone() };
        let ledger = Ledger::of(entries, going_on, sizes, Position { segment, offset });
        Replay { jobs: remembered, session, written, processes, torn, damages, ledger }
    }
}

impl Found {
    fn shift(&mut self, by: i64) {
        if let Some(registered) = &mut self.registered {
            registered.created.mono = later(registered.created.mono, by);
            if let Some((life, _)) = &mut self.life {
                life.shift(&registered.spec, by);
            }
        }
    }

    fn forget(&mut self, forgotten: u64) {
        while self.places.front().is_some_and(|(ordinal, _)| *ordinal < forgotten) {
            self.places.pop_front();
            self.results.pop_front();
        }
    }

    fn add(&mut self, ordinal: u64, record: RunRecord, place: Place) {
        let index = self.places.partition_point(|(known, _)| *known < ordinal);
        match (self.places.get_mut(index), self.results.get_mut(index)) {
            (Some(known), Some(result)) if known.0 == ordinal => {
                (known.1, *result) = (place, record.into());
            }
            _ => {
                self.places.insert(index, (ordinal, place));
                self.results.insert(index, record.into());
            }
        }
    }

    fn finish(mut self, key: u64) -> (Entry, Option<(Remembered, Vec<Process>)>) {
        let mut entry =
            Entry { job: self.job, life: self.life_at, is_stored: true, ..Entry::default() };
        let (Some(registered), Some((mut life, processes))) = (self.registered, self.life) else {
            return (entry, None);
        };
        for run in &mut life.runs {
            run.is_launched |= self.launched.contains(&run.number);
        }
        life.last_run = self.launched.iter().copied().fold(life.last_run, u64::max);
        let kept = life.finished.saturating_sub(life.forgotten);
        let is_whole = self.places.len() as u64 == kept
            && self.places.back().is_none_or(|(last, _)| last + 1 == life.finished);
        if let (Some((last, _)), Some(result)) = (self.places.back(), self.results.back()) {
            life.finished = life.finished.max(last + 1);
            life.last_run = life.last_run.max(result.record.number);
        }
        self.results.shrink_to_fit();
        entry.results.reserve_exact(self.places.len());
        entry.results.extend(self.places.iter().map(|(_, place)| *place));
        let Registered { id, origin, created, spec } = registered;
        if is_whole {
            entry.spec = Some((spec.clone(), origin));
            entry.hash = self.hash;
            entry.forgotten = life.forgotten;
        }
        let key = JobKey::from_number(key);
        let job = Remembered { key, id, origin, created, spec, life, results: self.results };
        (entry, Some((job, processes)))
    }
}

impl Replay {
    /// What a k1s goes on with that starts now, in this boot; `left` says of which jobs processes
    /// are left. In another boot numbers of runs are left out, unless k1s had ended in order: with the
    /// power, the last runs may have been lost.
    pub fn into_heritage(
        self,
        boot: &str,
        now: Now,
        left: impl Fn(&Remembered) -> bool,
    ) -> (Heritage, Ledger) {
        let is_other = !is_same_boot(&self.session.boot, boot);
        let by = self.written.filter(|_| is_other).map_or(0, |written| shift(written, now));
        let mut heritage = Heritage { last_key: self.session.last_key, ..Heritage::default() };
        let left_out = if is_other && !self.session.is_complete { RUNS_LEFT_OUT } else { 0 };
        heritage.jobs = self.jobs;
        for job in &mut heritage.jobs {
            if left(job) {
                heritage.left.insert(job.id.clone());
            }
            job.shift(by);
            job.life.last_run = job.life.last_run.saturating_add(left_out);
        }
        (heritage, self.ledger)
    }
}

/// Whether elapsed time goes on from one k1s to the next: the boot is the same, whatever the pid
/// namespace.
fn is_same_boot(before: &str, after: &str) -> bool {
    before.is_empty() || before.split(' ').next() == after.split(' ').next()
}

/// What is to be added to elapsed time that was read in the boot before: as much as the calendar
/// says has passed.
fn shift(before: Now, after: Now) -> i64 {
    let distance = |at: Now| at.mono.0.cast_signed().saturating_sub(at.wall.0);
    distance(after).saturating_sub(distance(before))
}

/// More than can be started while one fdatasync(2) takes, until which a loss of power forgets them.
const RUNS_LEFT_OUT: u64 = 10_000;
