//! When a cron job is due.

mod rfc3339;

use std::time::Duration;

use crate::time::Wall;

pub use self::rfc3339::{format_rfc3339, format_rfc3339_seconds, parse_rfc3339};

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

impl CronSchedule {
    /// The first time strictly after `after`; `None` when there is none within the calendar.
    pub fn next(&self, _after: Wall) -> Option<Wall> {
        None
    }
}
