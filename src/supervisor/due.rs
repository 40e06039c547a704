//! When the runs of a cron job are due, and which of them can still be started.
//!
//! Intervals count elapsed time, expressions follow the wall clock. A [`Moment`] is a time of the
//! clock that the schedule follows, so that the same rules serve both:
//!
//! - the *nominal* time of a run is the one that the schedule names; jitter is added to it;
//! - a run that is late by more than its deadline is skipped, and is not made up for; of several
//!   runs that are late by less, one is started;
//! - the next run is the first whose nominal time is still to come.

use std::ops::{Add, Sub};
use std::time::Duration;

use super::backoff::fraction;
use crate::job::spec::{CronSpec, Kind};
use crate::job::{JobId, JobSpec};
use crate::schedule::Schedule;
use crate::time::{Mono, Now, Wall};

/// How many runs were due but not started, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Another run was active, and the policy is `forbid`.
    pub forbidden: u64,
    /// One run was already waiting: to be spawned, or because of the policy `queue` or `replace`.
    pub queue_full: u64,
    /// It was late by more than the starting deadline.
    pub missed: u64,
    /// What the job depends on was not there.
    pub blocked: u64,
}

/// A time of the clock that a schedule follows, in milliseconds: elapsed time for an interval, the
/// wall clock for an expression. Moments of two schedules must not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) i64);

/// The next run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The time that the schedule names.
    pub(super) nominal: Moment,
    /// When it is started: the nominal time plus the job's jitter.
    pub(super) at: Moment,
}

impl Due {
    /// Both times as numbers, to be stored.
    pub(super) fn numbers(self) -> (i64, i64) {
        let Due { nominal, at } = self;
        (nominal.0, at.0)
    }
}

/// What to do when the timer for a run has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether to start a run now.
    pub(super) run: bool,
    /// How many runs are skipped because they are too late.
    pub(super) missed: u64,
    /// The next run to wait for.
    pub(super) next: Option<Due>,
}

/// A job's schedule, with everything that determines its runs.
pub(super) struct Timetable<'a> {
    spec: &'a CronSpec,
    created: Mono,
    jitter: Duration,
}

impl<'a> Timetable<'a> {
    pub(super) fn new(spec: &'a CronSpec, id: &JobId, created: Now) -> Timetable<'a> {
        let jitter = spec.jitter.mul_f64(fraction(id));
        Timetable { spec, created: created.mono, jitter }
    }

    /// The first run after now; none while the job is suspended.
    pub(super) fn first(&self, now: Now) -> Option<Due> {
        if self.spec.suspend { None } else { self.after(self.clock(now)) }
    }

    /// What to do about `due`, now.
    pub(super) fn check(&self, due: Due, now: Now) -> Verdict {
        let clock = self.clock(now);
        if clock < due.at {
            return Verdict { run: false, missed: 0, next: Some(due) };
        }
        let oldest = self.passed(now) - self.spec.starting_deadline;
        let kept = if due.nominal >= oldest { Some(due) } else { self.after(oldest - MILLISECOND) };
        let run = kept.filter(|kept| kept.at <= clock);
        let passed = run.map_or(self.passed(now), |run| run.nominal.max(self.passed(now)));
        let next = self.after(passed);
        let wanted = self.count(due.nominal, passed);
        Verdict { run: run.is_some(), missed: wanted - u64::from(run.is_some()).min(wanted), next }
    }

    /// The wall clock was set: returns the next run, and up to when runs have been dealt with.
    /// When the clock goes back by up to three hours, fixed times that have been dealt with are
    /// not repeated (as in Debian's cron); an expression that follows the wall clock does not
    /// repeat the last minute. When it goes back further, the new time counts. A run that only
    /// waits for its jitter stays due.
    pub(super) fn after_step(
        &self,
        due: Due,
        kept: Option<Moment>,
        now: Now,
    ) -> (Option<Due>, Option<Moment>) {
        let clock = self.clock(now);
        if clock >= due.nominal {
            return (Some(due), kept);
        }
        let span = match &self.spec.schedule {
            Schedule::Every(_) => return (Some(due), kept),
            Schedule::Cron(cron) if cron.follows_wall_clock() => Duration::from_mins(1),
            Schedule::Cron(_) => Duration::from_hours(3),
        };
        let kept = kept.filter(|kept| kept.since(clock) <= span);
        (self.after(kept.map_or(clock, |kept| kept.max(clock))), kept)
    }

    /// The time until `due`, by the clock of the schedule. Between two steps both clocks run at
    /// the same rate, also while that is adjusted: clock_gettime(2).
    pub(super) fn wait(&self, due: Due, now: Now) -> Duration {
        due.at.since(self.clock(now))
    }

    /// The nominal time up to which runs have been started or skipped.
    pub(super) fn passed(&self, now: Now) -> Moment {
        self.clock(now) - self.jitter
    }

    fn clock(&self, now: Now) -> Moment {
        match &self.spec.schedule {
            Schedule::Every(_) => elapsed(now.mono),
            Schedule::Cron(_) => Moment(now.wall.0),
        }
    }

    /// The first run whose nominal time is later.
    fn after(&self, nominal: Moment) -> Option<Due> {
        let next = match &self.spec.schedule {
            Schedule::Every(interval) => {
                let (created, interval) = (elapsed(self.created), millis(*interval).max(1));
                let ticks = millis(nominal.since(created)) / interval + 1;
                Moment(created.0.checked_add(ticks.checked_mul(interval)?)?)
            }
            Schedule::Cron(cron) => Moment(cron.next(Wall(nominal.0))?.0),
        };
        Some(Due { nominal: next, at: next + self.jitter })
    }

    /// How many runs the schedule has from `first` to `last`; for an expression, [`COUNTED`] at
    /// most.
    fn count(&self, first: Moment, last: Moment) -> u64 {
        match &self.spec.schedule {
            Schedule::Every(_) if last < first => 0,
            Schedule::Every(interval) => {
                (millis(last.since(first)) / millis(*interval).max(1) + 1).unsigned_abs()
            }
            Schedule::Cron(_) => {
                let mut next = Some(first);
                (0..COUNTED)
                    .take_while(|_| {
                        let inside = next.is_some_and(|next| next <= last);
                        next = next.and_then(|next| self.after(next)).map(|due| due.nominal);
                        inside
                    })
                    .count() as u64
            }
        }
    }
}

impl Moment {
    /// How long after `earlier` this is; zero when it is not later.
    fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Adds whole milliseconds.
impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(millis(duration)))
    }
}

/// Subtracts whole milliseconds.
impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(millis(duration)))
    }
}

fn elapsed(at: Mono) -> Moment {
    Moment(i64::try_from(at.0).unwrap_or(i64::MAX))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the moments of a job are of elapsed time; otherwise they are of the wall clock.
pub(super) fn follows_elapsed_time(spec: &JobSpec) -> bool {
    matches!(&spec.kind, Kind::Cron(cron) if matches!(cron.schedule, Schedule::Every(_)))
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// How many missed runs of an expression are counted at a time, as in Kubernetes: each takes a
/// search of up to half a microsecond, and a turn may deal with 64 jobs.
const COUNTED: usize = 100;
