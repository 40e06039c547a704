//! The two clocks.
//!
//! [`Mono`] is elapsed time: for grace periods, timeouts, backoff, deadlines and interval jobs.
//! [`Wall`] is the calendar: for people and cron expressions. The wall clock may be set forward or
//! back at any moment, so one is never computed from the other.
//!
//! Nothing here reads a clock: the daemon reads both once a turn, and passes them on as [`Now`].

use std::fmt::{self, Display};
use std::ops::Add;
use std::time::Duration;

/// A moment in elapsed time: whole milliseconds since an arbitrary start
/// (`CLOCK_MONOTONIC`, clock_gettime(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// A moment in the calendar: milliseconds since 1970-01-01T00:00:00Z
/// (`CLOCK_REALTIME`, clock_gettime(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// A length of time in words: `12 ms`, `3.2 s`, `26 s`, `2 min 5 s`, `3 h 12 min`, `5 d 3 h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// One reading of both clocks: the only "now" in a turn of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Elapsed time.
    pub mono: Mono,
    /// The calendar.
    pub wall: Wall,
}

impl Mono {
    /// How long after `earlier` this is; zero when it is not later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Adds a duration, rounded up to a whole millisecond, so that nothing is due early.
impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, duration: Duration) -> Mono {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Mono(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// Two units at most; below ten seconds, tenths of a second.
impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (tenths, seconds) =
            (millis.saturating_add(50) / 100, millis.saturating_add(500) / 1000);
        let mut two = |big, name, small, small_name| match small {
            0 => write!(f, "{big} {name}"),
            _ => write!(f, "{big} {name} {small} {small_name}"),
        };
        match (tenths, seconds) {
            _ if millis < 100 => write!(f, "{millis} ms"),
            (..100, _) => write!(f, "{}.{} s", tenths / 10, tenths % 10),
            (_, ..60) => write!(f, "{seconds} s"),
            (_, ..3600) => two(seconds / 60, "min", seconds % 60, "s"),
            (_, ..86_400) => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
            _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_rounds_up_and_saturates() {
        assert_eq!(Mono(5) + Duration::from_micros(1), Mono(6));
        assert_eq!(Mono(5) + Duration::from_millis(2), Mono(7));
        assert_eq!(Mono(5) + Duration::MAX, Mono(u64::MAX));
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }

    #[test]
    fn lengths_of_time_in_words() {
        for (millis, words) in [
            (0, "0 ms"),
            (99, "99 ms"),
            (100, "0.1 s"),
            (400, "0.4 s"),
            (3_249, "3.2 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (59_499, "59 s"),
            (59_500, "1 min"),
            (125_400, "2 min 5 s"),
            (3_599_499, "59 min 59 s"),
            (3_600_000, "1 h"),
            (11_520_000, "3 h 12 min"),
            (86_400_000, "1 d"),
            (443_000_000, "5 d 3 h"),
        ] {
            assert_eq!(Span(Duration::from_millis(millis)).to_string(), words);
        }
        assert!(Span(Duration::MAX).to_string().ends_with(" h"));
    }
}
