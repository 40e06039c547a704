//! Times as people read them: RFC 3339, in UTC.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::time::Wall;

/// Writes a time as `2026-11-22T21:40:01.123Z` (RFC 3339 section 5.6, in UTC, with
/// milliseconds). A time beyond the years 0000 to 9999 is shown as the nearest within.
pub fn format_rfc3339(at: Wall) -> impl fmt::Display {
    Rfc3339 { at, millis: true }
}

/// Like [`format_rfc3339`] without the milliseconds, which are cut: `2026-11-22T21:40:01Z`.
pub fn format_rfc3339_seconds(at: Wall) -> impl fmt::Display {
    Rfc3339 { at, millis: false }
}

/// Reads a time of RFC 3339 section 5.6, with any offset; what is finer than a millisecond is
/// cut, and the 60th second of a leap second is read as the 59th.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn parse_rfc3339(text: &str) -> Result<Wall, String> {
    let wrong = || format!("{text:?} is not a time of RFC 3339, such as 2026-03-29T01:30:00Z");
    // jiff takes more than RFC 3339 has: dates without dashes, times without seconds, zones in
    // brackets. With this shape, what is left to it are the values.
    if !is_shaped_like_rfc3339(text.as_bytes()) {
        return Err(wrong());
    }
    let at: Timestamp = text.parse().map_err(|_| match is_beyond_calendar(text) {
        true => format!("{text:?} is beyond the calendar, which ends at {}", calendar_end()),
        false => wrong(),
    })?;
    let millis = at.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(millis).map(Wall).map_err(|_| wrong())
}

struct Rfc3339 {
    at: Wall,
    millis: bool,
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, millis) = civil(self.at);
        let year = at.year().unsigned_abs();
        let [month, day, hour, minute, second] =
            [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::unsigned_abs);
        // Digits by hand: this is each time that the API shows, and `write!` takes three times
        // as long.
        let [y1, y2] = two((year / 100) as u8);
        let [y3, y4] = two((year % 100) as u8);
        let [mo1, mo2] = two(month);
        let [d1, d2] = two(day);
        let [h1, h2] = two(hour);
        let [mi1, mi2] = two(minute);
        let [s1, s2] = two(second);
        let [ms2, ms3] = two((millis % 100) as u8);
        let ms1 = b'0' + (millis / 100) as u8;
        let seconds = [
            y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1,
            s2,
        ];
        f.write_str(str::from_utf8(&seconds).map_err(|_| fmt::Error)?)?;
        if self.millis {
            let fraction = [b'.', ms1, ms2, ms3];
            f.write_str(str::from_utf8(&fraction).map_err(|_| fmt::Error)?)?;
        }
        f.write_str("Z")
    }
}

/// The calendar in UTC, and the milliseconds of the second.
fn civil(at: Wall) -> (DateTime, u16) {
    let millis = at.0.clamp(YEAR_0000, END_OF_CALENDAR);
    // Within these bounds there is always a timestamp.
    let second = Timestamp::from_second(millis.div_euclid(1000)).unwrap_or_default();
    let at = Offset::UTC.to_datetime(second);
    (at, millis.rem_euclid(1000) as u16)
}

/// The two decimal digits of a number below 100.
fn two(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

/// `dddd-dd-ddTdd:dd:dd[.d+](Z|[+-]dd:dd)`, the letters in either case.
fn is_shaped_like_rfc3339(text: &[u8]) -> bool {
    let Some((seconds, mut rest)) = text.split_first_chunk::<19>() else {
        return false;
    };
    if let [b'.', digits @ ..] = rest {
        let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        rest = digits.get(length..).unwrap_or_default();
        if !(1..=MAX_FRACTION_DIGITS).contains(&length) {
            return false;
        }
    }
    let is_offset =
        matches!(rest, [b'Z' | b'z']) || has_shape(rest, b"+dd:dd") || has_shape(rest, b"-dd:dd");
    is_offset && has_shape(&seconds.to_ascii_uppercase(), b"dddd-dd-ddTdd:dd:dd")
}

/// Whether a text of that shape is a time that RFC 3339 has and jiff has not, as its calendar ends
/// a day earlier, so that all offsets have a place.
fn is_beyond_calendar(text: &str) -> bool {
    let (end, _) = civil(Wall(END_OF_CALENDAR));
    let civil = text.get(..19).and_then(|text| text.parse::<DateTime>().ok());
    civil.is_some_and(|at| at.date() >= end.date())
}

fn calendar_end() -> impl fmt::Display {
    format_rfc3339_seconds(Wall(END_OF_CALENDAR))
}

/// Whether a text is like a pattern, in which `d` is a digit.
fn has_shape(text: &[u8], pattern: &[u8]) -> bool {
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() == pattern.len() && text.iter().zip(pattern).all(fits)
}

/// 0000-01-01T00:00:00.000Z in milliseconds since the epoch.
const YEAR_0000: i64 = -62_167_219_200_000;

/// 9999-12-30T22:00:00.999Z: the last millisecond that jiff has.
const END_OF_CALENDAR: i64 = 253_402_207_200_999;

/// As many as jiff takes.
const MAX_FRACTION_DIGITS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_795_383_601_123, "2026-11-22T21:40:01.123Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (YEAR_0000, "0000-01-01T00:00:00.000Z"),
            (YEAR_0000 - 1, "0000-01-01T00:00:00.000Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (END_OF_CALENDAR, "9999-12-30T22:00:00.999Z"),
            (i64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            assert_eq!(format_rfc3339(Wall(millis)).to_string(), text);
            let seconds = format!("{}Z", &text[..19]);
            assert_eq!(format_rfc3339_seconds(Wall(millis)).to_string(), seconds);
            assert_eq!(parse_rfc3339(text), Ok(Wall(millis.clamp(YEAR_0000, END_OF_CALENDAR))));
        }
    }

    #[test]
    fn times_are_read_with_any_offset() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T12:30:00-11:30", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1970-01-01T00:00:00.5Z", 500),
            ("1970-01-01T00:00:00.123456789Z", 123),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ] {
            assert_eq!(parse_rfc3339(text), Ok(Wall(millis)), "{text}");
        }
    }

    #[test]
    fn a_time_after_the_last_is_refused_as_such() {
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-30T22:00:01Z",
            "9999-12-31T23:59:60.5+01:00",
            "9999-12-30T21:59:59-00:01",
        ] {
            let end = "is beyond the calendar, which ends at 9999-12-30T22:00:00Z";
            assert_eq!(parse_rfc3339(text), Err(format!("{text:?} {end}")));
        }
    }

    #[test]
    fn what_is_not_rfc3339_is_refused() {
        for text in [
            "",
            "now",
            "0",
            "2026-03-29",
            "2026-03-29T01:30Z",
            "2026-03-29T01:30:00",
            "2026-03-29 01:30:00Z",
            "2026-03-29T01:30:00 Z",
            "2026-03-29T01:30:00+01",
            "2026-03-29T01:30:00+0100",
            "2026-03-29T01:30:00Z[UTC]",
            "2026-03-29T01:30:00.Z",
            "2026-03-29T01:30:00,5Z",
            "2026-03-29T01:30:00.0123456789Z",
            "20260329T013000Z",
            "+002026-03-29T01:30:00Z",
            "2026-02-29T01:30:00Z",
            "2026-13-01T01:30:00Z",
            "2026-03-29T24:00:00Z",
            "2026-03-29T01:60:00Z",
            "2026-03-29T01:30:61Z",
            "2026-03-29T01:30:00+99:00",
            "٢026-03-29T01:30:00Z",
        ] {
            let refusal = parse_rfc3339(text).expect_err(text);
            assert!(refusal.contains("RFC 3339"), "{refusal}");
        }
    }
}
