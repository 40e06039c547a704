//! One thing that is remembered, as bytes.
//!
//! ```text
//!   entry: kind, key of the job, length, body
//! ```
//!
//! A kind or a field is never changed, only added: a body may end early, where an older k1s ended
//! it, and a newer format has a newer version (`frame.rs`).

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use super::checksum::xxh64;
use super::codec::{Reader, Writer};
use super::frame::Position;
use crate::job::{
    self, Captured, Defaults, Ending, ExitStatus, JobId, JobSpec, KeptParts, LogPlace, Pid, Reason,
    RunEnd, RunRecord, Signal, SpawnFailure, Spelling, Trigger,
};
use crate::supervisor::{Call, Job, JobKey, Life, LiveRun, Origin, Outcome, Skipped, Stage};
use crate::time::{Mono, Now, Wall};

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A specification, and what does not change with it.
    Job = 1,
    /// What has become of a job.
    Life = 2,
    /// A finished run.
    Result = 3,
    /// The job is gone.
    Removed = 4,
    /// A run is about to be spawned.
    Launched = 5,
    /// What concerns no single job.
    Session = 6,
}

/// A specification, and what does not change with it.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) id: JobId,
    pub(super) origin: Origin,
    pub(super) created: Now,
    pub(super) spec: Rc<JobSpec>,
}

/// What is remembered, and concerns no single job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The boot of the machine and the pid namespace in which k1s runs: only there, pids and elapsed
    /// time mean the same.
    pub boot: String,
    /// The instances of k1s in this boot whose processes may still be there.
    pub instances: Vec<String>,
    /// The largest key of a job that was ever used.
    pub last_key: u64,
    /// The oldest segment that counts.
    pub first: u64,
    /// Where the segment goes on that says this: what is between does not count.
    pub after: Option<Position>,
    /// k1s has ended after this, and has stored everything before: no run is missing.
    pub is_complete: bool,
}

/// A process, which may be gone: its pid, and its start time if that is known.
pub type Process = (Pid, Option<u64>);

impl Kind {
    pub(super) fn of(code: u8) -> Option<Kind> {
        let all =
            [Kind::Job, Kind::Life, Kind::Result, Kind::Removed, Kind::Launched, Kind::Session];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Appends an entry; returns its length.
pub(super) fn write(
    out: &mut Vec<u8>,
    kind: Kind,
    key: u64,
    body: impl FnOnce(&mut Writer<'_>),
) -> u32 {
    let begin = out.len();
    let mut writer = Writer(out);
    writer.byte(kind as u8);
    writer.number(key);
    let place = writer.0.len();
    writer.0.extend_from_slice(&[0; LENGTH_BYTES]);
    body(&mut writer);
    let length = out.len() - place - LENGTH_BYTES;
    if let Some(place) = out.get_mut(place..place + LENGTH_BYTES) {
        place.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }
    u32::try_from(out.len() - begin).unwrap_or(u32::MAX)
}

/// The next entry: its kind, its key, its body and its whole length. `None`: it is none of ours.
pub(super) fn next<'a>(entries: &mut Reader<'a>) -> Option<(Kind, u64, Reader<'a>, u32)> {
    let before = entries.0.len();
    let (kind, key) = (Kind::of(entries.byte()?)?, entries.number()?);
    let length = u32::from_le_bytes(entries.take(LENGTH_BYTES)?.try_into().ok()?);
    let body = entries.take(usize::try_from(length).ok()?)?;
    let length = u32::try_from(before - entries.0.len()).unwrap_or(u32::MAX);
    Some((kind, key, Reader(body), length))
}

/// The hash of an entry with this body.
pub(super) fn hash_of(kind: Kind, key: u64, body: &[u8]) -> u64 {
    let mut entry = Vec::with_capacity(body.len() + 16);
    write(&mut entry, kind, key, |out| out.0.extend_from_slice(body));
    xxh64(&entry, 0)
}

const LENGTH_BYTES: usize = 4;

pub(super) fn write_job(out: &mut Writer<'_>, job: &Job) {
    out.text(job.id().as_str());
    out.flag(job.origin() == Origin::Config);
    out.now(job.created());
    out.table(job::write_given(job.spec()).into_iter());
}

pub(super) fn read_job(body: &mut Reader<'_>) -> Option<Registered> {
    let id = JobId::parse(body.text()?).ok()?;
    let origin = if body.flag()? { Origin::Config } else { Origin::Api };
    let created = body.now()?;
    let spec = job::parse_with(body.value()?, Defaults::STORED, Spelling::Camel).ok()?;
    Some(Registered { id, origin, created, spec: Rc::new(spec) })
}

/// `start_time` says when a process was started.
pub(super) fn write_life(
    out: &mut Writer<'_>,
    life: &Life,
    start_time: &mut dyn FnMut(Pid) -> Option<u64>,
) {
    let (restarts, failures, has_reported) = life.streak;
    let Skipped { forbidden, queue_full, missed, blocked } = life.skipped;
    for number in [
        life.last_run,
        life.finished,
        life.forgotten,
        restarts.into(),
        failures.into(),
        life.restarts,
        forbidden,
        queue_full,
        missed,
        blocked,
        life.log_end.number(),
    ] {
        out.number(number);
    }
    out.flag(has_reported);
    out.flag(life.kill_requested);
    out.option(life.last_started, |out, Wall(at)| out.signed(at));
    out.option(life.last.as_ref(), Writer::ending);
    out.option(life.kept, Writer::signed);
    out.stage(life.stage);
    out.option(life.calls.0.as_deref(), Writer::call);
    out.option(life.calls.1.as_deref(), Writer::call);
    out.number(life.runs.len() as u64);
    for run in &life.runs {
        out.number(run.number);
        out.trigger(run.trigger);
        out.now(run.started);
        out.flag(run.is_launched);
    }
    out.number(life.leaders.len() as u64);
    for leader in &life.leaders {
        out.number(u64::from(leader.0.cast_unsigned()));
        out.option(start_time(*leader), Writer::number);
    }
}

pub(super) fn read_life(body: &mut Reader<'_>) -> Option<(Life, Vec<Process>)> {
    let mut numbers = [0; 11];
    for number in &mut numbers {
        *number = body.number()?;
    }
    let [last_run, finished, forgotten, in_a_row, failures, restarts, rest @ ..] = numbers;
    let [forbidden, queue_full, missed, blocked, log_end] = rest;
    let has_reported = body.flag()?;
    let streak = (u32::try_from(in_a_row).ok()?, u32::try_from(failures).ok()?, has_reported);
    let kill_requested = body.flag()?;
    let last_started = body.option(|body| body.signed().map(Wall))?;
    let last = body.option(Reader::ending)?;
    let kept = body.option(Reader::signed)?;
    let stage = body.stage()?;
    let calls = (body.option(Reader::call)?, body.option(Reader::call)?);
    let runs = body.many(Reader::run)?;
    let processes = body.many(Reader::process)?;
    let life = Life {
        last_run,
        finished,
        forgotten,
        last_started,
        last,
        streak,
        restarts,
        kill_requested,
        skipped: Skipped { forbidden, queue_full, missed, blocked },
        log_end: LogPlace::from_number(log_end),
        kept,
        stage,
        calls,
        runs,
        leaders: processes.iter().map(|(pid, _)| *pid).collect(),
    };
    Some((life, processes))
}

pub(super) fn write_result(out: &mut Writer<'_>, ordinal: u64, record: &RunRecord) {
    out.number(ordinal);
    out.number(record.number);
    out.trigger(record.trigger);
    out.end(&record.end);
    out.reason(record.reason);
    out.flag(record.success);
    out.signed(record.started_at.0);
    out.signed(record.finished_at.0);
    out.duration(record.duration);
    out.number(record.log_begin.number());
    out.number(record.log_end.number());
    out.number(record.beside as u64);
    out.captured(&record.stdout);
    out.captured(&record.stderr);
}

pub(super) fn read_result(body: &mut Reader<'_>) -> Option<(u64, RunRecord)> {
    let ordinal = body.number()?;
    let record = RunRecord {
        number: body.number()?,
        trigger: body.trigger()?,
        end: body.end()?,
        reason: body.reason()?,
        success: body.flag()?,
        started_at: Wall(body.signed()?),
        finished_at: Wall(body.signed()?),
        duration: body.duration()?,
        log_begin: LogPlace::from_number(body.number()?),
        log_end: LogPlace::from_number(body.number()?),
        beside: usize::try_from(body.number()?).ok()?,
        stdout: body.captured()?,
        stderr: body.captured()?,
    };
    Some((ordinal, record))
}

pub(super) fn write_session(out: &mut Writer<'_>, session: &Session) {
    out.text(&session.boot);
    out.number(session.instances.len() as u64);
    session.instances.iter().for_each(|instance| out.text(instance));
    out.number(session.last_key);
    out.number(session.first);
    out.option(session.after, |out, after| {
        out.number(after.segment);
        out.number(after.offset);
    });
    out.flag(session.is_complete);
}

pub(super) fn read_session(body: &mut Reader<'_>) -> Option<Session> {
    let boot = body.text()?.to_owned();
    let instances = body.many(|body| body.text().map(str::to_owned))?;
    let (last_key, first) = (body.number()?, body.number()?);
    let after =
        body.option(|body| Some(Position { segment: body.number()?, offset: body.number()? }))?;
    let is_complete = !body.is_empty() && body.flag()?;
    Some(Session { boot, instances, last_key, first, after, is_complete })
}

impl Writer<'_> {
    pub(super) fn now(&mut self, now: Now) {
        self.number(now.mono.0);
        self.signed(now.wall.0);
    }

    fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn trigger(&mut self, trigger: Trigger) {
        self.byte(match trigger {
            Trigger::Created => 0,
            Trigger::Config => 1,
            Trigger::Schedule => 2,
            Trigger::Restart => 3,
            Trigger::Retry => 4,
            Trigger::Request => 5,
            Trigger::Failure => 6,
        });
    }

    fn reason(&mut self, reason: Reason) {
        self.byte(match reason {
            Reason::Exited => 0,
            Reason::Signaled => 1,
            Reason::TimedOut => 2,
            Reason::Killed => 3,
            Reason::SpawnFailed => 4,
            Reason::Lost => 5,
            Reason::Unhealthy => 6,
            Reason::NotReady => 7,
        });
    }

    fn end(&mut self, end: &RunEnd) {
        match end {
            RunEnd::Process(ExitStatus::Code(code)) => {
                self.byte(0);
                self.byte(*code);
            }
            RunEnd::Process(ExitStatus::Signal(signal)) => {
                self.byte(1);
                self.signed(signal.number().into());
            }
            RunEnd::NotSpawned(failure) => {
                self.byte(2);
                self.byte(failure.exit_code);
                self.text(&failure.error);
            }
            RunEnd::Lost => self.byte(3),
        }
    }

    fn ending(&mut self, ending: &Ending) {
        self.number(ending.run);
        self.end(&ending.end);
        self.reason(ending.reason);
        self.duration(ending.lived);
        self.flag(ending.success);
    }

    fn call(&mut self, call: &Call) {
        self.text(call.job.as_str());
        self.number(call.run);
        self.byte(call.exit_code);
        self.reason(call.reason);
        self.number(call.callers.len() as u64);
        call.callers.iter().for_each(|caller| self.number(caller.number()));
    }

    fn stage(&mut self, stage: Stage) {
        match stage {
            Stage::Begins(trigger) => {
                self.byte(0);
                self.trigger(trigger);
            }
            Stage::Runs => self.byte(1),
            Stage::BacksOff(Mono(until)) => {
                self.byte(2);
                self.number(until);
            }
            Stage::Scheduled { due, pending } => {
                self.byte(3);
                self.option(due, |out, (nominal, at)| {
                    out.signed(nominal);
                    out.signed(at);
                });
                self.option(pending, Writer::trigger);
            }
            Stage::Ended(outcome, Mono(since)) => {
                self.byte(4);
                self.byte(match outcome {
                    Outcome::Succeeded => 0,
                    Outcome::Failed => 1,
                    Outcome::Killed => 2,
                });
                self.number(since);
            }
            Stage::Leaves => self.byte(5),
            Stage::Idle(pending) => {
                self.byte(6);
                self.option(pending, Writer::trigger);
            }
        }
    }

    fn captured(&mut self, captured: &Captured) {
        self.number(captured.written());
        self.option(captured.kept_parts(), |out, kept| {
            out.bytes(&kept.bytes);
            out.number(kept.reads.len() as u64);
            for (place, at_and_length) in &kept.reads {
                out.number(*place);
                out.number(*at_and_length);
            }
            out.number(kept.cuts.len() as u64);
            kept.cuts.iter().for_each(|cut| out.number(*cut));
            out.number(kept.hidden);
            out.number(kept.hidden_ends);
            out.flag(kept.begins_line);
        });
    }
}

impl Reader<'_> {
    pub(super) fn now(&mut self) -> Option<Now> {
        Some(Now { mono: Mono(self.number()?), wall: Wall(self.signed()?) })
    }

    fn pair(&mut self) -> Option<(u64, u64)> {
        Some((self.number()?, self.number()?))
    }

    fn duration(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_micros)
    }

    fn trigger(&mut self) -> Option<Trigger> {
        Some(match self.byte()? {
            0 => Trigger::Created,
            1 => Trigger::Config,
            2 => Trigger::Schedule,
            3 => Trigger::Restart,
            4 => Trigger::Retry,
            5 => Trigger::Request,
            6 => Trigger::Failure,
            _ => return None,
        })
    }

    fn reason(&mut self) -> Option<Reason> {
        Some(match self.byte()? {
            0 => Reason::Exited,
            1 => Reason::Signaled,
            2 => Reason::TimedOut,
            3 => Reason::Killed,
            4 => Reason::SpawnFailed,
            5 => Reason::Lost,
            6 => Reason::Unhealthy,
            7 => Reason::NotReady,
            _ => return None,
        })
    }

    fn end(&mut self) -> Option<RunEnd> {
        Some(match self.byte()? {
            0 => RunEnd::Process(ExitStatus::Code(self.byte()?)),
            1 => {
                let number = i32::try_from(self.signed()?).ok()?;
                RunEnd::Process(ExitStatus::Signal(Signal::from_number(number)?))
            }
            2 => {
                let (exit_code, error) = (self.byte()?, self.text()?.to_owned());
                RunEnd::NotSpawned(Rc::new(SpawnFailure { exit_code, error }))
            }
            3 => RunEnd::Lost,
            _ => return None,
        })
    }

    fn ending(&mut self) -> Option<Ending> {
        Some(Ending {
            run: self.number()?,
            end: self.end()?,
            reason: self.reason()?,
            lived: self.duration()?,
            success: self.flag()?,
        })
    }

    fn call(&mut self) -> Option<Rc<Call>> {
        let job = JobId::parse(self.text()?).ok()?;
        let (run, exit_code, reason) = (self.number()?, self.byte()?, self.reason()?);
        let callers = self.many(|body| body.number().map(JobKey::from_number))?;
        Some(Rc::new(Call { job, run, exit_code, reason, callers }))
    }

    fn stage(&mut self) -> Option<Stage> {
        Some(match self.byte()? {
            0 => Stage::Begins(self.trigger()?),
            1 => Stage::Runs,
            2 => Stage::BacksOff(Mono(self.number()?)),
            3 => {
                let due = self.option(|body| Some((body.signed()?, body.signed()?)))?;
                Stage::Scheduled { due, pending: self.option(Reader::trigger)? }
            }
            4 => {
                let outcome = *Outcome::ALL.get(usize::from(self.byte()?))?;
                Stage::Ended(outcome, Mono(self.number()?))
            }
            5 => Stage::Leaves,
            6 => Stage::Idle(self.option(Reader::trigger)?),
            _ => return None,
        })
    }

    fn run(&mut self) -> Option<LiveRun> {
        Some(LiveRun {
            number: self.number()?,
            trigger: self.trigger()?,
            started: self.now()?,
            is_launched: self.flag()?,
        })
    }

    fn process(&mut self) -> Option<Process> {
        let pid = u32::try_from(self.number()?).ok()?.cast_signed();
        Some((Pid(pid), self.option(Reader::number)?))
    }

    fn captured(&mut self) -> Option<Captured> {
        let written = self.number()?;
        let parts = self.option(|body| {
            let bytes = Cow::Borrowed(body.bytes()?);
            Some(KeptParts {
                bytes,
                reads: body.many(Reader::pair)?,
                cuts: Cow::Owned(body.many(Reader::number)?),
                hidden: body.number()?,
                hidden_ends: body.number()?,
                begins_line: body.flag()?,
            })
        })?;
        Some(Captured::restore(written, parts))
    }
}
