//! Looks for a text in the output of a run, however it is read in parts.
//!
//! ```text
//!   … the end of the last part │ this part …
//!              └── searched together ──┘
//! ```
//!
//! The text has no newline, so that what a line contains is what the stream contains. Less than the
//! length of the text is kept of each stream.

use memchr::memmem;

use super::Stream;

/// The ends of both streams, as far as the text may have begun in them.
#[derive(Debug, Default)]
pub struct TextSearch {
    ends: [Vec<u8>; 2],
}

impl TextSearch {
    /// Whether the stream contains the text, now that these bytes were read. A text that was found
    /// before is not found again.
    pub fn find(&mut self, text: &str, stream: Stream, bytes: &[u8]) -> bool {
        let text = text.as_bytes();
        let Some(end) = self.ends.get_mut(stream as usize) else { return false };
        let most = text.len().saturating_sub(1);
        let first = bytes.get(..most).unwrap_or(bytes);
        end.extend_from_slice(first);
        let is_found = memmem::find(end, text).is_some() || memmem::find(bytes, text).is_some();
        if bytes.len() > most {
            end.clear();
            end.extend_from_slice(bytes.get(bytes.len() - most..).unwrap_or_default());
        } else {
            end.drain(..end.len().saturating_sub(most));
        }
        is_found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_cut() {
        let output = b"not rea\xffdy\nis ready to accept\n";
        for text in ["ready", "ready to accept", "r", "is ready to accept"] {
            for length in 1..=output.len() {
                let mut search = TextSearch::default();
                let parts = output.chunks(length);
                let found = parts.filter(|part| search.find(text, Stream::Stderr, part)).count();
                assert!(found > 0, "{text} in parts of {length}");
                assert!(search.ends.iter().all(|end| end.len() < text.len()));
            }
        }
    }

    #[test]
    fn streams_and_lines_are_not_mixed() {
        let mut search = TextSearch::default();
        assert!(!search.find("ready", Stream::Stdout, b"rea"));
        assert!(!search.find("ready", Stream::Stderr, b"dy"));
        assert!(!search.find("ready", Stream::Stdout, b"\ndy"));
        assert!(!search.find("ready", Stream::Stderr, b"read"));
        assert!(search.find("ready", Stream::Stderr, b"y"));
    }
}
