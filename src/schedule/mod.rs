//! When a cron job is due: at an interval, or by a cron expression in a time zone.
//!
//! ```text
//! "30 2 * * mon-fri"   ─ expression ─▶  Fields: a set of numbers for each field
//! "Europe/Berlin"      ─ jiff ───────▶  TimeZone, shared by all schedules in it
//!                                          │
//! after ─────────────────────── search ────┴──▶ the first time strictly after
//! ```
//!
//! # Expressions
//!
//! As in Debian's crontab(5): minute, hour, day of month, month, day of week, separated by blanks;
//! if there is a sixth field, it comes first and is the second. A field is a list (`1,15`) of
//! numbers, ranges (`9-17`, `mon-fri`) and `*`. Ranges and `*` may have a step (`0-30/10`, `*/5`),
//! which counts from the beginning of the range; if it is longer than the range, only the beginning
//! matches. Months and days of the week may be named by their first three letters, in any case.
//! Sunday is 0, 7 and `sun`; the name means 0, so `sat-sun` runs backwards and is refused.
//! `@yearly` and the like stand for five fields.
//!
//! Days: if day of month and day of week are both restricted, a day in either matches; otherwise it
//! must be in both. A field that begins with `*` does not count as restricted, even if it leaves
//! days out (`*/2`): `0 0 */2 * mon` means odd days that are Mondays.
//!
//! # Clock changes
//!
//! As in Debian's cron(8). Times whose minute or hour begins with `*` are *intervals*: they follow
//! the wall clock through a change, are skipped in an hour that is skipped, and come twice in an
//! hour that comes twice. All other times are *fixed*, whatever lists, ranges and seconds they
//! contain, and each runs once:
//!
//! - Clocks go forward: times in the gap are one run, at the second of the change. It is one run,
//!   however many times are in the gap, and even if the first time after the gap matches, too.
//!   (Debian's daemon would run `0,30 2 * * *` twice in that minute.) Days and months are those of
//!   the skipped times.
//! - Clocks go back: a time that comes twice runs the first time only.
//!
//! The length of the change and its time do not matter: half an hour on Lord Howe Island, an hour
//! at midnight in Santiago, or 30 December 2011, a day that Apia skipped: `0 12 30 * *` ran there
//! at the first second of the 31st. (Debian's daemon sees only the clock of the machine and cannot
//! distinguish such a day from a correction, so it makes up only for changes of less than three
//! hours. A time zone can.)
//!
//! # What this room does not do
//!
//! Nothing here reads a clock or a file: the time zones are built in. The files of the
//! system may be a FIFO, or on a server that does not answer, and would block the loop.

mod expression;
#[cfg(feature = "properties")]
pub(crate) mod properties;
mod search;
#[cfg(test)]
mod tests;
mod zones;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::expression::Fields;
use self::zones::find_zone;
use crate::time::Wall;

/// An interval in elapsed time, or a cron expression in calendar time.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// At an interval, in elapsed time since the creation of the job.
    Every(Duration),
    /// By a cron expression.
    Cron(CronSchedule),
}

/// A cron expression in a time zone; two are equal if they were typed the same.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    fields: Fields,
    zone: TimeZone,
    expression: Box<str>,
    time_zone: Box<str>,
}

impl CronSchedule {
    /// Reads a cron expression (see the module) and the IANA name of a time zone, in any case.
    ///
    /// # Errors
    ///
    /// The expression is wrong, the time zone is unknown, or no year has a day that matches the
    /// expression.
    pub fn parse(expression: &str, time_zone: &str) -> Result<CronSchedule, ScheduleError> {
        let fields = Fields::parse(expression).map_err(ScheduleError::Expression)?;
        let zone =
            find_zone(time_zone).ok_or_else(|| ScheduleError::Zone(time_zone.to_string()))?;
        if !fields.ever_come() {
            return Err(ScheduleError::Never(expression.to_string()));
        }
        Ok(CronSchedule {
            fields,
            zone,
            expression: expression.into(),
            time_zone: time_zone.into(),
        })
    }

    /// The expression as it was typed.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether its minute or hour begins with `*`: then it follows every change of the wall clock;
    /// others name fixed times.
    pub fn follows_wall_clock(&self) -> bool {
        !self.fields.fixed
    }

    /// The name of the time zone as it was typed.
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// The first time strictly after `after`, a whole second; `None` when there is none before the
    /// end of the calendar, the year 9999.
    pub fn next(&self, after: Wall) -> Option<Wall> {
        let second = after.0.div_euclid(1000) + 1;
        let from = Timestamp::from_second(second.max(Timestamp::MIN.as_second())).ok()?;
        let next = search::first_at_or_after(&self.fields, &self.zone, from)?;
        Some(Wall(next.as_second() * 1000))
    }

    /// The next `n` times after `after`: what `k1s schedule` prints.
    pub fn upcoming(&self, after: Wall, n: usize) -> impl Iterator<Item = Wall> {
        std::iter::successors(self.next(after), |last| self.next(*last)).take(n)
    }
}

impl PartialEq for CronSchedule {
    fn eq(&self, other: &CronSchedule) -> bool {
        self.expression == other.expression && self.time_zone == other.time_zone
    }
}

/// Why a text is not a [`CronSchedule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The expression is wrong: the field, its text, and what is allowed there, in words.
    Expression(String),
    /// No time zone has this name.
    Zone(String),
    /// This expression matches only days that no year has, such as 30 February.
    Never(String),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::Expression(message) => f.write_str(message),
            ScheduleError::Zone(name) => write!(
                f,
                "time zone {name:?} is not known; allowed is an IANA name such as \
                 \"UTC\" or \"Europe/Berlin\""
            ),
            ScheduleError::Never(expression) => {
                write!(f, "{expression:?} never comes: no month that it names has such a day")
            }
        }
    }
}

impl std::error::Error for ScheduleError {}

/// Whether a time zone has this IANA name, in any case.
pub fn knows_time_zone(name: &str) -> bool {
    find_zone(name).is_some()
}
