//! What has happened, for those who tell of it: the journal, and whoever follows events.
//!
//! ```text
//!    told ──► │ 17 │ 18 │ 19 │ 20 │ ◄── next          a reader holds a number of its own:
//!             oldest ▲         ▲                       the next event that it will read
//!                    cursor    cursor
//! ```
//!
//! Events are numbered from 0 and kept in a bounded ring, which no reader takes anything out of.
//! It holds the many events of a turn in which everything changes, and the newest few after that:
//! each holds on to the id of a job that may be gone, and to the page of memory around it.
//! A reader that falls behind by more than the ring holds is told how many it has lost. Each
//! event is told after what it tells of, and holds all that its readers need: the job may be
//! gone, or its id another's, when it is read.

use std::collections::VecDeque;
use std::time::Duration;

use super::{JobKey, Request, State};
use crate::job::spec::JobType;
use crate::job::{Ending, JobId, Pid};
use crate::time::Wall;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Wall,
    /// What.
    pub kind: EventKind,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// One job.
    Job {
        /// Which job, also when its id has become another's.
        key: JobKey,
        /// Its id.
        id: JobId,
        /// Its type.
        job_type: JobType,
        /// What happened to it.
        what: Happened,
    },
    /// A shutdown has begun.
    ShuttingDown {
        /// The exit code that k1s will end with, unless a main job says otherwise.
        exit_code: u8,
        /// The critical job whose end began it; `None`: somebody asked for it.
        because_of: Option<JobId>,
        /// How many runs are to be stopped.
        live_runs: usize,
    },
    /// In a shutdown, whatever is left is killed.
    KillingAll {
        /// The time for the shutdown is up; otherwise somebody asked a second time.
        is_overdue: bool,
        /// How many runs are to be killed.
        live_runs: usize,
    },
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was registered.
    Created,
    /// It has another specification.
    Replaced,
    /// Somebody asked for something, and it is being done.
    Asked(Request),
    /// A run has a process.
    Started {
        /// Which run.
        run: u64,
        /// Its first process.
        pid: Pid,
        /// How many times in a row the job has been restarted, when this restart had to wait; 0:
        /// it came at once, or is none.
        streak: u32,
    },
    /// A run's first process is over, or it never had one.
    Ended(Ending),
    /// The machine has no room for a run now.
    Deferred {
        /// Which run.
        run: u64,
        /// What the machine is short of.
        error: String,
        /// Whether it is the first time for this run.
        is_first: bool,
    },
    /// What was asked to end has not in time, and is killed.
    Overdue {
        /// Which run.
        run: u64,
    },
    /// Of what a run has left, nothing was found; but a process may be there that cannot be seen.
    Unseen {
        /// Which run.
        run: u64,
    },
    /// It will be started again.
    Restarting {
        /// How soon.
        after: Duration,
        /// How many times in a row, this one included.
        streak: u32,
    },
    /// Again and again the first process of a continuous job exits with success at once: it
    /// probably goes into the background, where k1s cannot watch it. Told once for each streak.
    ExitsAtOnce,
    /// A run that the schedule wanted is not started.
    Skipped(SkipReason),
    /// Nothing more will be started by itself: `Succeeded`, `Failed` or `Killed`.
    Finished(State),
    /// It was removed, and nothing of it runs.
    Removed,
}

/// Why a run that the schedule wanted is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Another run is going, and the policy is `forbid`.
    Forbidden,
    /// One run waits already.
    QueueFull,
    /// So many moments had passed by more than the starting deadline.
    Missed(u64),
}

/// The newest events, by number.
#[derive(Debug, Default)]
pub struct EventLog {
    /// The number of the oldest event that is kept.
    first: u64,
    ring: VecDeque<Event>,
}

/// What a reader of the event log finds at its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRead<'a> {
    /// The event of this number.
    Event(u64, &'a Event),
    /// So many events have fallen out of the ring since it last read.
    Lost(u64),
}

impl EventLog {
    /// The number of the oldest event that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next event will have: the cursor of who wants new events alone.
    pub fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// What comes at the cursor, which moves on; `None` when nothing more has happened.
    pub fn read(&self, cursor: &mut u64) -> Option<EventRead<'_>> {
        if *cursor < self.first {
            let lost = self.first - *cursor;
            *cursor = self.first;
            return Some(EventRead::Lost(lost));
        }
        let number = *cursor;
        let event = self.ring.get(usize::try_from(number - self.first).ok()?)?;
        *cursor += 1;
        Some(EventRead::Event(number, event))
    }

    /// Keeps the newest events alone, for those who come back.
    pub(super) fn shrink(&mut self) {
        let surplus = self.ring.len().saturating_sub(KEPT_EVENTS);
        self.ring.drain(..surplus);
        self.first += surplus as u64;
        if self.ring.capacity() > 2 * KEPT_EVENTS {
            self.ring.shrink_to(KEPT_EVENTS);
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.ring.len() >= MOST_EVENTS {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(event);
    }
}

/// More than a turn of the loop brings, unless all jobs change at once.
const MOST_EVENTS: usize = 4096;
/// For readers that come back.
const KEPT_EVENTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, JobSpec, Pid, Reason, RunEnd, Spelling, Value, parse};
    use crate::supervisor::{Refusal, Settings, Supervisor};
    use crate::time::Now;
    use std::rc::Rc;

    fn supervisor() -> Supervisor {
        let settings = Settings {
            instance: "k".to_owned(),
            job_limit: 10_000,
            output_memory: 0,
            shutdown_timeout: Duration::from_secs(9),
            main: None,
        };
        Supervisor::new(settings, Now::default())
    }

    fn one_off() -> JobSpec {
        let fields = [("type", "one-off"), ("executable", "x")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap()
    }

    fn happened(supervisor: &Supervisor, cursor: &mut u64) -> Vec<Happened> {
        let mut all = Vec::new();
        while let Some(read) = supervisor.events().read(cursor) {
            match read {
                EventRead::Event(_, Event { kind: EventKind::Job { what, .. }, .. }) => {
                    all.push(what.clone());
                }
                EventRead::Event(..) => {}
                EventRead::Lost(count) => panic!("{count} were lost"),
            }
        }
        all
    }

    #[test]
    fn a_life_is_told_in_order_and_what_is_refused_is_not() {
        let (mut supervisor, now) = (supervisor(), Now::default());
        supervisor.create(JobId::parse("a").unwrap(), one_off(), now).unwrap();
        let launch = supervisor.poll_spawn().unwrap();
        let failure = crate::job::SpawnFailure { exit_code: 127, error: "gone".to_owned() };
        supervisor.handle_spawn_failed(launch, failure.clone(), now);
        assert_eq!(supervisor.kill("a", now), Err(Refusal::Over));
        supervisor.run("a", now).unwrap();
        let launch = supervisor.poll_spawn().unwrap();
        supervisor.handle_spawned(launch, Pid(7), now);
        supervisor.remove("a", now).unwrap();
        let end = RunEnd::NotSpawned(Rc::new(failure));
        let (reason, lived) = (Reason::SpawnFailed, Duration::ZERO);
        let ending = Ending { run: 1, end, reason, lived, success: false };
        let wanted = [
            Happened::Created,
            Happened::Ended(ending),
            Happened::Finished(State::Failed),
            Happened::Asked(Request::Run),
            Happened::Started { run: 2, pid: Pid(7), streak: 0 },
            Happened::Asked(Request::Remove),
        ];
        let mut cursor = 0;
        assert_eq!(happened(&supervisor, &mut cursor), wanted);
        assert_eq!(happened(&supervisor, &mut cursor), [], "each reader reads each event once");
        assert_eq!(happened(&supervisor, &mut 0), wanted, "and takes nothing from the others");
    }

    #[test]
    fn a_run_that_was_collected_in_time_has_not_timed_out() {
        let (mut supervisor, now) = (supervisor(), Now::default());
        let spec = JobSpec { timeout: Some(Duration::from_secs(1)), ..one_off() };
        supervisor.create(JobId::parse("a").unwrap(), spec, now).unwrap();
        let launch = supervisor.poll_spawn().unwrap();
        let run = launch.run;
        supervisor.handle_spawned(launch, Pid(7), now);
        assert_eq!(supervisor.handle_collected(Pid(7)), Some(run));
        assert!(!supervisor.is_leader(Pid(7)), "its number may be another's");
        let later = Now { mono: now.mono + Duration::from_secs(2), ..now };
        supervisor.handle_timeout(later);
        supervisor.handle_run_ended(run, ExitStatus::Code(0), false, later);
        let job = supervisor.job("a").unwrap();
        assert_eq!((job.state(), job.last_exit_code()), (State::Succeeded, Some(0)));
        assert_eq!(job.results().next().unwrap().reason, Reason::Exited);
        assert_eq!(supervisor.poll_action(), None, "nobody is signalled");
    }

    /// The kernel may hand out the number of a run anew whose output is still being read.
    #[test]
    fn a_number_that_another_run_has_is_not_taken_for_what_is_left() {
        let (mut supervisor, now) = (supervisor(), Now::default());
        let mut runs = Vec::new();
        for id in ["a", "b"] {
            supervisor.create(JobId::parse(id).unwrap(), one_off(), now).unwrap();
            let launch = supervisor.poll_spawn().unwrap();
            let run = launch.run;
            supervisor.handle_spawned(launch, Pid(7), now);
            if id == "a" {
                supervisor.kill("a", now).unwrap();
                assert_eq!(supervisor.handle_collected(Pid(7)), Some(run));
                while supervisor.poll_action().is_some() {}
            }
            runs.push(run);
        }
        supervisor.handle_run_ended(runs[0], ExitStatus::Code(0), false, now);
        while let Some(action) = supervisor.poll_action() {
            let text = format!("{action:?}");
            assert!(!text.contains("Pid(7)"), "{text}");
        }
        assert_eq!(supervisor.run_of(Pid(7)), Some(runs[1]));
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_how_much_it_has_lost() {
        let (mut supervisor, now) = (supervisor(), Now::default());
        for number in 0..MOST_EVENTS + 10 {
            let id = JobId::parse(&format!("j{number}")).unwrap();
            supervisor.create(id, one_off(), now).unwrap();
        }
        let mut cursor = 3;
        assert_eq!(supervisor.events().read(&mut cursor), Some(EventRead::Lost(7)));
        assert_eq!(happened(&supervisor, &mut cursor).len(), MOST_EVENTS);
        assert_eq!(supervisor.events().next(), cursor);
        supervisor.shrink_events();
        assert_eq!(supervisor.events().first(), cursor - KEPT_EVENTS as u64);
        assert_eq!(supervisor.events().next(), cursor);
    }
}
