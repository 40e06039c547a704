//! A queue of lines for a slow reader, up to a bound; what does not fit is dropped and counted.
//!
//! ```text
//!   push ─▶ ┌──────────── MOST_BYTES ────────────┐ ─▶ front, consume
//!           └────────────────────────────────────┘
//!     when it is full, everything is dropped until half of it has been written:
//!     one gap, and one notice in its place.
//! ```
//!
//! What must not be dropped is queued beyond the bound. It comes from runs with backpressure,
//! which are not read while much is queued, so it is at most what was in the pipes of a run when
//! it ended.
//!
//! Nothing here writes to a file.

use std::collections::VecDeque;

/// Bytes for one file, oldest first. While it is empty it keeps [`KEPT_BYTES`] at most.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    lost: Lost,
    /// The last bytes queued do not end a line.
    is_mid_line: bool,
    /// The last bytes written do not end a line.
    is_written_mid_line: bool,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many line ends.
    pub(super) lines: u64,
    /// How many bytes, as they would have been written.
    pub(super) bytes: u64,
}

impl Queue {
    /// How many bytes are queued.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is queued, and nothing is being dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.lost.is_nothing()
    }

    /// What was dropped and has no notice yet.
    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    /// Queues a whole line, including its newline, or drops all of it.
    pub(super) fn push_line(&mut self, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > self.room() {
            return self.lost.add(1, length);
        }
        for part in parts {
            self.bytes.extend(*part);
        }
        self.is_mid_line = false;
    }

    /// Queues bytes as they are, also beyond the bound.
    pub(super) fn push_all(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.is_mid_line = is_mid_line(bytes).unwrap_or(self.is_mid_line);
    }

    /// Queues bytes as they are, or as many whole lines of them as fit.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        let fits = bytes.get(..self.room());
        let whole =
            |part: &[u8]| part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (kept, dropped) = bytes.split_at(fits.map_or(bytes.len(), whole));
        self.push_all(kept);
        self.lost.add(newlines(dropped.iter()), dropped.len());
    }

    /// Bytes were written without being queued.
    pub(super) fn note_written(&mut self, bytes: &[u8]) {
        self.is_mid_line = is_mid_line(bytes).unwrap_or(self.is_mid_line);
        self.is_written_mid_line = self.is_mid_line;
    }

    /// What to write first; empty when nothing is queued.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.as_slices().0
    }

    /// So many bytes of the front were written.
    pub(super) fn consume(&mut self, count: usize) {
        let written = self.front().get(..count).unwrap_or_default();
        self.is_written_mid_line = is_mid_line(written).unwrap_or(self.is_written_mid_line);
        self.bytes.drain(..count.min(self.bytes.len()));
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = VecDeque::new();
        }
    }

    /// Drops everything that is queued, because it cannot be written.
    pub(super) fn discard(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.lost.add(newlines(bytes.iter()), bytes.len());
        self.is_mid_line = self.is_written_mid_line;
    }

    /// Whether something was dropped, and there is room for the notice.
    pub(super) fn is_gap_over(&self) -> bool {
        !self.lost.is_nothing() && self.bytes.len() <= MOST_BYTES / 2
    }

    /// Queues the notice in place of the dropped bytes, on a line of its own. From here on
    /// everything is queued again.
    pub(super) fn close_gap(&mut self, notice: &[u8]) {
        self.lost = Lost::default();
        if self.is_mid_line {
            self.bytes.push_back(b'\n');
        }
        self.bytes.extend(notice);
        self.is_mid_line = false;
    }

    /// The notice could not be written: restores the gap.
    pub(super) fn reopen_gap(&mut self, lost: Lost) {
        self.bytes = VecDeque::new();
        self.is_mid_line = self.is_written_mid_line;
        self.lost = lost;
    }

    /// How many bytes fit; none while something is being dropped, so that what comes after a gap
    /// stays after it.
    fn room(&self) -> usize {
        if self.lost.is_nothing() { MOST_BYTES.saturating_sub(self.bytes.len()) } else { 0 }
    }
}

impl Lost {
    fn is_nothing(self) -> bool {
        self.bytes == 0
    }

    fn add(&mut self, lines: u64, bytes: usize) {
        self.lines = self.lines.saturating_add(lines);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// Whether these bytes end in the middle of a line; `None` when there are none.
fn is_mid_line(bytes: &[u8]) -> Option<bool> {
    bytes.last().map(|last| *last != b'\n')
}

fn newlines<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.filter(|byte| **byte == b'\n').count() as u64
}

/// The most that is queued: as much as four full pipes.
const MOST_BYTES: usize = 256 * 1024;
/// The most memory that is kept when nothing is queued.
const KEPT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(queue: &mut Queue) -> Vec<u8> {
        let mut all = Vec::new();
        while !queue.front().is_empty() {
            let count = queue.front().len();
            all.extend_from_slice(queue.front());
            queue.consume(count);
        }
        all
    }

    #[test]
    fn lines_that_do_not_fit_are_dropped_whole_until_half_has_been_read() {
        let mut queue = Queue::default();
        let line = vec![b'x'; 1023];
        for _ in 0..300 {
            queue.push_line(&[&line, b"\n"]);
        }
        assert_eq!(queue.len(), 256 * 1024);
        assert_eq!(queue.lost(), Lost { lines: 44, bytes: 44 * 1024 });
        queue.consume(100 * 1024);
        queue.push_line(&[b"still in the gap\n"]);
        assert!(!queue.is_gap_over());
        queue.consume(28 * 1024);
        assert!(queue.is_gap_over());
        queue.close_gap(b"notice\n");
        queue.push_line(&[b"after\n"]);
        let rest = drained(&mut queue);
        assert_eq!(rest.len(), 128 * 1024 + 13);
        assert!(rest.ends_with(b"x\nnotice\nafter\n"));
        assert!(queue.is_idle());
    }

    #[test]
    fn raw_bytes_are_cut_at_the_last_line_that_fits() {
        let mut queue = Queue::default();
        queue.push_raw(&vec![b'x'; MOST_BYTES - 10]);
        queue.push_raw(b"y\nz\nlonger\nrest");
        assert_eq!(queue.len(), MOST_BYTES - 6);
        assert_eq!(queue.lost(), Lost { lines: 1, bytes: 11 });
        queue.push_raw(b"a\n");
        assert_eq!(queue.lost(), Lost { lines: 2, bytes: 13 });
    }

    #[test]
    fn what_may_not_be_dropped_is_taken_beyond_the_bound_and_in_a_gap() {
        let mut queue = Queue::default();
        queue.push_line(&[&vec![b'x'; MOST_BYTES - 1], b"\n"]);
        queue.push_all(&[b'y'; MOST_BYTES]);
        assert_eq!((queue.len(), queue.lost()), (2 * MOST_BYTES, Lost::default()));
        queue.push_line(&[b"dropped\n"]);
        queue.push_all(b"z");
        assert_eq!((queue.len(), queue.lost()), (2 * MOST_BYTES + 1, Lost { lines: 1, bytes: 8 }));
        queue.consume(2 * MOST_BYTES);
        queue.close_gap(b"notice\n");
        assert_eq!(drained(&mut queue), b"z\nnotice\n");
    }

    #[test]
    fn a_notice_stands_on_a_line_of_its_own() {
        let mut queue = Queue::default();
        queue.push_line(&[b"cut in the middle\n"]);
        queue.consume(3);
        queue.discard();
        let lost = Lost { lines: 1, bytes: 15 };
        assert_eq!(queue.lost(), lost);
        queue.close_gap(b"notice\n");
        queue.reopen_gap(lost);
        assert_eq!(queue.lost(), lost);
        queue.close_gap(b"notice\n");
        queue.push_raw(b"line\n");
        queue.push_raw(&vec![b'x'; MOST_BYTES]);
        queue.close_gap(b"notice\n");
        queue.push_raw(b"mid");
        queue.push_raw(&vec![b'x'; MOST_BYTES]);
        queue.close_gap(b"notice\n");
        assert_eq!(drained(&mut queue), b"\nnotice\nline\nnotice\nmid\nnotice\n");
    }

    #[test]
    fn an_empty_queue_gives_its_memory_back() {
        let mut queue = Queue::default();
        queue.push_raw(&vec![b'x'; MOST_BYTES]);
        drained(&mut queue);
        assert!(queue.bytes.capacity() <= KEPT_BYTES);
    }
}
