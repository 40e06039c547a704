//! What is kept of an output stream: its end, and how much there was.

use std::collections::VecDeque;

/// The output of a stream that is still open: the newest bytes, up to a limit.
#[derive(Debug)]
pub struct Capture {
    limit: usize,
    newest: VecDeque<u8>,
    written: u64,
}

/// The output of a stream that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    bytes: Box<[u8]>,
    written: u64,
}

impl Capture {
    /// An empty stream of which `limit` bytes are kept.
    pub fn new(limit: usize) -> Capture {
        Capture { limit, newest: VecDeque::new(), written: 0 }
    }

    /// Adds what the process wrote; the oldest bytes make room for it.
    pub fn append(&mut self, bytes: &[u8]) {
        self.written = self.written.saturating_add(bytes.len() as u64);
        let bytes = bytes.get(bytes.len().saturating_sub(self.limit)..).unwrap_or(bytes);
        let surplus = (self.newest.len() + bytes.len()).saturating_sub(self.limit);
        self.newest.drain(..surplus.min(self.newest.len()));
        let needed = self.newest.len() + bytes.len();
        if needed > self.newest.capacity() {
            let capacity = needed.next_power_of_two().min(self.limit).max(needed);
            self.newest.reserve_exact(capacity - self.newest.len());
        }
        self.newest.extend(bytes);
    }

    /// Keeps `limit` bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.newest.drain(..self.newest.len().saturating_sub(limit));
        self.newest.shrink_to_fit();
    }

    /// Forgets what was kept, and gives its memory back.
    pub fn discard(&mut self) {
        self.newest = VecDeque::new();
    }

    /// The memory that the kept bytes take.
    pub fn allocated(&self) -> usize {
        self.newest.capacity()
    }

    /// The stream has ended.
    pub fn finish(self) -> Captured {
        Captured { bytes: Vec::from(self.newest).into_boxed_slice(), written: self.written }
    }
}

impl Captured {
    /// The newest bytes that were written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes were written in all.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether more was written than is still kept.
    pub fn is_truncated(&self) -> bool {
        self.written > self.bytes.len() as u64
    }

    /// The memory that the kept bytes take.
    pub fn allocated(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was kept, and gives its memory back.
    pub fn discard(&mut self) {
        self.bytes = Box::default();
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
                let mut capture = Capture::new(limit);
                for chunk in all.chunks(size) {
                    capture.append(chunk);
                    assert!(capture.allocated() <= limit.max(1), "limit {limit}");
                }
                let captured = capture.finish();
                assert_eq!(captured.bytes(), &all[all.len().saturating_sub(limit)..]);
                assert_eq!(captured.written(), 1000);
                assert_eq!(captured.is_truncated(), limit < 1000);
            }
        }
    }

    #[test]
    fn what_is_discarded_was_still_written() {
        let mut capture = Capture::new(10);
        capture.append(b"hello");
        capture.discard();
        capture.append(b"x");
        let mut captured = capture.finish();
        assert_eq!((captured.bytes(), captured.written()), (&b"x"[..], 6));
        captured.discard();
        assert!(captured.is_truncated());
    }
}
