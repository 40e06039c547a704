//! What has happened, for the journal and for clients that follow events.
//!
//! ```text
//!  oldest ──► │ 17 │ 18 │ 19 │ 20 │ ◄── next         the cursor of a reader is the number of
//!                    ▲         ▲                     the next event that it will read
//!                    cursor    cursor
//! ```
//!
//! Events are numbered from 0 and kept in a bounded ring; reading removes nothing. The ring has
//! room for a turn in which everything changes, and keeps only the newest events after it, because
//! each holds the id of a job that may be gone, and with it a page of memory. A reader that has
//! fallen behind too far learns how many events it has lost. An event is recorded after what it
//! reports, and contains everything its readers need: when it is read, the job may be gone, or its
//! id may belong to another job.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::{CommandRole, JobKey, LogFileEvent, NotCalled, Request, State};
use crate::access::Asker;
use crate::job::spec::{Condition, JobType};
use crate::job::{Ending, JobId, LastLines, Pid};
use crate::time::Wall;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Wall,
    /// What.
    pub kind: EventKind,
    /// Who has asked for it, if it is a change that somebody has asked for.
    pub by: Option<Asker>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// One job.
    Job {
        /// Which job, even if its id belongs to another job by now.
        key: JobKey,
        /// Its id.
        id: JobId,
        /// Its type.
        job_type: JobType,
        /// What happened to it.
        what: Happened,
    },
    /// A user asked for something that is not about one job, and it is being done.
    Asked(Chore),
    /// A shutdown has begun.
    ShuttingDown {
        /// The exit code of k1s, unless a main job determines it.
        exit_code: u8,
        /// The critical job whose end began it; `None` when a user or a signal did.
        because_of: Option<JobId>,
        /// How many runs are to be stopped.
        live_runs: usize,
    },
    /// In a shutdown, everything that is left is killed.
    KillingAll {
        /// The time for the shutdown is up; otherwise it was asked for a second time.
        is_overdue: bool,
        /// How many runs are to be killed.
        live_runs: usize,
    },
}

/// What can be asked that is not about one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// To read the config again.
    Reload,
    /// To open log files anew.
    Reopen,
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was registered.
    Created,
    /// It has a new specification.
    Replaced,
    /// A user asked for something, and it is being done.
    Asked(Request),
    /// A run has a process.
    Started {
        /// Which run.
        run: u64,
        /// Its first process.
        pid: Pid,
        /// How many times in a row the job has been restarted; 0 when this restart came without a
        /// delay, or is none.
        streak: u32,
    },
    /// The first process of a run has ended, or could not be started.
    Ended {
        /// How.
        ending: Ending,
        /// The last lines of its output, if it is a failure to be reported in full. Only the newest
        /// events have them.
        output: Option<LastLines>,
    },
    /// It waits for other jobs before it starts.
    Waits {
        /// The first of them, by id.
        dependency: JobId,
        /// What it waits for.
        condition: Condition,
        /// For how many others it waits.
        others: usize,
    },
    /// It is restarted, because another run of a job has reached what it depends on.
    Renewed {
        /// That job.
        dependency: JobId,
    },
    /// A run cannot be started yet because of a shortage.
    Deferred {
        /// Which run.
        run: u64,
        /// What this machine is short of.
        error: String,
        /// Whether it is the first time for this run.
        is_first: bool,
    },
    /// A run has not ended in its grace period, and is killed.
    Overdue {
        /// Which run.
        run: u64,
    },
    /// No leftovers of a run were found, but there may be some that k1s cannot see.
    Unseen {
        /// Which run.
        run: u64,
    },
    /// A run with `readiness` is ready.
    Ready {
        /// Which run.
        run: u64,
    },
    /// A run that was ready is not any more.
    Unready {
        /// Which run.
        run: u64,
        /// Why.
        why: String,
    },
    /// A run was not ready in time or is not well, and is stopped.
    Unhealthy {
        /// Which run.
        run: u64,
        /// Why.
        why: String,
    },
    /// A command beside a run has failed, or could not be started.
    CommandFailed {
        /// Which run.
        run: u64,
        /// What it was for: a reload or a stop.
        role: CommandRole,
        /// Why.
        why: String,
    },
    /// It will be started again.
    Restarting {
        /// The delay.
        after: Duration,
        /// How many times in a row, including this one.
        streak: u32,
    },
    /// The first process of a continuous job has exited with success at once several times in a
    /// row: it probably goes into the background, where k1s cannot supervise it. Reported once for
    /// each streak.
    ExitsAtOnce,
    /// A run that was due is not started.
    Skipped(SkipReason),
    /// Something happened to its log file.
    LogFile {
        /// The run that writes to it, or did so last.
        run: u64,
        /// The path of the file.
        path: Rc<str>,
        /// What.
        what: LogFileEvent,
    },
    /// Its failure calls its handler.
    Calls {
        /// The run that has failed.
        run: u64,
        /// The handler.
        handler: JobId,
        /// Why that is not called, if it is not.
        refused: Option<NotCalled>,
    },
    /// It is the handler of a job that has failed, and starts.
    Called {
        /// The job that has failed.
        by: JobId,
        /// The run of that job.
        failed: u64,
    },
    /// It starts nothing more without a request: `Succeeded`, `Failed` or `Killed`.
    Finished(State),
    /// It removes itself, because its time to live is over.
    Expired,
    /// It was removed, and no process of it is left.
    Removed {
        /// Another job has its id already.
        has_successor: bool,
    },
}

/// Why a run that was due is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Another run is active, and the policy is `forbid`.
    Forbidden,
    /// One run is already waiting.
    QueueFull,
    /// So many runs were late by more than the starting deadline.
    Missed(u64),
    /// What the job depends on is not there.
    Blocked,
}

/// The newest events, by number.
#[derive(Debug, Default)]
pub struct EventLog {
    /// The number of the oldest event that is kept.
    first: u64,
    ring: VecDeque<Event>,
    /// How many bytes of output its events contain; those before this number contain none.
    output_bytes: usize,
    output_from: u64,
}

/// What a reader finds at its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventRead<'a> {
    /// The event with this number.
    Event(u64, &'a Event),
    /// So many events were dropped since it last read.
    Lost(u64),
}

impl EventLog {
    /// The number of the oldest event that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next event to come: the cursor of a reader that wants new events only.
    pub fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Reads at the cursor, and advances it; `None` when nothing more has happened.
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

    /// Whether more is kept than for readers that come back.
    pub fn has_surplus(&self) -> bool {
        self.ring.len() > KEPT_EVENTS
    }

    /// Keeps only the newest events, for readers that come back.
    pub(super) fn shrink(&mut self) {
        let surplus = self.ring.len().saturating_sub(KEPT_EVENTS);
        let output = self.ring.drain(..surplus).map(|mut event| event.take_output()).sum::<usize>();
        self.output_bytes -= output;
        self.first += surplus as u64;
        if self.ring.capacity() > 2 * KEPT_EVENTS {
            self.ring.shrink_to(KEPT_EVENTS);
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.ring.len() >= MOST_EVENTS
            && let Some(mut oldest) = self.ring.pop_front()
        {
            self.output_bytes -= oldest.take_output();
            self.first += 1;
        }
        self.output_bytes += event.output().map_or(0, LastLines::size);
        self.ring.push_back(event);
        while self.output_bytes > MOST_OUTPUT_BYTES {
            self.output_from = self.output_from.max(self.first);
            let index = usize::try_from(self.output_from - self.first).ok();
            let Some(event) = index.and_then(|index| self.ring.get_mut(index)) else { return };
            self.output_bytes -= event.take_output();
            self.output_from += 1;
        }
    }
}

impl EventKind {
    /// Whether somebody may have asked for it, rather than that it follows from something.
    pub(super) fn is_change(&self) -> bool {
        match self {
            EventKind::Job { what, .. } => {
                matches!(what, Happened::Created | Happened::Replaced | Happened::Asked(_))
            }
            EventKind::Asked(_)
            | EventKind::ShuttingDown { because_of: None, .. }
            | EventKind::KillingAll { is_overdue: false, .. } => true,
            EventKind::ShuttingDown { because_of: Some(_), .. }
            | EventKind::KillingAll { is_overdue: true, .. } => false,
        }
    }
}

impl Event {
    /// The last lines that a failed run wrote, when it is to be told in full.
    pub fn output(&self) -> Option<&LastLines> {
        match &self.kind {
            EventKind::Job { what: Happened::Ended { output, .. }, .. } => output.as_ref(),
            EventKind::Job { .. }
            | EventKind::Asked(_)
            | EventKind::ShuttingDown { .. }
            | EventKind::KillingAll { .. } => None,
        }
    }

    /// Forgets the output that it holds; returns how many bytes that was.
    fn take_output(&mut self) -> usize {
        match &mut self.kind {
            EventKind::Job { what: Happened::Ended { output: Some(output), .. }, .. } => {
                std::mem::take(output).size()
            }
            EventKind::Job { .. }
            | EventKind::Asked(_)
            | EventKind::ShuttingDown { .. }
            | EventKind::KillingAll { .. } => 0,
        }
    }
}

/// The most that is kept: more than one turn records, unless all jobs change at once.
const MOST_EVENTS: usize = 4096;
/// How many are kept between turns, for readers that come back.
const KEPT_EVENTS: usize = 512;
/// What the events hold together of the output of failed runs; the oldest lose theirs first.
const MOST_OUTPUT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, JobSpec, Pid, Reason, RunEnd, Spelling, Stream, Value, parse};
    use crate::supervisor::{ProcessKey, Refusal, Settings, Supervisor};
    use crate::time::Now;

    fn supervisor() -> Supervisor {
        let settings = Settings {
            instance: "k".to_owned(),
            job_limit: 10_000,
            output_memory: 1 << 20,
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
            Happened::Ended { ending, output: Some(LastLines::default()) },
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
        assert_eq!(supervisor.handle_collected(Pid(7)), Some(ProcessKey::Run(run)));
        assert!(!supervisor.is_leader(Pid(7)), "its number may be another's");
        let later = Now { mono: now.mono + Duration::from_secs(2), ..now };
        supervisor.handle_timeout(later);
        supervisor.handle_run_ended(run, ExitStatus::Code(0), false, later);
        let job = supervisor.job("a").unwrap();
        assert_eq!((job.state(), job.last_exit_code()), (State::Succeeded, Some(0)));
        assert_eq!(job.results().next().unwrap().reason, Reason::Exited);
        assert_eq!(supervisor.poll_action(), None, "nobody is signalled");
    }

    #[test]
    fn the_output_of_failures_is_bounded_and_the_newest_stays() {
        let (mut supervisor, now) = (supervisor(), Now::default());
        let outputs = |supervisor: &Supervisor| {
            let all = happened(supervisor, &mut supervisor.events().first());
            let ends = all.into_iter().filter_map(|what| match what {
                Happened::Ended { output, .. } => Some(output.unwrap()),
                _ => None,
            });
            ends.map(|output| output.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
        };
        for pid in 1..=100 {
            let id = JobId::parse(&format!("j{pid}")).unwrap();
            supervisor.create(id, one_off(), now).unwrap();
            let launch = supervisor.poll_spawn().unwrap();
            let run = launch.run;
            supervisor.handle_spawned(launch, Pid(pid), now);
            let text = format!("{}\n{pid}", "x".repeat(2000));
            supervisor.handle_output(run, Stream::Stderr, text.as_bytes(), now);
            supervisor.handle_exit(Pid(pid), ExitStatus::Code(1), false, now);
        }
        let told: Vec<Vec<String>> = outputs(&supervisor);
        assert_eq!(told.len(), 100);
        let without = told.iter().take_while(|lines| lines.is_empty()).count();
        assert_eq!(100 - without, MOST_OUTPUT_BYTES / 2005);
        for (index, lines) in told.iter().enumerate().skip(without) {
            assert_eq!(lines[1..], [(index + 1).to_string()]);
        }
        // It is given back with the events that held it.
        for number in 0..2 * MOST_EVENTS {
            supervisor
                .create(JobId::parse(&format!("k{number}")).unwrap(), one_off(), now)
                .unwrap();
            supervisor.shrink_events();
        }
        assert_eq!(supervisor.events().output_bytes, 0);
    }

    /// The kernel may use the pid of a run again while the output of the run is still being read.
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
                assert_eq!(supervisor.handle_collected(Pid(7)), Some(ProcessKey::Run(run)));
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
