//! Properties that hold for any text as a cron expression, a time zone or a time.
//!
//! Two things are implemented here again, in the simplest way: the grammar of expressions, which
//! checks for each number whether a field has it; and cron itself, as a [`Daemon`] that looks at
//! the clock all the time and never searches.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{CronSchedule, ScheduleError, find_zone};
use crate::calendar::{format_rfc3339, parse_rfc3339};
use crate::time::Wall;

/// Takes three lines: an expression, a time zone (UTC) and a time. The expression is accepted if
/// the simple grammar accepts it. The next times after the given one come strictly later, match the
/// expression, and are those of a daemon that looks at each minute. A time that can be read is the
/// same when it is written and read again.
pub(crate) fn check_cron(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let expression = lines.next().unwrap_or_default();
    let zone_name = lines.next().filter(|name| !name.is_empty()).unwrap_or("UTC");
    let after = lines.next().and_then(read_time).unwrap_or(Wall(AFTER));
    let plain = Plain::read(expression);
    let zone = find_zone(zone_name);
    match (CronSchedule::parse(expression, zone_name), plain, zone) {
        (Ok(schedule), Some(plain), Some(zone)) => {
            assert!(plain.ever_comes(), "{expression:?} never comes");
            check_times(&schedule, &plain, &zone, after);
        }
        (Err(ScheduleError::Never(_)), Some(plain), Some(_)) => {
            assert!(!plain.ever_comes(), "{expression:?} comes");
        }
        (Err(ScheduleError::Zone(_)), Some(_), None) => {}
        (Err(ScheduleError::Expression(message)), None, _) => {
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        (found, plain, _) => unreachable!("{expression:?}: {found:?}, not {plain:?}"),
    }
}

/// Cron as a daemon that looks at the clock every `step` seconds, and remembers the latest
/// wall-clock time that it has seen.
pub(super) struct Daemon<'a, F> {
    pub(super) zone: &'a TimeZone,
    pub(super) step: i64,
    /// Neither minute nor hour begins with `*`.
    pub(super) fixed: bool,
    /// Whether a wall-clock time matches the expression.
    pub(super) names: F,
}

impl<F: Fn(DateTime) -> bool> Daemon<'_, F> {
    /// The first `at_most` runs within `window` seconds of a daemon that has been up for more than
    /// a day at `start`, which is longer than any time that comes twice.
    pub(super) fn runs(&self, start: i64, window: i64, at_most: usize) -> Vec<i64> {
        let start = start - start.rem_euclid(self.step);
        // Clocks change at a full minute, so the latest time is seen one step before.
        let minute = start - start.rem_euclid(60) - self.step;
        let before = (0..WARM_UP).map(|minutes| minute - minutes * 60);
        let latest = before.chain([start]).filter_map(|time| self.local(time)).max();
        let mut latest = latest.unwrap_or(start);
        let mut runs = Vec::new();
        let mut time = start;
        while time - start < window && runs.len() < at_most {
            time += self.step;
            let Some(now) = self.local(time) else {
                break;
            };
            let due = if self.fixed {
                let new =
                    (1..).map(|steps| latest + steps * self.step).take_while(|new| *new <= now);
                new.into_iter().any(|new| self.has(new))
            } else {
                self.has(now)
            };
            latest = latest.max(now);
            if due {
                runs.push(time);
            }
        }
        runs
    }

    /// The wall-clock time, in seconds; `None` when the calendar ends.
    fn local(&self, time: i64) -> Option<i64> {
        let at = Timestamp::from_second(time).ok()?;
        Some(time + i64::from(self.zone.to_offset(at).seconds()))
    }

    fn has(&self, local: i64) -> bool {
        let at = Timestamp::from_second(local);
        at.is_ok_and(|at| (self.names)(Offset::UTC.to_datetime(at)))
    }
}

fn read_time(text: &str) -> Option<Wall> {
    let time = parse_rfc3339(text).ok()?;
    let written = format_rfc3339(time).to_string();
    // With an offset to the east, the first hours of the year 0000 are in the year before, which
    // cannot be written.
    assert_eq!(parse_rfc3339(&written), Ok(time.max(Wall(YEAR_0000))), "{text:?}: {written}");
    Some(time)
}

fn check_times(schedule: &CronSchedule, plain: &Plain, zone: &TimeZone, after: Wall) {
    let times: Vec<Wall> = schedule.upcoming(after, AT_MOST).collect();
    let mut last = after;
    for time in &times {
        assert!(*time > last && time.0 % 1000 == 0, "{time:?} after {last:?}");
        assert!(plain.may_come(*time, zone), "{time:?} is not named");
        last = *time;
    }
    let start = after.0.div_euclid(1000);
    let step = if plain.has_seconds { 1 } else { 60 };
    let window = step * LOOKS;
    // Earlier there were offsets that are not whole minutes.
    if !(YEAR_1975..YEAR_9990).contains(&start) || !has_whole_minutes(zone, start) {
        return;
    }
    let fixed = plain.fixed;
    let daemon = Daemon { zone, step, fixed, names: |at| plain.names(at) };
    let runs = daemon.runs(start, window, AT_MOST);
    let end = start - start.rem_euclid(step) + window;
    let times = times.iter().map(|time| time.0 / 1000).take_while(|time| *time <= end);
    assert_eq!(times.collect::<Vec<_>>(), runs, "after {start}");
}

fn has_whole_minutes(zone: &TimeZone, second: i64) -> bool {
    let at = Timestamp::from_second(second);
    at.is_ok_and(|at| zone.to_offset(at).seconds() % 60 == 0)
}

/// The meaning of an expression, field by field.
#[derive(Debug)]
struct Plain {
    /// Which numbers match: of second, minute, hour, day of month, month, day of week.
    sets: [Vec<bool>; 6],
    has_seconds: bool,
    fixed: bool,
    either_day: bool,
}

impl Plain {
    fn read(expression: &str) -> Option<Plain> {
        if expression.len() > 1024 {
            return None;
        }
        let trimmed = expression.trim_matches([' ', '\t']);
        let spelled = match trimmed {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let mut texts: Vec<&str> =
            spelled.split([' ', '\t']).filter(|text| !text.is_empty()).collect();
        let has_seconds = texts.len() == 6;
        if texts.len() == 5 {
            texts.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = texts.try_into().ok()?;
        let star = |text: &str| text.starts_with('*');
        Some(Plain {
            sets: [
                set(second, 0..60, &[])?,
                set(minute, 0..60, &[])?,
                set(hour, 0..24, &[])?,
                set(day, 1..32, &[])?,
                set(month, 1..13, &MONTHS)?,
                set(weekday, 0..8, &WEEKDAYS)?,
            ],
            has_seconds,
            fixed: !star(minute) && !star(hour),
            either_day: !star(day) && !star(weekday),
        })
    }

    fn names(&self, at: DateTime) -> bool {
        let has = |field: usize, number: i8| {
            let set = self.sets.get(field);
            set.and_then(|set| set.get(usize::from(number.unsigned_abs()))) == Some(&true)
        };
        let weekday = has(5, at.weekday().to_sunday_zero_offset())
            || has(5, at.weekday().to_monday_one_offset());
        let day = match self.either_day {
            true => has(3, at.day()) || weekday,
            false => has(3, at.day()) && weekday,
        };
        has(0, at.second()) && has(1, at.minute()) && has(2, at.hour()) && day && has(4, at.month())
    }

    /// Whether it matches this time, or one that a change of clocks at this time has skipped.
    fn may_come(&self, time: Wall, zone: &TimeZone) -> bool {
        let Ok(at) = Timestamp::from_millisecond(time.0) else {
            return false;
        };
        let second = jiff::SignedDuration::from_secs(1);
        let change = at.checked_add(second).ok().and_then(|next| zone.preceding(next).next());
        let is_change = change.is_some_and(|change| change.timestamp() == at);
        self.names(zone.to_offset(at).to_datetime(at)) || (self.fixed && is_change)
    }

    /// Whether a leap year has a matching day. The day of the week does not matter: in 400 years
    /// each date falls on all of them.
    fn ever_comes(&self) -> bool {
        let [_, _, _, days, months, _] = &self.sets;
        let named = |set: &[bool], number: usize| set.get(number) == Some(&true);
        let lengths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let dates = (1..)
            .zip(lengths)
            .flat_map(|(month, length)| (1..=length).map(move |day| (month, day)));
        self.either_day || dates.into_iter().any(|(m, d)| named(months, m) && named(days, d))
    }
}

/// Which numbers of `range` match a field; `None` when it is wrong.
fn set(text: &str, range: std::ops::Range<usize>, names: &[&str]) -> Option<Vec<bool>> {
    let mut set = vec![false; range.end];
    for item in text.split(',') {
        let (first, last, step) = item_of(item, &range, names)?;
        for number in range.clone() {
            if (first..=last).contains(&number) && ((number - first) as u128).is_multiple_of(step) {
                *set.get_mut(number)? = true;
            }
        }
    }
    Some(set)
}

fn item_of(
    item: &str,
    range: &std::ops::Range<usize>,
    names: &[&str],
) -> Option<(usize, usize, u128)> {
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(number_of(step)?)),
        None => (item, None),
    };
    let value = |text: &str| match number_of(text) {
        Some(number) => usize::try_from(number).ok().filter(|number| range.contains(number)),
        None => {
            let name = text.to_ascii_lowercase();
            names.iter().position(|known| **known == *name).map(|index| range.start + index)
        }
    };
    let (first, last) = match span.split_once('-') {
        _ if span == "*" => (range.start, range.end - 1),
        Some((first, last)) => (value(first)?, value(last)?),
        None if step.is_some() => return None,
        None => (value(span)?, value(span)?),
    };
    let step = step.unwrap_or(1);
    (first <= last && step > 0).then_some((first, last, step))
}

/// A number of digits only; one that is too large for any field becomes the largest number.
fn number_of(text: &str) -> Option<u128> {
    let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().unwrap_or(u128::MAX))
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// 2026-03-28T12:00:00Z, half a day before the clocks of Berlin change, in milliseconds.
const AFTER: i64 = 1_774_699_200_000;
/// In milliseconds.
const YEAR_0000: i64 = -62_167_219_200_000;
/// In seconds.
const YEAR_1975: i64 = 157_766_400;
const YEAR_9990: i64 = 253_086_595_200;
/// How many minutes a daemon has been up, which is more than clocks may go back: a day.
const WARM_UP: i64 = 1500;
/// How many times a daemon looks at the clock.
const LOOKS: i64 = 500;
const AT_MOST: usize = 10;
