//! What the simulation knows of jobs, of runs and of the shutdown, and holds them against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::job::spec::{Concurrency, Kind, RestartPolicy};
use crate::job::{JobId, JobSpec};
use crate::supervisor::{Counts, Job, Milestone, Progress, RunOutcome, State};
use crate::time::Now;

use super::probes::{Patience, Signs};
use super::written::Written;
use super::{STREAMS, specs};

/// What is known of a job, whether it is still listed or not.
pub(super) struct JobModel {
    pub(super) id: JobId,
    pub(super) is_removed: bool,
    /// It has had other specifications.
    pub(super) is_replaced: bool,
    pub(super) created: u64,
    /// Its results, as long as the history is.
    pub(super) results: VecDeque<(u64, u8)>,
    /// How many runs have ended, and how many bytes they have written.
    pub(super) ended: u64,
    pub(super) written: u64,
    pub(super) output: Written,
    /// The CPU time of its runs that was told, in milliseconds.
    pub(super) used: u64,
    pub(super) last_launched: u64,
    /// Deferred runs.
    pub(super) deferred: BTreeSet<u64>,
    /// The longest grace period, the shortest timeout and the shortest period that it ever had.
    pub(super) grace: u64,
    pub(super) timeout: Option<u64>,
    pub(super) patience: Patience,
    period: u64,
    pub(super) replaces: bool,
    pub(super) allows: bool,
    is_cron: bool,
    /// It is restarted when another job has a new run.
    pub(super) renews: bool,
    /// How often it was started, and how often a request or a clock step gave a reason to.
    pub(super) starts: u64,
    pub(super) reasons: u64,
    /// Until it is asked to start: how many runs it was asked for. No other may start.
    pub(super) idle: Option<u64>,
    /// What was said to come no more, and how many reasons there were then to do anything.
    pub(super) never: BTreeMap<Milestone, u64>,
}

#[derive(Default)]
pub(super) struct RunModel {
    pub(super) started: u64,
    /// A user has asked for its end.
    pub(super) is_asked: bool,
    pub(super) is_over: bool,
    /// Its CPU time in milliseconds, and how much of that was told.
    pub(super) used: u64,
    pub(super) told: u64,
    /// What was told last was not all.
    pub(super) was_part: bool,
    pub(super) signs: Signs,
}

pub(super) struct ShutdownModel {
    /// By when everything must be killed.
    pub(super) deadline: u64,
    /// When it was.
    pub(super) killed_at: Option<u64>,
}

impl JobModel {
    pub(super) fn new(job: &Job, now: Now) -> JobModel {
        let mut model = JobModel {
            id: job.id().clone(),
            is_removed: false,
            is_replaced: false,
            created: now.mono.0,
            results: VecDeque::new(),
            ended: 0,
            written: 0,
            output: Written::default(),
            used: 0,
            last_launched: 0,
            deferred: BTreeSet::new(),
            grace: 0,
            timeout: None,
            patience: Patience::default(),
            period: u64::MAX,
            replaces: false,
            allows: false,
            is_cron: matches!(job.spec().kind, Kind::Cron(_)),
            renews: false,
            starts: 0,
            reasons: 2,
            idle: (!job.spec().autostart).then_some(0),
            never: BTreeMap::new(),
        };
        model.learn(job.spec());
        model
    }

    /// Records a specification that it has or had.
    pub(super) fn learn(&mut self, spec: &JobSpec) {
        self.grace = self.grace.max(spec.stop.timeout.as_millis() as u64);
        let timeout = spec.timeout.map(|timeout| timeout.as_millis() as u64);
        self.timeout = [self.timeout, timeout].into_iter().flatten().min();
        self.patience.learn(spec);
        self.reasons += 1;
        self.renews |= spec.depends_on.values().any(|on| on.restart);
        if let Kind::Cron(cron) = &spec.kind {
            self.period = self.period.min(specs::period(&cron.schedule));
            self.replaces |= cron.concurrency == Concurrency::Replace;
            self.allows |= cron.concurrency == Concurrency::Allow;
        }
    }

    /// A user has asked for something: a job may be idle until then. A cron job that is run stays
    /// so.
    pub(super) fn rouse(&mut self, request: &str) {
        match (request, self.is_cron) {
            ("run", true) => self.idle = self.idle.map(|asked| asked + 1),
            ("start" | "restart" | "run", _) => self.idle = None,
            _ => {}
        }
    }

    /// Forgets the results that its history has no room for.
    pub(super) fn trim(&mut self, spec: &JobSpec) {
        while self.results.len() > spec.output.history_limit {
            self.results.pop_front();
        }
    }

    pub(super) fn check(&mut self, job: &Job, now: Now, is_step_unseen: bool) {
        self.trim(job.spec());
        let results = job.results().map(|result| (result.number, result.exit_code()));
        assert!(results.eq(self.results.iter().copied()), "{}: {:?}", self.id, self.results);
        self.check_counts(job);
        if let Some(next) = job.next_run_at(now)
            && !is_step_unseen
        {
            assert!(next > now.wall, "{} was due at {next:?}, and it is {now:?}", self.id);
        }
        self.check_progress(job);
        assert!(self.idle.is_some() || job.state() != State::Idle, "{} was started", self.id);
        match &job.spec().kind {
            Kind::Cron(_) => {
                let elapsed = now.mono.0 - self.created;
                let most = elapsed / self.period + self.reasons;
                assert!(self.starts <= most, "{}: {} starts, not {most}", self.id, self.starts);
            }
            Kind::Continuous { .. } | Kind::OneOff { .. } => {}
        }
    }

    /// What it has reached is how it is, and what it never will does not come by itself.
    fn check_progress(&mut self, job: &Job) {
        let state = job.state();
        for (milestone, is_so) in [
            (Milestone::Ended, is_over(job)),
            (Milestone::Succeeded, state == State::Succeeded),
            (Milestone::Ready, matches!(state, State::Running | State::Succeeded)),
        ] {
            let progress = job.progress(milestone);
            // Beside a run that is still to start, or is being stopped, another may be running.
            let may_wait = self.allows || job.spec().readiness.is_some();
            let is_beside = milestone == Milestone::Ready && may_wait;
            let is_reached = progress == Progress::Reached;
            assert!(is_reached == is_so || is_beside, "{}, {state:?}: {milestone:?}", self.id);
            let before = self.never.get(&milestone).copied();
            assert!(!is_reached || before != Some(self.reasons), "{}: {milestone:?}", self.id);
            if progress == Progress::Never {
                self.never.insert(milestone, self.reasons);
            }
        }
    }

    /// Whatever its specification has been, all that has happened to it is counted.
    fn check_counts(&self, job: &Job) {
        let none = Counts::default();
        let counts = job.counts().unwrap_or(&none);
        assert_eq!(RunOutcome::ALL.iter().map(|o| counts.runs(*o)).sum::<u64>(), self.ended);
        assert_eq!(STREAMS.iter().map(|stream| counts.output(*stream)).sum::<u64>(), self.written);
        assert_eq!(counts.cpu_time(), Duration::from_millis(self.used), "{}", self.id);
        let spawned = self.ended - counts.runs(RunOutcome::SpawnFailed);
        assert_eq!(counts.durations().count(), spawned, "{}: durations", self.id);
    }

    /// Whether the job may be in its state: one that is always restarted does not end.
    pub(super) fn may_be(&self, job: &Job) -> bool {
        let Kind::Continuous { restart, .. } = &job.spec().kind else {
            return true;
        };
        let goes_on = restart.policy == RestartPolicy::Always && restart.max_restarts.is_none();
        !goes_on || !is_over(job) || job.is_kill_requested() || self.is_replaced
    }
}

pub(super) fn is_over(job: &Job) -> bool {
    matches!(job.state(), State::Succeeded | State::Failed | State::Killed)
}

pub(super) fn has_time_to_live(job: &Job) -> bool {
    is_over(job) && matches!(&job.spec().kind, Kind::OneOff { ttl_after_finished: Some(_), .. })
}
