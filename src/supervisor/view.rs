//! What a job looks like from outside. Nothing here changes a job.

use std::rc::Rc;

use super::due::Skipped;
use super::health::LastProbe;
use super::life::{Job, Phase};
use super::remembered::Outcome;
use super::run::{Run, RunState};
use super::{JobKey, Origin};
use crate::job::{JobId, JobSpec, LogEnd, LogPlace, Pid, RunLog, RunRecord};
use crate::time::{Now, Wall};

/// What the API calls the state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It starts only by request.
    Idle,
    /// Processes of a removed job of the same id are still there.
    Waiting,
    /// A process is about to be spawned.
    Starting,
    /// A process runs.
    Running,
    /// The job waits before it starts again.
    Backoff,
    /// The job waits for its next scheduled run.
    Scheduled,
    /// Processes have been asked to end.
    Stopping,
    /// It has ended for good, with success.
    Succeeded,
    /// It has ended for good, with a failure.
    Failed,
    /// It was stopped by request.
    Killed,
}

impl State {
    /// The name that the API shows.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Running => "running",
            State::Backoff => "backoff",
            State::Scheduled => "scheduled",
            State::Stopping => "stopping",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Killed => "killed",
        }
    }
}

impl Job {
    /// The key of the job, for listings.
    pub fn key(&self) -> JobKey {
        self.key
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// The job's specification.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// The same, to be kept after the job has changed.
    pub fn shared_spec(&self) -> Rc<JobSpec> {
        self.spec.clone()
    }

    /// Who registered the job.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// When the job was registered.
    pub fn created_at(&self) -> Wall {
        self.created.wall
    }

    /// When the newest run was started.
    pub fn started_at(&self) -> Option<Wall> {
        self.last_started
    }

    /// The first process of the newest run, while it lives.
    pub fn pid(&self) -> Option<Pid> {
        self.runs.iter().rev().find_map(Run::pid)
    }

    /// Whether the newest run that has a process is ready; `None` when there is none.
    pub fn ready(&self) -> Option<bool> {
        self.runs.iter().rev().find(|run| run.pid().is_some()).map(Run::is_ready)
    }

    /// What came of the last attempt to find out whether a run is ready or well.
    pub fn last_probe(&self) -> Option<&LastProbe> {
        self.last_probe.as_deref()
    }

    /// What the newest run says that it is doing.
    pub fn status(&self) -> Option<&str> {
        let health = self.runs.iter().rev().find_map(|run| run.health.as_ref())?;
        health.status()
    }

    /// How often the supervisor has restarted it.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Whether it was asked to be killed, and not started since.
    pub fn is_kill_requested(&self) -> bool {
        self.kill_requested
    }

    /// Which scheduled runs were not started.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The finished runs that are kept, oldest first.
    pub fn results(&self) -> impl ExactSizeIterator<Item = &RunRecord> {
        self.results.iter().map(|finished| &finished.record)
    }

    /// Those of [`Job::results`] from this index on.
    pub fn results_from(&self, index: usize) -> impl Iterator<Item = &RunRecord> {
        let finished = self.results.range(index.min(self.results.len())..);
        finished.map(|finished| &finished.record)
    }

    /// One of [`Job::results`], by its index: 0 is the oldest.
    pub fn result_at(&self, index: usize) -> Option<&RunRecord> {
        self.results.get(index).map(|finished| &finished.record)
    }

    /// Where the log of the job ends: the output of all its runs.
    pub fn log_end(&self) -> LogEnd {
        self.log_end
    }

    /// The numbers of the runs whose output is or may still be kept: the oldest, and the newest.
    pub fn logged_runs(&self) -> Option<(u64, u64)> {
        let finished = self.results.iter().map(|finished| finished.record.number);
        let numbers = finished.chain(self.unrecorded_runs().map(|run| run.key.number));
        numbers.fold(None, |range, number| match range {
            None => Some((number, number)),
            Some((first, last)) => Some((number.min(first), number.max(last))),
        })
    }

    /// Where the output of this run begins in the job's log, and where it ends once the run is
    /// over.
    pub fn log_of(&self, run: u64) -> Option<(LogPlace, Option<LogPlace>)> {
        let live = self.unrecorded_runs().find(|live| live.key.number == run);
        if let Some(run) = live {
            return Some((run.log_begin, None));
        }
        let mut records = self.results.iter().map(|finished| &finished.record);
        let record = records.find(|record| record.number == run)?;
        Some((record.log_begin, Some(record.log_end)))
    }

    /// What is kept of the output of runs that were not over at this place of the job's log, and up
    /// to which place that is all there is: to go on from there, ask anew.
    pub fn logs_from(&self, place: LogPlace) -> (impl Iterator<Item = RunLog<'_>>, LogPlace) {
        let begin = self.results.partition_point(|it| it.record.log_end <= place);
        let end = self.results.len().min(begin + RUNS_AT_A_TIME);
        let rest = self.results.range(end..);
        let last = self.results.get(end.saturating_sub(1)).filter(|_| rest.len() > 0);
        let until = last.map_or(self.log_end.place(), |last| last.record.log_end);
        // Later ones that were live beside the last, and began before it was over.
        let live_still = self.unrecorded_runs().filter(|run| run.log_begin < until).count();
        let beside = last.map_or(0, |last| last.record.beside).saturating_sub(live_still);
        let beside = rest.filter(move |it| it.record.log_begin < until).take(beside);
        let finished = self.results.range(begin..end).chain(beside);
        let finished = finished.map(|finished| RunLog::of_record(&finished.record));
        let live = self.unrecorded_runs();
        let live = live.map(|run| RunLog::of_live(run.key.number, &run.stdout, &run.stderr));
        (finished.chain(live), until)
    }

    /// The same of one run.
    pub fn log_of_run(&self, run: u64) -> impl Iterator<Item = RunLog<'_>> {
        let records = self.results.iter().map(|finished| &finished.record);
        let finished = records.filter(move |record| record.number == run).map(RunLog::of_record);
        let live = self.unrecorded_runs().filter(move |live| live.key.number == run);
        finished.chain(live.map(|run| RunLog::of_live(run.key.number, &run.stdout, &run.stderr)))
    }

    pub(super) fn unrecorded_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| {
            !matches!(run.state, RunState::Clearing { .. } | RunState::Closing { .. })
        })
    }

    /// The exit code of the newest finished run.
    pub fn last_exit_code(&self) -> Option<u8> {
        self.last.as_ref().map(|last| last.end.exit_code())
    }

    /// Why the newest run is deferred: what this machine is short of.
    pub fn error(&self) -> Option<&str> {
        self.runs.iter().rev().find_map(|run| match &run.state {
            RunState::Deferred { error, .. } => Some(error.as_str()),
            RunState::Queued
            | RunState::Running { .. }
            | RunState::Stopping { .. }
            | RunState::Clearing { .. }
            | RunState::Closing { .. } => None,
        })
    }

    /// When the next run is due, or the next restart.
    pub fn next_run_at(&self, now: Now) -> Option<Wall> {
        let wait = match &self.phase {
            Phase::Backoff { until } => until.since(now.mono),
            Phase::Scheduled { due, .. } => self.timetable()?.wait((*due)?, now),
            Phase::Idle { .. }
            | Phase::Waiting { .. }
            | Phase::Active
            | Phase::Stopping { .. }
            | Phase::Ended { .. }
            | Phase::Expired
            | Phase::Gone => return None,
        };
        Some(Wall(now.wall.0.saturating_add(i64::try_from(wait.as_millis()).ok()?)))
    }

    /// What the API calls its state.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle { pending: None } => self.run_state().unwrap_or(State::Idle),
            Phase::Idle { pending: Some(_) } => self.run_state().unwrap_or(State::Waiting),
            Phase::Waiting { .. } => State::Waiting,
            Phase::Active => self.run_state().unwrap_or(State::Starting),
            Phase::Backoff { .. } => State::Backoff,
            Phase::Scheduled { .. } => self.run_state().unwrap_or(State::Scheduled),
            Phase::Stopping { .. } => State::Stopping,
            Phase::Ended { outcome: Outcome::Succeeded, .. } => State::Succeeded,
            Phase::Ended { outcome: Outcome::Failed, .. } => State::Failed,
            Phase::Ended { outcome: Outcome::Killed, .. } | Phase::Expired | Phase::Gone => {
                State::Killed
            }
        }
    }

    fn run_state(&self) -> Option<State> {
        self.runs.last().map(|run| match &run.state {
            RunState::Queued | RunState::Deferred { .. } => State::Starting,
            RunState::Running { .. } => State::Running,
            RunState::Stopping { .. } | RunState::Clearing { .. } | RunState::Closing { .. } => {
                State::Stopping
            }
        })
    }
}

/// So many finished runs are read at a time, and those that were live beside the last of them.
const RUNS_AT_A_TIME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Cursor, ExitStatus, LogFilter, LogItem, Spelling, Stream, Value, parse};
    use crate::supervisor::{RunKey, Settings, Supervisor};
    use std::time::Duration;

    /// A run that ended behind the last of a part of the history had its first lines left out, as
    /// those were before the end of that part.
    #[test]
    fn runs_beside_others_are_read_whole_wherever_the_history_is_parted() {
        let settings = Settings {
            instance: "k".to_owned(),
            job_limit: 1,
            output_memory: 1 << 20,
            shutdown_timeout: Duration::from_secs(9),
            main: None,
        };
        let now = Now::default();
        let mut supervisor = Supervisor::new(settings, now);
        let spec = r#"{"type":"cron","executable":"x","schedule":"@yearly",
            "concurrencyPolicy":"allow","output":{"historyLimit":1000}}"#;
        let spec: Value = serde_json::from_str(spec).unwrap();
        let spec = parse(spec, "/", Spelling::Camel).unwrap();
        supervisor.create(JobId::parse("a").unwrap(), spec, now).unwrap();
        let mut live = std::collections::VecDeque::new();
        for pid in 1..=300 {
            supervisor.run("a", now).unwrap();
            let launch = supervisor.poll_spawn().unwrap();
            let run = launch.run;
            supervisor.handle_spawned(launch, Pid(pid), now);
            live.push_back(pid);
            // Three at a time; and the first one is there to the end.
            let older = if live.len() > 3 { live.remove(1) } else { None };
            supervisor.handle_output(run, Stream::Stdout, b"begin\n", now);
            if let Some(pid) = older {
                let run = RunKey { number: pid as u64, ..run };
                supervisor.handle_output(run, Stream::Stderr, b"end\n", now);
                supervisor.handle_exit(Pid(pid), ExitStatus::Code(0), false, now);
            }
        }
        let job = supervisor.job("a").unwrap();
        let filter = LogFilter { first_run: 0, last_run: u64::MAX, stream: None };
        let (mut cursor, mut numbers, mut parts) = (Cursor::default(), Vec::new(), 0);
        let end = job.log_end().place();
        while cursor.place() < end {
            let (runs, until) = job.logs_from(cursor.place());
            cursor.read_lines(runs, filter, until, usize::MAX, |item| match item {
                LogItem::Line(line) => numbers.push(line.number),
                LogItem::Lost(count) => panic!("{count} are lost behind {:?}", numbers.last()),
            });
            cursor.skip_to(until);
            parts += 1;
        }
        assert_eq!(numbers, (1..=300 + 297).collect::<Vec<u64>>());
        assert_eq!(parts, 5);
    }
}
