//! The mark of a run: a number in RLIMIT_LOCKS, which Linux has not used since 2.4.
//!
//! The limit is inherited over fork, exec and a change of user, and everyone may read it in
//! `/proc/PID/limits` (proc_pid_limits(5)). Neither a new title (setproctitle) nor `env -i` removes
//! it, and no program changes it by accident.
//!
//! ```text
//!  0        middle                                          hard limit of k1s
//!  ├──────────┼──────────────┼───────────────────────────────┤
//!             │ base: random │ marks: base + (job, run)
//! ```
//!
//! Marks are in the upper half of the range that k1s itself was given, so that a k1s inside of a
//! run has room for its own. Two k1s of one host share a base with a probability of 2⁻⁶⁰.

use crate::job::tag::RunTag;

/// The marks of one k1s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    base: u64,
    room: u64,
}

impl Marks {
    /// Marks below the hard limit that k1s was started with; `None` when that is too low.
    pub(super) fn below(hard: u64, random: u64) -> Option<Marks> {
        let limit = hard.min(HIGHEST);
        let room = limit / 4;
        (limit >= LOWEST_LIMIT).then(|| Marks { base: limit / 2 + random % room, room })
    }

    /// The mark of a run; `None` for a job whose number is too high. It contains only the lower
    /// bits of the run's number, which is enough for the leftovers of a job's last million runs.
    pub(super) fn of(self, tag: RunTag) -> Option<u64> {
        let job = tag.job.checked_mul(1 << RUN_BITS)?;
        let code = job | (tag.run & RUN_MASK);
        (code < self.room).then(|| self.base + code)
    }

    /// The run that a mark names, with the lower bits of its number; `None` when it is no mark of
    /// this k1s.
    pub(super) fn read(self, mark: u64) -> Option<RunTag> {
        let code = mark.checked_sub(self.base).filter(|code| *code < self.room)?;
        Some(RunTag { job: code >> RUN_BITS, run: code & RUN_MASK })
    }
}

/// The bits of a run's number that a mark contains.
pub(super) const RUN_MASK: u64 = (1 << RUN_BITS) - 1;
const RUN_BITS: u32 = 20;
/// Fits into a signed number, in case a program reads it as one.
const HIGHEST: u64 = 1 << 62;
/// Leaves room for a million jobs.
const LOWEST_LIMIT: u64 = 1 << 42;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_again_and_those_of_others_are_not() {
        for (hard, random) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (1 << 42, 12345)] {
            let marks = Marks::below(hard, random).unwrap();
            for tag in [(0, 0), (1, 1), (1000, 99), (800_000, RUN_MASK)] {
                let tag = RunTag { job: tag.0, run: tag.1 };
                let mark = marks.of(tag).unwrap();
                assert!(mark < hard);
                assert_eq!(marks.read(mark), Some(tag));
                // A k1s inside of this run has its own marks.
                if let Some(inner) = Marks::below(mark, random) {
                    assert!(inner.of(tag).unwrap() < mark);
                }
            }
            assert_eq!(marks.read(u64::MAX), None);
            assert_eq!(marks.read(0), None);
            assert_eq!(marks.of(RunTag { job: u64::MAX, run: 1 }), None);
        }
        assert!(Marks::below(1000, 7).is_none());
    }

    #[test]
    fn a_k1s_in_a_k1s_has_room_for_many_levels() {
        let mut hard = u64::MAX;
        for level in 0..15 {
            let marks =
                Marks::below(hard, 0x5555_5555_5555_5555).unwrap_or_else(|| panic!("{level}"));
            hard = marks.of(RunTag { job: 3, run: 3 }).unwrap();
        }
    }
}
