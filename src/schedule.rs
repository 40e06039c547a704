//! When a cron job is due.

use std::time::Duration;

use crate::time::Wall;

/// An interval in elapsed time, or a cron expression in calendar time.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Every so often, in elapsed time from the job's creation.
    Every(Duration),
    /// By a cron expression.
    Cron(CronSchedule),
}

/// A cron expression in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct CronSchedule {}

/// Why there is no such schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleError;

impl ScheduleError {
    /// Whether it is the time zone that is wrong.
    pub fn is_about_zone(&self) -> bool {
        false
    }
}

impl std::fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not yet")
    }
}

impl CronSchedule {
    /// stand-in
    pub fn follows_wall_clock(&self) -> bool {
        true
    }
    /// stand-in
    pub fn parse(_e: &str, _z: &str) -> Result<CronSchedule, ScheduleError> {
        Err(ScheduleError)
    }
    /// The first time strictly after `after`; `None` when there is none within the calendar.
    pub fn next(&self, _after: Wall) -> Option<Wall> {
        None
    }
}
