//! When a cron job's runs are due, and which of them can still be kept.
//!
//! Interval jobs live by elapsed time, expressions by the wall clock. Both are counted in
//! milliseconds of their own clock here, so that one set of rules serves both:
//!
//! - a run is *nominally* due when the schedule says so; jitter is added to that;
//! - a run that comes too late by more than its deadline is skipped, not made up for, and of
//!   several that were missed within the deadline one is run;
//! - the run after that is the first one that is still to come.

use std::time::Duration;

use super::backoff::fraction;
use crate::job::JobId;
use crate::job::spec::CronSpec;
use crate::schedule::Schedule;
use crate::time::{Mono, Now, Wall};

/// The runs that a schedule wanted and that were not started, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Another run was going, and the policy is `forbid`.
    pub forbidden: u64,
    /// One run was waiting already: to be spawned, or by the policy `queue` or `replace`.
    pub queue_full: u64,
    /// Its moment had passed by more than the starting deadline.
    pub missed: u64,
}

/// The next run of a job, in milliseconds of the schedule's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// When the schedule wants it.
    nominal: i64,
    /// When it is started: the nominal time and the job's jitter.
    at: i64,
}

/// What is to be done when a timer says that a run may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether a run is to be started now.
    pub(super) run: bool,
    /// How many runs can no longer be kept.
    pub(super) missed: u64,
    /// The next run to wait for.
    pub(super) next: Option<Due>,
}

/// A job's schedule, with all that its runs depend on.
pub(super) struct Timetable<'a> {
    spec: &'a CronSpec,
    created: Mono,
    jitter: i64,
}

impl<'a> Timetable<'a> {
    pub(super) fn new(spec: &'a CronSpec, id: &JobId, created: Now) -> Timetable<'a> {
        let jitter = millis(spec.jitter.mul_f64(fraction(id)));
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
        let oldest = clock - self.jitter - self.tolerance();
        let kept = if due.nominal >= oldest { Some(due) } else { self.after(oldest - 1) };
        let run = kept.filter(|kept| kept.at <= clock);
        let passed = run.map_or(clock - self.jitter, |run| run.nominal.max(clock - self.jitter));
        let next = self.after(passed);
        let wanted = self.count(due.nominal, passed);
        Verdict { run: run.is_some(), missed: wanted - u64::from(run.is_some()).min(wanted), next }
    }

    /// The wall clock was set: which run is next, and up to when all has still been kept. Fixed
    /// times that have been kept are not kept again when the clock goes back by up to three hours
    /// (as Debian's cron); an expression that follows the wall clock repeats nothing of the last
    /// minute. A clock that goes back further is believed, once and for all. A run that only
    /// waits for its jitter is kept.
    pub(super) fn after_step(
        &self,
        due: Due,
        kept: Option<i64>,
        now: Now,
    ) -> (Option<Due>, Option<i64>) {
        let clock = self.clock(now);
        if clock >= due.nominal {
            return (Some(due), kept);
        }
        let span = match &self.spec.schedule {
            Schedule::Every(_) => return (Some(due), kept),
            Schedule::Cron(cron) if cron.follows_wall_clock() => 60_000,
            Schedule::Cron(_) => 3 * 60 * 60 * 1000,
        };
        let kept = kept.filter(|kept| kept - clock <= span);
        (self.after(kept.map_or(clock, |kept| kept.max(clock))), kept)
    }

    /// How long it is until `due`, by the clock of the schedule. Between two steps, elapsed time
    /// and the calendar run at one rate, also where that is adjusted: clock_gettime(2).
    pub(super) fn wait(&self, due: Due, now: Now) -> Duration {
        Duration::from_millis(u64::try_from(due.at - self.clock(now)).unwrap_or(0))
    }

    /// The nominal time up to which everything has been kept or missed.
    pub(super) fn passed(&self, now: Now) -> i64 {
        self.clock(now) - self.jitter
    }

    fn clock(&self, now: Now) -> i64 {
        match &self.spec.schedule {
            Schedule::Every(_) => i64::try_from(now.mono.0).unwrap_or(i64::MAX),
            Schedule::Cron(_) => now.wall.0,
        }
    }

    fn tolerance(&self) -> i64 {
        millis(self.spec.starting_deadline)
    }

    fn after(&self, nominal: i64) -> Option<Due> {
        let next = match &self.spec.schedule {
            Schedule::Every(interval) => {
                let created = i64::try_from(self.created.0).unwrap_or(i64::MAX);
                let interval = millis(*interval).max(1);
                let ticks =
                    (nominal.saturating_sub(created)).div_euclid(interval).saturating_add(1).max(1);
                created.checked_add(ticks.checked_mul(interval)?)?
            }
            Schedule::Cron(cron) => cron.next(Wall(nominal))?.0,
        };
        Some(Due { nominal: next, at: next.saturating_add(self.jitter) })
    }

    /// How many runs the schedule wants from `first` to `last`; of an expression no more than
    /// [`COUNTED`] are counted.
    fn count(&self, first: i64, last: i64) -> u64 {
        match &self.spec.schedule {
            Schedule::Every(interval) => {
                let ticks = (last - first).div_euclid(millis(*interval).max(1)) + 1;
                u64::try_from(ticks).unwrap_or(0)
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

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Of an expression, so many missed runs are counted at a time and no more, as in Kubernetes: each
/// is a search of up to half a microsecond, and a turn may deal with 64 jobs.
const COUNTED: usize = 100;
