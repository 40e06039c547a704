//! The memory and CPU time of runs: requested, looked up by the caller, and reported.
//!
//! ```text
//!   measure ─▶ Action::Measure ─▶ … handle_usage, for each run … ─▶ handle_measured
//!      └─ its number, to wait for                                       └─▶ Topic::Measured
//! ```
//!
//! Requests during a measurement share its result. A reported usage is valid until the end of the
//! next measurement.
//!
//! The CPU time of a job never decreases, but the sum over the living processes of a run does:
//! when a process ends and its parent does not wait for it, its time disappears. When its parent
//! does so during a measurement, its time may be missing once, and is back in the next sum.
//! Therefore an increase counts from the larger of the last two sums.

use std::time::Duration;

use super::histogram::Histogram;
use super::life::Job;
use super::{Action, JobKey, Owner, RunKey, Supervisor, Topic};
use crate::time::Wall;

/// The memory and CPU time of some processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of processes, without zombies.
    pub processes: u64,
    /// Resident memory in bytes. Memory that two of them share counts twice.
    pub resident_bytes: u64,
    /// Their CPU time, including that of children they have waited for.
    pub cpu_time: Duration,
}

/// Figures of k1s itself, reported by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// When k1s was started.
    pub started: Wall,
    /// CPU time, without that of children.
    pub cpu_time: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Allocated memory in bytes.
    pub heap_bytes: u64,
    /// Open file descriptors; `None` when they could not be counted.
    pub open_descriptors: Option<u64>,
    /// How many may be open.
    pub max_descriptors: u64,
    /// The durations of the turns of the loop, by [`TURN_BOUNDS`].
    pub turns: Histogram<{ TURN_BOUNDS.len() }>,
    /// The longest turn.
    pub longest_turn: Duration,
    /// Timers that are set, without the supervisor's own.
    pub timers: u64,
    /// Open connections.
    pub connections: u64,
    /// Connections that were ever accepted.
    pub accepted: u64,
    /// The size of the buffers of all connections, in bytes.
    pub connection_bytes: u64,
    /// Output that is queued for k1s's own stdout and stderr, in bytes.
    pub console_bytes: u64,
    /// Log files that cannot be written.
    pub failing_files: u64,
    /// Output that could not be written to log files, in bytes.
    pub missing_bytes: u64,
}

/// The last report about a run, or about leftovers of former runs of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    usage: Usage,
    /// The CPU time of the report before.
    before: Duration,
    /// The number of the measurement.
    number: u64,
}

/// Where measurements stand.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    /// How many have finished.
    over: u64,
    is_under_way: bool,
    vitals: Vitals,
}

impl Supervisor {
    /// Requests a measurement. It has finished when [`Supervisor::measured`] has reached the number
    /// that this returns.
    pub fn measure(&mut self) -> u64 {
        let measurements = &mut self.core.measurements;
        if !std::mem::replace(&mut measurements.is_under_way, true) {
            self.core.actions.push_back(Action::Measure);
        }
        measurements.over + 1
    }

    /// How many measurements have finished. [`Topic::Measured`] changes with each.
    pub fn measured(&self) -> u64 {
        self.core.measurements.over
    }

    /// A part of the answer to [`Action::Measure`]: the usage of all processes of a run, or of all
    /// leftovers of former runs of a job. Reported at most once for each in a measurement.
    pub fn handle_usage(&mut self, owner: Owner, usage: Usage) {
        let number = self.core.measurements.over + 1;
        let (Owner::Run(RunKey { job: key, .. }) | Owner::Job(key)) = owner;
        if let Some(job) = self.jobs.get_mut(&key) {
            job.handle_usage(owner, usage, number);
        }
    }

    /// The end of the answer to [`Action::Measure`].
    pub fn handle_measured(&mut self, vitals: Vitals) {
        let measurements = &mut self.core.measurements;
        *measurements = Measurements { over: measurements.over + 1, is_under_way: false, vitals };
        self.core.changed.note(Topic::Measured);
    }

    /// The first process of a run was collected. `cpu_time` is its own, including that of children
    /// it has waited for.
    pub fn handle_cpu_time(&mut self, run: RunKey, cpu_time: Duration) {
        if let Some(job) = self.jobs.get_mut(&run.job) {
            job.handle_cpu_time(run, cpu_time);
        }
    }

    /// The figures of k1s itself, as of the last measurement.
    pub fn vitals(&self) -> &Vitals {
        &self.core.measurements.vitals
    }

    /// The usage of the job's processes by the last measurement; `None` when it found none.
    pub fn usage_of(&self, job: &Job) -> Option<Usage> {
        let left = job.counts().map(|counts| counts.left);
        let told = job.runs.iter().map(|run| run.told).chain(left);
        told.filter(|told| told.number > 0 && told.number >= self.measured())
            .map(|told| told.usage)
            .reduce(Usage::and)
    }

    /// The job with this [`JobKey::number`], even if it was removed but still has processes.
    pub fn job_numbered(&self, number: u64) -> Option<&Job> {
        self.jobs.get(&JobKey(number)).map(Box::as_ref)
    }

    /// How many timers are set.
    pub fn timers(&self) -> usize {
        self.core.timers.count()
    }
}

impl Job {
    /// The runs that have processes or are about to.
    pub fn live_runs(&self) -> impl Iterator<Item = RunKey> {
        self.runs.iter().map(|run| run.key)
    }

    fn handle_usage(&mut self, owner: Owner, usage: Usage, number: u64) {
        let counts = self.counts.get_or_insert_default();
        match owner {
            // An unknown part of their CPU time was counted while their run existed.
            Owner::Job(_) => counts.left = Told { usage, number, ..Told::default() },
            Owner::Run(key) => {
                // For a run that has ended meanwhile, handle_cpu_time has reported it.
                let Some(run) = self.runs.iter_mut().find(|run| run.key == key) else { return };
                counts.cpu_time += run.told.used_since(usage.cpu_time);
                run.told = Told { usage, before: run.told.usage.cpu_time, number };
            }
        }
    }

    fn handle_cpu_time(&mut self, run: RunKey, cpu_time: Duration) {
        let Some(run) = self.runs.iter_mut().find(|r| r.key == run) else { return };
        let counts = self.counts.get_or_insert_default();
        counts.cpu_time += run.told.used_since(cpu_time);
        run.told.before = cpu_time;
    }
}

impl Told {
    fn used_since(&self, cpu_time: Duration) -> Duration {
        cpu_time.saturating_sub(self.before.max(self.usage.cpu_time))
    }
}

impl Usage {
    /// The sum of both.
    pub fn and(self, other: Usage) -> Usage {
        Usage {
            processes: self.processes + other.processes,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            cpu_time: self.cpu_time + other.cpu_time,
        }
    }
}

/// The upper bounds of the buckets for the durations of turns.
pub const TURN_BOUNDS: [Duration; 5] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ExitStatus, JobId, Pid, Spelling, Value, parse};
    use crate::supervisor::Settings;
    use crate::time::Now;

    fn running() -> (Supervisor, RunKey) {
        let settings = Settings::for_tests();
        let mut supervisor = Supervisor::new(settings, Now::default());
        let fields = [("type", "one-off"), ("executable", "x")];
        let fields = fields.map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        let spec = parse(Value::Table(fields.into()), "/", Spelling::Camel).unwrap();
        supervisor.create(JobId::parse("x").unwrap(), spec, Now::default()).unwrap();
        let launch = supervisor.poll_spawn().unwrap();
        let run = launch.run;
        supervisor.handle_spawned(launch, Pid(7), Now::default());
        while supervisor.poll_changed().is_some() {}
        (supervisor, run)
    }

    fn usage(seconds: u64) -> Usage {
        Usage { processes: 2, resident_bytes: 100, cpu_time: Duration::from_secs(seconds) }
    }

    fn tell(supervisor: &mut Supervisor, told: &[(Owner, Usage)]) {
        for (owner, usage) in told {
            supervisor.handle_usage(*owner, *usage);
        }
        supervisor.handle_measured(Vitals::default());
    }

    fn cpu_seconds(supervisor: &Supervisor) -> u64 {
        supervisor.job("x").unwrap().counts().unwrap().cpu_time().as_secs()
    }

    #[test]
    fn requests_during_a_measurement_share_it() {
        let (mut supervisor, _) = running();
        assert_eq!((supervisor.measured(), supervisor.measure(), supervisor.measure()), (0, 1, 1));
        assert_eq!(supervisor.poll_action(), Some(Action::Measure));
        assert_eq!((supervisor.poll_action(), supervisor.poll_changed()), (None, None));
        tell(&mut supervisor, &[]);
        assert_eq!((supervisor.measured(), supervisor.poll_changed()), (1, Some(Topic::Measured)));
        assert_eq!((supervisor.measure(), supervisor.poll_action()), (2, Some(Action::Measure)));
    }

    #[test]
    fn a_usage_is_valid_until_the_end_of_the_next_measurement() {
        let (mut supervisor, run) = running();
        let shown = |supervisor: &Supervisor| supervisor.usage_of(supervisor.job("x").unwrap());
        assert_eq!(shown(&supervisor), None);
        let left = (Owner::Job(run.job), usage(5));
        tell(&mut supervisor, &[(Owner::Run(run), usage(1)), left]);
        assert_eq!(shown(&supervisor), Some(usage(1).and(usage(5))));
        supervisor.handle_usage(Owner::Run(run), usage(2));
        assert_eq!(shown(&supervisor), Some(usage(2).and(usage(5))));
        supervisor.handle_measured(Vitals::default());
        assert_eq!(shown(&supervisor), Some(usage(2)), "the leftovers are gone");
        tell(&mut supervisor, &[]);
        assert_eq!(shown(&supervisor), None);
    }

    #[test]
    fn cpu_time_never_decreases_and_is_counted_once() {
        let (mut supervisor, run) = running();
        let mut told = 0;
        // A process is missing once, then one is gone for good.
        for (seconds, counted) in [(10, 10), (3, 10), (11, 11), (4, 11), (5, 11), (6, 12), (8, 14)]
        {
            tell(
                &mut supervisor,
                &[(Owner::Run(run), usage(seconds)), (Owner::Job(run.job), usage(99))],
            );
            assert_eq!(cpu_seconds(&supervisor), counted, "{seconds}");
            told = seconds;
        }
        supervisor.handle_cpu_time(run, Duration::from_secs(told + 2));
        assert_eq!(cpu_seconds(&supervisor), 16);
        tell(&mut supervisor, &[(Owner::Run(run), usage(told + 2))]);
        assert_eq!(cpu_seconds(&supervisor), 16, "a report that comes late");
        supervisor.handle_exit(Pid(7), ExitStatus::Code(0), false, Now::default());
        tell(&mut supervisor, &[(Owner::Run(run), usage(50))]);
        assert_eq!(cpu_seconds(&supervisor), 16, "a report of a run that has ended");
    }

    /// Each job that has run has them.
    #[test]
    fn counts_are_small() {
        assert!(size_of::<super::super::Counts>() <= 240);
    }
}
