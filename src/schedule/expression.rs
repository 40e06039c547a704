//! Parses a cron expression to a set of numbers for each field.
//!
//! The grammar, in the terms of crontab(5):
//!
//! ```text
//! expression = nickname / [second] minute hour day month weekday
//! field      = item *("," item)
//! item       = value / range ["/" step]
//! range      = "*" / value "-" value
//! ```

/// The meaning of an expression: bit `n` of a set stands for the number `n`. No set is empty.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// 0 to 59.
    pub(super) seconds: u64,
    /// 0 to 59.
    pub(super) minutes: u64,
    /// 0 to 23.
    pub(super) hours: u32,
    /// Days of the month, 1 to 31.
    pub(super) days: u32,
    /// 1 to 12.
    pub(super) months: u16,
    /// Days of the week, 0 (Sunday) to 6.
    pub(super) weekdays: u8,
    /// Day of month and day of week are both restricted: a day in either matches.
    pub(super) either_day: bool,
    /// Neither minute nor hour begins with `*`: each time comes once, however clocks change.
    pub(super) fixed: bool,
}

impl Fields {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// A sentence that names the field, its text, and what is allowed there.
    pub(super) fn parse(expression: &str) -> Result<Fields, String> {
        if expression.len() > MAX_LENGTH {
            return Err(format!(
                "a cron expression has at most {MAX_LENGTH} characters, this one has {}",
                expression.len()
            ));
        }
        let texts: Vec<&str> = expand_nickname(expression)?
            .split([' ', '\t'])
            .filter(|text| !text.is_empty())
            .collect();
        let (second, [minute, hour, day, month, weekday]) = match *texts.as_slice() {
            [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
            [second, minute, hour, day, month, weekday] => {
                (second, [minute, hour, day, month, weekday])
            }
            _ => return Err(wrong_number_of_fields(expression, texts.len())),
        };
        let star = |text: &str| text.starts_with('*');
        Ok(Fields {
            seconds: SECOND.parse(second)?,
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)? as u32,
            days: DAY.parse(day)? as u32,
            months: MONTH.parse(month)? as u16,
            weekdays: sunday_is_zero(WEEKDAY.parse(weekday)?),
            either_day: !star(day) && !star(weekday),
            fixed: !star(minute) && !star(hour),
        })
    }

    /// Whether any year has a matching day.
    ///
    /// Only a day of the month can be missing from all matching months. A day of the week never is:
    /// each date of a leap year, also 29 February, falls on each day of the week within the 400
    /// years after which the calendar repeats.
    pub(super) fn ever_come(&self) -> bool {
        let earliest = self.days.trailing_zeros();
        self.either_day
            || (1..)
                .zip(LONGEST_MONTHS)
                .any(|(month, length)| self.months & (1 << month) != 0 && earliest <= length)
    }
}

/// One of the six fields of an expression, and what it allows.
struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    /// The names of `min`, `min + 1`…
    names: &'static [&'static str],
}

impl Field {
    /// The set of numbers that the text of a field means, all from `min` to `max`.
    fn parse(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, item| {
            let (first, last, step) = self.parse_item(item).map_err(|problem| {
                format!("{}: {item:?} {problem}; allowed are {}", self.name, self.allowed())
            })?;
            Ok((first..=last).step_by(step).fold(set, |set, number| set | 1 << number))
        })
    }

    /// The first and last number of an item, and the step.
    fn parse_item(&self, item: &str) -> Result<(u8, u8, usize), &'static str> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(parse_step(step)?)),
            None => (item, None),
        };
        if range == "*" {
            return Ok((self.min, self.max, step.unwrap_or(1)));
        }
        let Some((first, last)) = range.split_once('-') else {
            let value = self.parse_value(range)?;
            return match step {
                None => Ok((value, value, 1)),
                Some(_) => Err("has a step without a range, such as 5-59/10"),
            };
        };
        let (first, last) = (self.parse_value(first)?, self.parse_value(last)?);
        if first > last {
            return Err("runs backwards");
        }
        Ok((first, last, step.unwrap_or(1)))
    }

    /// A number, with or without leading zeros, or a name.
    fn parse_value(&self, text: &str) -> Result<u8, &'static str> {
        if text.is_empty() {
            return Err("lacks a value");
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return (self.min..)
                .zip(self.names)
                .find(|(_, name)| text.eq_ignore_ascii_case(name))
                .map(|(value, _)| value)
                .ok_or("is not understood");
        }
        text.parse()
            .ok()
            .filter(|value| (self.min..=self.max).contains(value))
            .ok_or("is out of range")
    }

    /// What this field allows, in words.
    fn allowed(&self) -> String {
        let (min, max) = (self.min, self.max);
        let names = match *self.names {
            [first, .., last] => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        let sunday = if max == WEEKDAY.max {
            " (Sunday is 0, 7 or sun; at the end of a range 7)"
        } else {
            ""
        };
        format!(
            "{min} to {max}{names}{sunday}, ranges a-b, *, steps a-b/n and */n, and lists of these"
        )
    }
}

/// Replaces a nickname by the five fields that it stands for.
fn expand_nickname(expression: &str) -> Result<&str, String> {
    let nickname = expression.trim_matches([' ', '\t']);
    if !nickname.starts_with('@') {
        return Ok(expression);
    }
    NICKNAMES.iter().find(|(name, _)| *name == nickname).map(|(_, fields)| *fields).ok_or_else(
        || {
            let names: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            format!("{nickname:?} is not known; allowed are {}", names.join(" "))
        },
    )
}

/// A step is 1 or more, and saturates, because no field is that long.
fn parse_step(text: &str) -> Result<usize, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has a step that is not a number");
    }
    match text.parse().unwrap_or(usize::MAX) {
        0 => Err("has a step of 0"),
        step => Ok(step),
    }
}

/// Makes 7, which is also Sunday, 0.
fn sunday_is_zero(weekdays: u64) -> u8 {
    (weekdays & 0x7f | weekdays >> 7) as u8
}

fn wrong_number_of_fields(expression: &str, count: usize) -> String {
    format!(
        "{expression:?} has {count} field{}; a cron expression has 5 (minute, hour, day of \
         month, month, day of week), or 6 with the second first",
        if count == 1 { "" } else { "s" }
    )
}

/// Long enough for an expression that lists every second, minute, hour, day and month.
const MAX_LENGTH: usize = 1024;

const SECOND: Field = Field::of_numbers("second", 0, 59);
const MINUTE: Field = Field::of_numbers("minute", 0, 59);
const HOUR: Field = Field::of_numbers("hour", 0, 23);
const DAY: Field = Field::of_numbers("day of month", 1, 31);
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    name: "day of week",
    min: 0,
    max: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Field {
    const fn of_numbers(name: &'static str, min: u8, max: u8) -> Field {
        Field { name, min, max, names: &[] }
    }
}

/// The days of each month in a leap year.
const LONGEST_MONTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Those of crontab(5), without `@reboot`.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
