//! When a cron job is due: every so often, or by a cron expression in a time zone.
//!
//! ```text
//! "30 2 * * mon-fri"   ─ expression ─▶  Fields: a set of numbers for each field
//! "Europe/Berlin"      ─ jiff ───────▶  TimeZone, shared by all who name it
//!                                          │
//! after ─────────────────────── search ────┴──▶ the first time strictly after
//! ```
//!
//! # Expressions
//!
//! crontab(5) as Debian has it: minute, hour, day of month, month, day of week, apart by blanks;
//! a sixth field, if there is one, comes first and is the second. A field is a list (`1,15`) of
//! numbers, ranges (`9-17`, `mon-fri`) and `*`, the latter two with a step (`0-30/10`, `*/5`).
//! A step counts from where its range begins; one that is longer than the range leaves the
//! beginning alone. Months and days of the week may be named by their first three letters,
//! in any case; Sunday is 0, 7 and `sun`, and the name is 0, so that `sat-sun` runs backwards
//! and is refused. `@yearly` and its like are short for five fields.
//!
//! Days: when day of month and day of week are both restricted, a day that is in either will do;
//! otherwise it is to be in both. A field that begins with `*` does not count as restricted,
//! even when it leaves days out (`*/2`), so that `0 0 */2 * mon` is odd days that are Mondays.
//!
//! # Clock changes
//!
//! cron(8) as Debian has it. Times whose minute or hour begins with `*` are *intervals*: they
//! follow the wall clock through a change, are skipped with the hour that is skipped and come
//! again with the hour that comes twice. All other times are *fixed*, whatever lists, ranges and
//! seconds they are made of, and are to come once for each time that they name:
//!
//! - Clocks go forward: what falls into the gap is one run right after it, at the very second
//!   of the change. One, however many times of the expression are in the gap, and also when the
//!   first time after the gap is named too. (Debian's daemon would run `0,30 2 * * *` twice in
//!   that minute.) Days and months are those of the times that were skipped.
//! - Clocks go back: what comes twice runs the first time only.
//!
//! The length of the change does not matter, nor when it takes place: half an hour on Lord Howe
//! Island, an hour at midnight in Santiago, or 30 December 2011, which Apia skipped as a whole:
//! `0 12 30 * *` ran there with the first second of the 31st. (Debian's daemon sees the clock of
//! the machine and cannot tell such a day from a correction, so that it makes up for changes of
//! less than three hours alone; a time zone does tell.)
//!
//! # What this room does not do
//!
//! Nothing here reads a clock or a file: the time zones are those that jiff has built in. The
//! system's files may be a FIFO or on a server that is gone, and the loop would wait for them.

mod expression;
#[cfg(feature = "properties")]
pub(crate) mod properties;
mod search;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use self::expression::Fields;
use crate::time::Wall;

/// An interval in elapsed time, or a cron expression in calendar time.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Every so often, in elapsed time from the job's creation.
    Every(Duration),
    /// By a cron expression.
    Cron(CronSchedule),
}

/// A cron expression in a time zone; two are equal when they were typed alike.
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
    /// An expression that is wrong, a time zone that is unknown, or an expression that names
    /// only days that no year has.
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

    /// Whether its minute or hour begins with `*`: such an expression follows the wall clock
    /// wherever it goes, others name fixed times.
    pub fn follows_wall_clock(&self) -> bool {
        !self.fields.fixed
    }

    /// The name of the time zone as it was typed.
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// The first time strictly after `after`, a whole second; `None` when there is none within
    /// the calendar, which ends with the year 9999.
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

/// Why there is no [`CronSchedule`] for what was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The expression is wrong: the field, its text, and what is allowed there, in words.
    Expression(String),
    /// No time zone has this name.
    Zone(String),
    /// This expression names only days that no year has, such as 30 February.
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

/// Looks a zone up among those that are built in. jiff keeps what it has parsed, and hands out
/// references to it.
fn find_zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    // jiff knows "Etc/Unknown", which CLDR has and IANA does not.
    (!zone.is_unknown()).then_some(zone)
}
