//! Counters for metrics: those of a job, which outlive a new specification, and those of all jobs
//! that ever existed. No counter ever decreases.
//!
//! ```text
//!   a run ends, is skipped, is restarted, writes ──┬──▶ Counts of its job: removed with it
//!                                                  └──▶ Totals: stay
//! ```

use std::time::Duration;

use super::due::Skipped;
use super::histogram::Histogram;
use super::life::Job;
use super::measure::Told;
use super::{Core, SkipReason};
use crate::job::{Reason, RunRecord, Stream};
use crate::time::Wall;

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// By itself, successfully.
    Succeeded,
    /// By itself, unsuccessfully.
    Failed,
    /// It exceeded its timeout.
    TimedOut,
    /// It was not ready in time, or failed its liveness probe.
    Unhealthy,
    /// k1s was asked to stop it.
    Killed,
    /// It could not be started.
    SpawnFailed,
}

/// The counters of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    runs: Outcomes,
    durations: Histogram<{ RUN_BOUNDS.len() }>,
    output: Written,
    last_success: Option<Wall>,
    pub(super) cpu_time: Duration,
    /// The usage of processes that have outlived their run.
    pub(super) left: Told,
}

/// The counters of all jobs together, including removed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    runs: Outcomes,
    /// Restarts and retries.
    pub restarts: u64,
    /// Scheduled runs that were not started.
    pub skipped: Skipped,
    output: Written,
}

/// Runs by their outcome, in the order of [`RunOutcome::ALL`].
type Outcomes = [u64; RunOutcome::ALL.len()];
/// Bytes by stream.
type Written = [u64; 2];

impl RunOutcome {
    /// Each of them once.
    pub const ALL: [RunOutcome; 6] = [
        RunOutcome::Succeeded,
        RunOutcome::Failed,
        RunOutcome::TimedOut,
        RunOutcome::Unhealthy,
        RunOutcome::Killed,
        RunOutcome::SpawnFailed,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RunOutcome::Succeeded => "succeeded",
            RunOutcome::Failed => "failed",
            RunOutcome::TimedOut => "timed-out",
            RunOutcome::Unhealthy => "unhealthy",
            RunOutcome::Killed => "killed",
            RunOutcome::SpawnFailed => "spawn-failed",
        }
    }

    fn of(record: &RunRecord) -> RunOutcome {
        match record.reason {
            Reason::Exited | Reason::Signaled if record.success => RunOutcome::Succeeded,
            Reason::Exited | Reason::Signaled | Reason::Lost => RunOutcome::Failed,
            Reason::TimedOut => RunOutcome::TimedOut,
            Reason::Unhealthy | Reason::NotReady => RunOutcome::Unhealthy,
            Reason::Killed => RunOutcome::Killed,
            Reason::SpawnFailed => RunOutcome::SpawnFailed,
        }
    }
}

impl Counts {
    /// How many finished runs had this outcome.
    pub fn runs(&self, outcome: RunOutcome) -> u64 {
        of_outcome(&self.runs, outcome)
    }

    /// The durations of finished runs that had a process, by [`RUN_BOUNDS`].
    pub fn durations(&self) -> &Histogram<{ RUN_BOUNDS.len() }> {
        &self.durations
    }

    /// How many bytes its runs have written to the stream.
    pub fn output(&self, stream: Stream) -> u64 {
        of_stream(&self.output, stream)
    }

    /// The CPU time of all processes of its runs, as far as it was reported.
    pub fn cpu_time(&self) -> Duration {
        self.cpu_time
    }

    /// When a run last ended as [`RunOutcome::Succeeded`].
    pub fn last_success(&self) -> Option<Wall> {
        self.last_success
    }
}

impl Totals {
    /// How many finished runs had this outcome.
    pub fn runs(&self, outcome: RunOutcome) -> u64 {
        of_outcome(&self.runs, outcome)
    }

    /// How many bytes runs have written to the stream.
    pub fn output(&self, stream: Stream) -> u64 {
        of_stream(&self.output, stream)
    }
}

impl Skipped {
    pub(super) fn count(&mut self, reason: SkipReason) {
        match reason {
            SkipReason::Forbidden => self.forbidden += 1,
            SkipReason::QueueFull => self.queue_full += 1,
            SkipReason::Missed(count) => self.missed += count,
            SkipReason::Blocked => self.blocked += 1,
        }
    }
}

impl Job {
    /// The job's counters. `None` while there is nothing to count, so that jobs that have never
    /// run take no memory for them.
    pub fn counts(&self) -> Option<&Counts> {
        self.counts.as_deref()
    }

    pub(super) fn count_record(&mut self, record: &RunRecord, core: &mut Core) {
        let outcome = RunOutcome::of(record);
        let counts = self.counts.get_or_insert_default();
        add(&mut counts.runs, outcome as usize, 1);
        add(&mut core.totals.runs, outcome as usize, 1);
        if outcome != RunOutcome::SpawnFailed {
            counts.durations.observe(&RUN_BOUNDS, record.duration);
        }
        if outcome == RunOutcome::Succeeded {
            counts.last_success = Some(record.finished_at);
        }
    }

    pub(super) fn count_output(&mut self, stream: Stream, bytes: usize, core: &mut Core) {
        let counts = self.counts.get_or_insert_default();
        add(&mut counts.output, stream as usize, bytes as u64);
        add(&mut core.totals.output, stream as usize, bytes as u64);
    }
}

fn add(counts: &mut [u64], index: usize, more: u64) {
    if let Some(count) = counts.get_mut(index) {
        *count += more;
    }
}

fn of_outcome(runs: &Outcomes, outcome: RunOutcome) -> u64 {
    runs.get(outcome as usize).copied().unwrap_or_default()
}

fn of_stream(output: &Written, stream: Stream) -> u64 {
    output.get(stream as usize).copied().unwrap_or_default()
}

/// The upper bounds of the buckets for the durations of runs, from a failure at once to a job that
/// takes all night. They are few, because each bucket is a series for each job that has run.
pub const RUN_BOUNDS: [Duration; 7] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, JobId, JobSpec, Pid, Signal, Spelling, Value, parse};
    use crate::supervisor::{Action, Left, Put, Settings, Supervisor};
    use crate::time::{Mono, Now};

    fn spec(executable: &str) -> JobSpec {
        let fields = [("type", "one-off"), ("executable", executable)];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap()
    }

    fn supervisor() -> Supervisor {
        let settings = Settings { job_limit: 10, output_memory: 1000, ..Settings::for_tests() };
        Supervisor::new(settings, Now::default())
    }

    /// Nothing is left of any run.
    fn find_nothing(supervisor: &mut Supervisor, now: Now) {
        while let Some(action) = supervisor.poll_action() {
            if let Action::Survey { run, .. } = action {
                supervisor.handle_survey(run, Left::Nothing, now);
            }
        }
    }

    /// Runs the job, lets it write and end after two seconds.
    fn run(supervisor: &mut Supervisor, status: ExitStatus, now: &mut Now) {
        find_nothing(supervisor, *now);
        let launch = supervisor.poll_spawn().unwrap();
        let run = launch.run;
        supervisor.handle_spawned(launch, Pid(7), *now);
        supervisor.handle_output(run, Stream::Stderr, b"abc", *now);
        now.mono = now.mono + Duration::from_secs(2);
        now.wall = Wall(now.wall.0 + 2000);
        supervisor.handle_exit(Pid(7), status, false, *now);
    }

    #[test]
    fn outcomes_are_in_their_order() {
        for (index, outcome) in RunOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.name());
        }
        assert_eq!((Stream::Stdout as usize, Stream::Stderr as usize), (0, 1));
    }

    /// Prometheus would take less for a k1s that was started anew.
    #[test]
    fn another_specification_keeps_what_was_counted_and_a_removal_the_totals() {
        let (mut supervisor, mut now) = (supervisor(), Now { mono: Mono(5), wall: Wall(1000) });
        let id = JobId::parse("a").unwrap();
        supervisor.create(id.clone(), spec("x"), now).unwrap();
        assert_eq!(supervisor.job("a").unwrap().counts(), None, "nothing to count yet");
        run(&mut supervisor, ExitStatus::Code(0), &mut now);
        let success = now.wall;
        assert_eq!(supervisor.put(id.clone(), spec("y"), now), Ok(Put::Replaced));
        run(&mut supervisor, ExitStatus::Signal(Signal::KILL), &mut now);
        let counts = supervisor.job("a").unwrap().counts().unwrap().clone();
        let outcomes = |of: &dyn Fn(RunOutcome) -> u64| RunOutcome::ALL.map(of);
        assert_eq!(outcomes(&|outcome| counts.runs(outcome)), [1, 1, 0, 0, 0, 0]);
        assert_eq!(counts.output(Stream::Stderr), 6);
        assert_eq!(counts.last_success(), Some(success));
        assert_eq!(counts.durations().sum(), Duration::from_secs(4));
        supervisor.remove("a", now).unwrap();
        find_nothing(&mut supervisor, now);
        supervisor.create(id, spec("x"), now).unwrap();
        assert_eq!(supervisor.job("a").unwrap().counts(), None, "it is another one");
        let totals = supervisor.totals();
        assert_eq!(outcomes(&|outcome| totals.runs(outcome)), [1, 1, 0, 0, 0, 0]);
        assert_eq!(totals.output(Stream::Stderr), 6);
    }
}
