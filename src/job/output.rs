//! The captured output of a stream: its end, its length, and the order in which it was read.
//!
//! ```text
//!   written ─┬───────────────────┬──────────────────────────────┐
//!            │ dropped           │ kept, up to a limit          │
//!            └───────────────────┴──────────────────────────────┘
//!   reads        │ hidden ┆       │        │ │                 │   one for each read
//! ```
//!
//! Each read is a [`Read`] with its [`LogPlace`](super::LogPlace) in the log of the job, which both
//! streams of all runs share. How much of the first read was dropped is remembered, so that its
//! place stays valid as long as a part of it is kept.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::LineEnds;
use super::read::{LogEnd, Read};
use crate::time::Wall;

/// The output of a stream that is still open: the newest bytes, up to a limit.
#[derive(Debug)]
pub struct Capture {
    limit: usize,
    written: u64,
    ends: LineEnds,
    kept: Option<Box<Kept>>,
    /// Where the log of the job ended after the last read of this stream.
    log_end: LogEnd,
}

/// The output of a stream that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    written: u64,
    kept: Option<Box<Kept>>,
}

/// The kept part of a stream that has ended, as plain data, to be stored and restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptParts<'a> {
    /// The newest bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Two numbers for each read, in their order.
    pub reads: Vec<(u64, u64)>,
    /// Where lines are cut, as offsets in the whole stream.
    pub cuts: Cow<'a, [u64]>,
    /// How many bytes of the first read were dropped.
    pub hidden: u64,
    /// How many lines ended in them.
    pub hidden_ends: u64,
    /// Whether the kept part begins with a line.
    pub begins_line: bool,
}

/// The kept part of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) bytes: VecDeque<u8>,
    pub(super) reads: VecDeque<Read>,
    /// Where lines are cut in the kept part, as offsets in the whole stream.
    pub(super) cuts: Vec<u64>,
    /// How many bytes of the first read were dropped.
    pub(super) hidden: usize,
    /// How many lines ended in them.
    pub(super) hidden_ends: u64,
    /// Whether the kept part begins with a line.
    pub(super) begins_line: bool,
}

impl Capture {
    /// An empty stream; `limit` bytes of it are kept.
    pub fn new(limit: usize) -> Capture {
        Capture {
            limit,
            written: 0,
            ends: LineEnds::default(),
            kept: None,
            log_end: LogEnd::default(),
        }
    }

    /// Adds what was read at this time, at the end of the job's log, and drops the oldest bytes
    /// beyond the limit.
    pub fn append(&mut self, bytes: &[u8], log: &mut LogEnd, at: Wall) {
        for part in bytes.chunks(Read::MOST_BYTES) {
            self.append_part(part, log, at);
        }
    }

    fn append_part(&mut self, bytes: &[u8], log: &mut LogEnd, at: Wall) {
        let begin = self.written;
        self.written = begin.saturating_add(bytes.len() as u64);
        let begins_line = !self.ends.has_begun();
        if self.limit == 0 {
            log.advance(self.ends.count(bytes, |_| ()));
            return;
        }
        let kept =
            self.kept.get_or_insert_with(|| Box::new(Kept { begins_line, ..Kept::default() }));
        let cuts = &mut kept.cuts;
        let ends = self.ends.count(bytes, |at| cuts.push(begin + at as u64));
        let last = kept.reads.back_mut().filter(|_| self.log_end == *log);
        if last.is_some_and(|last| last.extend(bytes.len(), at)) {
            log.extend(ends);
        } else {
            kept.add_read(Read::new(log.advance(ends), at, bytes.len()));
        }
        self.log_end = *log;
        kept.add(bytes, self.limit, self.written);
    }

    /// Keeps `limit` bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        if limit == 0 {
            return self.discard();
        }
        if let Some(kept) = &mut self.kept {
            kept.drop_front(kept.bytes.len().saturating_sub(limit), self.written);
            kept.shrink();
        }
    }

    /// Forgets what was kept, and gives its memory back.
    pub fn discard(&mut self) {
        self.kept = None;
    }

    /// The newest bytes that are kept, so many at most.
    pub fn newest(&self, most: usize) -> Vec<u8> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let skipped = kept.bytes.len().saturating_sub(most);
        kept.bytes.iter().skip(skipped).copied().collect()
    }

    /// The memory, in bytes, that what is kept takes.
    pub fn allocated(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.allocated())
    }

    /// The stream has ended, and so has its last line.
    pub fn finish(self, log: &mut LogEnd, at: Wall) -> Captured {
        let mut kept = self.kept;
        if self.ends.has_begun() {
            let place = log.advance(1);
            if let Some(kept) = &mut kept {
                kept.cuts.push(self.written);
                kept.reads.push_back(Read::new(place, at, 0));
            }
        }
        if let Some(kept) = &mut kept {
            kept.bytes.make_contiguous();
            kept.shrink();
        }
        Captured { written: self.written, kept }
    }

    /// How many bytes were written, and the kept part.
    pub(super) fn parts(&self) -> (u64, Option<&Kept>) {
        (self.written, self.kept.as_deref())
    }
}

impl Captured {
    /// The newest bytes that were written.
    pub fn bytes(&self) -> &[u8] {
        self.kept.as_ref().map(|kept| kept.bytes.as_slices().0).unwrap_or_default()
    }

    /// How many bytes were written in all.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether more was written than is still kept.
    pub fn is_truncated(&self) -> bool {
        self.written > self.bytes().len() as u64
    }

    /// The memory, in bytes, that what is kept takes.
    pub fn allocated(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.allocated())
    }

    /// Forgets what was kept, and gives its memory back.
    pub fn discard(&mut self) {
        self.kept = None;
    }

    /// What is kept, to be stored.
    pub fn kept_parts(&self) -> Option<KeptParts<'_>> {
        let kept = self.kept.as_ref()?;
        Some(KeptParts {
            bytes: Cow::Borrowed(self.bytes()),
            reads: kept.reads.iter().map(|read| read.numbers()).collect(),
            cuts: Cow::Borrowed(&kept.cuts),
            hidden: kept.hidden as u64,
            hidden_ends: kept.hidden_ends,
            begins_line: kept.begins_line,
        })
    }

    /// The output of a stream of so many bytes, of which this is kept. Parts that do not fit
    /// together are dropped, as if the budget for output had been exceeded.
    pub fn restore(written: u64, parts: Option<KeptParts<'_>>) -> Captured {
        let kept = parts.and_then(|parts| Kept::restore(parts, written)).map(Box::new);
        Captured { written, kept }
    }

    /// How many bytes were written, and the kept part.
    pub(super) fn parts(&self) -> (u64, Option<&Kept>) {
        (self.written, self.kept.as_deref())
    }
}

impl Kept {
    fn restore(parts: KeptParts<'_>, written: u64) -> Option<Kept> {
        let KeptParts { bytes, reads, cuts, hidden, hidden_ends, begins_line } = parts;
        let reads: VecDeque<Read> = reads.into_iter().map(Read::from_numbers).collect();
        let length: u64 = reads.iter().map(|read| read.length() as u64).sum();
        let first = reads.front().map_or(0, |read| read.length() as u64);
        let is_whole = hidden <= first && length - hidden == bytes.len() as u64;
        let has_cuts = cuts.is_sorted() && cuts.last().is_none_or(|last| *last <= written);
        let fits = is_whole && has_cuts && bytes.len() as u64 <= written;
        let hidden = usize::try_from(hidden).ok()?;
        let (bytes, cuts) = (VecDeque::from(bytes.into_owned()), cuts.into_owned());
        fits.then_some(Kept { bytes, reads, cuts, hidden, hidden_ends, begins_line })
    }

    /// Adds a read. Memory for reads grows by a quarter, so that it is little more than 16 bytes
    /// for each.
    fn add_read(&mut self, read: Read) {
        if self.reads.len() == self.reads.capacity() {
            self.reads.reserve_exact(1 + self.reads.len() / 4);
        }
        self.reads.push_back(read);
    }

    /// Adds the bytes of the last read.
    fn add(&mut self, bytes: &[u8], limit: usize, written: u64) {
        let begin = written - bytes.len() as u64;
        let surplus = (self.bytes.len() + bytes.len()).saturating_sub(limit);
        self.drop_front(surplus.min(self.bytes.len()), begin);
        let (dropped, bytes) = bytes.split_at(bytes.len().saturating_sub(limit));
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.next_power_of_two().min(limit).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend(bytes);
        self.hide(&[dropped], begin);
    }

    /// Drops so many of the oldest bytes. `written` is the length of the stream.
    fn drop_front(&mut self, count: usize, written: u64) {
        let begin = written.saturating_sub(self.bytes.len() as u64);
        let mut dropped = std::mem::take(&mut self.bytes);
        let (one, two) = dropped.as_slices();
        let (one, two) = (
            one.get(..count).unwrap_or(one),
            two.get(..count.saturating_sub(one.len())).unwrap_or_default(),
        );
        self.hide(&[one, two], begin);
        dropped.drain(..count);
        self.bytes = dropped;
    }

    /// Updates the beginning of the kept part, of which these first bytes, at this offset, are
    /// dropped.
    fn hide(&mut self, parts: &[&[u8]], begin: u64) {
        let count: usize = parts.iter().map(|part| part.len()).sum();
        let Some(last) = parts.iter().rev().find_map(|part| part.last()) else { return };
        let mut left = count;
        while let Some(read) = self.reads.front()
            && left >= read.length() - self.hidden
        {
            left -= read.length() - self.hidden;
            (self.hidden, self.hidden_ends) = (0, 0);
            self.reads.pop_front();
        }
        self.hidden += left;
        let end = begin + count as u64;
        let of_span = end.saturating_sub(self.hidden as u64);
        for part in parts.iter().rev() {
            let (_, of_span) = part.split_at(part.len().saturating_sub(left));
            left -= of_span.len();
            self.hidden_ends += memchr::memchr_iter(b'\n', of_span).count() as u64;
        }
        let cuts = self.cuts.partition_point(|cut| *cut <= end);
        let hidden = self.cuts.drain(..cuts);
        self.begins_line = *last == b'\n' || hidden.as_slice().last() == Some(&end);
        self.hidden_ends += hidden.filter(|cut| *cut >= of_span).count() as u64;
    }

    fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.reads.shrink_to_fit();
        self.cuts.shrink_to_fit();
    }

    fn allocated(&self) -> usize {
        self.bytes.capacity()
            + self.reads.capacity() * size_of::<Read>()
            + self.cuts.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept_however_they_arrive() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for limit in [0, 1, 7, 100, 999, 1000, 5000] {
            for size in [1, 3, 64, 500, 1000] {
                let (mut capture, mut log) = (Capture::new(limit), LogEnd::default());
                for (chunk, at) in all.chunks(size).zip(0..) {
                    capture.append(chunk, &mut log, Wall(at));
                    let order = 16 * (limit / size + 2) * 5 / 4 + 16;
                    assert!(capture.allocated() <= limit + order, "limit {limit}, size {size}");
                }
                let captured = capture.finish(&mut log, Wall(0));
                assert_eq!(captured.bytes(), &all[all.len().saturating_sub(limit)..]);
                assert_eq!(captured.written(), 1000);
                assert_eq!(captured.is_truncated(), limit < 1000);
            }
        }
    }

    #[test]
    fn reads_of_one_millisecond_are_one() {
        let (mut capture, mut log) = (Capture::new(100), LogEnd::default());
        (0..100).for_each(|_| capture.append(b"x", &mut log, Wall(1)));
        assert_eq!(capture.finish(&mut log, Wall(1)).allocated(), 100 + 2 * 16 + 8);
    }

    #[test]
    fn what_is_discarded_was_still_written() {
        let (mut capture, mut log) = (Capture::new(10), LogEnd::default());
        capture.append(b"hello", &mut log, Wall(0));
        capture.discard();
        assert_eq!(capture.allocated(), 0);
        capture.append(b"x", &mut log, Wall(0));
        let mut captured = capture.finish(&mut log, Wall(0));
        assert_eq!((captured.bytes(), captured.written()), (&b"x"[..], 6));
        captured.discard();
        assert!(captured.is_truncated());
    }
}
