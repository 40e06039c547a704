//! Times as text, always in UTC: RFC 3339 for people, IMF-fixdate for HTTP.
//!
//! ```text
//!   Wall ── format_rfc3339 ─▶ 2026-11-22T21:40:01.123Z        ── parse_rfc3339 ─▶ Wall
//!        ── imf_fixdate ────▶ Sun, 22 Nov 2026 21:40:01 GMT
//! ```
//!
//! The calendar is that of jiff, from the year 0000 to 9999. Time zones and cron expressions are in
//! `schedule`.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::time::Wall;

/// Writes a time as `2026-11-22T21:40:01.123Z` (RFC 3339 section 5.6, in UTC, with
/// milliseconds). A time outside of the years 0000 to 9999 is shown as the nearest inside.
pub fn format_rfc3339(at: Wall) -> impl fmt::Display {
    Rfc3339 { at, millis: true }
}

/// Like [`format_rfc3339`], without milliseconds, rounded down: `2026-11-22T21:40:01Z`.
pub fn format_rfc3339_seconds(at: Wall) -> impl fmt::Display {
    Rfc3339 { at, millis: false }
}

/// Reads a time of RFC 3339 section 5.6, with any offset. It is rounded down to a millisecond, and
/// a leap second, 60, is read as 59.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn parse_rfc3339(text: &str) -> Result<Wall, String> {
    let wrong = || format!("{text:?} is not a time of RFC 3339, such as 2026-03-29T01:30:00Z");
    // jiff accepts more than RFC 3339: dates without dashes, times without seconds, zones in
    // brackets. So the shape is checked here, and jiff checks the values.
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

/// Writes a time for HTTP: `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 section 5.6.7),
/// with the same limits as [`format_rfc3339`].
pub fn imf_fixdate(at: Wall) -> [u8; 29] {
    let (at, _) = civil(at);
    let mut text = *b"Sun, 00 Jan 0000 00:00:00 GMT";
    let [hour, minute, second] = [at.hour(), at.minute(), at.second()].map(i8::unsigned_abs);
    write(&mut text, 0, name(&WEEKDAYS, at.weekday().to_sunday_zero_offset()));
    write(&mut text, 5, two(at.day().unsigned_abs()));
    write(&mut text, 8, name(&MONTHS, at.month() - 1));
    write(&mut text, 12, four(at.year()));
    write(&mut text, 17, two(hour));
    write(&mut text, 20, two(minute));
    write(&mut text, 23, two(second));
    text
}

struct Rfc3339 {
    at: Wall,
    millis: bool,
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, millis) = civil(self.at);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let [month, day, hour, minute, second] =
            [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::unsigned_abs);
        // Without `write!`, which takes three times as long: the API shows many times.
        write(&mut text, 0, four(at.year()));
        write(&mut text, 5, two(month));
        write(&mut text, 8, two(day));
        write(&mut text, 11, two(hour));
        write(&mut text, 14, two(minute));
        write(&mut text, 17, two(second));
        let [_, fraction @ ..] = four(millis);
        write(&mut text, 20, fraction);
        let text = str::from_utf8(&text).map_err(|_| fmt::Error)?;
        if self.millis {
            return f.write_str(text);
        }
        f.write_str(text.get(..19).unwrap_or_default())?;
        f.write_str("Z")
    }
}

/// The date and time in UTC, and the milliseconds.
fn civil(at: Wall) -> (DateTime, i16) {
    let millis = at.0.clamp(YEAR_0000, END_OF_CALENDAR);
    // Within these bounds there is always a timestamp.
    let second = Timestamp::from_second(millis.div_euclid(1000)).unwrap_or_default();
    (Offset::UTC.to_datetime(second), millis.rem_euclid(1000) as i16)
}

/// Writes bytes at a place in a text that has room for them.
fn write<const N: usize>(text: &mut [u8], place: usize, bytes: [u8; N]) {
    if let Some(room) = text.get_mut(place..place + N) {
        room.copy_from_slice(&bytes);
    }
}

/// The two decimal digits of a number below 100.
fn two(number: u8) -> [u8; 2] {
    [b'0' + number / 10, b'0' + number % 10]
}

/// The four decimal digits of a number from 0 to 9999.
fn four(number: i16) -> [u8; 4] {
    let number = number.unsigned_abs();
    let [[a, b], [c, d]] = [two((number / 100) as u8), two((number % 100) as u8)];
    [a, b, c, d]
}

fn name(names: &[[u8; 3]], index: i8) -> [u8; 3] {
    names.get(usize::from(index.unsigned_abs())).copied().unwrap_or_default()
}

/// Whether a text looks like `dddd-dd-ddTdd:dd:dd[.d+](Z|[+-]dd:dd)`, with letters in either case.
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

/// Whether a text of that shape is a time of RFC 3339 after the end of jiff's calendar, which ends
/// a day earlier to leave room for offsets.
fn is_beyond_calendar(text: &str) -> bool {
    let (end, _) = civil(Wall(END_OF_CALENDAR));
    let civil = text.get(..19).and_then(|text| text.parse::<DateTime>().ok());
    civil.is_some_and(|at| at.date() >= end.date())
}

fn calendar_end() -> impl fmt::Display {
    format_rfc3339_seconds(Wall(END_OF_CALENDAR))
}

/// Whether a text matches a pattern, in which `d` is a digit.
fn has_shape(text: &[u8], pattern: &[u8]) -> bool {
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() == pattern.len() && text.iter().zip(pattern).all(fits)
}

const WEEKDAYS: [[u8; 3]; 7] = [*b"Sun", *b"Mon", *b"Tue", *b"Wed", *b"Thu", *b"Fri", *b"Sat"];

const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
    *b"Nov", *b"Dec",
];

/// 0000-01-01T00:00:00.000Z in milliseconds since the epoch.
const YEAR_0000: i64 = -62_167_219_200_000;

/// 9999-12-30T22:00:00.999Z: the last millisecond that jiff has.
const END_OF_CALENDAR: i64 = 253_402_207_200_999;

/// As many as jiff accepts.
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

    #[test]
    fn dates_of_http_are_those_of_the_calendar() {
        let check = |seconds: i64, text: &str| {
            let date = imf_fixdate(Wall(seconds * 1000));
            assert_eq!(str::from_utf8(&date).unwrap(), text);
        };
        // From RFC 9110; the others by `date -u -R -d @SECONDS`.
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(-1, "Wed, 31 Dec 1969 23:59:59 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(1_793_577_599, "Sun, 01 Nov 2026 23:59:59 GMT");
        check(253_402_207_200, "Thu, 30 Dec 9999 22:00:00 GMT");
        check(253_402_207_201, "Thu, 30 Dec 9999 22:00:00 GMT");
        check(i64::MAX / 1000, "Thu, 30 Dec 9999 22:00:00 GMT");
        check(-62_167_219_200, "Sat, 01 Jan 0000 00:00:00 GMT");
        check(i64::MIN / 1000, "Sat, 01 Jan 0000 00:00:00 GMT");
        let date = imf_fixdate(Wall(-1));
        assert_eq!(&date[17..25], b"23:59:59");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1600, 0, 1);
        // 1600-01-01T12:00:00Z, in seconds since the epoch.
        for number in 0i64..300_000 {
            let date = imf_fixdate(Wall((-11_676_052_800 + number * 86_400) * 1000));
            let text = str::from_utf8(&date).unwrap();
            let name = &"JanFebMarAprMayJunJulAugSepOctNovDec"[month * 3..month * 3 + 3];
            assert_eq!(text[5..], format!("{day:02} {name} {year} 12:00:00 GMT"));
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            day += 1;
            if day > [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month] {
                day = 1;
                month = (month + 1) % 12;
                year += i32::from(month == 0);
            }
        }
    }
}
