//! Reads of output streams, and their places in the log of a job.

use crate::time::Wall;

/// The place of a read in the log: how many lines had ended before it, and its number among the
/// reads with the same count. Places are unique, and in the order of the reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace(u64);

/// The place of the next read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd(LogPlace);

/// One read of a stream, in 16 bytes. Successive reads within a millisecond are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) place: LogPlace,
    /// 44 bits: milliseconds since the epoch. 20 bits: the number of bytes.
    at_and_length: u64,
}

impl LogPlace {
    /// How many lines had ended before it.
    pub fn lines(self) -> u64 {
        self.0 >> TIE_BITS
    }

    /// The first place after so many lines.
    pub(super) fn of(lines: u64) -> LogPlace {
        LogPlace(lines.min(MOST_LINES) << TIE_BITS)
    }
}

// As plain numbers, to be stored and restored.
impl LogPlace {
    /// The place as a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The place with this number.
    pub fn from_number(number: u64) -> LogPlace {
        LogPlace(number)
    }
}

impl LogEnd {
    /// A log that ends at this place.
    pub fn at(place: LogPlace) -> LogEnd {
        LogEnd(place)
    }

    /// Leaves out the numbers of so many lines, which may have been used for lines that nobody
    /// remembers.
    pub fn leave_out(self, lines: u64) -> LogEnd {
        LogEnd(LogPlace::of(self.0.lines().saturating_add(lines)))
    }

    /// The place of the next read.
    pub fn place(self) -> LogPlace {
        self.0
    }

    /// Adds a read in which so many lines end; returns its place. After 65,535 reads without an
    /// end, which takes at least two runs, because lines are cut, the number of a line is skipped.
    pub(super) fn advance(&mut self, ends: u64) -> LogPlace {
        let place = self.0;
        let is_last = place.0 & MOST_TIES == MOST_TIES;
        self.0 = match (ends, is_last) {
            (0, false) => LogPlace(place.0 + 1),
            (0, true) => LogPlace::of(place.lines() + 1),
            (ends, _) => LogPlace::of(place.lines().saturating_add(ends)),
        };
        place
    }

    /// Extends the last read by bytes in which so many lines end.
    pub(super) fn extend(&mut self, ends: u64) {
        if ends > 0 {
            self.0 = LogPlace::of(self.0.lines().saturating_add(ends));
        }
    }
}

impl Read {
    /// The longest read.
    pub(super) const MOST_BYTES: usize = (1 << LENGTH_BITS) - 1;

    /// A read of so many bytes, [`Read::MOST_BYTES`] at most.
    pub(super) fn new(place: LogPlace, at: Wall, length: usize) -> Read {
        let at = u64::try_from(at.0).unwrap_or(0).min(MOST_MILLIS);
        Read { place, at_and_length: at << LENGTH_BITS | length.min(Read::MOST_BYTES) as u64 }
    }

    /// Both of its numbers, to be stored.
    pub(super) fn numbers(self) -> (u64, u64) {
        (self.place.0, self.at_and_length)
    }

    /// The read with these numbers.
    pub(super) fn from_numbers((place, at_and_length): (u64, u64)) -> Read {
        Read { place: LogPlace(place), at_and_length }
    }

    /// How many bytes.
    pub(super) fn length(self) -> usize {
        (self.at_and_length & Read::MOST_BYTES as u64) as usize
    }

    /// When it was read.
    pub(super) fn at(self) -> Wall {
        Wall(i64::try_from(self.at_and_length >> LENGTH_BITS).unwrap_or(i64::MAX))
    }

    /// Adds the next read to this one, if it came in the same millisecond; returns whether it did.
    pub(super) fn extend(&mut self, length: usize, at: Wall) -> bool {
        let longer = self.length() + length;
        let fits = at == self.at() && longer <= Read::MOST_BYTES;
        if fits {
            *self = Read::new(self.place, at, longer);
        }
        fits
    }
}

const TIE_BITS: u32 = 16;
const MOST_TIES: u64 = (1 << TIE_BITS) - 1;
const MOST_LINES: u64 = u64::MAX >> TIE_BITS;
const LENGTH_BITS: u32 = 20;
const MOST_MILLIS: u64 = u64::MAX >> LENGTH_BITS;
