//! Crashes: k1s and the machine end at any moment, and go on with what was stored.
//!
//! ```text
//!   requests, runs, time ─▶ Supervisor ─▶ Ledger ─ frames ─▶ segments ─ sync ─▶ safe
//!         ▲                                                      │
//!         └── restore ◀── replay ◀── what is not safe, in part ──┘
//! ```
//!
//! After each frame it is written down how the jobs are. What a crash leaves must be exactly how
//! they were after the last whole frame; what was safe is never lost, also when the power is. So no
//! result that was told is lost or there twice, no job that was answered is missing, and none that
//! was removed comes back. No run that may have had a process has the number of another, also when
//! the power was lost and nothing says any more that it was there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::rng::Rng;
use super::{IDS, START, STREAMS, Tally, specs};
use crate::job::{ExitStatus, JobId, JobSpec, LogPlace, Pid, RunRecord, Signal, SpawnFailure};
use crate::state::{HEAD, Ledger, Position, Replay, replay};
use crate::supervisor::{
    Action, Heritage, JobKey, Left, Life, Origin, Purpose, RunKey, Settings, Stage, Supervisor,
    Target,
};
use crate::time::{Mono, Now, Wall};

/// Plays a seed for so many turns, with crashes. Adds what happened to `tally`.
pub fn play_crashes(seed: u64, turns: u64, tally: &mut Tally) {
    let mut sim = Sim::new(Rng::new(seed ^ 0xc4a5));
    for _ in 0..turns {
        sim.turn();
        if sim.rng.percent(4) {
            sim.crash();
        } else if sim.rng.percent(1) {
            sim.end();
        }
    }
    sim.crash();
    tally.add(&sim.tally);
}

struct Sim {
    rng: Rng,
    now: Now,
    supervisor: Supervisor,
    /// The live processes.
    live: BTreeMap<Pid, RunKey>,
    last_pid: i32,
    boots: u64,
    disk: Disk,
    ledger: Ledger,
    /// The runs that may have had a process before the last crash.
    used: BTreeSet<RunKey>,
    /// Jobs to be written.
    batch: BTreeSet<JobKey>,
    /// Jobs of which something was written that is not safe.
    unsafe_jobs: BTreeSet<JobKey>,
    /// When segments that are empty can go.
    gone_when_safe: Option<Position>,
    tally: Tally,
}

#[derive(Default)]
struct Disk {
    segments: BTreeMap<u64, Vec<u8>>,
    safe: Position,
    /// How the jobs were after each frame that may still be there.
    frames: BTreeMap<Position, Shown>,
    /// The runs that may have had a process, by the frame that says so.
    launched: BTreeMap<Position, Vec<RunKey>>,
}

/// How the jobs are.
type Shown = BTreeMap<JobKey, Job>;

#[derive(Clone, Debug, PartialEq)]
struct Job {
    id: JobId,
    origin: Origin,
    created: Now,
    spec: Rc<JobSpec>,
    life: Life,
    results: Vec<RunRecord>,
}

impl Sim {
    fn new(rng: Rng) -> Sim {
        let now = Now { mono: Mono(1 << 42), wall: Wall(START) };
        let mut sim = Sim {
            rng,
            now,
            supervisor: supervisor(1, now),
            live: BTreeMap::new(),
            last_pid: 0,
            boots: 0,
            disk: Disk::default(),
            ledger: Ledger::default().with_small_segments(),
            used: BTreeSet::new(),
            batch: BTreeSet::new(),
            unsafe_jobs: BTreeSet::new(),
            gone_when_safe: None,
            tally: Tally::default(),
        };
        sim.supervisor.keep_state();
        sim.ledger.set_instances("boot-0 pids", vec!["k".to_owned()]);
        sim.begin_segment();
        sim
    }

    fn turn(&mut self) {
        let millis = self.rng.pick(&[0, 1, 50, 1_000, 90_000]);
        self.now = later(self.now, millis);
        for _ in 0..self.rng.below(4) {
            self.event();
        }
        self.supervisor.handle_timeout(self.now);
        self.append();
        self.drain();
        match self.rng.below(100) {
            0..2 => self.fail_sync(),
            2..40 => self.sync(),
            _ => {}
        }
    }

    // The supervisor.

    fn event(&mut self) {
        let (id, now) = (self.rng.pick(&IDS), self.now);
        match self.rng.below(12) {
            0..=1 => {
                let spec = specs::random(&mut self.rng);
                let _ = self.supervisor.create(JobId::parse(id).unwrap(), spec, now);
            }
            2 => {
                let old = self.supervisor.job(id).map(|job| job.spec().clone());
                let spec = match &old {
                    Some(old) => specs::variant(old, &mut self.rng),
                    None => specs::random(&mut self.rng),
                };
                let _ = self.supervisor.put(JobId::parse(id).unwrap(), spec, now);
            }
            3 => drop(self.supervisor.kill(id, now)),
            4 => drop(self.supervisor.start(id, now)),
            5 if self.rng.percent(30) => drop(self.supervisor.remove(id, now)),
            5 => drop(self.supervisor.restart(id, now)),
            6 => drop(self.supervisor.run(id, now)),
            7..=8 => self.write(),
            _ => self.exit(),
        }
    }

    fn write(&mut self) {
        let runs: Vec<RunKey> = self.live.values().copied().collect();
        if !runs.is_empty() {
            let (run, stream) = (self.rng.pick(&runs), self.rng.pick(&STREAMS));
            let line = "x".repeat(self.rng.pick(&[0, 1, 80, 20_000])) + "\n";
            self.supervisor.handle_output(run, stream, line.as_bytes(), self.now);
        }
    }

    fn exit(&mut self) {
        let pids: Vec<Pid> = self.live.keys().copied().collect();
        if !pids.is_empty() {
            let pid = self.rng.pick(&pids);
            let status = match self.rng.below(3) {
                0 => ExitStatus::Signal(Signal::KILL),
                code => ExitStatus::Code(code as u8 - 1),
            };
            self.live.remove(&pid);
            self.supervisor.handle_exit(pid, status, false, self.now);
        }
    }

    fn drain(&mut self) {
        for _ in 0..self.rng.below(6) {
            self.act();
            let Some(launch) = self.supervisor.poll_spawn() else { break };
            if launch.purpose != Purpose::Run {
                let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                self.supervisor.handle_spawn_failed(launch, failure, self.now);
                continue;
            }
            self.note_launch(launch.run);
            match self.rng.below(10) {
                0 => {
                    // It has had no process, so another run may get its number.
                    let run = launch.run;
                    self.disk.launched.values_mut().for_each(|runs| runs.retain(|it| *it != run));
                    self.supervisor.handle_spawn_deferred(launch, "EAGAIN".into(), self.now);
                }
                1 => {
                    let failure = SpawnFailure { exit_code: 127, error: "gone".into() };
                    self.supervisor.handle_spawn_failed(launch, failure, self.now);
                }
                _ => {
                    self.last_pid += 1;
                    let pid = Pid(self.last_pid);
                    self.live.insert(pid, launch.run);
                    self.supervisor.handle_spawned(launch, pid, self.now);
                }
            }
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            match action {
                Action::Stop { target, .. } => {
                    let (Target::Process(pid) | Target::Group(pid)) = target else {
                        let Target::Tree { leader: Some(leader), .. } = target else { continue };
                        self.stop(leader);
                        continue;
                    };
                    self.stop(pid);
                }
                Action::Survey { run, .. } => {
                    self.supervisor.handle_survey(run, Left::Nothing, self.now);
                }
                Action::Glance { run, .. } => self.supervisor.handle_group_gone(run, self.now),
                Action::Signal { .. }
                | Action::Rest { .. }
                | Action::Probe { .. }
                | Action::EndProbe { .. }
                | Action::Measure
                | Action::ReopenLogFiles { .. }
                | Action::Exit { .. } => {}
            }
        }
    }

    fn stop(&mut self, pid: Pid) {
        if self.live.remove(&pid).is_some() {
            let status = ExitStatus::Signal(Signal::TERM);
            self.supervisor.handle_exit(pid, status, false, self.now);
        }
    }

    /// A run that may have had a process keeps its number for itself.
    fn note_launch(&mut self, run: RunKey) {
        assert!(!self.used.contains(&run), "{run:?} was launched before the crash");
        let mut frame = Vec::new();
        self.ledger.begin_frame(&mut frame, self.disk.safe, self.now);
        self.write_job(&mut frame, run.job);
        self.ledger.write_launch(&mut frame, run);
        let mut shown = self.disk.frames.values().next_back().cloned().unwrap_or_default();
        shown.extend(self.shown().remove(&run.job).map(|job| (run.job, job)));
        self.write_frame(frame, shown);
        self.disk.launched.entry(self.ledger.end()).or_default().push(run);
    }

    // The disk.

    fn append(&mut self) {
        let (mut more, _) = self.supervisor.take_unsaved();
        self.batch.append(&mut more);
        if self.ledger.is_segment_full() {
            self.begin_segment();
        }
        if self.batch.is_empty() && !self.ledger.is_cleaning() {
            return;
        }
        let mut frame = Vec::new();
        self.ledger.begin_frame(&mut frame, self.disk.safe, self.now);
        for job in std::mem::take(&mut self.batch) {
            self.write_job(&mut frame, job);
        }
        let cleaned = self.clean(&mut frame);
        let shown = self.shown();
        self.write_frame(frame, shown);
        if cleaned {
            self.gone_when_safe = Some(self.ledger.end());
        }
        self.ledger.clean_if_due();
    }

    fn write_job(&mut self, frame: &mut Vec<u8>, job: JobKey) {
        self.unsafe_jobs.insert(job);
        let start = &mut |pid: Pid| u64::try_from(pid.0).ok();
        self.ledger.write_job(frame, job, &self.supervisor, start, self.now);
    }

    fn clean(&mut self, frame: &mut Vec<u8>) -> bool {
        if !self.ledger.is_cleaning() || self.gone_when_safe.is_some() {
            return false;
        }
        let mut looks = self.rng.pick(&[1, 3, 100]);
        while let Some(job) = self.ledger.next_to_clean(&mut looks) {
            self.write_job(frame, job);
        }
        let has_cleaned = self.ledger.has_cleaned();
        if has_cleaned {
            self.tally.count("cleaned");
            self.ledger.finish_cleaning();
            self.ledger.write_session(frame);
        }
        has_cleaned
    }

    fn begin_segment(&mut self) {
        let number = self.ledger.next_segment();
        let mut frame = Vec::new();
        self.ledger.first_frame(&mut frame, number, self.disk.safe, self.now);
        self.disk.segments.insert(number, [HEAD, &frame].concat());
        self.ledger.handle_segment(number, frame.len());
        let shown = self.disk.frames.values().next_back().cloned().unwrap_or_default();
        self.disk.frames.insert(self.ledger.end(), shown);
    }

    fn write_frame(&mut self, mut frame: Vec<u8>, shown: Shown) {
        self.ledger.finish_frame(&mut frame);
        let segment = self.disk.segments.get_mut(&self.ledger.end().segment).unwrap();
        assert_eq!(segment.len() as u64, self.ledger.end().offset);
        segment.extend_from_slice(&frame);
        self.ledger.handle_written(frame.len());
        self.disk.frames.insert(self.ledger.end(), shown);
        self.tally.count("frame");
    }

    /// The disk has lost what was not safe, or only some of it: that is written again to another
    /// segment. Segments of which nothing counts may stay.
    fn fail_sync(&mut self) {
        self.tally.count("fsync failed");
        let safe = self.disk.safe;
        let stays = self.rng.percent(50);
        for number in self.ledger.cut(safe) {
            if !stays {
                self.disk.segments.remove(&number);
            }
        }
        self.batch.append(&mut self.unsafe_jobs);
        self.batch.iter().for_each(|job| self.ledger.doubt(*job));
        self.gone_when_safe = None;
        self.ledger.doubt_cleaning();
        self.disk.frames.split_off(&later_than(safe));
        self.begin_segment();
        self.append();
        let launched = self.disk.launched.split_off(&later_than(safe));
        let launched = launched.into_values().flatten().collect();
        self.disk.launched.insert(self.ledger.end(), launched);
        self.sync();
    }

    fn sync(&mut self) {
        self.disk.safe = self.ledger.end();
        self.unsafe_jobs.clear();
        let before = self.disk.frames.split_off(&self.disk.safe);
        self.disk.frames = before;
        if self.gone_when_safe.is_some_and(|at| at <= self.disk.safe) {
            self.gone_when_safe = None;
            for number in self.ledger.take_gone() {
                self.disk.segments.remove(&number);
            }
        }
    }

    /// How all jobs are that are not being removed.
    fn shown(&self) -> Shown {
        let of = |job: &crate::supervisor::Job| Job {
            id: job.id().clone(),
            origin: job.origin(),
            created: job.created(),
            spec: job.shared_spec(),
            life: plain(job.life(self.now)),
            results: job.results().cloned().collect(),
        };
        self.supervisor.jobs_after(None).map(|job| (job.key(), of(job))).collect()
    }

    /// k1s ends in order, and then perhaps the machine.
    fn end(&mut self) {
        self.append();
        self.sync();
        if self.batch.is_empty() && !self.supervisor.has_unsaved() {
            let mut frame = Vec::new();
            self.ledger.begin_frame(&mut frame, self.disk.safe, self.now);
            self.ledger.write_end(&mut frame);
            let shown = self.shown();
            self.write_frame(frame, shown);
        }
        self.crash();
    }

    // Crashes.

    fn crash(&mut self) {
        let end = self.ledger.end();
        let is_power = self.rng.percent(50);
        // Whether k1s or the machine ends, anything that is not safe may be torn, but k1s writes a
        // frame at once, and what it has written the kernel has.
        let mut cut = if is_power { self.lose_power() } else { end };
        if !is_power && self.rng.percent(30) {
            self.tear(&mut cut);
        }
        self.tally.count(if is_power { "power lost" } else { "killed" });
        let last = self.disk.frames.range(..=cut).next_back();
        let (position, expected) = last.map(|(at, shown)| (*at, shown.clone())).unwrap_or_default();
        assert!(position >= self.disk.safe, "what was safe is lost");
        let replayed = self.read();
        assert!(replayed.damages.is_empty(), "{:?}", replayed.damages);
        let found = shown_of(&replayed);
        for (key, job) in &expected {
            let read = found.get(key);
            assert!(read.is_some(), "{key:?}, {}, is lost", job.id);
            assert!(read == Some(job), "{key:?}: {read:?}, which was {job:?}");
        }
        assert_eq!(found.len(), expected.len(), "a job has come back");
        if let Some(torn) = replayed.torn {
            self.tally.count("torn");
            if let Some(bytes) = self.disk.segments.get_mut(&torn.segment) {
                bytes.truncate(torn.offset as usize);
            }
        }
        self.disk.segments.retain(|number, _| replayed.ledger.has_segment(*number));
        self.disk.frames.split_off(&later_than(cut));
        // Whether the disk still knows of them or not; but a job that is lost was never answered.
        let is_there = |run: &&RunKey| replayed.jobs.iter().any(|job| job.key == run.job);
        self.used.extend(self.disk.launched.values().flatten().filter(is_there));
        self.disk.launched.clear();
        self.go_on(replayed, is_power);
    }

    /// Of what was not safe, each segment is there whole, in part, with a hole, or not at all.
    /// Returns the first place that is lost.
    fn lose_power(&mut self) -> Position {
        let (safe, mut lost, mut gone) = (self.disk.safe, self.ledger.end(), Vec::new());
        let frames: Vec<Position> = self.disk.frames.keys().copied().collect();
        for (number, bytes) in self.disk.segments.range_mut(safe.segment..) {
            let is_safe = *number == safe.segment;
            let from = if is_safe { safe.offset } else { 0 };
            let length = bytes.len() as u64;
            let at = from + self.rng.below(length - from + 1);
            let offset = match self.rng.below(5) {
                0 if !is_safe => {
                    gone.push(*number);
                    0
                }
                0..=1 => {
                    // Often between frames, where nothing else shows that some are missing.
                    let ends = frames.iter().filter(|end| end.segment == *number);
                    let ends: Vec<u64> = ends.map(|end| end.offset).collect();
                    let is_between = !ends.is_empty() && self.rng.percent(50);
                    let at = if is_between { self.rng.pick(&ends).max(from) } else { at };
                    bytes.truncate(at as usize);
                    at
                }
                2 => {
                    let hole = bytes.iter_mut().enumerate().skip(at as usize).take(512);
                    let mut hole = hole.filter(|(_, byte)| **byte != 0);
                    let first = hole.next().map(|(index, byte)| {
                        *byte = 0;
                        index as u64
                    });
                    hole.for_each(|(_, byte)| *byte = 0);
                    first.unwrap_or(length)
                }
                _ => length,
            };
            if offset < length {
                lost = lost.min(Position { segment: *number, offset });
            }
        }
        for number in gone {
            self.tally.count("name lost");
            self.disk.segments.remove(&number);
        }
        lost
    }

    /// k1s was killed while it wrote a frame.
    fn tear(&mut self, cut: &mut Position) {
        let (segment, count) = (self.ledger.end().segment, self.rng.below(40) as usize);
        let bytes = self.disk.segments.get_mut(&segment).unwrap();
        let torn: Vec<u8> = bytes.iter().copied().skip(HEAD.len()).take(count).collect();
        bytes.extend(torn);
        cut.offset = bytes.len() as u64;
    }

    fn read(&self) -> Replay {
        let numbers: Vec<u64> = self.disk.segments.keys().copied().collect();
        let read = |number, bytes: &mut Vec<u8>| {
            let segment = self.disk.segments.get(&number).ok_or_else(String::new)?;
            segment.clone_into(bytes);
            Ok(())
        };
        replay(&numbers, read).unwrap()
    }

    fn go_on(&mut self, replayed: Replay, is_power: bool) {
        let away = self.rng.pick(&[0, 10, 5_000, 86_400_000]);
        self.now = later(self.now, away);
        // The machine was started again, and elapsed time with it.
        if is_power || self.rng.percent(30) {
            let shift = self.rng.pick(&[-500_000, 700_000]);
            self.now.mono = Mono(self.now.mono.0.saturating_add_signed(shift));
            self.boots += 1;
            self.tally.count("boot");
        }
        let boot = format!("boot-{} pids", self.boots);
        let left = |job: &crate::supervisor::Remembered| job.key.number().is_multiple_of(3);
        let has_ended = replayed.session.is_complete;
        let numbers: Vec<u64> = replayed.jobs.iter().map(|job| job.life.last_run).collect();
        let (heritage, ledger) = replayed.into_heritage(&boot, self.now, left);
        if has_ended {
            self.tally.count("ended");
            let after = heritage.jobs.iter().map(|job| job.life.last_run);
            assert!(after.eq(numbers), "numbers are left out for nothing");
        }
        self.ledger = ledger.with_small_segments();
        (self.gone_when_safe, self.batch) = (None, BTreeSet::new());
        self.supervisor = supervisor(self.tally.0.len(), self.now);
        self.supervisor.keep_state();
        self.live.clear();
        let ids: Vec<JobId> = heritage.left.iter().cloned().collect();
        self.disk.safe = self.ledger.end();
        // Only the job's own entries are written again: until then the others are of another boot.
        self.disk.frames.clear();
        self.unsafe_jobs.clear();
        self.ledger.set_instances(&boot, vec!["k".to_owned()]);
        match self.ledger.end() == Position::default() {
            true => self.begin_segment(),
            false => self.write_session(),
        }
        self.restore(heritage);
        for id in ids {
            let job = self.supervisor.job(id.as_str());
            let is_live = job.is_some_and(|job| job.pid().is_some());
            assert!(!is_live, "{id} runs beside what was left");
            self.supervisor.handle_former_gone(&id, self.now);
        }
        self.append();
        self.sync();
    }

    fn write_session(&mut self) {
        let mut frame = Vec::new();
        self.ledger.begin_frame(&mut frame, self.disk.safe, self.now);
        self.ledger.write_session(&mut frame);
        let shown = self.disk.frames.values().next_back().cloned().unwrap_or_default();
        self.write_frame(frame, shown);
    }

    fn restore(&mut self, heritage: Heritage) {
        let before: BTreeMap<JobKey, (u64, usize)> = heritage
            .jobs
            .iter()
            .map(|job| (job.key, (job.life.last_run, job.results.len())))
            .collect();
        self.supervisor.restore(heritage, Vec::new(), None, 1000, self.now).unwrap();
        for job in self.supervisor.jobs_after(None) {
            let (_, results) = before[&job.key()];
            let numbers: Vec<u64> = job.results().map(|result| result.number).collect();
            let distinct: BTreeSet<&u64> = numbers.iter().collect();
            assert_eq!(distinct.len(), numbers.len(), "{}: a result is there twice", job.id());
            let kept = results.min(job.spec().output.history_limit);
            assert!(numbers.len() >= kept.min(1), "{}: results are lost", job.id());
        }
    }
}

fn supervisor(number: usize, now: Now) -> Supervisor {
    let settings = Settings {
        instance: format!("k{number}"),
        job_limit: 1000,
        output_memory: 1 << 30,
        shutdown_timeout: Duration::from_secs(9),
        main: None,
    };
    Supervisor::new(settings, now)
}

/// The jobs that were read, as they were.
fn shown_of(replayed: &Replay) -> Shown {
    let is_there = |stage: Stage| stage != Stage::Leaves;
    let jobs = replayed.jobs.iter().filter(|job| is_there(job.life.stage));
    let of = |job: &crate::supervisor::Remembered| {
        let results: VecDeque<RunRecord> =
            job.results.iter().map(|finished| finished.record.clone()).collect();
        Job {
            id: job.id.clone(),
            origin: job.origin,
            created: job.created,
            spec: job.spec.clone(),
            life: plain(job.life.clone()),
            results: results.into(),
        }
    };
    jobs.map(|job| (job.key, of(job))).collect()
}

/// Without what a frame of its own says, the time of a stop that is still going on, and the output
/// of runs that are going, which is not stored.
fn plain(mut life: Life) -> Life {
    if !life.runs.is_empty() {
        life.log_end = LogPlace::default();
    }
    life.runs.iter_mut().for_each(|run| run.is_launched = true);
    if let Stage::Ended(outcome, _) = life.stage {
        life.stage = Stage::Ended(outcome, Mono(0));
    }
    life
}

fn later(now: Now, millis: u64) -> Now {
    Now { mono: Mono(now.mono.0 + millis), wall: Wall(now.wall.0 + millis as i64) }
}

fn later_than(at: Position) -> Position {
    Position { offset: at.offset + 1, ..at }
}

/// All of these must happen in many seeds, or they have not tested everything.
pub const CRASHES: [&str; 9] = [
    "boot",
    "cleaned",
    "ended",
    "frame",
    "fsync failed",
    "killed",
    "name lost",
    "power lost",
    "torn",
];
