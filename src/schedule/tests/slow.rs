//! Compares `next` with a daemon that works like cron's: [`Daemon`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::properties::Daemon;
use super::*;

#[test]
fn next_misses_nothing_around_changes_of_clocks() {
    let mut random = Random(5);
    for round in 0..500 {
        let case = Case::random(&mut random, round % 4 == 0);
        let Some(schedule) = case.schedule() else {
            continue;
        };
        let zone = case.zone();
        let start = random.start(&zone);
        let runs = case.runs(&zone, start, 20);
        let found: Vec<i64> = schedule
            .upcoming(Wall(start * 1000), 20)
            .map(|time| time.0.div_euclid(1000))
            .take_while(|time| *time <= start + case.window())
            .collect();
        assert_eq!(found, runs, "{case:?} after {start}");
    }
}

#[test]
fn next_misses_no_day_of_a_century() {
    let mut random = Random(7);
    for _ in 0..150 {
        let mut case = Case::random(&mut random, false);
        (case.zone, case.hours, case.minutes) = ("UTC", Set::zero(), Set::zero());
        let Some(schedule) = case.schedule() else {
            assert!(!(0..366).any(|day| case.names(in_utc(LEAP_YEAR + day * DAY))), "{case:?}");
            continue;
        };
        let start = random.below(500 * 365) as i64 * DAY;
        let day = (1..=CENTURY).map(|day| start + day * DAY).find(|day| case.names(in_utc(*day)));
        let found = schedule.next(Wall(start * 1000)).map(|time| time.0 / 1000);
        assert_eq!(found, day, "{case:?} after {start}");
    }
}

fn in_utc(second: i64) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::from_second(second).expect("within the calendar"))
}

/// An expression with the sets that it was made from.
#[derive(Debug)]
struct Case {
    zone: &'static str,
    seconds: Option<Set>,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

impl Case {
    fn random(random: &mut Random, with_seconds: bool) -> Case {
        let zone = ZONES[random.below(ZONES.len())];
        let last_hour = [5, 23][random.below(2)];
        Case {
            zone,
            seconds: with_seconds.then(|| SIXTY.random(random, 0)),
            minutes: SIXTY.random(random, 1),
            // Changes of clocks are at night.
            hours: Field { usual: last_hour, ..HOURS }.random(random, 3),
            days: DAYS.random(random, 6),
            months: MONTHS.random(random, 6),
            weekdays: WEEKDAYS.random(random, 6),
        }
    }

    fn zone(&self) -> TimeZone {
        find_zone(self.zone).expect("a zone")
    }

    /// The schedule; `None` when it never comes.
    fn schedule(&self) -> Option<CronSchedule> {
        let rest = [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        let fields: Vec<&str> = self.seconds.iter().chain(rest).map(|set| &*set.text).collect();
        match CronSchedule::parse(&fields.join(" "), self.zone) {
            Ok(schedule) => Some(schedule),
            Err(ScheduleError::Never(_)) => None,
            Err(error) => panic!("{self:?}: {error}"),
        }
    }

    /// The time between two looks of the daemon at the clock.
    fn step(&self) -> i64 {
        if self.seconds.is_some() { 1 } else { 60 }
    }

    /// How long the daemon runs.
    fn window(&self) -> i64 {
        self.step() * 2000
    }

    /// The first `at_most` runs of a daemon.
    fn runs(&self, zone: &TimeZone, start: i64, at_most: usize) -> Vec<i64> {
        let fixed = !self.minutes.is_star() && !self.hours.is_star();
        let daemon = Daemon { zone, step: self.step(), fixed, names: |at| self.names(at) };
        daemon.runs(start, self.window(), at_most)
    }

    /// Whether a wall-clock time matches the expression.
    fn names(&self, at: DateTime) -> bool {
        let day = self.days.has(at.day());
        let weekday = self.weekdays.has(at.weekday().to_sunday_zero_offset())
            || self.weekdays.has(at.weekday().to_monday_one_offset());
        let day = if self.days.is_star() || self.weekdays.is_star() {
            day && weekday
        } else {
            day || weekday
        };
        let second = match &self.seconds {
            Some(seconds) => seconds.has(at.second()),
            None => at.second() == 0,
        };
        day && second
            && self.months.has(at.month())
            && self.hours.has(at.hour())
            && self.minutes.has(at.minute())
    }
}

/// The text of a field, and what it means.
#[derive(Debug)]
struct Set {
    text: String,
    numbers: BTreeSet<i8>,
}

/// What a field allows.
struct Field {
    min: i8,
    max: i8,
    /// The greatest number that is picked.
    usual: i8,
    names: &'static [(&'static str, i8)],
}

impl Field {
    /// A field that is `*` in `stars` of ten cases.
    fn random(&self, random: &mut Random, stars: usize) -> Set {
        if random.below(10) < stars {
            return self.item(random, 0);
        }
        let items: Vec<Set> = (0..1 + random.below(3))
            .map(|_| {
                let kind = 1 + random.below(5);
                self.item(random, kind)
            })
            .collect();
        let texts: Vec<&str> = items.iter().map(|item| &*item.text).collect();
        Set {
            text: texts.join(","),
            numbers: items.iter().flat_map(|item| item.numbers.clone()).collect(),
        }
    }

    fn item(&self, random: &mut Random, kind: usize) -> Set {
        let mut number = |min: i8| min + random.below((self.usual - min + 1) as usize) as i8;
        let (first, step) = (number(self.min), 1 + number(0) as usize);
        let last = number(first);
        let range = |first: i8, last: i8, step| (first..=last).step_by(step).collect();
        let (text, numbers) = match kind {
            0 => ("*".to_string(), range(self.min, self.max, 1)),
            1 => (format!("*/{step}"), range(self.min, self.max, step)),
            2 => (format!("{first}-{last}"), range(first, last, 1)),
            3 => (format!("{first}-{last}/{step}"), range(first, last, step)),
            _ => match self.names.iter().find(|(_, named)| *named == first) {
                Some((name, _)) => (name.to_string(), BTreeSet::from([first])),
                None => (format!("{first:02}"), BTreeSet::from([first])),
            },
        };
        Set { text, numbers }
    }
}

impl Set {
    fn zero() -> Set {
        Set { text: "0".to_string(), numbers: BTreeSet::from([0]) }
    }

    fn has(&self, number: i8) -> bool {
        self.numbers.contains(&number)
    }

    fn is_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// splitmix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) % limit as u64) as usize
    }

    /// A moment from 1975 to 2074, most often near a change of clocks.
    fn start(&mut self, zone: &TimeZone) -> i64 {
        let start = (5 * 365 + self.below(100 * 365)) as i64 * DAY + self.below(86400) as i64;
        let at = Timestamp::from_second(start).expect("within the calendar");
        match zone.following(at).next() {
            Some(change) if self.below(5) > 0 => {
                let hours = 1 + self.below(30);
                change.timestamp().as_second() + 3 * 3600 - self.below(hours * 3600) as i64
            }
            _ => start,
        }
    }
}

/// Changes by an hour, by 30 minutes and by two hours, at night, at midnight, at one minute past
/// it and in the evening, to the east and to the west; days left out (Apia, Kwajalein, Kiritimati).
const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "America/Havana",
    "America/Caracas",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Pyongyang",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
];

const SIXTY: Field = Field { min: 0, max: 59, usual: 59, names: &[] };
const HOURS: Field = Field { min: 0, max: 23, usual: 23, names: &[] };
const DAYS: Field = Field { min: 1, max: 31, usual: 31, names: &[] };
const MONTHS: Field = Field { min: 1, max: 12, usual: 12, names: &[("feb", 2), ("OCT", 10)] };
const WEEKDAYS: Field = Field { min: 0, max: 7, usual: 7, names: &[("sun", 0), ("Fri", 5)] };

const DAY: i64 = 86400;

/// In days; within 40 years every 29 February has been each day of the week that it can be, and
/// this is longer.
const CENTURY: i64 = 36525;

/// 2024-01-01T00:00:00Z.
const LEAP_YEAR: i64 = 1_704_067_200;
