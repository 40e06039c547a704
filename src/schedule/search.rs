//! Finds the first time at or after a moment that matches an expression in a time zone.
//!
//! A zone is a sequence of *stretches*, each with one offset from UTC, and a change of clocks
//! between them. Within a stretch the search goes field by field, and never tries a time that does
//! not match. Around a change it follows the rules of this room:
//!
//! ```text
//! clocks go forward                      clocks go back
//!
//! 01:59:59 │ 03:00:00                    02:59:59 │ 02:00:00 … 02:59:59  03:00:00
//!          └ fixed times from 02:00:00            └ fixed times do not come again
//!            to 02:59:59 are one run here           here, but from 03:00:00 on
//! ```
//!
//! The work is bounded. Usually at most three stretches are searched, because a stretch without a
//! result also says up to when there is none. The longest search for a day, for a 29 February on a
//! certain day of the week, takes 40 years with one month each.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::expression::Fields;

/// The first time at or after `from` (a whole second) that matches the fields in the zone.
pub(super) fn first_at_or_after(
    fields: &Fields,
    zone: &TimeZone,
    from: Timestamp,
) -> Option<Timestamp> {
    let mut from = from;
    for _ in 0..MAX_STRETCHES {
        match search_stretch(fields, zone, from)? {
            Found::At(moment) => return Some(moment),
            Found::NothingBefore(moment) => from = moment,
        }
    }
    None
}

/// The result of searching one stretch.
enum Found {
    At(Timestamp),
    /// Nothing; the search goes on here, at the next change of clocks or later.
    NothingBefore(Timestamp),
}

/// Searches from `from` to the end of its stretch; `None` when the calendar ends.
fn search_stretch(fields: &Fields, zone: &TimeZone, from: Timestamp) -> Option<Found> {
    let offset = zone.to_offset(from);
    let mut local = offset.to_datetime(from);
    if fields.fixed
        && let Some((change, before)) = last_change(zone, from)
    {
        // What the clocks would show without the change.
        let unchanged = before.to_datetime(change);
        let in_gap = || fields.first_at_or_after(unchanged).is_some_and(|first| first < local);
        if from == change && unchanged < local && in_gap() {
            return Some(Found::At(from));
        }
        // Up to `unchanged` the times have come once already.
        local = local.max(unchanged);
    }
    let first = fields.first_at_or_after(local)?;
    let moment = offset.to_timestamp(first).ok()?;
    let Some(change) = zone.following(from).next() else {
        return Some(Found::At(moment));
    };
    let end = change.timestamp();
    if moment < end {
        return Some(Found::At(moment));
    }
    // There is nothing before `first`, unless the change sets clocks back to before the beginning
    // of this search.
    let covered = local <= change.offset().to_datetime(end);
    let sure = if covered { moment.saturating_sub(FARTHEST_OFFSETS).unwrap_or(end) } else { end };
    Some(Found::NothingBefore(sure.max(end)))
}

/// The change of clocks that began the stretch of `moment`, and the offset before it.
fn last_change(zone: &TimeZone, moment: Timestamp) -> Option<(Timestamp, Offset)> {
    let second = SignedDuration::from_secs(1);
    let change = zone.preceding(moment.checked_add(second).ok()?).next()?.timestamp();
    Some((change, zone.to_offset(change.checked_sub(second).ok()?)))
}

impl Fields {
    /// The first matching wall-clock time at or after `from`; `None` when the calendar ends.
    fn first_at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let date = from.date();
        if has(self.days_of_month(date.first_of_month()), date.day())
            && let Some(time) = self.first_time(from.time())
        {
            return Some(date.to_datetime(time));
        }
        let date = self.first_day_after(date)?;
        Some(date.to_datetime(self.first_time(Time::midnight())?))
    }

    /// The first matching time of day at or after `from`; `None` when there is none on that day.
    fn first_time(&self, from: Time) -> Option<Time> {
        let (hours, minutes, seconds) = (self.hours.into(), self.minutes, self.seconds);
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        let (hour, minute, second) = if let Some(second) = first(seconds, second)
            && has(minutes, minute)
            && has(hours, hour)
        {
            (hour, minute, second)
        } else if let Some(minute) = first(minutes, minute + 1)
            && has(hours, hour)
        {
            (hour, minute, first(seconds, 0)?)
        } else {
            let hour = first(hours, hour + 1)?;
            (hour, first(minutes, 0)?, first(seconds, 0)?)
        };
        Time::new(hour, minute, second, 0).ok()
    }

    /// The first matching day after `date`.
    fn first_day_after(&self, date: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (date.year(), date.month(), date.day() + 1);
        loop {
            let Some(next) = first(self.months.into(), month) else {
                (year, month, day) = (year + 1, 1, 1);
                continue;
            };
            if next != month {
                (month, day) = (next, 1);
            }
            // A search beyond the calendar ends here.
            let first_of_month = Date::new(year, month, 1).ok()?;
            if let Some(day) = first(self.days_of_month(first_of_month), day) {
                return Date::new(year, month, day).ok();
            }
            (month, day) = (month + 1, 1);
        }
    }

    /// The matching days of a month, by the rule for day of month and day of week; none when the
    /// month does not match.
    fn days_of_month(&self, first_of_month: Date) -> u64 {
        if !has(self.months.into(), first_of_month.month()) {
            return 0;
        }
        let all = (1 << (first_of_month.days_in_month() + 1)) - 2;
        let by_day = u64::from(self.days);
        // Bit 0 of the shifted weeks is the day of the week of the first.
        let weeks = u64::from(self.weekdays) * EACH_SEVENTH;
        let by_weekday = weeks >> first_of_month.weekday().to_sunday_zero_offset() << 1;
        if self.either_day { all & (by_day | by_weekday) } else { all & by_day & by_weekday }
    }
}

/// Whether a number is in a set.
fn has(set: u64, number: i8) -> bool {
    set & (1 << number) != 0
}

/// The smallest number of a set that is `from` or more; `from` is 0 to 63.
fn first(set: u64, from: i8) -> Option<i8> {
    let rest = set >> from;
    (rest != 0).then(|| from + rest.trailing_zeros() as i8)
}

/// Six weeks: bit 0, 7, 14, 21, 28, 35 are set.
const EACH_SEVENTH: u64 = 0b1_0000001_0000001_0000001_0000001_0000001;

/// More than the distance of any two offsets from UTC, which jiff limits to 26 hours.
const FARTHEST_OFFSETS: SignedDuration = SignedDuration::from_hours(52);

/// After so many stretches a search ends without a result. Only an expression whose times the
/// clocks skip every year would reach it, and no zone does that.
const MAX_STRETCHES: usize = 200;
