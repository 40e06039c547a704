//! Reading the two clocks, and noticing when the calendar is set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::time::{Mono, Now, Wall};

/// Reads both clocks, once a turn: `CLOCK_MONOTONIC` and `CLOCK_REALTIME`, in milliseconds,
/// rounded down. Through the vDSO: no system call.
pub fn now() -> Now {
    let mono = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    Now { mono: Mono(u64::try_from(mono).unwrap_or(0)), wall: Wall(wall) }
}

/// Becomes readable when the calendar is set or the machine wakes from sleep, so that nobody
/// has to look again and again: timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`.
#[derive(Debug)]
pub struct ClockWatch(TimerFd);

impl ClockWatch {
    /// A watch on `CLOCK_REALTIME`, non-blocking and close-on-exec.
    ///
    /// # Errors
    /// Those of timerfd_create(2): no descriptor is free, or there is no memory.
    pub fn new() -> io::Result<ClockWatch> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let watch = ClockWatch(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?);
        watch.arm()?;
        Ok(watch)
    }

    /// Whether the calendar was set since the last call; the watch goes on.
    ///
    /// # Errors
    /// Those of timerfd_settime(2); none is expected.
    pub fn was_set(&self) -> io::Result<bool> {
        match self.0.wait() {
            Err(nix::errno::Errno::EAGAIN) => Ok(false),
            Ok(()) | Err(_) => self.arm().map(|()| true),
        }
    }

    /// Set for a moment that does not come: only its cancellation tells anything.
    fn arm(&self) -> io::Result<()> {
        let never = Expiration::OneShot(TimeSpec::new(NEVER, 0));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.0.set(never, flags)?)
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ClockWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// In seconds since the epoch: the year 2286.
const NEVER: i64 = 9_999_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_with_the_standard_library() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let now = now();
        let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let wall = u128::from(now.wall.0.unsigned_abs());
        assert!((before.as_millis()..=after.as_millis()).contains(&wall));
        assert!(now.mono <= super::now().mono);
    }

    #[test]
    fn a_clock_that_nobody_sets_is_quiet() {
        let watch = ClockWatch::new().unwrap();
        assert!(!watch.was_set().unwrap());
        assert!(!watch.was_set().unwrap());
    }
}
