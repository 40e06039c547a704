//! Reads the two clocks, and notices when the calendar is set.
//!
//! ```text
//!   CLOCK_MONOTONIC ──▶ mono
//!          +            the distance stays the same until the calendar is set;
//!       distance   ──▶ wall      then it is measured anew, and the step is reported once
//! ```
//!
//! Between two steps the distance of the two clocks is constant, because the kernel adjusts the
//! rate of both together (clock_gettime(2)). So the calendar is computed from elapsed time, and
//! timers for the same time of the calendar always expire together. If both clocks were read and
//! rounded, they would sometimes differ by a millisecond, and such timers would expire in two
//! turns.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::time::{Mono, Now, Wall};

/// Reads both clocks once: `CLOCK_MONOTONIC` and `CLOCK_REALTIME`, in milliseconds, rounded down.
/// It goes through the vDSO, without a system call.
pub fn now() -> Now {
    Clock::new(Reading::take, None).now()
}

/// Reads elapsed time only: `CLOCK_MONOTONIC`.
pub fn mono() -> Mono {
    to_mono(elapsed())
}

/// The same to the microsecond.
pub fn elapsed() -> Duration {
    to_duration(read(libc::CLOCK_MONOTONIC))
}

/// Elapsed time in milliseconds, rounded down. A job may have been created before the machine was
/// started, so that is not the beginning.
pub fn to_mono(elapsed: Duration) -> Mono {
    let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    Mono(BEFORE_BOOT.saturating_add(elapsed))
}

/// The clocks of k1s, read once a turn.
#[derive(Debug)]
pub struct Clock {
    source: fn() -> Reading,
    watch: Option<File>,
    /// How far the calendar is ahead of elapsed time, in milliseconds.
    distance: i64,
    was_set: bool,
    /// Elapsed time at the last reading.
    elapsed: Duration,
}

/// A reading of both clocks at nearly the same time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Elapsed time, read before the calendar.
    pub before: i64,
    /// The calendar, since the epoch.
    pub wall: i64,
    /// Elapsed time, read after the calendar: the process may have been interrupted in between.
    pub after: i64,
}

impl Clock {
    /// The clocks of this machine. If its kernel cannot report that the calendar was set, as in
    /// some sandboxes, nothing wakes the loop for that: see [`Clock::longest_sleep`].
    pub fn of_the_system() -> Clock {
        Clock::new(Reading::take, watch_calendar().ok())
    }

    /// Clocks read by `source`. `watch` becomes readable when the calendar is set.
    pub fn new(source: fn() -> Reading, watch: Option<OwnedFd>) -> Clock {
        let distance = measure(source);
        let (watch, elapsed) = (watch.map(File::from), Duration::ZERO);
        Clock { source, watch, distance, was_set: false, elapsed }
    }

    /// Reads both clocks, in milliseconds, rounded down. The calendar is never ahead of the
    /// machine's, and at most 2 ms behind.
    pub fn now(&mut self) -> Now {
        let reading = (self.source)();
        if !reading.agrees_with(self.distance) {
            self.distance = measure(self.source);
            self.was_set = true;
        }
        self.elapsed = to_duration(reading.before);
        let wall = Wall(reading.before.div_euclid(1000) + self.distance);
        Now { mono: to_mono(self.elapsed), wall }
    }

    /// Elapsed time at the last reading, to the microsecond.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Whether the calendar was set, or the machine slept, since the last call. Steps of less than
    /// 2 ms are not noticed.
    pub fn take_step(&mut self) -> bool {
        std::mem::take(&mut self.was_set)
    }

    /// A descriptor that becomes readable when the calendar is set.
    pub fn watch(&self) -> Option<RawFd> {
        self.watch.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The watch has become readable: reads it, so that it can report the next step. The step
    /// itself shows when the clocks are read.
    pub fn handle_watch(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        // A timerfd returns ECANCELED once for each step, and goes on: timerfd_create(2).
        let was_cancelled = |error: io::Error| error.raw_os_error() == Some(libc::ECANCELED);
        while watch.read(&mut [0; 8]).is_err_and(was_cancelled) {}
    }

    /// How long the loop may sleep at most when nothing reports that the calendar was set.
    pub fn longest_sleep(&self) -> Option<Duration> {
        self.watch.is_none().then_some(UNWATCHED_SLEEP)
    }
}

impl Reading {
    /// Reads the machine's clocks.
    pub fn take() -> Reading {
        let before = read(libc::CLOCK_MONOTONIC);
        let wall = read(libc::CLOCK_REALTIME);
        Reading { before, wall, after: read(libc::CLOCK_MONOTONIC) }
    }

    /// Whether this reading allows for such a distance between the clocks.
    fn agrees_with(&self, distance: i64) -> bool {
        let distance = distance.saturating_mul(1000);
        let (least, most) = (self.wall - self.after, self.wall - self.before);
        (least - TOLERANCE..=most + TOLERANCE).contains(&distance)
    }
}

/// Measures how far the calendar is ahead, in milliseconds, rounded down: takes the best of
/// [`READINGS`].
fn measure(source: fn() -> Reading) -> i64 {
    let readings = std::iter::repeat_with(source).take(READINGS);
    let best = readings.min_by_key(|reading| reading.after - reading.before);
    best.map_or(0, |best| (best.wall - best.after).div_euclid(1000))
}

/// A timer that never expires. It is cancelled when the calendar is set or the machine wakes from
/// sleep: timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`.
fn watch_calendar() -> io::Result<OwnedFd> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags)?;
    Ok(timer.into())
}

fn to_duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A clock in microseconds, rounded down.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// When that timer would expire, in seconds since the epoch: the year 2286.
const NEVER: i64 = 9_999_999_999;

/// In microseconds; more than the error of a distance that is rounded to a millisecond.
const TOLERANCE: i64 = 2000;

/// How often the clocks are read to measure their distance, since the process may be interrupted.
const READINGS: usize = 4;

/// The unit of cron: a step is noticed within a minute.
const UNWATCHED_SLEEP: Duration = Duration::from_secs(60);

/// In milliseconds: 139 years.
const BEFORE_BOOT: u64 = 1 << 42;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NEXT: Cell<Reading> = const { Cell::new(Reading { before: 0, wall: 0, after: 0 }) };
    }

    /// What the clocks show next.
    fn show(before: i64, wall: i64, after: i64) {
        NEXT.set(Reading { before, wall, after });
    }

    #[track_caller]
    fn check(clock: &mut Clock, now: (u64, i64), was_set: bool) {
        let mono = Mono(BEFORE_BOOT + now.0);
        assert_eq!(clock.now(), Now { mono, wall: Wall(now.1) });
        assert_eq!(clock.take_step(), was_set);
        assert!(!clock.take_step(), "a step is told once");
    }

    #[test]
    fn the_clocks_agree_with_the_standard_library() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let now = now();
        let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let wall = u128::from(now.wall.0.unsigned_abs());
        assert!((before.as_millis() - 2..=after.as_millis()).contains(&wall));
        assert!(now.mono <= super::now().mono && now.mono <= mono());
    }

    #[test]
    fn a_distance_is_kept_whatever_the_rounding() {
        show(1_000_000, 50_000_700, 1_000_001);
        let mut clock = Clock::new(|| NEXT.get(), None);
        for micros in (0..5000).step_by(100) {
            let millis = micros / 1000;
            show(1_000_000 + micros, 50_000_700 + micros, 1_000_001 + micros);
            check(&mut clock, (1000 + millis as u64, 50_000 + millis), false);
        }
    }

    #[test]
    fn being_away_between_two_readings_is_no_step() {
        show(1_000_000, 50_000_000, 1_000_000);
        let mut clock = Clock::new(|| NEXT.get(), None);
        show(1_000_000, 50_900_000, 1_900_000);
        check(&mut clock, (1000, 50_000), false);
        show(2_000_000, 51_000_000, 2_900_000);
        check(&mut clock, (2000, 51_000), false);
    }

    #[test]
    fn a_step_either_way_is_told_and_believed() {
        show(0, 50_000_000, 0);
        let mut clock = Clock::new(|| NEXT.get(), None);
        for (wall, was_set) in [(50_000, false), (3_650_000, true), (3_647_000, true), (-5, true)] {
            show(0, wall * 1000, 0);
            check(&mut clock, (0, wall), was_set);
            check(&mut clock, (0, wall), false);
        }
    }

    #[test]
    fn a_calendar_that_nobody_sets_is_quiet() {
        let mut clock = Clock::of_the_system();
        assert_eq!(clock.longest_sleep(), None);
        clock.handle_watch();
        clock.now();
        assert!(!clock.take_step());
        assert_eq!(Clock::new(Reading::take, None).longest_sleep(), Some(UNWATCHED_SLEEP));
    }
}
